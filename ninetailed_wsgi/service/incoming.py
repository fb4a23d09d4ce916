"""Turns a validated body into events: their times, their keys, what a history keeps of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from ninetailed_wsgi.core.events import Event, EventTimeError, ServedComponent, event_time, in_order, message_key
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.core.url_masks import UrlMask
from ninetailed_wsgi.enrichment.device import device_type
from ninetailed_wsgi.errors import InvalidData

LONGEST_KEPT = 65_536
"""The most bytes of an event in a history. A longer event counts when it arrives; the history keeps only its kind."""


def prepared(
    bodies: Sequence[dict[str, Any]], now: int, mask: UrlMask | None = None, exposures: Sequence[ServedComponent] = ()
) -> Sequence[Event]:
    """Return the events of a request in the order in which they apply; raise InvalidData for invalid times.

    Args:
        bodies: the events as they were sent.
        now: the time of the request, milliseconds since the epoch.
        mask: removes the credentials from the addresses of pages (spec section 9); None: they have none.
        exposures: what the page of these events showed.
    """
    times = times_of(bodies, now)
    if mask:
        bodies = mask.events(bodies)
    events = []
    for index, body in enumerate(bodies):
        raw, agent = orjson.dumps(body), body["context"].get("userAgent")
        device = device_type(agent) if isinstance(agent, str) else None
        text = raw if len(raw) <= LONGEST_KEPT else _abridged(body, len(raw))
        key, user_id = message_key(body["messageId"]), _user_of(body)
        events.append(Event(times[index], body, text, key, user_id, device, index, None, now))
    ordered = in_order(events)
    return [*ordered[:-1], ordered[-1]._replace(exposures=tuple(exposures))] if exposures else ordered


def needs_profile(events: Sequence[Event]) -> bool:
    """Return whether the profile has to be read before these events: one identifies its visitor or sets traits."""
    for event in events:
        if event.user_id or event.body.get("traits"):
            return True
    return False


def _abridged(body: dict[str, Any], size: int) -> bytes:
    members = {name: body[name] for name in ("type", "event", "messageId", "channel", "anonymousId") if name in body}
    short = {name: value for name, value in members.items() if isinstance(value, str) and len(value) <= 1000}
    return orjson.dumps({**short, "omittedBytes": size})


def times_of(bodies: Sequence[dict[str, Any]], now: int) -> list[int]:
    """Return when the events of a request happened (ms); raise InvalidData for invalid times."""
    problems: list[str] = []
    times = []
    for index, body in enumerate(bodies):
        try:
            times.append(event_time(body, now))
        except EventTimeError as error:
            value = orjson.dumps(error.value).decode()
            problems.append(f"events[{index}].{error.member}: found {shorten(value)}, expected {error.expected}")
    if problems:
        raise InvalidData(problems[:10])
    return times


def _user_of(body: dict[str, Any]) -> str:
    """Return the user id of an identify event; empty for any other event."""
    return str(body.get("userId") or "") if body["type"] == "identify" else ""
