"""A store that reads from another one and keeps its writes in memory, so that a preflight stores nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.protocol import Document, Fold, HistoryEntry, OutcomeT, Store, StoreEntry, Write


class Overlay:
    """See :class:`~ninetailed_wsgi.store.protocol.Store`. For one request in one thread; over None it is empty."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self._entries: dict[Key, StoreEntry] = {}

    def read(self, key: Key) -> StoreEntry:
        entry = self._entries.get(key)
        if entry is None:
            return self._store.read(key) if self._store else StoreEntry(None, 0, list)
        return entry

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        decisions = {}
        for key in keys:
            entry = self.read(key)
            decision = decisions[key] = fold(key, entry)
            if decision is not None and decision.write is not None:
                self._entries[key] = _after(entry, decision.write)
        return decisions

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        for key, document in self._store.documents(organization, environment) if self._store else ():
            if key not in self._entries:
                yield key, document
        for key, entry in self._entries.items():
            in_scope = organization in (None, key.organization) and environment in (None, key.environment)
            if entry.document and in_scope:
                yield key, entry.document

    def check(self) -> None:
        if self._store:
            self._store.check()

    def close(self) -> None:
        self._entries.clear()


def _after(entry: StoreEntry, write: Write) -> StoreEntry:
    if write.document is None:
        return StoreEntry(None, 0, list)
    first = entry.next_ordinal
    appended = [(ordinal, at, orjson.loads(raw)) for ordinal, (at, raw) in enumerate(write.events, first)]
    before = list if write.replace_history else entry.history

    def history() -> list[HistoryEntry]:
        return [*before(), *appended]

    return StoreEntry(write.document, first + len(appended), history)
