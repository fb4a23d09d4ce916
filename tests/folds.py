"""A store that holds every fold to what it promises: it decides from what it is shown, and changes nothing else."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.protocol import Fold, OutcomeT, Store, StoreEntry


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of the same types throughout: 1 is not 1.0, a tuple is no list."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, dict):
        return all(same(value, other[key]) for key, value in one.items())
    return not isinstance(one, list) or all(map(same, one, other))


class TwiceFolded:
    """A store that runs every fold twice and compares both decisions; what is there, and what is stored, stays."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, key: Key) -> StoreEntry:
        self._check()
        return self._store.read(key)

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        self._check()

        def both(key: Key, entry: StoreEntry) -> OutcomeT:
            before = copy.deepcopy(entry.document)
            first = copy.deepcopy(fold(key, entry))
            assert entry.document == before, f"the fold of {key} changed what was stored"
            second = fold(key, entry)
            assert first == second, f"the fold of {key} decided {first}, then {second}"
            return second

        return self._store.update(keys, both)

    def _check(self) -> None:
        """Check that nobody has changed a document that the store remembers."""
        recent = getattr(self._store, "_recent", None)
        for text, document in [*recent._documents.values()] if recent else ():
            assert same(document, orjson.loads(text)), f"{text!r} became {document}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
