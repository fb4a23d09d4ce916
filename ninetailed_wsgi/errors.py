"""Everything that can go wrong, as one tree: each error knows its HTTP status and its ``ERR_`` code.

Source of the codes: the error table of the Experience API (spec section 1).
"""

from __future__ import annotations

from collections.abc import Sequence


class NinetailedError(Exception):
    """Base of all errors of this package; its text is written for the person who reads it.

    Attributes:
        status: the HTTP status an API answer carries for this error.
        code: the ``error.code`` member of the error envelope.
        retry_after: seconds after which the same request may succeed; None: a retry does not help.
    """

    status: int = 500
    code: str = "ERR_INTERNAL_SERVER_ERROR"
    retry_after: int | None = None


class SettingsError(NinetailedError):
    """Startup aborts: one line for each invalid option, all at once.

    Attributes:
        problems: the lines, each naming the option, the value found and the value expected.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class InvalidData(NinetailedError):
    """A request's body or query fails validation (400).

    Attributes:
        problems: what is wrong and where, at most ten lines such as
            ``events[3].context.library.version: found the number 5, expected a string``.
    """

    status = 400
    code = "ERR_INVALID_DATA"

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("; ".join(self.problems))


class PayloadTooLarge(InvalidData):
    """The body is over the size limit (413)."""

    status = 413


class UnsupportedEncoding(InvalidData):
    """The body is compressed, or encoded in any other way (415)."""

    status = 415


class Unauthorized(NinetailedError):
    """The operation needs a key, and the request has no valid one (401)."""

    status = 401
    code = "ERR_UNAUTHORIZED"


class Forbidden(NinetailedError):
    """The key lacks the scope, or the request has an origin or a host that is not allowed (403)."""

    status = 403
    code = "ERR_FORBIDDEN"


class UnknownEnvironment(NinetailedError):
    """The organization or the environment is not served here (404)."""

    status = 404
    code = "ERR_CONFIG_NOT_FOUND"


class ProfileNotFound(NinetailedError):
    """No profile has this id or alias in this environment (404)."""

    status = 404
    code = "ERR_PROFILE_NOT_FOUND"


class RouteNotFound(NinetailedError):
    """No route has this path (404)."""

    status = 404
    code = "ERR_NOT_FOUND"


class MethodNotAllowed(NinetailedError):
    """The route exists, the method does not (405)."""

    status = 405
    code = "ERR_METHOD_NOT_ALLOWED"


class ProfileOverload(NinetailedError):
    """Too many concurrent writers for one profile (429)."""

    status = 429
    code = "ERR_PROFILE_OVERLOAD"
    retry_after = 1


class RateLimited(ProfileOverload):
    """One client address is over its rate limit (429), with the only code that clients know for this status."""

    def __init__(self, text: str, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class StoreUnavailable(NinetailedError):
    """Storage is unavailable; this step wrote nothing, so the caller may retry it (503)."""

    status = 503
    retry_after = 1
