"""What Contentful answers about one environment: entries, content types, locales, and synchronizations in pages."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ninetailed_wsgi.testing.contentful_documents import (
    MOST,
    STANDARD,
    Refusal,
    SpaceEntry,
    array,
    content_type,
    deleted,
    entry_view,
    field_type,
    kind_of,
    link,
    linked,
    locale,
    not_found,
    selected,
    time_of,
)


@dataclass(frozen=True, slots=True)
class _SyncItem:
    """One item of a synchronization: an entry as it was published, or the deletion of one."""

    number: int
    id: str
    entry: SpaceEntry | None


class SpaceAnswers:
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
        self._links = {"space": link("Space", space), "environment": link("Environment", environment)}
        self._standard = STANDARD if personalization else {}
        self._published: dict[str, SpaceEntry] = {}
        self._drafts: dict[str, SpaceEntry] = {}
        self._changes: dict[str, _SyncItem] = {}
        self._number = 0
        self._generation = 0

    def change(self, entry: SpaceEntry, *, publish: bool) -> None:
        """Store a new version of an entry: its ``sys`` completed, its fields by locale."""
        id = entry["sys"]["id"]
        self._number += 1
        before = self._drafts.get(id)
        at = time_of(self._number)
        sys = {
            **self._links,
            "id": id,
            "type": "Entry",
            "createdAt": before["sys"]["createdAt"] if before else at,
            "updatedAt": at,
            "revision": before["sys"]["revision"] + 1 if before else 1,
            "contentType": link("ContentType", entry["sys"]["contentType"]["sys"]["id"]),
        }
        whole = {"metadata": {"tags": []}, "sys": sys, "fields": entry["fields"]}
        self._drafts[id] = whole
        if publish:
            self._published[id] = whole
            self._note(id, whole)

    def remove(self, id: str, *, draft: bool) -> None:
        """Unpublish an entry, and delete it unless it stays as a draft; ValueError if it is unknown."""
        if id not in self._drafts or (draft and id not in self._published):
            raise ValueError(f"no entry {id!r} is {'published' if draft else 'there'}")
        if not draft:
            del self._drafts[id]
        if self._published.pop(id, None) is not None:
            self._number += 1
            self._note(id, None)

    def forget_tokens(self) -> None:
        """Refuse all tokens that were given out so far."""
        self._generation += 1

    def _note(self, id: str, entry: SpaceEntry | None) -> None:
        self._changes.pop(id, None)  # the newest change of an entry is the last
        self._changes[id] = _SyncItem(self._number, id, entry)

    # Answers

    def of(self, path: str, query: dict[str, str], url: str, *, drafts: bool) -> dict[str, Any]:
        """Return the document for a path; raises `Refusal`."""
        match path.strip("/").split("/"):
            case ["spaces", space] if space == self.space:
                return self._space()
            case ["spaces", space, "environments", environment, *rest] if space == self.space:
                if environment != self.environment:
                    raise not_found("Environment", environment, space=space)
                return self._of_environment(rest, query, url, drafts)
            case ["spaces", space, *_]:
                raise not_found("Space", space)
        raise Refusal(404, "NotFound", "The resource could not be found.")

    def _of_environment(self, rest: list[str], query: dict[str, str], url: str, drafts: bool) -> dict[str, Any]:
        entries = self._drafts if drafts else self._published
        match rest:
            case ["sync"]:
                if drafts:
                    raise Refusal(400, "BadRequest", "The Preview API does not synchronize.")
                return self._synchronization(query, url)
            case ["entries"]:
                return self._array(selected(entries.values(), query, self.locales[0]), query, entries)
            case ["entries", id]:
                if id not in entries:
                    raise not_found("Entry", id)
                return self._view(entries[id], query)
            case ["content_types"]:
                types = [content_type(kind, fields, self._links) for kind, fields in sorted(self._types().items())]
                return array(types, query)
            case ["content_types", id]:
                if id not in self._types():
                    raise not_found("ContentType", id)
                return content_type(id, self._types()[id], self._links)
            case ["locales"]:
                return array([locale(code, self.locales[0]) for code in self.locales], query)
            case ["assets" | "tags"]:
                return array([], query)
        raise Refusal(404, "NotFound", "The resource could not be found.")

    def _synchronization(self, query: dict[str, str], url: str) -> dict[str, Any]:
        """Return a page of what changed at a number or later, in order; an initial one has no deletions."""
        initial = query.get("initial") == "true"
        if initial:
            size, since = int(query.get("limit", "100")), 0
        else:
            initial, size, since = self._read_token(query.get("sync_token", ""))
        size = max(1, min(size, self._page_size, MOST))
        changes = [change for change in self._changes.values() if change.number >= since]
        changes = [change for change in changes if change.entry or not initial]
        page, rest = changes[:size], changes[size:]
        items = [change.entry or deleted(change.id, self._links, time_of(self._number)) for change in page]
        token = self._token(initial, size, page[-1].number + 1) if rest else self._token(False, size, self._number + 1)
        address = f"{url}/spaces/{self.space}/environments/{self.environment}/sync?{urlencode({'sync_token': token})}"
        return {"sys": {"type": "Array"}, "items": items, ("nextPageUrl" if rest else "nextSyncUrl"): address}

    def _token(self, initial: bool, size: int, since: int) -> str:
        position = (self._generation, int(initial), size, since)
        # Without padding, as Contentful's own: its JavaScript client hands tokens on as they stand in the address.
        return base64.urlsafe_b64encode(":".join(map(str, position)).encode()).decode().rstrip("=")

    def _read_token(self, token: str) -> tuple[bool, int, int]:
        try:
            generation, initial, size, since = map(
                int, base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().split(":")
            )
        except ValueError:
            generation, initial, size, since = -1, 0, 0, 0
        if generation != self._generation:
            raise Refusal(400, "BadRequest", "The sync token is not valid.")
        return bool(initial), size, since

    def _array(
        self, matches: list[SpaceEntry], query: dict[str, str], entries: Mapping[str, SpaceEntry]
    ) -> dict[str, Any]:
        answer = array(matches, query)
        page = answer["items"]
        answer["items"] = [self._view(entry, query) for entry in page]
        included = linked(page, entries, int(query.get("include", "1")))
        if included:
            answer["includes"] = {"Entry": [self._view(entry, query) for entry in included]}
        return answer

    def _types(self) -> dict[str, dict[str, str]]:
        types = {kind: dict(fields) for kind, fields in self._standard.items()}
        for entry in self._drafts.values():
            kind = kind_of(entry)
            fields = types.setdefault(kind, dict(STANDARD.get(kind, {})))
            for name, values in entry["fields"].items():
                fields.setdefault(name, field_type(next(iter(values.values()), None)))
        return types

    def _view(self, entry: SpaceEntry, query: Mapping[str, str]) -> dict[str, Any]:
        return entry_view(entry, query.get("locale", self.locales[0]), self.locales)

    def _space(self) -> dict[str, Any]:
        locales = [locale(code, self.locales[0]) for code in self.locales]
        return {"sys": {"type": "Space", "id": self.space}, "name": self.space, "locales": locales}
