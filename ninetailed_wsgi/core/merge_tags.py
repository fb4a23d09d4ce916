"""Merge tags: a path into the profile, looked up as the SDK does (spec section 8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ninetailed_wsgi.core.variants import members_of

_LIKE_PROTOTYPES = frozenset(("__proto__", "prototype", "constructor"))  # names that the SDK never follows


def candidates(path: str) -> Iterator[str]:
    """The paths that a merge tag's id may mean: itself, then with its underscores turned into dots one by one."""
    yield path
    while "_" in path:
        path = path.replace("_", ".", 1)
        yield path


def resolve(profile: Mapping[str, Any], path: str) -> Any:
    """The first truthy value that one of the candidates leads to in a profile as the API answers it, else None."""
    for candidate in candidates(path.strip()):
        value = _value(profile, candidate)
        # Truthy as in JavaScript, where an empty list or object is.
        if value or isinstance(value, list | dict):
            return value
    return None


def _value(profile: Mapping[str, Any], path: str) -> Any:
    found: Any = profile
    for segment in path.split("."):
        if isinstance(found, list):
            found = {str(index): item for index, item in enumerate(found)}
        if not isinstance(found, Mapping) or segment in _LIKE_PROTOTYPES or segment not in found:
            return None
        found = found[segment]
    return found


def text(value: object) -> str:
    """A merge tag's value as it stands in a page: numbers and booleans as JavaScript writes them, lists with commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return ", ".join(map(text, value))
    return str(value)


def fill(template: str, lookup: Callable[[str], str]) -> str:
    """A text with each ``{{ path }}`` replaced by what ``lookup`` says; braces that do not close stay as they are."""
    parts: list[str] = []
    rest = template
    while (start := rest.find("{{")) >= 0 and (end := rest.find("}}", start)) >= 0:
        parts += [rest[:start], lookup(rest[start + 2 : end].strip())]
        rest = rest[end + 2 :]
    return "".join([*parts, rest])


def render(content: Any, lookup: Callable[[str, str | None], str]) -> Any:
    """Text with ``{{ path }}``, or a rich text document with embedded merge tags, filled in; the rest as it is.

    ``lookup`` gets a path and the fallback that the merge tag itself has, or None.
    """
    if isinstance(content, str):
        return fill(content, lambda path: lookup(path, None))
    return _rendered(content, lookup)


def _rendered(node: Any, lookup: Callable[[str, str | None], str]) -> Any:
    if isinstance(node, list):
        return [_rendered(each, lookup) for each in node]
    if not isinstance(node, Mapping):
        return node
    if (tag := _embedded(node)) is not None:
        found = lookup(str(tag["nt_mergetag_id"]), tag.get("nt_fallback"))
        filled = {"nodeType": "text", "value": found, "marks": [], "data": {}}
        if node["nodeType"] == "embedded-entry-inline":
            return filled
        return {"nodeType": "paragraph", "content": [filled], "data": {}}
    return {key: _rendered(value, lookup) if key == "content" else value for key, value in node.items()}


def _embedded(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    if node.get("nodeType") not in ("embedded-entry-inline", "embedded-entry-block"):
        return None
    data = node.get("data")
    fields = members_of(data.get("target")) if isinstance(data, Mapping) else {}
    return fields if "nt_mergetag_id" in fields else None
