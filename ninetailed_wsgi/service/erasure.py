"""Deletes visitors for good: their profiles, and their events in imports that wait to be applied or were set aside.

What was accepted before a deletion must not come back after it. So a deletion keeps the consumer from applying
batches, finds all names that the visitors would have once every batch was applied, removes their events from the
batches, and then removes the profiles. If it is interrupted, it restarts from the beginning. An event that is deleted
from a batch leaves null in its place, because a profile remembers by place which events of a batch it has applied.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.service.addresses import Addresses
from ninetailed_wsgi.service.batches import Batch, events_of, names_of
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Queue, Store


def erase(store: Store, queue: Queue | None, keys: Sequence[Key], addresses: Addresses) -> Iterator[str]:
    """Delete the visitors with these ids or aliases, all of one environment; yield the names that led to one.

    Each name is yielded after its visitor is deleted, so a caller that continues after an error misses no visitor.

    Raises:
        StoreUnavailable: the disk cannot serve, or applying a batch takes longer than the store's timeout.
    """
    if not keys:
        return
    if queue is None or not (state := queue.state()).waiting + state.aside:
        yield from _delete(store, keys, addresses)
        return
    with queue.alone(wait=True) as alone:
        if not alone:
            raise StoreUnavailable("an import is being applied, and a deletion has to wait for its end")
        queue.index(lambda text: Batch.decode(text).names)
        names = _linked_names(store, queue, keys)
        waiting = _take_out(queue, keys[0].where, names)
        requested = {key.name for key in keys}
        yield from waiting & requested
        yield from (name for name in _delete(store, keys, addresses) if name not in waiting)
        list(_delete(store, list(names), addresses))  # profiles that only these imports link to the visitors


def imported(queue: Queue, environment: Environment, names: Collection[str]) -> list[dict[str, Any]]:
    """Return the events of a visitor, known by these names, that wait to be applied or were set aside."""
    events = []
    for text in queue.batches(aside=True):
        events += [event for event in events_of(text, environment) if event and _is_of(event, names)]
    return events


def _delete(store: Store, keys: Sequence[Key], addresses: Addresses) -> Iterator[str]:
    for key in keys:
        digests = addresses.digests(store, key)  # the profile names the digests of a visitor's company data
        deleted = identity.delete(store, key)
        addresses.forget(digests)
        if deleted:
            yield key.name


def _linked_names(store: Store, queue: Queue, keys: Sequence[Key]) -> set[Key]:
    """Return every name of the visitors: those that are stored, and those that waiting identify events will add."""
    environment = keys[0].where
    names: set[Key] = set()
    new = set(keys)
    while new:
        names |= new
        more: set[str] = set()
        for text in queue.batches(new):
            for pair in map(names_of, filter(None, events_of(text, environment))):
                if any(environment.key(name) in new for name in pair):
                    more.update(pair)
        for key in new:
            if record := identity.resolve(store, key).record:
                more.update((record["id"], *record["aliases"]))
        new = set(map(environment.key, more)) - names
    return names


def _take_out(queue: Queue, environment: Environment, keys: Collection[Key]) -> set[str]:
    """Remove the events of these names from every batch; return the names that had events."""
    names = {key.name for key in keys}
    waiting: set[str] = set()

    def without(text: bytes) -> bytes | None:
        events = events_of(text, environment)
        if not any(event and _is_of(event, names) for event in events):
            return text
        waiting.update(name for event in events if event and _is_of(event, names) for name in names_of(event))
        rest = [None if event and _is_of(event, names) else event for event in events]
        return Batch.decode(text)._replace(events=rest).encode() if any(rest) else None

    queue.rewrite(without, keys)
    return waiting


def _is_of(event: dict[str, Any], names: Collection[str]) -> bool:
    return any(name in names for name in names_of(event))
