"""Makes the ids of profiles, which certify themselves where the store has a key for that (spec section 16)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ninetailed_wsgi.core.ids import HALF, certifies, issue, replay_of
from ninetailed_wsgi.core.names import Environment


class ProfileIds:
    """The ids of new profiles.

    Args:
        new_id: makes an id, of which the first half is taken where ids certify themselves.
        key: returns the key that ids are certified with; None: ids are as ``new_id`` makes them.
        clock: returns the time, in milliseconds since the epoch.
    """

    def __init__(self, new_id: Callable[[], str], key: Callable[[], bytes] | None, clock: Callable[[], int]) -> None:
        self._new_id = new_id
        self._key = key
        self._clock = clock

    def certifies(self, environment: Environment, name: str) -> bool:
        """Return whether a name is a profile id that was issued for this environment."""
        return self._key is not None and certifies(self._key(), environment, name)

    def make(self, environment: Environment, first: Mapping[str, Any] | None = None) -> str:
        """Return an id for a profile of this environment that nobody has yet.

        With ``first``, its first event, the one that a preflight of the same event was told (spec section 6).
        """
        made = self._new_id()
        if self._key is None:
            return made
        key = self._key()
        return issue(key, environment, first and replay_of(key, environment, first, self._clock()) or made[:HALF])
