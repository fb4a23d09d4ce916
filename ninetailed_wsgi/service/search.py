"""Finds visitors by a trait, among as many visitors as one request may read (spec section 14)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.rules import find
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Store

MOST_LOOKED = 5_000
MOST_HITS = 50
_SECONDS = 1.0


class Hits(NamedTuple):
    """The result of a search.

    Attributes:
        ids: the ids of the profiles, at most `MOST_HITS`.
        visitors: how many visitors were searched.
        complete: whether all visitors were searched and all hits are listed.
    """

    ids: list[str]
    visitors: int
    complete: bool


def by_trait(
    store: Store, where: Environment, name: str, value: str, clock: Callable[[], float] = time.monotonic
) -> Hits:
    """Return visitors whose trait has this value, compared as text; a dotted name leads into nested traits."""
    until = clock() + _SECONDS
    ids: list[str] = []
    visitors = 0
    for _, document in store.documents(*where):
        if not identity.is_profile(document):
            continue
        if visitors >= MOST_LOOKED or len(ids) >= MOST_HITS or clock() > until:
            return Hits(ids, visitors, complete=False)
        visitors += 1
        if _text(find(document["traits"], name)) == value:
            ids.append(document["id"])
    return Hits(ids, visitors, complete=True)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)
