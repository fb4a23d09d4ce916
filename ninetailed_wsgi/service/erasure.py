"""Deletes visitors for good: their profiles, and their events in imports that wait to be applied or were put aside.

What was accepted before a deletion must not come back after it. So a deletion keeps the consumer from applying
batches, finds by which names the visitors would be known once all of them were applied, takes their events out of the
batches, and then removes the profiles. If it is interrupted, it is repeated from the start. An event that is deleted
from a batch leaves null in its place, as a profile remembers by place which events of a batch it has applied.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.service.imports import Batch, events_of
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Queue, Store


def erase(store: Store, queue: Queue | None, keys: Sequence[Key], known: set[str]) -> None:
    """Delete the visitors with these ids or aliases, all of one environment; those that led to one come to ``known``.

    Without a key nothing happens.

    Raises:
        StoreUnavailable: the disk cannot serve, or a batch is being applied for longer than the store's timeout.
    """
    if not keys:
        return
    if queue is None or not (state := queue.state()).waiting + state.aside:
        _delete(store, keys, known)
        return
    with queue.alone(wait=True) as alone:
        if not alone:
            raise StoreUnavailable("an import is being applied, and a deletion has to wait for its end")
        names = _known_as(store, queue, keys)
        known |= _take_out(queue, Environment(*keys[0][:2]), names) & {key.name for key in keys}
        _delete(store, keys, known)
        _delete(store, [keys[0]._replace(name=name) for name in names], set())


def imported(queue: Queue, environment: Environment, names: Collection[str]) -> list[dict[str, Any]]:
    """Return the events of a visitor, known by these names, that wait to be applied or were put aside."""
    events = []
    for text in queue.batches(aside=True):
        events += [event for event in events_of(text, environment) if event and _is_of(event, names)]
    return events


def _delete(store: Store, keys: Sequence[Key], known: set[str]) -> None:
    for key in keys:
        if identity.delete(store, key):
            known.add(key.name)


def _known_as(store: Store, queue: Queue, keys: Sequence[Key]) -> set[str]:
    """Every name of the visitors: as stored, and as identify events that wait will have it."""
    linked: dict[str, set[str]] = {}
    for text in queue.batches():
        for one, other in _links(events_of(text, Environment(*keys[0][:2]))):
            linked.setdefault(one, set()).add(other)
            linked.setdefault(other, set()).add(one)
    names: set[str] = set()
    new = {key.name for key in keys}
    while new:
        names |= new
        more: set[str] = set()
        for name in new:
            more |= linked.get(name, set())
            if record := identity.resolve(store, keys[0]._replace(name=name)).record:
                more.update((record["id"], *record["aliases"]))
        new = more - names
    return names


def _links(events: Sequence[dict[str, Any] | None]) -> Iterator[tuple[str, str]]:
    for event in events:
        if event and event["type"] == "identify" and event.get("userId"):
            yield event["anonymousId"], event["userId"]


def _take_out(queue: Queue, environment: Environment, names: set[str]) -> set[str]:
    """Take the events of these names out of every batch; return the names that there were events of."""
    met: set[str] = set()

    def without(text: bytes) -> bytes | None:
        events = events_of(text, environment)
        if not any(event and _is_of(event, names) for event in events):
            return text
        met.update(name for event in events if event and _is_of(event, names) for name in _names(event))
        left = [None if event and _is_of(event, names) else event for event in events]
        return Batch.decode(text)._replace(events=left).encode() if any(left) else None

    queue.rewrite(without)
    return met


def _is_of(event: dict[str, Any], names: Collection[str]) -> bool:
    return any(name in names for name in _names(event))


def _names(event: dict[str, Any]) -> tuple[str, ...]:
    """Whom an event is about: the user id that an identify event names is its visitor as well."""
    user_id = event.get("userId") if event["type"] == "identify" else None
    return (event["anonymousId"], user_id) if user_id else (event["anonymousId"],)
