"""An event as it is applied: when it happened, who it names, and how it is recognised when it is sent again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

MESSAGE_KEY_LENGTH = 12
"""Hex characters kept of a message id: 48 bits, a chance of 1e-12 to mistake one of 200 remembered ids."""

_SEMVER = re.compile(r"v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?")


class EventTimeError(ValueError):
    """A time member is text that is no ISO 8601 time, or lies before 1970.

    Attributes:
        member: the event's member that holds it.
        found: the value.
    """

    def __init__(self, member: str, found: object) -> None:
        self.member = member
        self.found = found
        super().__init__(member)


class Event(NamedTuple):
    """One event, ready to be applied to a profile.

    Attributes:
        at: event time, milliseconds since the epoch.
        body: the event as it was sent.
        raw: the same as JSON text, for the history.
        key: a short digest of its message id.
        user_id: who it identifies; empty for any other event.
        device: device type of its ``context.userAgent``, or None without one.
        imported: of an event from the import queue, the number of its batch and its place in that batch.
    """

    at: int
    body: dict[str, Any]
    raw: bytes
    key: str
    user_id: str
    device: str | None
    imported: tuple[int, int] | None = None

    @property
    def type(self) -> str:
        """The event's type, such as ``page``."""
        kind: str = self.body["type"]
        return kind


def message_key(message_id: str) -> str:
    """A message id as ``MESSAGE_KEY_LENGTH`` hex characters."""
    return hashlib.blake2b(message_id.encode(), digest_size=MESSAGE_KEY_LENGTH // 2).hexdigest()


def event_time(event: Mapping[str, Any], arrival: int) -> int:
    """When an event happened, in milliseconds since the epoch.

    ``timestamp``, else ``originalTimestamp``, else ``sentAt``, else the arrival; never later than the
    arrival (spec section 2).

    Raises:
        EventTimeError: the text is no ISO 8601 time, or the time lies before 1970.
    """
    for member in ("timestamp", "originalTimestamp", "sentAt"):
        value = event.get(member)
        if value is None or value == "":
            continue
        try:
            at = _milliseconds(value)
        except (ValueError, OverflowError):
            raise EventTimeError(member, value) from None
        if at < 0:
            raise EventTimeError(member, value)
        return min(at, arrival)
    return arrival


def _milliseconds(value: str | float) -> int:
    if not isinstance(value, str):
        return int(value)
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def page_of(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page an event was sent from: ``context.page``; a page event without one has its ``properties``."""
    context = event.get("context")
    page = context.get("page") if isinstance(context, dict) else None
    if not (page and isinstance(page, dict)) and event.get("type") == "page":
        page = event.get("properties")
    return page if isinstance(page, dict) else {}


def is_before_3_14(version: str) -> bool:
    """Whether a library version is a semantic version below 3.14; what does not parse is not (spec section 4)."""
    match = _SEMVER.fullmatch(version)
    if match is None:
        return False
    number = (int(match[1]), int(match[2]))
    if number != (3, 14):
        return number < (3, 14)
    # A pre-release comes before its release (semver.org, item 11).
    return int(match[3] or 0) == 0 and match[4] is not None
