"""Profile ids that certify themselves: 64 hex characters, the last 32 a keyed hash of the first 32 (spec section 16).

So the service recognizes the ids that it issued without a lookup. The store keeps the key, random bytes. Anyone who
has the key can issue ids.
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
"""How long a message id leads to the profile that it created, in milliseconds (spec section 6)."""

_ISSUED = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_NOBODYS = tuple("-".join(digit * length for length in (8, 4, 4, 4, 12)) for digit in "0f")


class EnvironmentNames(Protocol):
    """An environment: an id issued for one environment is invalid in all others."""

    @property
    def organization(self) -> str: ...

    @property
    def environment(self) -> str: ...


class NewIds(NamedTuple):
    """Makes the ids of new profiles and sessions for one request."""

    profile: Callable[[], str]
    session: Callable[[], str]


class PageIds:
    """The new ids of one page: each request of the page gets the same ids in the same order.

    So the request that stores the page's events creates the profile and the session that its preflights answered.

    Args:
        profiles: the first profile ids to give out; after them, new ones are made.
    """

    def __init__(self, profiles: Iterable[str] = ()) -> None:
        self.profiles = list(profiles)
        self.sessions: list[str] = []

    def replay(self, make: NewIds) -> NewIds:
        """Return a source of ids for one request: first the ids made so far, then new ones."""
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


def has_form(id: str) -> bool:
    """Return whether a text has the form of an issued id, 64 lowercase hex characters."""
    return _ISSUED.fullmatch(id) is not None


def certifies(key: bytes, environment: EnvironmentNames, id: str) -> bool:
    """Return whether `issue` made this id with this key for this environment. The id may be any text."""
    if not _ISSUED.fullmatch(id):
        return False
    return _has_its_hash(key, environment.organization, environment.environment, id)


# PERF: a request asks up to three times about one id. Without the cache, mode guarded takes 139,000 instructions more.
@lru_cache(maxsize=1024)
def _has_its_hash(key: bytes, organization: str, environment: str, id: str) -> bool:
    return hmac.compare_digest(id[HALF:], _keyed(key, "id", (organization, environment), id[:HALF]))


def replayed_half(key: bytes, environment: EnvironmentNames, message_id: str) -> str:
    """Return the first half (32 hex characters) of the id of a profile that begins with this message.

    A preflight and the request that repeats its message get the same id, so no preflight needs to be remembered. The
    id does not depend on the time, because a request cannot know when its preflight was.

    Args:
        message_id: a UUID in any spelling; for other texts use a random half, see `is_replayable`.
    """
    return _keyed(key, "replay", (environment.organization, environment.environment), message_id.lower())


def is_replayable(message_id: str) -> bool:
    """Return whether a message id is a UUID. A client's counter, such as ``m-1``, is not unique to a visitor.

    Neither are the nil UUID and the max UUID (RFC 9562 sections 5.9 and 5.10), so they return false.
    """
    return _UUID.fullmatch(message_id) is not None and message_id.lower() not in _NOBODYS


def _keyed(key: bytes, purpose: str, environment: tuple[str, str], *parts: str) -> str:
    # Each text is preceded by its length, so that different lists of texts always give different bytes.
    texts = [text.encode("utf-8", "surrogatepass") for text in (purpose, *environment, *parts)]
    message = b"".join(b"%d:%s" % (len(text), text) for text in texts)
    return hmac.digest(key, message, "sha256").hex()[:HALF]
