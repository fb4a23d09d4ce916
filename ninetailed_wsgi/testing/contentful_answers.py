"""What Contentful answers about one environment: entries, content types, locales, and synchronizations in pages."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

_STANDARD: Mapping[str, Mapping[str, str]] = {
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
_MOST = 1000
Entry = Mapping[str, Any]


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, id: str, message: str, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self._id, self._details = status, id, details

    def document(self) -> dict[str, Any]:
        """Return the body."""
        error = {"sys": {"type": "Error", "id": self._id}, "message": str(self), "requestId": "made-up"}
        return error | ({"details": self._details} if self._details else {})


@dataclass(frozen=True, slots=True)
class _Change:
    """One thing that a synchronization tells: an entry as it was published, or that one is gone."""

    number: int
    id: str
    entry: Entry | None


class Answers:
    """An environment's entries, published and drafts, and the order in which they changed.

    Args:
        space, environment: how they are named.
        locales: codes, the default one first.
        page_size: entries of a page at most.
        personalization: whether the content types of personalization are there without an entry of them.
    """

    def __init__(
        self, space: str, environment: str, locales: tuple[str, ...], page_size: int, personalization: bool
    ) -> None:
        self.space, self.environment, self.locales = space, environment, locales
        self._page_size = page_size
        self._standard = _STANDARD if personalization else {}
        self._published: dict[str, Entry] = {}
        self._drafts: dict[str, Entry] = {}
        self._changes: dict[str, _Change] = {}
        self._number = 0
        self._generation = 0

    def change(self, entry: Entry, *, publish: bool) -> None:
        """Store a new version of an entry: its ``sys`` completed, its fields by locale."""
        id = entry["sys"]["id"]
        self._number += 1
        before = self._drafts.get(id)
        at = _time(self._number)
        sys = {
            "space": _link("Space", self.space),
            "environment": _link("Environment", self.environment),
            "id": id,
            "type": "Entry",
            "createdAt": before["sys"]["createdAt"] if before else at,
            "updatedAt": at,
            "revision": before["sys"]["revision"] + 1 if before else 1,
            "contentType": _link("ContentType", entry["sys"]["contentType"]["sys"]["id"]),
        }
        whole = {"metadata": {"tags": []}, "sys": sys, "fields": entry["fields"]}
        self._drafts[id] = whole
        if publish:
            self._published[id] = whole
            self._note(id, whole)

    def remove(self, id: str, *, draft: bool) -> None:
        """Take an entry from what is published, and unless it stays as a draft altogether; ValueError if unknown."""
        if id not in self._drafts or (draft and id not in self._published):
            raise ValueError(f"no entry {id!r} is {'published' if draft else 'there'}")
        if not draft:
            del self._drafts[id]
        if self._published.pop(id, None) is not None:
            self._number += 1
            self._note(id, None)

    def forget_tokens(self) -> None:
        """Refuse the tokens of before."""
        self._generation += 1

    def _note(self, id: str, entry: Entry | None) -> None:
        self._changes.pop(id, None)  # the newest change of an entry is the last
        self._changes[id] = _Change(self._number, id, entry)

    # Answers

    def of(self, path: str, query: dict[str, str], url: str, *, drafts: bool) -> dict[str, Any]:
        """Return the document for a path; raises `Refusal`."""
        match path.strip("/").split("/"):
            case ["spaces", space] if space == self.space:
                return self._space()
            case ["spaces", space, "environments", environment, *rest] if space == self.space:
                if environment != self.environment:
                    raise _not_found("Environment", environment, space=space)
                return self._of_environment(rest, query, url, drafts)
            case ["spaces", space, *_]:
                raise _not_found("Space", space)
        raise Refusal(404, "NotFound", "The resource could not be found.")

    def _of_environment(self, rest: list[str], query: dict[str, str], url: str, drafts: bool) -> dict[str, Any]:
        entries = self._drafts if drafts else self._published
        match rest:
            case ["sync"]:
                if drafts:
                    raise Refusal(400, "BadRequest", "The Preview API does not synchronize.")
                return self._synchronization(query, url)
            case ["entries"]:
                return self._listed(self._selected(entries.values(), query), query, entries)
            case ["entries", id]:
                if id not in entries:
                    raise _not_found("Entry", id)
                return self._shown(entries[id], query)
            case ["content_types"]:
                types = [self._content_type(kind, fields) for kind, fields in sorted(self._types().items())]
                return _array(types, query)
            case ["content_types", id]:
                if id not in self._types():
                    raise _not_found("ContentType", id)
                return self._content_type(id, self._types()[id])
            case ["locales"]:
                return _array([self._locale(code) for code in self.locales], query)
            case ["assets" | "tags"]:
                return _array([], query)
        raise Refusal(404, "NotFound", "The resource could not be found.")

    def _synchronization(self, query: dict[str, str], url: str) -> dict[str, Any]:
        """Return a page: what changed at a number or later, in order; an initial one knows no deletions."""
        initial = query.get("initial") == "true"
        if initial:
            size, since = int(query.get("limit", "100")), 0
        else:
            initial, size, since = self._read_token(query.get("sync_token", ""))
        size = max(1, min(size, self._page_size, _MOST))
        changes = [change for change in self._changes.values() if change.number >= since]
        changes = [change for change in changes if change.entry or not initial]
        page, rest = changes[:size], changes[size:]
        items = [change.entry or self._deleted(change.id) for change in page]
        token = self._token(initial, size, page[-1].number + 1) if rest else self._token(False, size, self._number + 1)
        address = f"{url}/spaces/{self.space}/environments/{self.environment}/sync?{urlencode({'sync_token': token})}"
        return {"sys": {"type": "Array"}, "items": items, ("nextPageUrl" if rest else "nextSyncUrl"): address}

    def _token(self, initial: bool, size: int, since: int) -> str:
        position = (self._generation, int(initial), size, since)
        return base64.urlsafe_b64encode(":".join(map(str, position)).encode()).decode()

    def _read_token(self, token: str) -> tuple[bool, int, int]:
        try:
            generation, initial, size, since = map(int, base64.urlsafe_b64decode(token).decode().split(":"))
        except ValueError:
            generation, initial, size, since = -1, 0, 0, 0
        if generation != self._generation:
            raise Refusal(400, "BadRequest", "The sync token is not valid.")
        return bool(initial), size, since

    def _selected(self, entries: Iterable[Entry], query: Mapping[str, str]) -> list[Entry]:
        return [entry for entry in entries if all(self._fits(entry, name, value) for name, value in query.items())]

    def _fits(self, entry: Entry, name: str, value: str) -> bool:
        """Tell whether an entry passes one parameter; what is no filter lets everything pass."""
        match name:
            case "content_type" | "sys.contentType.sys.id":
                return _kind(entry) == value
            case "sys.contentType.sys.id[in]":
                return _kind(entry) in value.split(",")
            case "sys.id":
                return bool(entry["sys"]["id"] == value)
            case "sys.id[in]":
                return entry["sys"]["id"] in value.split(",")
        if name.startswith("fields.") and name.endswith("[exists]"):
            return (name[len("fields.") : -len("[exists]")] in entry["fields"]) == (value == "true")
        if name.startswith("fields."):
            return self._has(entry, name[len("fields.") :], value)
        return True

    def _has(self, entry: Entry, field: str, value: str) -> bool:
        return str(entry["fields"].get(field, {}).get(self.locales[0])) == value

    def _listed(self, found: list[Entry], query: dict[str, str], entries: Mapping[str, Entry]) -> dict[str, Any]:
        answer = _array(found, query)
        shown = answer["items"]
        answer["items"] = [self._shown(entry, query) for entry in shown]
        included = self._linked(shown, entries, int(query.get("include", "1")))
        if included:
            answer["includes"] = {"Entry": [self._shown(entry, query) for entry in included]}
        return answer

    def _linked(self, shown: list[Entry], entries: Mapping[str, Entry], depth: int) -> list[Entry]:
        known, included, level = {entry["sys"]["id"] for entry in shown}, [], shown
        for _ in range(depth):
            ids = [id for entry in level for id in _links(entry["fields"]) if id in entries]
            level = [entries[id] for id in dict.fromkeys(ids) if id not in known]
            known.update(entry["sys"]["id"] for entry in level)
            included += level
        return included

    def _shown(self, entry: Entry, query: Mapping[str, str]) -> dict[str, Any]:
        """Return an entry in one locale, or in all of them for ``locale=*``."""
        wanted = query.get("locale", self.locales[0])
        if wanted == "*":
            return dict(entry)
        if wanted not in self.locales:
            raise Refusal(400, "BadRequest", f"Unknown locale: {wanted}")
        fields = {
            name: values.get(wanted, values.get(self.locales[0]))
            for name, values in entry["fields"].items()
            if wanted in values or self.locales[0] in values
        }
        return {**entry, "sys": {**entry["sys"], "locale": wanted}, "fields": fields}

    def _deleted(self, id: str) -> dict[str, Any]:
        at = _time(self._number)
        links = {"space": _link("Space", self.space), "environment": _link("Environment", self.environment)}
        times = {"createdAt": at, "updatedAt": at, "deletedAt": at}
        return {"sys": {"type": "DeletedEntry", "id": id, "revision": 1, **links, **times}}

    def _space(self) -> dict[str, Any]:
        locales = [self._locale(code) for code in self.locales]
        return {"sys": {"type": "Space", "id": self.space}, "name": self.space, "locales": locales}

    def _locale(self, code: str) -> dict[str, Any]:
        default = code == self.locales[0]
        sys = {"type": "Locale", "id": f"locale-{code}", "version": 1}
        fallback = None if default else self.locales[0]
        return {"code": code, "name": code, "default": default, "fallbackCode": fallback, "sys": sys}

    def _types(self) -> dict[str, dict[str, str]]:
        types = {kind: dict(fields) for kind, fields in self._standard.items()}
        for entry in self._drafts.values():
            kind = _kind(entry)
            fields = types.setdefault(kind, dict(_STANDARD.get(kind, {})))
            for name, values in entry["fields"].items():
                fields.setdefault(name, _field_type(next(iter(values.values()), None)))
        return types

    def _content_type(self, id: str, fields: Mapping[str, str]) -> dict[str, Any]:
        links = {"space": _link("Space", self.space), "environment": _link("Environment", self.environment)}
        return {
            "sys": {
                "type": "ContentType",
                "id": id,
                "revision": 1,
                "createdAt": _time(0),
                "updatedAt": _time(0),
                **links,
            },
            "name": id,
            "description": "",
            "displayField": next(iter(fields), None),
            "fields": [_field(name, kind) for name, kind in fields.items()],
        }


def _array(items: list[Any], query: Mapping[str, str]) -> dict[str, Any]:
    skip, limit = int(query.get("skip", "0")), min(int(query.get("limit", "100")), _MOST)
    shown = items[skip : skip + limit]
    return {"sys": {"type": "Array"}, "total": len(items), "skip": skip, "limit": limit, "items": shown}


def _not_found(type: str, id: str, **details: str) -> Refusal:
    return Refusal(404, "NotFound", "The resource could not be found.", {"type": type, "id": id, **details})


def _link(type: str, id: str) -> dict[str, Any]:
    return {"sys": {"type": "Link", "linkType": type, "id": id}}


def _kind(entry: Entry) -> str:
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


def _time(number: int) -> str:
    """Return a time that grows with each change and is the same in each run."""
    return datetime.fromtimestamp(1_767_225_600 + number, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _field_type(value: object) -> str:
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
