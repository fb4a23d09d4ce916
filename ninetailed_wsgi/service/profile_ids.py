"""Makes the ids of profiles, which certify themselves if the store has a key for that (spec section 16)."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable

from ninetailed_wsgi.core.ids import HALF, certifies, is_replayable, issue, replayed_half
from ninetailed_wsgi.core.names import Environment


class ProfileIds:
    """The ids of new profiles.

    Args:
        new_id: makes an id; if ids certify themselves, only its first half is used.
        key: returns the key that certifies ids; None: ids are as ``new_id`` makes them.
    """

    def __init__(self, new_id: Callable[[], str], key: Callable[[], bytes] | None) -> None:
        self._new_id = new_id
        self._key = key
        self._own = secrets.token_bytes(32)  # used without a key, as in a process for a test

    def certifies(self, environment: Environment, name: str) -> bool:
        """Return whether a name is a profile id that was issued for this environment."""
        return self._key is not None and certifies(self._key(), environment, name)

    def secret(self, purpose: str) -> bytes:
        """Return the secret of this store for one purpose; each purpose has a secret of its own."""
        return hmac.digest(self._key() if self._key else self._own, f"secret {purpose}".encode(), "sha256")

    def make(self, environment: Environment) -> str:
        """Return an id for a profile of this environment that nobody has yet."""
        id = self._new_id()
        return id if self._key is None else issue(self._key(), environment, id[:HALF])

    def replayed(self, environment: Environment, message_id: str) -> str | None:
        """Return the id of a profile that this message creates, the same in a preflight (spec section 6).

        Return None if the message id is no UUID, because then other visitors may send the same id.
        """
        if self._key is None or not is_replayable(message_id):
            return None
        key = self._key()
        return issue(key, environment, replayed_half(key, environment, message_id))
