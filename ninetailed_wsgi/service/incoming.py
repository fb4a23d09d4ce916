"""The events of a request as they arrive: their times, their keys, and the limits that no schema says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.events import Event, EventTimeError, event_time, message_key
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.enrichment.device import device_type
from ninetailed_wsgi.errors import InvalidData

MAX_BATCH_PROFILES = 50
"""Distinct ``anonymousId`` of one batch (spec section 1)."""

LONGEST_KEPT = 65_536
"""Bytes of an event in a history. A longer one counts when it arrives; then only what kind of event it was is kept."""


def prepared(bodies: Sequence[dict[str, Any]], now: int) -> list[Event]:
    """The events of a request, ready to be applied; InvalidData names every time that is none."""
    events = []
    for at, body in zip(times_of(bodies, now), bodies, strict=True):
        agent = body["context"].get("userAgent")
        device = device_type(agent) if isinstance(agent, str) else None
        raw = orjson.dumps(body)
        raw = raw if len(raw) <= LONGEST_KEPT else _abridged(body, len(raw))
        events.append(Event(at, body, raw, message_key(body["messageId"]), _user_of(body), device))
    return events


def _abridged(body: dict[str, Any], size: int) -> bytes:
    told = {name: body[name] for name in ("type", "event", "messageId", "channel", "anonymousId") if name in body}
    kept = {name: value for name, value in told.items() if isinstance(value, str) and len(value) <= 1000}
    return orjson.dumps({**kept, "omittedBytes": size})


def times_of(bodies: Sequence[dict[str, Any]], now: int) -> list[int]:
    """When the events of a request happened (ms); InvalidData names every time that is none."""
    problems: list[str] = []
    times = []
    for index, body in enumerate(bodies):
        try:
            times.append(event_time(body, now))
        except EventTimeError as error:
            found = orjson.dumps(error.found).decode()
            problems.append(f"events[{index}].{error.member}: found {short(found)}, expected {error.expected}")
    if problems:
        raise InvalidData(problems[:10])
    return times


def check_profiles(bodies: Sequence[dict[str, Any]]) -> None:
    """InvalidData when a batch is about too many profiles."""
    if (found := len({body["anonymousId"] for body in bodies})) > MAX_BATCH_PROFILES:
        raise InvalidData(f"body.events: found {found} different anonymousId, expected at most {MAX_BATCH_PROFILES}")


def check_own_traits(bodies: Iterable[dict[str, Any]], most: int) -> None:
    """As `check_traits`, for a batch that is applied later: what its profiles have by then, nobody knows."""
    steps = [(Key("", "", body["anonymousId"]), Event(0, body, b"", "", _user_of(body), None)) for body in bodies]
    check_traits(steps, lambda name: (name, None), most)


def check_traits(
    steps: Iterable[tuple[Key, Event]], find: Callable[[Key], tuple[Key, profile.Record | None]], most: int
) -> None:
    """Refuse, before anything is stored, events with which the traits of a profile would take too many bytes of JSON.

    Args:
        steps: the events of a request, each with whose it is.
        find: the key of the profile that a name leads to, the name's own if none, and the profile's record.
        most: how many bytes they may take; a profile that has more already may not get still more.

    Raises:
        InvalidData: naming each event that would be one too much. Profiles that identify events make one count as one.
    """
    traits: dict[Key, dict[str, Any]] = {}
    became: dict[Key, Key] = {}
    problems = []

    def home(name: Key) -> tuple[Key, profile.Record | None]:
        key, record = find(name)
        while key in became:
            key = became[key]
        traits.setdefault(key, record["traits"] if record else {})
        return key, record

    for index, (name, event) in enumerate(steps):
        if event.type != "identify" or not (event.body["traits"] or event.user_id):
            continue
        key, record = home(name)
        if record and profile.has_seen(record, event):
            continue
        if event.user_id and not (record and event.user_id in record["aliases"]):
            owner, _ = home(key._replace(name=event.user_id))
            if owner != key:
                traits[key] = profile.merged_traits(traits.pop(owner), traits[key])
                became[owner] = key
        after = {**traits[key], **event.body["traits"]}
        if size := profile.excess(traits[key], after, most):
            problems.append(
                f"events[{index}].traits: found {size} bytes of JSON with those the profile has, "
                f"expected at most {most}"
            )
        else:
            traits[key] = after
    if problems:
        raise InvalidData(problems[:10])


def _user_of(body: dict[str, Any]) -> str:
    """Whom an event identifies; empty for any other."""
    return str(body.get("userId", "")) if body["type"] == "identify" else ""


def short(text: str) -> str:
    """A text that may be very long, as a message repeats it."""
    return text if len(text) <= 100 else text[:97] + "..."
