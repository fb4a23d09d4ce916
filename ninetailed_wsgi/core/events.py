"""An event as it is applied: when it happened, whom it identifies, and how a repeated event is recognized."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from operator import le
from typing import Any, NamedTuple

MESSAGE_KEY_LENGTH = 12
"""Hex characters kept of a message id: 48 bits, so the chance of a collision with 200 remembered ids is 1e-12."""

EARLIEST_NUMBER = 10**11
"""Smaller numbers are rejected as seconds: in milliseconds they would be before March 1973."""

_SEMVER = re.compile(r"v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")


_LEAP_SECOND = re.compile(r"(?<=[Tt ]\d\d:\d\d:)60|(?<=[Tt ]\d{4})60")
_TIME_MEMBERS = ("timestamp", "originalTimestamp", "sentAt")
_A_TIME = "an ISO 8601 time or milliseconds since 1970-01-01"
_NUMBER_AS_TEXT = "; write milliseconds as a number, without quotes"


class EventTimeError(ValueError):
    """A time member is not an ISO 8601 time, is before 1970, or is a number that looks like seconds.

    Attributes:
        member: the event's member that holds the time.
        value: what the event has there.
        expected: what it should be, in words.
    """

    def __init__(self, member: str, value: object, expected: str) -> None:
        self.member = member
        self.value = value
        self.expected = expected
        super().__init__(member)


class ServedComponent(NamedTuple):
    """What a page showed in place of a baseline (spec section 12).

    Attributes:
        component: the id of the entry, or the key of the variable.
        experience: the id of the experience that decided; None if none did.
        variant: the variant index; 0 without an experience.
    """

    component: str
    experience: str | None
    variant: int


class Event(NamedTuple):
    """One event, ready to be applied to a profile.

    Attributes:
        at: event time, milliseconds since the epoch.
        body: the event as it was sent.
        raw: the body as JSON text, for the history.
        key: a short digest of its message id.
        user_id: the user it identifies; empty if it identifies nobody.
        device: device type of its ``context.userAgent``, or None without one.
        place: its index in the request, for messages about it; events are applied in the order of their times.
        imported: for an event from the import queue, the number of its batch and its index in that batch.
        arrived: when its request arrived, milliseconds since the epoch.
        exposures: what the page showed; set on the last event that the page recorded.
    """

    at: int
    body: dict[str, Any]
    raw: bytes
    key: str
    user_id: str
    device: str | None
    place: int = 0
    imported: tuple[int, int] | None = None
    arrived: int = 0
    exposures: tuple[ServedComponent, ...] = ()

    @property
    def type(self) -> str:
        """Return the event's type, such as ``page``."""
        kind: str = self.body["type"]
        return kind


def message_key(message_id: str) -> str:
    """Return a message id as ``MESSAGE_KEY_LENGTH`` hex characters."""
    return hashlib.blake2b(message_id.encode(), digest_size=MESSAGE_KEY_LENGTH // 2).hexdigest()


def event_time(event: Mapping[str, Any], arrival: int) -> int:
    """Return when an event happened, in milliseconds since the epoch.

    It is ``timestamp``, else ``originalTimestamp``, else ``sentAt``, else the time of arrival; never later than the
    arrival (spec section 2).

    Raises:
        EventTimeError: the text is not an ISO 8601 time, the time is before 1970, or a number is below
            `EARLIEST_NUMBER`.
    """
    for member in _TIME_MEMBERS:
        value = event.get(member)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            if value < EARLIEST_NUMBER:
                raise EventTimeError(member, value, f"{_A_TIME}; a number below 10^11 is seconds, not milliseconds")
            return min(int(value), arrival)
        try:
            at = _milliseconds(value)
        except (ValueError, OverflowError):
            at = -1
        if at < 0:
            raise EventTimeError(member, value, f"{_A_TIME}{_NUMBER_AS_TEXT if value.isdecimal() else ''}")
        return at if at < arrival else arrival
    return arrival


def in_order(events: Sequence[Event]) -> Sequence[Event]:
    """Return the events of one request in the order in which they apply (spec section 2).

    They apply in the order of their times. Events with equal times and events without a time keep their places.
    """
    if len(events) < 2 or all(map(le, times := [event.at for event in events], times[1:])):
        return events
    places = [place for place, event in enumerate(events) if _says_time(event.body)]
    ordered = list(events)
    for place, event in zip(places, sorted((events[place] for place in places), key=_time_of), strict=True):
        ordered[place] = event
    return ordered


def _time_of(event: Event) -> int:
    return event.at


def _says_time(body: Mapping[str, Any]) -> bool:
    return any(body.get(member) not in (None, "") for member in _TIME_MEMBERS)


def _milliseconds(text: str) -> int:
    """Return an ISO 8601 time, which includes all of RFC 3339, in milliseconds since the epoch.

    A time without a zone is UTC.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = _rfc3339(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _rfc3339(text: str) -> datetime:
    """Read what RFC 3339 allows and datetime does not: a lowercase z, and a leap second, read as second 59."""
    text = text.removesuffix("z") + "Z" if text.endswith("z") else text
    regular, leaps = _LEAP_SECOND.subn("59", text)
    moment = datetime.fromisoformat(regular)
    if leaps:
        last = moment.astimezone(UTC) if moment.tzinfo else moment
        if (last.hour, last.minute) != (23, 59):
            raise ValueError("a leap second ends a day of UTC")
    return moment


def page_of(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the page an event was sent from: ``context.page``, or the ``properties`` of a page event without one."""
    context = event.get("context")
    page = context.get("page") if isinstance(context, dict) else None
    if not (page and isinstance(page, dict)) and event.get("type") == "page":
        page = event.get("properties")
    return page if isinstance(page, dict) else {}


def is_before_3_14(version: str) -> bool:
    """Return whether a library version is a semantic version below 3.14.

    Return false for a version that cannot be parsed (spec section 4).
    """
    match = _SEMVER.fullmatch(version)
    if match is None:
        return False
    number = (int(match[1]), int(match[2]))
    if number != (3, 14):
        return number < (3, 14)
    # A pre-release comes before its release (semver.org, item 11).
    return int(match[3] or 0) == 0 and match[4] is not None
