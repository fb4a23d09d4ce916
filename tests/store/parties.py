"""Folds that tests write with, and stores that fail or let others act at a chosen moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import orjson
from folds import TwiceFolded
from support import START, milliseconds

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.store.protocol import (
    Document,
    Fold,
    HistoryEntry,
    HistoryEvent,
    OutcomeT,
    Store,
    StoreEntry,
    Write,
)


def key(name: str = "visitor", environment: str = "main", organization: str = "org") -> Key:
    return Key(organization, environment, name)


NOW = milliseconds(START)


def happened(*numbers: int, at: int = NOW) -> list[HistoryEvent]:
    """Events as a history keeps them, told apart by a number."""
    return [(at, orjson.dumps({"number": number})) for number in numbers]


def put(store: Store, where: Key, document: Document | None, events: Sequence[HistoryEvent] = (), **how: Any) -> None:
    """Store a document, whatever was there."""
    store.update([where], lambda _key, _entry: Write(document, events, **how))


def append(store: Store, where: Key, *events: HistoryEvent) -> None:
    """Append events and count them in the document."""

    def fold(_: Key, entry: StoreEntry) -> Write:
        count = (entry.document or {"count": 0})["count"] + len(events)
        return Write({"count": count}, events)

    store.update([where], fold)


def history(store: Store, where: Key) -> list[HistoryEntry]:
    return store.read(where).history()


def numbers(store: Store, where: Key) -> list[int]:
    """The events that a history holds, in its order."""
    return [event["number"] for _, _, event in history(store, where)]


def contents(store: Store) -> dict[Key, tuple[Document, int, list[HistoryEntry]]]:
    """Everything that a store holds."""
    found = {}
    for where, document in store.documents():
        entry = store.read(where)
        found[where] = (document, entry.next_ordinal, entry.history())
    return found


class CutOff(StoreUnavailable):
    """What a store in these tests raises where the process would have died."""


class Wrapped:
    """A store that passes everything on; tests override a method, or set what happens around the updates."""

    def __init__(self, store: Store) -> None:
        self.inner = TwiceFolded(store)

    def read(self, where: Key) -> StoreEntry:
        return self.inner.read(where)

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        return self.inner.update(keys, fold)

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        return self.inner.documents(organization, environment)

    def check(self) -> None:
        self.inner.check()

    def close(self) -> None:
        self.inner.close()


class CutAt(Wrapped):
    """Raises at the n-th update (from 0), each key of an update counting for itself as they may be cut apart.

    Args:
        at: which one; None for none of them.
        took_effect: raise after it was written, not before.
    """

    def __init__(self, store: Store, at: int | None, *, took_effect: bool = False) -> None:
        super().__init__(store)
        self.at, self.took_effect, self.count = at, took_effect, 0

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        decisions: dict[Key, OutcomeT] = {}
        for where in keys:
            number, self.count = self.count, self.count + 1
            if number == self.at and not self.took_effect:
                raise CutOff("cut off before a write")
            decisions |= self.inner.update([where], fold)
            if number == self.at:
                raise CutOff("cut off after a write")
        return decisions


class Turns:
    """Runs several parties one call at a time, each next call by whom chance decides; the same seed, the same order."""

    def __init__(self, store: Store, seed: int) -> None:
        self._store, self._random = store, Random(seed)
        self._turns: dict[int, threading.Semaphore] = {}
        self._running = threading.Semaphore(0)
        self._failed: list[BaseException] = []

    def run(self, *parties: Callable[[Store], object]) -> None:
        """Run each party with a store of its own view, to the end; the first error of any of them is raised."""
        threads = []
        for number, party in enumerate(parties):
            self._turns[number] = threading.Semaphore(0)
            threads.append(threading.Thread(target=self._one, args=(number, party)))
            threads[-1].start()
        while self._turns:
            self._turns[self._random.choice(sorted(self._turns))].release()
            self._running.acquire()
        for thread in threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def pause(self, number: int) -> None:
        self._running.release()
        self._turns[number].acquire()

    def _one(self, number: int, party: Callable[[Store], object]) -> None:
        self._turns[number].acquire()
        try:
            party(_InTurn(self._store, self, number))
        except BaseException as error:
            self._failed.append(error)
        finally:
            del self._turns[number]
            self._running.release()


class _InTurn(Wrapped):
    def __init__(self, store: Store, turns: Turns, number: int) -> None:
        super().__init__(store)
        self._turns, self._number = turns, number

    def read(self, where: Key) -> StoreEntry:
        self._turns.pause(self._number)
        entry = self.inner.read(where)

        def history() -> list[HistoryEntry]:
            self._turns.pause(self._number)
            return entry.history()

        return StoreEntry(entry.document, entry.next_ordinal, history)

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        decisions: dict[Key, OutcomeT] = {}
        for where in keys:
            self._turns.pause(self._number)
            decisions |= self.inner.update([where], fold)
        return decisions


class Interleaved(Wrapped):
    """Runs another party's step before the n-th call of ``read`` or ``update`` (from 0)."""

    def __init__(self, store: Store, at: int, step: Callable[[], object]) -> None:
        super().__init__(store)
        self.at, self.step, self.count = at, step, 0

    def read(self, where: Key) -> StoreEntry:
        self._turn()
        return self.inner.read(where)

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        decisions: dict[Key, OutcomeT] = {}
        for where in keys:
            self._turn()
            decisions |= self.inner.update([where], fold)
        return decisions

    def _turn(self) -> None:
        number, self.count = self.count, self.count + 1
        if number == self.at:
            self.step()
