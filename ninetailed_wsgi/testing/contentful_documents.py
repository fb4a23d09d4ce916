"""The documents that Contentful answers: entries as they are shown and selected, content types, locales, errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

SpaceEntry = Mapping[str, Any]

STANDARD: Mapping[str, Mapping[str, str]] = {
    "nt_audience": {"nt_name": "Symbol", "nt_rules": "Object", "nt_audience_id": "Symbol"},
    "nt_experience": {
        "nt_name": "Symbol",
        "nt_type": "Symbol",
        "nt_config": "Object",
        "nt_audience": "Link",
        "nt_experience_id": "Symbol",
    },
    "nt_mergetag": {"nt_name": "Symbol", "nt_fallback": "Symbol", "nt_mergetag_id": "Symbol"},
}
MOST = 1000


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, id: str, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self._id, self._details = status, id, details

    def document(self) -> dict[str, Any]:
        """Return the body."""
        error = {"sys": {"type": "Error", "id": self._id}, "message": str(self), "requestId": "made-up"}
        return error | ({"details": self._details} if self._details else {})


def selected(entries: Iterable[SpaceEntry], query: Mapping[str, str], locale: str) -> list[SpaceEntry]:
    """Return the entries that pass every parameter of a query; ``locale`` is the default one."""
    return [entry for entry in entries if all(_fits(entry, name, value, locale) for name, value in query.items())]


def _fits(entry: SpaceEntry, name: str, value: str, locale: str) -> bool:
    """Return whether an entry passes one parameter; a parameter that is not a filter passes every entry."""
    match name:
        case "content_type" | "sys.contentType.sys.id":
            return kind_of(entry) == value
        case "sys.contentType.sys.id[in]":
            return kind_of(entry) in value.split(",")
        case "sys.id":
            return bool(entry["sys"]["id"] == value)
        case "sys.id[in]":
            return entry["sys"]["id"] in value.split(",")
    if name.startswith("fields.") and name.endswith("[exists]"):
        return (name[len("fields.") : -len("[exists]")] in entry["fields"]) == (value == "true")
    if name.startswith("fields."):
        return str(entry["fields"].get(name[len("fields.") :], {}).get(locale)) == value
    return True


def linked(entry_view: list[SpaceEntry], entries: Mapping[str, SpaceEntry], depth: int) -> list[SpaceEntry]:
    """Return the entries that entries link to, so many levels deep, without those entries themselves."""
    ids_so_far, included, level = {entry["sys"]["id"] for entry in entry_view}, [], entry_view
    for _ in range(depth):
        ids = [id for entry in level for id in _links(entry["fields"]) if id in entries]
        level = [entries[id] for id in dict.fromkeys(ids) if id not in ids_so_far]
        ids_so_far.update(entry["sys"]["id"] for entry in level)
        included += level
    return included


def entry_view(entry: SpaceEntry, locale: str, locales: Sequence[str]) -> dict[str, Any]:
    """Return an entry in one locale, or in all of them for ``*``."""
    if locale == "*":
        return dict(entry)
    if locale not in locales:
        raise Refusal(400, "BadRequest", f"Unknown locale: {locale}")
    fields = {
        name: values.get(locale, values.get(locales[0]))
        for name, values in entry["fields"].items()
        if locale in values or locales[0] in values
    }
    return {**entry, "sys": {**entry["sys"], "locale": locale}, "fields": fields}


def deleted(id: str, links: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Return what a synchronization says of an entry that is gone."""
    times = {"createdAt": at, "updatedAt": at, "deletedAt": at}
    return {"sys": {"type": "DeletedEntry", "id": id, "revision": 1, **links, **times}}


def locale(code: str, default_code: str) -> dict[str, Any]:
    """Return a locale; each but the default one falls back to that."""
    default = code == default_code
    sys = {"type": "Locale", "id": f"locale-{code}", "version": 1}
    fallback = None if default else default_code
    return {"code": code, "name": code, "default": default, "fallbackCode": fallback, "sys": sys}


def content_type(id: str, fields: Mapping[str, str], links: Mapping[str, Any]) -> dict[str, Any]:
    """Return a content type of these fields, by name and type."""
    return {
        "sys": {
            "type": "ContentType",
            "id": id,
            "revision": 1,
            "createdAt": time_of(0),
            "updatedAt": time_of(0),
            **links,
        },
        "name": id,
        "description": "",
        "displayField": next(iter(fields), None),
        "fields": [_field(name, kind) for name, kind in fields.items()],
    }


def array(items: list[Any], query: Mapping[str, str]) -> dict[str, Any]:
    """Return one page of a list."""
    skip, limit = int(query.get("skip", "0")), min(int(query.get("limit", "100")), MOST)
    part = items[skip : skip + limit]
    return {"sys": {"type": "Array"}, "total": len(items), "skip": skip, "limit": limit, "items": part}


def not_found(type: str, id: str, **details: str) -> Refusal:
    """Return the error for what is not there."""
    return Refusal(404, "NotFound", "The resource could not be found.", {"type": type, "id": id, **details})


def link(type: str, id: str) -> dict[str, Any]:
    """Return a link."""
    return {"sys": {"type": "Link", "linkType": type, "id": id}}


def kind_of(entry: SpaceEntry) -> str:
    """Return the id of an entry's content type."""
    kind: str = entry["sys"]["contentType"]["sys"]["id"]
    return kind


def _links(value: object) -> list[str]:
    if isinstance(value, list):
        return [id for item in value for id in _links(item)]
    if not isinstance(value, dict):
        return []
    sys = value.get("sys")
    if isinstance(sys, dict) and sys.get("linkType") == "Entry":
        return [sys["id"]]
    return [id for item in value.values() for id in _links(item)]


def time_of(number: int) -> str:
    """Return a time that grows with each change and is the same in each run."""
    return datetime.fromtimestamp(1_767_225_600 + number, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def field_type(value: object) -> str:
    """Return the type that a field with such a value has."""
    match value:
        case bool():
            return "Boolean"
        case int():
            return "Integer"
        case float():
            return "Number"
        case {"sys": {"type": "Link"}}:
            return "Link"
        case {"nodeType": "document"}:
            return "RichText"
        case list():
            return "Array"
        case dict():
            return "Object"
    return "Text"


def _field(name: str, type: str) -> dict[str, Any]:
    field = {"id": name, "name": name, "type": type, "localized": False, "required": False, "disabled": False}
    if type == "Link":
        field["linkType"] = "Entry"
    elif type == "Array":
        field["items"] = {"type": "Link", "linkType": "Entry", "validations": []}
    return {**field, "omitted": False}
