"""Resolves merge tags, which are paths into a profile, and fills them in as the SDK does (spec section 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ninetailed_wsgi.core.entry_forms import id_of, is_link, members_of
from ninetailed_wsgi.core.javascript import json_text

_LIKE_PROTOTYPES = frozenset(("__proto__", "prototype", "constructor"))  # names that the SDK never follows


def candidates(path: str) -> Iterator[str]:
    """Yield the paths that a merge tag's id may mean: first the id, then with its underscores replaced one by one."""
    yield path
    while "_" in path:
        path = path.replace("_", ".", 1)
        yield path


def resolve(profile: Mapping[str, Any], path: str) -> Any:
    """Return the first truthy value that a candidate path finds in a profile in API form, else None."""
    for candidate in candidates(path.strip()):
        value = _value(profile, candidate)
        # As in JavaScript, empty lists and objects are truthy.
        if value or isinstance(value, list | dict):
            return value
    return None


def _value(profile: Mapping[str, Any], path: str) -> Any:
    value: Any = profile
    for segment in path.split("."):
        if isinstance(value, list):
            value = {str(index): item for index, item in enumerate(value)}
        if not isinstance(value, Mapping) or segment in _LIKE_PROTOTYPES or segment not in value:
            return None
        value = value[segment]
    return value


def text(value: object) -> str:
    """Return a merge tag's value as a page shows it: text as it is, anything else as JavaScript prints it.

    Objects and lists print as JSON, and a missing value prints as empty text.
    """
    if value is None:
        return ""
    return value if isinstance(value, str) else json_text(value)


def fill(template: str, lookup: Callable[[str], str]) -> str:
    """Return a text with each ``{{ path }}`` replaced by ``lookup(path)``; unclosed braces stay as they are."""
    parts: list[str] = []
    rest = template
    while (start := rest.find("{{")) >= 0 and (end := rest.find("}}", start)) >= 0:
        parts += [rest[:start], lookup(rest[start + 2 : end].strip())]
        rest = rest[end + 2 :]
    return "".join([*parts, rest])


Lookup = Callable[[str, str | None], str]
"""Takes a path and a fallback or None; returns the text that replaces the merge tag."""

Linked = Callable[[str, bool], tuple[str, str | None] | None]
"""Takes the id of an entry and whether it is embedded inline; returns its path and fallback if it is a merge tag."""


def is_content(value: object) -> bool:
    """Return whether a value can contain merge tags: text, a rich text document or node, or a list of nodes."""
    if isinstance(value, list):
        return all(isinstance(each, Mapping) and is_content(each) for each in value)
    if isinstance(value, Mapping):
        return "nodeType" in value or "content" in value
    return isinstance(value, str)


def render(content: Any, lookup: Lookup, linked: Linked = lambda id, in_line: None) -> Any:
    """Return content with its merge tags filled in.

    Args:
        content: text with ``{{ path }}``, or a rich text document that embeds merge tags as entries, in any form of
            `entry_forms`, or as links. Anything else is returned unchanged.
        lookup: takes a path and the merge tag's own fallback, or None.
        linked: finds the merge tag that a link leads to.
    """
    if isinstance(content, str):
        return fill(content, lambda path: lookup(path, None))
    return _rendered(content, lookup, linked)


def _rendered(node: Any, lookup: Lookup, linked: Linked) -> Any:
    if isinstance(node, list):
        return [_rendered(each, lookup, linked) for each in node]
    if not isinstance(node, Mapping):
        return node
    if (tag := _embedded(node, linked)) is not None:
        filled = {"nodeType": "text", "value": lookup(*tag), "marks": [], "data": {}}
        if node["nodeType"] == "embedded-entry-inline":
            return filled
        return {"nodeType": "paragraph", "content": [filled], "data": {}}
    return {key: _rendered(value, lookup, linked) if key == "content" else value for key, value in node.items()}


def _embedded(node: Mapping[str, Any], linked: Linked) -> tuple[str, str | None] | None:
    """Return the path and fallback of the merge tag that a node embeds; None if it embeds none."""
    if node.get("nodeType") not in ("embedded-entry-inline", "embedded-entry-block"):
        return None
    data = node.get("data")
    target = data.get("target") if isinstance(data, Mapping) else None
    if is_link(target):
        id = id_of(target)
        return None if id is None else linked(id, node["nodeType"] == "embedded-entry-inline")
    fields = members_of(target)
    return (str(fields["nt_mergetag_id"]), fields.get("nt_fallback")) if "nt_mergetag_id" in fields else None
