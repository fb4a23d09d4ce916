"""Profile ids that certify themselves: 64 hex characters, the last 32 a keyed hash of the first 32 (spec section 16).

So the service recognizes the ids that it issued without a lookup. The key is random bytes
that belong to the store; everybody who has it can issue ids.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from typing import Any, Protocol

from ninetailed_wsgi.core.events import event_time

HALF = 32
"""Hex characters of either half: 128 bits."""

WINDOW = 600_000
"""How long a message id that a preflight had gives the same profile id, milliseconds (spec section 6)."""

_NEVER = 2**62  # later than any time that an event says
_ISSUED = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class Environment(Protocol):
    """The environment: an id of one is invalid in every other."""

    @property
    def organization(self) -> str: ...

    @property
    def environment(self) -> str: ...


def issue(key: bytes, environment: Environment, random_half: str) -> str:
    """Return the profile id that begins with ``random_half`` (32 lowercase hex characters)."""
    return random_half + _keyed(key, "id", environment, random_half)


def certifies(key: bytes, environment: Environment, id: str) -> bool:
    """Return whether `issue` made this id, with this key, for this environment; any text is allowed."""
    if not _ISSUED.fullmatch(id):
        return False
    return hmac.compare_digest(id[HALF:], _keyed(key, "id", environment, id[:HALF]))


def replayed_half(key: bytes, environment: Environment, message_id: str, window: int) -> str:
    """Return the first half of the id of a profile that begins with this message (32 hex characters).

    The same message makes the same id, in a preflight and in the request that repeats it, so no preflight needs to be
    remembered. The window limits how long a leaked message id leads to the profile.

    Args:
        message_id: a UUID in any spelling; for other texts use a random half, see `is_replayable`.
        window: from `window_of`.
    """
    return _keyed(key, "replay", environment, message_id.lower(), str(window))


def is_replayable(message_id: str) -> bool:
    """Return whether a message id is a UUID: a counter of a client, such as ``m-1``, is not unique to a visitor."""
    return _UUID.fullmatch(message_id) is not None


def window_of(event_time: int | None, now: int) -> int:
    """Return the window in which a message counts as sent, for `replayed_half`.

    Args:
        event_time: when the event says that it happened (ms since the epoch), None where it does not say. It is the
            same in a preflight and in its replay, so both find the same window.
        now: ms since the epoch; used instead of an event time that is more than a window away from it.
    """
    anchor = now if event_time is None or abs(now - event_time) > WINDOW else event_time
    return anchor // WINDOW


def replay_of(key: bytes, environment: Environment, first: Mapping[str, Any], now: int) -> str | None:
    """Return the first half of the id of a profile that begins with this event; None where it cannot be replayed.

    Args:
        first: the event, of which the times were checked before.
        now: ms since the epoch.
    """
    message: str = first["messageId"]
    if not is_replayable(message):
        return None
    told = event_time(first, _NEVER)
    return replayed_half(key, environment, message, window_of(None if told == _NEVER else told, now))


def _keyed(key: bytes, purpose: str, environment: Environment, *parts: str) -> str:
    # Lengths in front: no two different lists of texts are the same bytes.
    texts = [text.encode("utf-8", "surrogatepass") for text in
             (purpose, environment.organization, environment.environment, *parts)]  # fmt: skip
    message = b"".join(b"%d:%s" % (len(text), text) for text in texts)
    return hmac.digest(key, message, "sha256").hex()[:HALF]
