"""Finds visitors by a trait or the beginning of an id, among as many as one request may read (spec section 14)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.rules import find
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Document, Store

MOST_LOOKED = 5_000
MOST_HITS = 50
_SECONDS = 1.0


class Hits(NamedTuple):
    """The result of a search.

    Attributes:
        records: the records of the visitors, at most `MOST_HITS`.
        visitors: how many visitors were searched.
        complete: whether all visitors were searched and all hits are listed.
    """

    records: list[Document]
    visitors: int
    complete: bool


def by_trait(
    store: Store, where: Environment, name: str, value: str, clock: Callable[[], float] = time.monotonic
) -> Hits:
    """Return visitors whose trait has this value, compared as text; a dotted name leads into nested traits."""
    return _search(store, where, lambda record: _text(find(record["traits"], name)) == value, clock)


def by_beginning(store: Store, where: Environment, beginning: str, clock: Callable[[], float] = time.monotonic) -> Hits:
    """Return visitors whose profile id begins like this, as logs and lists show it."""
    return _search(store, where, lambda record: record["id"].startswith(beginning), clock)


def _search(store: Store, where: Environment, is_hit: Callable[[Document], bool], clock: Callable[[], float]) -> Hits:
    """Return the visitors that are hits, the one seen last first."""
    until = clock() + _SECONDS
    records: list[Document] = []
    visitors, complete = 0, True
    for _, document in store.documents(*where):
        if not identity.is_profile(document):
            continue
        if visitors >= MOST_LOOKED or len(records) >= MOST_HITS or clock() > until:
            complete = False
            break
        visitors += 1
        if is_hit(document):
            records.append(document)
    return Hits(sorted(records, key=lambda record: -record["updated"]), visitors, complete)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)
