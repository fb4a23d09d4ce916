"""Replays what visitors did against unpublished content, without writing anything (spec section 15).

For a command, or a process that serves no requests; never in a request.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator
from typing import Any

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.insights.what_if import ChangeTally, ContentComparison
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import HistoryEntry, Store

_TOLD_EVERY = 200  # visitors between two calls of ``progress``


def what_if(
    store: Store,
    environment: Environment,
    before: Catalog,
    after: Catalog,
    now: int,
    *,
    sample: int | None = None,
    expected: int | None = None,
    progress: Callable[[int, float | None], None] = lambda visitors, part: None,
) -> tuple[dict[str, Any], ContentComparison]:
    """Return what publishing ``after`` in place of ``before`` would change, as JSON, and the comparison that decided.

    Args:
        now: the time of the decision, ms.
        sample: how many visitors to evaluate, chosen by a hash of their ids; None: all.
        expected: the approximate number of visitors, for the progress; None: unknown.
        progress: called with the number of visitors evaluated so far, and the share of all work that this is.

    Raises:
        StoreUnavailable: the store cannot be read now.
    """
    comparison = ContentComparison(before, after, now)
    tally, total, last = ChangeTally(comparison), expected, None
    if sample is not None:  # another pass finds the visitors with the smallest draws
        draws = [_draw(key) for key in _visitors(store, environment)]
        total = len(draws)
        last = max(heapq.nsmallest(sample, draws), default=-1) if sample < total else None
    most = total if last is None else sample
    for key in _visitors(store, environment):
        draw = _draw(key)
        if last is not None and draw > last:
            continue
        _add(tally, store, key, draw)
        if tally.evaluated % _TOLD_EVERY == 0:
            progress(tally.evaluated, tally.evaluated / most if most else None)
    progress(tally.evaluated, 1.0)
    return tally.document(tally.evaluated if last is None else max(total or 0, tally.evaluated)), comparison


def _visitors(store: Store, environment: Environment) -> Iterator[Key]:
    """Yield the key of each profile, without those that are being merged or deleted."""
    for key, document in store.documents(*environment):
        if identity.is_profile(document):
            yield key


def _add(tally: ChangeTally, store: Store, key: Key, draw: int) -> None:
    entry = store.read(key)
    record = entry.document
    if not identity.is_profile(record):  # merged or deleted since
        return
    events: list[HistoryEntry] | None = None

    def history() -> list[HistoryEntry]:
        nonlocal events
        if events is None:
            events = entry.history()
        return events

    before, after = tally.comparison.decide(record, entry.next_ordinal, history)
    tally.add(record["id"], draw, before, after)
    if events is not None:
        tally.incomplete += tally.comparison.is_incomplete(record, entry.next_ordinal, len(events))


def _draw(key: Key) -> int:
    """Return the number by which a visitor is chosen for a sample, the same each time."""
    return int.from_bytes(hashlib.blake2b(key.name.encode("utf-8", "surrogatepass"), digest_size=8).digest())
