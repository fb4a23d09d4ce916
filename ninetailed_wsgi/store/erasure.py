"""Deletes visitors for good: their profiles, and their events in imports that wait to be applied or were put aside.

What was accepted before a deletion must not come back after it. So a deletion keeps the consumer from applying
batches, finds by which names the visitors would be known once all of them were applied, takes their events out of the
batches, and then removes the profiles. Cut off anywhere, it is begun anew. Places in a batch stay (a deleted
event is null), as profiles remember by these which events of a batch they have had.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Queue, Store


def erase(store: Store, queue: Queue | None, keys: Sequence[Key], known: set[str]) -> None:
    """Delete the visitors with these ids or aliases, all of one environment; those that led to one come to ``known``.

    Raises:
        StoreUnavailable: the disk cannot serve, or a batch is being applied for longer than the store's timeout.
    """
    if queue is None or not (state := queue.state()).waiting + state.aside:
        _delete(store, keys, known)
        return
    with queue.alone(wait=True) as alone:
        if not alone:
            raise StoreUnavailable("an import is being applied, and a deletion has to wait for its end")
        names = _known_as(store, queue, keys)
        known |= _take_out(queue, keys[0], names) & {key.name for key in keys}
        _delete(store, keys, known)
        _delete(store, [keys[0]._replace(name=name) for name in names], set())


def imported(queue: Queue, environment: Key, names: Collection[str]) -> list[dict[str, Any]]:
    """The events of a visitor, known by these names, that wait to be applied or were put aside."""
    found = []
    for batch in queue.batches(aside=True):
        found += [event for event in _events(batch, environment) or () if event and _is_of(event, names)]
    return found


def _delete(store: Store, keys: Sequence[Key], known: set[str]) -> None:
    for key in keys:
        if identity.delete(store, key):
            known.add(key.name)


def _known_as(store: Store, queue: Queue, keys: Sequence[Key]) -> set[str]:
    """Every name of the visitors: as stored, and as identify events that wait will have it."""
    linked: dict[str, set[str]] = {}
    for batch in queue.batches():
        for one, other in _links(_events(batch, keys[0]) or ()):
            linked.setdefault(one, set()).add(other)
            linked.setdefault(other, set()).add(one)
    names: set[str] = set()
    found = {key.name for key in keys}
    while found:
        names |= found
        more: set[str] = set()
        for name in found:
            more |= linked.get(name, set())
            if record := identity.resolve(store, keys[0]._replace(name=name)).record:
                more.update((record["id"], *record["aliases"]))
        found = more - names
    return names


def _links(events: Sequence[dict[str, Any] | None]) -> Iterator[tuple[str, str]]:
    for event in events:
        if event and event["type"] == "identify" and event.get("userId"):
            yield event["anonymousId"], event["userId"]


def _take_out(queue: Queue, environment: Key, names: set[str]) -> set[str]:
    """Take the events of these names out of every batch; the names that there were events of."""
    met: set[str] = set()

    def without(batch: bytes) -> bytes | None:
        events = _events(batch, environment)
        if events is None or not any(event and _is_of(event, names) for event in events):
            return batch
        met.update(name for event in events if event and _is_of(event, names) for name in _names(event))
        left = [None if event and _is_of(event, names) else event for event in events]
        return orjson.dumps({**orjson.loads(batch), "events": left}) if any(left) else None

    queue.rewrite(without)
    return met


def _is_of(event: dict[str, Any], names: Collection[str]) -> bool:
    return any(name in names for name in _names(event))


def _names(event: dict[str, Any]) -> tuple[str, ...]:
    """Whom an event is about: the user id that an identify event names is its visitor as well."""
    user_id = event.get("userId") if event["type"] == "identify" else None
    return (event["anonymousId"], user_id) if user_id else (event["anonymousId"],)


def _events(batch: bytes, environment: Key) -> list[dict[str, Any] | None] | None:
    """The events of a batch; None where it is of another environment."""
    named = json.dumps(environment[:2], ensure_ascii=False, separators=(",", ":"))
    where = b'"where":' + named.encode("utf-8", "surrogatepass")
    if where not in batch[: len(where) + 40]:  # without reading all of it
        return None
    events: list[dict[str, Any] | None] = orjson.loads(batch)["events"]
    return events
