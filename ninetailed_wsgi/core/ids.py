"""Profile ids that certify themselves: 64 hex characters, the last 32 a keyed hash of the first 32 (spec section 16).

So the service recognizes the ids that it issued without a lookup. The key is random bytes
that belong to the store; everybody who has it can issue ids.
"""

from __future__ import annotations

import hmac
import re
from typing import Protocol

HALF = 32
"""Hex characters of either half: 128 bits."""

REPLAY = 600_000
"""How long a message id leads to the profile that it began, milliseconds (spec section 6)."""

_ISSUED = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_NOBODYS = tuple("-".join(digit * length for length in (8, 4, 4, 4, 12)) for digit in "0f")


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


def replayed_half(key: bytes, environment: Environment, message_id: str) -> str:
    """Return the first half of the id of a profile that begins with this message (32 hex characters).

    The same message makes the same id, in a preflight and in the request that repeats it, so no preflight needs to be
    remembered. The time is no part of it: a request cannot know when its preflight was.

    Args:
        message_id: a UUID in any spelling; for other texts use a random half, see `is_replayable`.
    """
    return _keyed(key, "replay", environment, message_id.lower())


def is_replayable(message_id: str) -> bool:
    """Return whether a message id is a UUID: a counter of a client, such as ``m-1``, is not unique to a visitor.

    Nor are the nil and the max UUID (RFC 9562 sections 5.9 and 5.10).
    """
    return _UUID.fullmatch(message_id) is not None and message_id.lower() not in _NOBODYS


def _keyed(key: bytes, purpose: str, environment: Environment, *parts: str) -> str:
    # Lengths in front: no two different lists of texts are the same bytes.
    texts = [text.encode("utf-8", "surrogatepass") for text in
             (purpose, environment.organization, environment.environment, *parts)]  # fmt: skip
    message = b"".join(b"%d:%s" % (len(text), text) for text in texts)
    return hmac.digest(key, message, "sha256").hex()[:HALF]
