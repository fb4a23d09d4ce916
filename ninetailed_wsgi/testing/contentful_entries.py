"""Turns what a test publishes into entries of Contentful, whatever its form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
ContentLike = Mapping[str, Any] | Iterable[Mapping[str, Any]] | str | Path


def entries_of(content: ContentLike, locale: str) -> Iterator[dict[str, Any]]:
    """Yield entries with ``sys.id``, ``sys.contentType`` and fields by locale.

    Args:
        content: the path of a content document, such a document, an audience, experience or metric as the builders make
            it, an entry, or a list of these. Of an export, what is not published is left out.
        locale: of values that come without one.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(content, str | Path):
        yield from entries_of(orjson.loads(Path(content).read_bytes()), locale)
    elif not isinstance(content, Mapping):
        for one in content:
            yield from entries_of(one, locale)
    elif "sys" in content:
        yield _entry(content, locale)
    elif isinstance(content.get("items"), list):
        yield from entries_of([*content["items"], *content.get("includes", {}).get("Entry", ())], locale)
    elif "rules" in content:
        yield _audience(content, locale)
    elif "config" in content:
        yield from _experience(content, locale)
    elif "event" in content:
        yield _metric(content, locale)
    elif _is_export(content):
        yield from (_entry(one, locale) for one in content["entries"] if one["sys"].get("publishedVersion"))
    else:
        yield from _generic(content, locale)


def _is_export(content: Mapping[str, Any]) -> bool:
    return any("sys" in one for one in content.get("entries", ()))


def _generic(content: Mapping[str, Any], locale: str) -> Iterator[dict[str, Any]]:
    members = ("audiences", "experiences", "metrics", "mergeTags", "entries")
    if not content.keys() & set(members):
        raise ValueError(f"found {', '.join(content) or 'nothing'}, expected an entry or one of {', '.join(members)}")
    for member in ("audiences", "experiences", "metrics"):
        yield from entries_of(content.get(member, ()), locale)
    for tag in content.get("mergeTags", ()):
        fields = {
            "nt_name": tag.get("name", tag["id"]),
            "nt_mergetag_id": tag["id"],
            "nt_fallback": tag.get("fallback"),
        }
        yield _make(f"mergetag-{tag['id']}", "nt_mergetag", fields, locale)
    for entry in content.get("entries", ()):
        yield _make(entry["id"], "page", {"nt_experiences": [_link(id) for id in entry["nt_experiences"]]}, locale)


def _entry(content: Mapping[str, Any], locale: str) -> dict[str, Any]:
    kind = content["sys"]["contentType"]
    kind = kind if isinstance(kind, str) else kind["sys"]["id"]
    fields = content.get("fields", {})
    by_locale = bool(fields) and all(
        isinstance(values, Mapping) and values and all(map(_LOCALE.fullmatch, values)) for values in fields.values()
    )
    return _make(content["sys"]["id"], kind, fields, None if by_locale else locale)


def _make(id: str, kind: str, fields: Mapping[str, Any], locale: str | None) -> dict[str, Any]:
    localized = {
        name: value if locale is None else {locale: value} for name, value in fields.items() if value is not None
    }
    return {"sys": {"id": id, "contentType": {"sys": {"id": kind}}}, "fields": localized}


def _audience(content: Mapping[str, Any], locale: str) -> dict[str, Any]:
    id = content["id"]
    fields = {"nt_name": content.get("name", id), "nt_rules": content["rules"], "nt_audience_id": id}
    return _make(id, "nt_audience", fields, locale)


def _experience(content: Mapping[str, Any], locale: str) -> Iterator[dict[str, Any]]:
    id, audience = content["id"], content.get("audience")
    if isinstance(audience, Mapping) and "rules" in audience:
        yield _audience(audience, locale)
    target = audience["id"] if isinstance(audience, Mapping) else audience
    fields = {
        "nt_name": content.get("name", id),
        "nt_type": content.get("type", "nt_personalization"),
        "nt_config": content["config"],
        "nt_audience": None if target is None else _link(target),
        "nt_experience_id": id,
    }
    yield _make(id, "nt_experience", fields, locale)


def _metric(content: Mapping[str, Any], locale: str) -> dict[str, Any]:
    members = {"name": "nt_name", "id": "nt_metric_id", "type": "nt_type", "event": "nt_event"}
    members |= {"property": "nt_property", "direction": "nt_direction"}
    return _make(content["id"], "nt_metric", {field: content.get(name) for name, field in members.items()}, locale)


def _link(id: str) -> dict[str, Any]:
    return {"sys": {"type": "Link", "linkType": "Entry", "id": id}}
