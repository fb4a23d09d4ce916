"""Profile ids that certify themselves: 64 hex characters, the last 32 a keyed hash of the first 32 (spec section 16).

So the service recognizes the ids that it issued without a lookup. The key is random bytes
that belong to the store; everybody who has it can issue ids.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import count
from typing import NamedTuple, Protocol

HALF = 32
"""Hex characters of either half: 128 bits."""

REPLAY = 600_000
"""How long a message id leads to the profile that it began, milliseconds (spec section 6)."""

_ISSUED = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_NOBODYS = tuple("-".join(digit * length for length in (8, 4, 4, 4, 12)) for digit in "0f")


class EnvironmentNames(Protocol):
    """The environment: an id of one is invalid in every other."""

    @property
    def organization(self) -> str: ...

    @property
    def environment(self) -> str: ...


class NewIds(NamedTuple):
    """Makes the ids of one request, of new profiles and of sessions."""

    profile: Callable[[], str]
    session: Callable[[], str]


class PageIds:
    """The ids that one page made: each of its requests gets the same ones in the same order.

    So the write of the page's events makes the profile and the session that the preflights before it answered.

    Args:
        profiles: the first ids of profiles; those after them are made.
    """

    def __init__(self, profiles: Iterable[str] = ()) -> None:
        self.profiles = list(profiles)
        self.sessions: list[str] = []

    def replay(self, make: NewIds) -> NewIds:
        """Return what gives one request the ids made so far, and makes those after them."""
        return NewIds(_replay(self.profiles, make.profile), _replay(self.sessions, make.session))


def _replay(ids: list[str], make: Callable[[], str]) -> Callable[[], str]:
    places = count()

    def next_id() -> str:
        if (place := next(places)) == len(ids):
            ids.append(make())
        return ids[place]

    return next_id


def issue(key: bytes, environment: EnvironmentNames, random_half: str) -> str:
    """Return the profile id that begins with ``random_half`` (32 lowercase hex characters)."""
    return random_half + _keyed(key, "id", (environment.organization, environment.environment), random_half)


def certifies(key: bytes, environment: EnvironmentNames, id: str) -> bool:
    """Return whether `issue` made this id, with this key, for this environment; any text is allowed."""
    if not _ISSUED.fullmatch(id):
        return False
    return _has_its_hash(key, environment.organization, environment.environment, id)


# PERF: a request asks up to three times about one id; with a hash each time guarded took 139,000 instructions more.
@lru_cache(maxsize=1024)
def _has_its_hash(key: bytes, organization: str, environment: str, id: str) -> bool:
    return hmac.compare_digest(id[HALF:], _keyed(key, "id", (organization, environment), id[:HALF]))


def replayed_half(key: bytes, environment: EnvironmentNames, message_id: str) -> str:
    """Return the first half of the id of a profile that begins with this message (32 hex characters).

    The same message makes the same id, in a preflight and in the request that repeats it, so no preflight needs to be
    remembered. The time is no part of it: a request cannot know when its preflight was.

    Args:
        message_id: a UUID in any spelling; for other texts use a random half, see `is_replayable`.
    """
    return _keyed(key, "replay", (environment.organization, environment.environment), message_id.lower())


def is_replayable(message_id: str) -> bool:
    """Return whether a message id is a UUID: a counter of a client, such as ``m-1``, is not unique to a visitor.

    Nor are the nil and the max UUID (RFC 9562 sections 5.9 and 5.10).
    """
    return _UUID.fullmatch(message_id) is not None and message_id.lower() not in _NOBODYS


def _keyed(key: bytes, purpose: str, environment: tuple[str, str], *parts: str) -> str:
    # Lengths in front: no two different lists of texts are the same bytes.
    texts = [text.encode("utf-8", "surrogatepass") for text in (purpose, *environment, *parts)]
    message = b"".join(b"%d:%s" % (len(text), text) for text in texts)
    return hmac.digest(key, message, "sha256").hex()[:HALF]
