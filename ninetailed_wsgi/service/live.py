"""Shows incoming events to somebody who watches; every process notes them as long as somebody does (spec section 14).

No request waits for this: what cannot be noted is not shown, and the request continues.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core.events import Event
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.operations.logs import stack
from ninetailed_wsgi.service import previews
from ninetailed_wsgi.service.application import Application, Step, latest
from ninetailed_wsgi.service.explanation import reason, subject
from ninetailed_wsgi.service.folding import Snapshot
from ninetailed_wsgi.store.protocol import Arrivals

WATCH = 15_000
"""Milliseconds for which one load of the page counts as watching."""

_FARTHEST = 2 * WATCH
"""Milliseconds ahead up to which a time counts: the clocks of other processes differ, and one may have been wrong."""

MOST_SHOWN = 200
"""The most arrivals that one load of the page gets."""

_LIFE = 10 * 60_000  # ms for which an arrival is shown
_LOOK_EVERY = 1000  # ms between two checks of a process whether somebody watches
_MOST_A_SECOND = 50  # arrivals that a process notes; the others are counted
_MOST_EVENTS, _MOST_EXPERIENCES, _LONGEST = 10, 12, 200
_log = logging.getLogger("ninetailed_wsgi")


class Live:
    """Incoming events, for somebody who watches.

    Args:
        arrivals: returns the place that all processes share.
        clock: returns the time in milliseconds since the epoch.
    """

    def __init__(self, arrivals: Callable[[], Arrivals], clock: Callable[[], int]) -> None:
        self._arrivals = arrivals
        self._clock = clock
        self._look_at = self._until = self._second = 0
        self._count = self._missed = 0
        self._failed = False

    # For the person who watches

    def watch(self, environment: Environment) -> dict[str, Any]:
        """Return what came in for an environment, newest first, and keep the processes noting for some more seconds.

        Returns:
            ``watching`` (whether events were being noted before this call) and ``arrivals``.

        Raises:
            StoreUnavailable: the shared place cannot be used now.
        """
        arrivals, now = self._arrivals(), self._clock()
        until = arrivals.watched_until()
        watching = now < until <= now + _FARTHEST
        if not watching:
            arrivals.clear()  # left from somebody who watched before
        arrivals.watch(now + WATCH)
        self._look_at, self._until = now, now + WATCH
        by_id = {}
        for line in arrivals.newest() if watching else ():
            arrival = _read(line)
            if (
                arrival
                and arrival["environment"] == str(environment)
                and now - _LIFE < arrival["at"] <= now + _FARTHEST
            ):
                by_id[arrival["id"]] = arrival
        return {"watching": watching, "arrivals": list(by_id.values())[: -MOST_SHOWN - 1 : -1]}

    # For the requests

    def look_for_watcher(self) -> bool:
        """Return whether somebody watches, checked at most once a second; if nobody does, drop the arrivals."""
        now = self._clock()
        if not self._look_at <= now < self._look_at + _LOOK_EVERY:
            self._look_at = now
            try:
                self._until = self._watched_until(now)
            except StoreUnavailable:
                self._until = 0
        return now < self._until

    def decided(
        self,
        environment: Environment,
        source: str,
        events: Sequence[Event],
        catalog: Catalog,
        snapshot: Snapshot,
        now: int,
        overrides: Overrides | None = None,
    ) -> None:
        """Note the events of a visitor, and what was decided for them at this time (ms), if somebody watches."""
        if self.look_for_watcher():
            self._note(environment, lambda: _decision(source, events, catalog, snapshot, now, overrides))

    def batch(
        self, environment: Environment, application: Application, homes: Iterable[Key], steps: Sequence[Step], now: int
    ) -> None:
        """Note the events of each profile of a batch, as `decided` does."""
        if not self.look_for_watcher():
            return
        events: dict[Key, list[Event]] = {}
        for name, event in steps:
            events.setdefault(application.home(name), []).append(event)
        catalog = application.catalog
        for home in homes:
            self.decided(environment, "batch", events.get(home, ()), catalog, latest(application, home), now)

    def accepted(self, environment: Environment, source: str, name: str, bodies: Sequence[Any], outcome: str) -> None:
        """Note events without a decision, as they were sent for this name, and what happens to them."""
        if self.look_for_watcher():
            end = {"outcome": shorten(outcome, _LONGEST)}
            self._note(environment, lambda: {"source": source, "profileId": name, **_summary(bodies), **end})

    def refused(self, environment: Environment, source: str, name: str, bodies: Sequence[Any], why: str) -> None:
        """Note refused events and the reason, if somebody watches."""
        if self.look_for_watcher():
            end = {"refused": shorten(why, 2 * _LONGEST)}
            self._note(environment, lambda: {"source": source, "profileId": name, **_summary(bodies), **end})

    def forget(self) -> None:
        """Drop all arrivals, because they may contain a visitor who was deleted."""
        with suppress(StoreUnavailable):
            arrivals = self._arrivals()
            if until := arrivals.watched_until():
                arrivals.clear()
                arrivals.watch(until)

    def _watched_until(self, now: int) -> int:
        arrivals = self._arrivals()
        until = arrivals.watched_until()
        if until and until + 4 * WATCH <= now:
            arrivals.clear()  # nobody watches any more, so arrivals are not kept
        return until if until <= now + _FARTHEST else 0

    def _note(self, environment: Environment, arrival: Callable[[], dict[str, Any]]) -> None:
        now = self._clock()
        if now // 1000 != self._second:
            self._second, self._count = now // 1000, 0
        if self._count >= _MOST_A_SECOND:
            self._missed += 1
            return
        self._count += 1
        missed, self._missed = self._missed, 0
        head = {"id": secrets.token_hex(8), "at": now, "environment": str(environment), "missed": missed}
        try:
            self._arrivals().add(orjson.dumps({**_EMPTY, **head, **arrival()}, default=str))
        except StoreUnavailable:
            self._missed += missed + 1
        except Exception as error:  # a visitor's request must not fail because somebody watches
            if not self._failed:
                self._failed = True
                _log.error("an arrival cannot be shown; this is a bug:\n%s", stack(error))


_EMPTY: Mapping[str, Any] = {
    "source": "",
    "profileId": "",
    "events": [],
    "more": 0,
    "audiences": [],
    "experiences": [],
    "outcome": None,
    "refused": None,
}


def _decision(
    source: str,
    events: Sequence[Event],
    catalog: Catalog,
    snapshot: Snapshot,
    now: int,
    overrides: Overrides | None,
) -> dict[str, Any]:
    why = previews.explanation(catalog, snapshot, now, overrides or Overrides())
    names = {each.id: each.name for each in catalog.audience_list}
    experiences = [each for each in why["experiences"] if each["variantIndex"] is not None]
    return {
        "source": source,
        "profileId": why["profile"]["id"],
        **_summary([event.body for event in events]),
        "audiences": [shorten(names[id], 60) for id in why["profile"]["audiences"][:_MOST_EXPERIENCES]],
        "experiences": [
            {
                "id": each["id"],
                "name": shorten(each["name"], 60),
                "variantIndex": each["variantIndex"],
                "why": shorten(reason(each, names), _LONGEST),
            }
            for each in experiences[:_MOST_EXPERIENCES]
        ],
    }


def _summary(bodies: Sequence[Any]) -> dict[str, Any]:
    mappings = [each if isinstance(each, Mapping) else {} for each in bodies[:_MOST_EVENTS]]
    events = [
        {"type": shorten(str(each.get("type", "?")), 40), "what": shorten(subject(each), _LONGEST)} for each in mappings
    ]
    return {"events": events, "more": max(0, len(bodies) - _MOST_EVENTS)}


def _read(line: bytes) -> dict[str, Any] | None:
    """Return an arrival; None for a line that was cut off."""
    try:
        arrival = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    is_whole = isinstance(arrival, dict) and {"id", "at", "environment"} <= arrival.keys()
    return {**_EMPTY, **arrival} if is_whole else None
