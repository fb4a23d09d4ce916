"""Turns what a test publishes into entries of Contentful, whatever its form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
Given = Mapping[str, Any] | Iterable[Mapping[str, Any]] | str | Path


def entries_of(given: Given, locale: str) -> Iterator[dict[str, Any]]:
    """Yield entries with ``sys.id``, ``sys.contentType`` and fields by locale.

    Args:
        given: the path of a content document, such a document, an audience, experience or metric as the builders make
            it, an entry, or a list of these. Of an export, what is not published is left out.
        locale: of values that come without one.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(given, str | Path):
        yield from entries_of(orjson.loads(Path(given).read_bytes()), locale)
    elif not isinstance(given, Mapping):
        for one in given:
            yield from entries_of(one, locale)
    elif "sys" in given:
        yield _entry(given, locale)
    elif isinstance(given.get("items"), list):
        yield from entries_of([*given["items"], *given.get("includes", {}).get("Entry", ())], locale)
    elif "rules" in given:
        yield _audience(given, locale)
    elif "config" in given:
        yield from _experience(given, locale)
    elif "event" in given:
        yield _metric(given, locale)
    elif _is_export(given):
        yield from (_entry(one, locale) for one in given["entries"] if one["sys"].get("publishedVersion"))
    else:
        yield from _generic(given, locale)


def _is_export(given: Mapping[str, Any]) -> bool:
    return any("sys" in one for one in given.get("entries", ()))


def _generic(given: Mapping[str, Any], locale: str) -> Iterator[dict[str, Any]]:
    members = ("audiences", "experiences", "metrics", "mergeTags", "entries")
    if not given.keys() & set(members):
        raise ValueError(f"found {', '.join(given) or 'nothing'}, expected an entry or one of {', '.join(members)}")
    for member in ("audiences", "experiences", "metrics"):
        yield from entries_of(given.get(member, ()), locale)
    for tag in given.get("mergeTags", ()):
        fields = {
            "nt_name": tag.get("name", tag["id"]),
            "nt_mergetag_id": tag["id"],
            "nt_fallback": tag.get("fallback"),
        }
        yield _made(f"mergetag-{tag['id']}", "nt_mergetag", fields, locale)
    for entry in given.get("entries", ()):
        yield _made(entry["id"], "page", {"nt_experiences": [_link(id) for id in entry["nt_experiences"]]}, locale)


def _entry(given: Mapping[str, Any], locale: str) -> dict[str, Any]:
    kind = given["sys"]["contentType"]
    kind = kind if isinstance(kind, str) else kind["sys"]["id"]
    fields = given.get("fields", {})
    by_locale = bool(fields) and all(
        isinstance(values, Mapping) and values and all(map(_LOCALE.fullmatch, values)) for values in fields.values()
    )
    return _made(given["sys"]["id"], kind, fields, None if by_locale else locale)


def _made(id: str, kind: str, fields: Mapping[str, Any], locale: str | None) -> dict[str, Any]:
    localized = {
        name: value if locale is None else {locale: value} for name, value in fields.items() if value is not None
    }
    return {"sys": {"id": id, "contentType": {"sys": {"id": kind}}}, "fields": localized}


def _audience(given: Mapping[str, Any], locale: str) -> dict[str, Any]:
    id = given["id"]
    fields = {"nt_name": given.get("name", id), "nt_rules": given["rules"], "nt_audience_id": id}
    return _made(id, "nt_audience", fields, locale)


def _experience(given: Mapping[str, Any], locale: str) -> Iterator[dict[str, Any]]:
    id, audience = given["id"], given.get("audience")
    if isinstance(audience, Mapping) and "rules" in audience:
        yield _audience(audience, locale)
    target = audience["id"] if isinstance(audience, Mapping) else audience
    fields = {
        "nt_name": given.get("name", id),
        "nt_type": given.get("type", "nt_personalization"),
        "nt_config": given["config"],
        "nt_audience": None if target is None else _link(target),
        "nt_experience_id": id,
    }
    yield _made(id, "nt_experience", fields, locale)


def _metric(given: Mapping[str, Any], locale: str) -> dict[str, Any]:
    members = {"name": "nt_name", "id": "nt_metric_id", "type": "nt_type", "event": "nt_event"}
    members |= {"property": "nt_property", "direction": "nt_direction"}
    return _made(given["id"], "nt_metric", {field: given.get(name) for name, field in members.items()}, locale)


def _link(id: str) -> dict[str, Any]:
    return {"sys": {"type": "Link", "linkType": "Entry", "id": id}}
