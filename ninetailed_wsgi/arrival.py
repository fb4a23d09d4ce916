"""The events of a request as they arrive: their times, their keys, and the limits that no schema says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from ninetailed_wsgi.core.events import Event, EventTimeError, event_time, message_key
from ninetailed_wsgi.device import device_type
from ninetailed_wsgi.errors import InvalidData

MAX_BATCH_PROFILES = 50
"""Distinct ``anonymousId`` of one batch (spec section 1)."""


def prepared(bodies: Sequence[dict[str, Any]], now: int) -> list[Event]:
    """The events of a request, ready to be applied; InvalidData names every time that is none."""
    events = []
    for at, body in zip(times_of(bodies, now), bodies, strict=True):
        user_id = body["userId"] if body["type"] == "identify" else ""
        agent = body["context"].get("userAgent")
        device = device_type(agent) if isinstance(agent, str) else None
        events.append(Event(at, body, orjson.dumps(body), message_key(body["messageId"]), user_id, device))
    return events


def times_of(bodies: Sequence[dict[str, Any]], now: int) -> list[int]:
    """When the events of a request happened (ms); InvalidData names every time that is none."""
    problems: list[str] = []
    times = []
    for index, body in enumerate(bodies):
        try:
            times.append(event_time(body, now))
        except EventTimeError as error:
            found = orjson.dumps(error.found).decode()
            problems.append(
                f"events[{index}].{error.member}: found {short(found)}, "
                "expected an ISO 8601 time or milliseconds since 1970-01-01"
            )
    if problems:
        raise InvalidData(problems[:10])
    return times


def check_profiles(bodies: Sequence[dict[str, Any]]) -> None:
    """InvalidData when a batch is about too many profiles."""
    if (found := len({body["anonymousId"] for body in bodies})) > MAX_BATCH_PROFILES:
        raise InvalidData(f"body.events: found {found} different anonymousId, expected at most {MAX_BATCH_PROFILES}")


def short(text: str) -> str:
    """A text that may be very long, as a message repeats it."""
    return text if len(text) <= 100 else text[:97] + "..."
