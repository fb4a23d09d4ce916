"""Finds visitors by a trait, among as many visitors as one request may read (spec section 14)."""

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
    until = clock() + _SECONDS
    records: list[Document] = []
    visitors = 0
    for _, document in store.documents(*where):
        if not identity.is_profile(document):
            continue
        if visitors >= MOST_LOOKED or len(records) >= MOST_HITS or clock() > until:
            return Hits(records, visitors, complete=False)
        visitors += 1
        if _text(find(document["traits"], name)) == value:
            records.append(document)
    return Hits(records, visitors, complete=True)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)
