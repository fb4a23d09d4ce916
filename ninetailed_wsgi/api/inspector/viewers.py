"""Decides who may use the inspector, by a key, a sign-in of an hour or the site's decision, and checks its forms."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from falcon import Request, Response

from ninetailed_wsgi.api.callers import key_of
from ninetailed_wsgi.api.origins import is_of_host
from ninetailed_wsgi.api.resources import Edge
from ninetailed_wsgi.errors import Forbidden, RateLimited, Unauthorized
from ninetailed_wsgi.service.identity_tokens import IdentityTokens
from ninetailed_wsgi.service.new_profiles import PerMinute

COOKIE, FORM_COOKIE = "nt_inspector", "nt_inspector_form"
"""The cookies of a viewer who signed in, and of one who sees the sign-in form."""

LIFE = 60 * 60
"""Seconds that a sign-in lasts."""

_FORM_LIFE = 24 * 60 * 60
_LONGEST_FORM_COOKIE = 100
_MOST_FAILURES = 10  # invalid keys from one address in a minute
_log = logging.getLogger("ninetailed_wsgi")
_PURPOSE, _ANYWHERE = "inspector", ("*", "*")


class Viewer(NamedTuple):
    """Somebody who looks at the inspector.

    Attributes:
        name: of the key, for the log.
        session: what the forms of this viewer have to prove; None if the request itself carries the key.
        signed_in: whether there is something to sign out of.
    """

    name: str
    session: str | None
    signed_in: bool = False


class Viewers:
    """Finds the viewer of a request.

    Args:
        edge: what the routes share.
        allowed: decides from an environ whether the site lets its sender in; None: the site does not decide.
    """

    def __init__(self, edge: Edge, allowed: Callable[[dict[str, Any]], bool] | None) -> None:
        self._edge = edge
        self._allowed = allowed
        self._failures = PerMinute(_MOST_FAILURES)

    def of(self, req: Request) -> Viewer:
        """Return the viewer of a request.

        Raises:
            Unauthorized: the sender has no access, so the page asks for a key.
            Forbidden: the key lacks the scope ``admin``.
        """
        if not self._edge.access.guarded:
            return Viewer("everybody", "open")
        if key := key_of(req.env.get("HTTP_AUTHORIZATION")):
            self._edge.allow("inspector", req)
            entry = self._edge.access.keys.find(key) if self._edge.access.keys else None
            return Viewer(entry.name if entry else "", None)
        if self._allowed is not None and self._allowed(req.env):
            return Viewer("the site", "site")
        if (signed := self._signed_in(req)) is not None:
            return signed
        raise Unauthorized("sign in, or send Authorization: Bearer KEY with a valid key")

    def newcomer(self, req: Request, resp: Response) -> Viewer:
        """Return a viewer who has to sign in; a proof in their form belongs to a cookie, which is set if it is missing.

        Without the proof, a page of another site could sign somebody in with a key of its own.
        """
        token = req.cookies.get(FORM_COOKIE, "")
        if not 0 < len(token) <= _LONGEST_FORM_COOKIE:
            token = secrets.token_urlsafe(16)
            self._set_cookie(req, resp, FORM_COOKIE, token, _FORM_LIFE)
        return Viewer("", f"sign-in {token}")

    def sign_in(self, req: Request, resp: Response, newcomer: Viewer, key: str) -> Viewer:
        """Set the cookie of a sign-in and return who signed in.

        Forms of the same key in the same browser stay valid: a second sign-in in another tab invalidates none.

        Raises:
            Forbidden: the key may not sign in.
            RateLimited: the address tried too many keys that may not.
        """
        address = self._edge.address.sender(req.env)
        if not self._failures.has_room(address):
            raise RateLimited("too many invalid keys from this address; wait a minute", self._failures.wait())
        entry = self._edge.access.keys.find(key) if self._edge.access.keys else None
        if entry is None or "admin" not in entry.scopes:
            self._failures.count(address, 1)
            _log.warning("somebody tried to sign in to the inspector with a key that may not")
            raise Forbidden("this key is not valid here, or lacks the scope admin")
        _log.info("%(name)s signed in to the inspector", {"name": entry.name})
        session = f"{entry.id} {newcomer.session}"
        token = self._tokens().sign(_PURPOSE, *_ANYWHERE, {"key": entry.id, "session": session}, LIFE)
        self._set_cookie(req, resp, COOKIE, token, LIFE)
        return Viewer(entry.name, session, signed_in=True)

    def sign_out(self, req: Request, resp: Response) -> None:
        """Expire the cookie."""
        self._set_cookie(req, resp, COOKIE, "", 0)

    def proof(self, viewer: Viewer) -> str:
        """Return what a form of this viewer has to carry, which no page of another site can know."""
        return hmac.digest(self._secret(), f"form {viewer.session}".encode(), "sha256").hex()[:32]

    def check_origin(self, req: Request) -> None:
        """Raise Forbidden if a form was sent by a page of another site, or of another host of this site."""
        site, origin = req.env.get("HTTP_SEC_FETCH_SITE"), req.env.get("HTTP_ORIGIN")
        if site:  # pages cannot set this header
            own = site in ("same-origin", "none")
        else:  # no browser, or plain HTTP: there a page without a referrer sends null, and its form has the proof
            own = origin in (None, "null") or is_of_host(str(origin), self._edge.address.origin(req.env)[1])
        if not own:
            raise Forbidden("this form is of another page: open the page of the inspector again")

    def check_form(self, viewer: Viewer, proof: str) -> None:
        """Raise Forbidden if a form is not ours."""
        if viewer.session is not None and not hmac.compare_digest(self.proof(viewer).encode(), proof.encode()):
            raise Forbidden("this form is too old, or of another page: open the page again")

    def _signed_in(self, req: Request) -> Viewer | None:
        token = req.cookies.get(COOKIE)
        content = self._tokens().read(_PURPOSE, *_ANYWHERE, token) if token else None
        keys = self._edge.access.keys
        key = keys.find(id=str(content["key"])) if content and content.keys() >= {"key", "session"} and keys else None
        if not content or key is None or "admin" not in key.scopes:  # revoked since
            return None
        return Viewer(key.name, str(content["session"]), signed_in=True)

    def _secret(self) -> bytes:
        return self._edge.service.secret(_PURPOSE)

    def _tokens(self) -> IdentityTokens:
        return IdentityTokens((self._secret().hex().encode(),), self._edge.service.now)

    def _set_cookie(self, req: Request, resp: Response, name: str, value: str, max_age: int) -> None:
        secure = "; Secure" if self._edge.address.origin(req.env)[0] == "https" else ""
        path = f"{req.root_path}/inspector"
        cookie = f"{name}={value}; Path={path}; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}"
        resp.append_header("Set-Cookie", cookie)


__all__ = ["COOKIE", "FORM_COOKIE", "LIFE", "Viewer", "Viewers"]
