"""Tokens that the site signs: proofs of who a visitor is, links to previews, sign-ins.

Only this module imports PyJWT. A token is a JWT signed with HS256 and no other algorithm, with ``exp`` at most 24 hours
ahead. The browser sends a proof as the trait ``nt_identity``; its ``sub`` is the user id, its ``aud`` the environment
as ``organization/environment`` (spec section 16). The ``aud`` of any other token has more than one slash, so no token
can pass as a proof or as a token of another purpose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from ninetailed_wsgi.errors import SettingsError

TRAIT = "nt_identity"
"""The trait of an identify event that carries the token; it is never stored."""

LONGEST_LIFE = 24 * 60 * 60
"""The most seconds that a token is valid."""

_LIFE = 60 * 60
_SHORTEST_SECRET = 32  # RFC 7518, section 3.2: as long as the hash
LONGEST_TOKEN = 4096
"""The most characters of a token; a longer one is not read."""

_CONTENT = "nt"  # the claim with the content of a token that is no proof


class IdentityTokens:
    """Makes and checks tokens.

    Args:
        secrets: the first one signs, each of them verifies: put a new secret before the old one for a day.
        now: returns seconds since 1970.
    """

    def __init__(self, secrets: tuple[bytes, ...], now: Callable[[], float] = time.time) -> None:
        # Imported here because most services have no secret, and it loads the modules for HTTP and TLS.
        import jwt

        self._jwt = jwt
        self._secrets = secrets
        self._now = now

    @classmethod
    def of_file(cls, file: Path, now: Callable[[], float] = time.time) -> IdentityTokens:
        """Read secrets from a file, one per line, each at least 32 bytes; raise SettingsError if something is wrong."""
        try:
            lines = tuple(line.strip() for line in file.read_bytes().splitlines() if line.strip())
        except OSError as error:
            raise SettingsError([f"identity_secret_file: {file} cannot be read: {error.strerror}"]) from error
        if not lines or min(map(len, lines)) < _SHORTEST_SECRET:
            raise SettingsError(
                [
                    f"identity_secret_file: {file} must contain a secret of at least {_SHORTEST_SECRET} bytes on each "
                    "line; `openssl rand -hex 32` makes one"
                ]
            )
        return cls(lines, now)

    def make(self, user_id: str, organization: str, environment: str, seconds: int = _LIFE) -> str:
        """Return a token that proves that its holder is this user, valid for so many seconds, at most 24 hours."""
        if not user_id:
            raise ValueError("user_id: found an empty text, expected the id of a user")
        if not 0 < seconds <= LONGEST_LIFE:
            raise ValueError(f"seconds: found {seconds}, expected 1 to {LONGEST_LIFE}")
        return self._signed({"sub": user_id}, f"{organization}/{environment}", seconds)

    def user(self, token: object, organization: str, environment: str) -> str | None:
        """Return the user id that a token proves in this environment; None if it is no valid proof."""
        claims = self._claims(token, f"{organization}/{environment}", "sub")
        user_id = claims and claims["sub"]
        return user_id if isinstance(user_id, str) and user_id else None

    def sign(self, purpose: str, organization: str, environment: str, content: Mapping[str, Any], seconds: int) -> str:
        """Return a token for a purpose, such as ``preview``, that carries a JSON object for so many seconds."""
        if not 0 < seconds <= LONGEST_LIFE:
            raise ValueError(f"seconds: found {seconds}, expected 1 to {LONGEST_LIFE}")
        return self._signed({_CONTENT: content}, f"{organization}/{environment}/{purpose}", seconds)

    def read(self, purpose: str, organization: str, environment: str, token: object) -> dict[str, Any] | None:
        """Return what a token of `sign` carries; None if it is not valid for this purpose now."""
        claims = self._claims(token, f"{organization}/{environment}/{purpose}", _CONTENT)
        content = claims and claims[_CONTENT]
        return content if isinstance(content, dict) else None

    def seconds_left(self, purpose: str, organization: str, environment: str, token: object) -> int:
        """Return how many more seconds a token of `sign` is valid; 0 if it is invalid."""
        claims = self._claims(token, f"{organization}/{environment}/{purpose}", _CONTENT)
        return max(0, int(claims["exp"] - self._now())) if claims else 0

    def _signed(self, claims: Mapping[str, Any], audience: str, seconds: int) -> str:
        whole = {**claims, "aud": audience, "exp": int(self._now()) + seconds}
        return self._jwt.encode(whole, self._secrets[0], algorithm="HS256")

    def _claims(self, token: object, audience: str, required: str) -> dict[str, Any] | None:
        """Return the claims of a valid token for an audience; None for any other token."""
        if not isinstance(token, str) or len(token) > LONGEST_TOKEN:
            return None
        for secret in self._secrets:
            try:
                claims: dict[str, Any] = self._jwt.decode(
                    token,
                    secret,
                    algorithms=["HS256"],
                    audience=audience,
                    # Times are compared below, with the service's own clock.
                    options={
                        "require": [required, "exp", "aud"],
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                        "verify_sub": False,
                    },
                )
            except self._jwt.InvalidTokenError:
                continue
            return claims if self._is_now(claims) else None
        return None

    def _is_now(self, claims: dict[str, object]) -> bool:
        now, expires, begins = self._now(), claims["exp"], claims.get("nbf", 0)
        if not _is_time(expires) or not _is_time(begins):
            return False
        return begins <= now < expires <= now + LONGEST_LIFE


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
