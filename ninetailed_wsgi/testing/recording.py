"""Records every event that a store accepted, in order, for a test to read."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.protocol import Arrivals, Contents, Document, Fold, KeptStore, OutcomeT, StoreEntry
from ninetailed_wsgi.testing.clock import moment


@dataclass(frozen=True, slots=True)
class Captured:
    """An event that was stored and acknowledged; a repeated event is recorded once.

    Attributes:
        profile: id of the profile that it was applied to.
        at: time of the event, in UTC.
        event: as it was sent.
    """

    profile: str
    at: datetime
    event: dict[str, Any]


class RecordingStore:
    """A store around another one, see `store.protocol.Store`; a preflight never writes to it."""

    def __init__(self, store: KeptStore) -> None:
        self._store = store
        self._events: list[Captured] = []
        self._recording = threading.Lock()

    @property
    def events(self) -> list[Captured]:
        """Return all events so far, the oldest first, as a new list."""
        with self._recording:
            return list(self._events)

    def replace(self, store: KeptStore) -> None:
        """Forget everything and continue with another store."""
        with self._recording:
            self._store.close()
            self._store = store
            self._events.clear()

    @property
    def contents(self) -> Contents:
        return self._store.contents

    @property
    def arrivals(self) -> Arrivals:
        return self._store.arrivals

    def read(self, key: Key) -> StoreEntry:
        return self._store.read(key)

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        decisions = self._store.update(keys, fold)
        with self._recording:
            for key, decision in decisions.items():
                write = decision.write if decision is not None else None
                # Where two profiles become one, both histories are rewritten: that is not an event.
                if write is not None and not write.replace_history:
                    self._events += [Captured(key.name, moment(at), orjson.loads(raw)) for at, raw in write.events]
        return decisions

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        return self._store.documents(organization, environment)

    def check(self) -> None:
        self._store.check()

    def close(self) -> None:
        self._store.close()
