"""A store that holds every fold to what it promises: it decides from what it is shown, and changes nothing else."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.protocol import Fold, OutcomeT, Store, StoreEntry


class TwiceFolded:
    """A store that runs every fold twice, the first time on a copy of what is there, and compares both decisions."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        def both(key: Key, entry: StoreEntry) -> OutcomeT:
            first = copy.deepcopy(fold(key, entry._replace(document=copy.deepcopy(entry.document))))
            second = fold(key, entry)
            assert first == second, f"the fold of {key} decided {first}, then {second}"
            return second

        return self._store.update(keys, both)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
