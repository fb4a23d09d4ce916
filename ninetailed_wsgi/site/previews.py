"""Previews of the host site's pages: the signed link, the cookie that it becomes, and pages while it lasts.

A link carries overrides as a token in its query. Opening it sets a signed cookie for an hour and redirects to the
address without the token. While the cookie is valid, pages are evaluated with the overrides (spec section 13).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import quote

from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.service.identity_tokens import LONGEST_TOKEN, IdentityTokens
from ninetailed_wsgi.service.preview_links import LONGEST, NAME, signed_link, without_preview
from ninetailed_wsgi.site.page_view import cookies_of

ENVIRON = "ninetailed.preview"
"""Where the API finds the overrides of a visitor's preview in the environ; see api/previews.py."""

LIFE = 60 * 60
"""Seconds that the cookie lasts."""

LINK_LIFE = 24 * 60 * 60
"""Seconds that a link is valid."""

_OFF = "off"
_VISITOR = "visitor"  # the member of a cookie beside the overrides
_IN_QUERIES = "/;=,~!$&'()*+:@%?-._[]|"
_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_RANGE", "HTTP_RANGE")
_EXPIRED = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Preview</title>
<h1>This preview link is not valid any more</h1>
<p>Links to previews end after some time. Ask for a new one, or remove <code>nt_preview</code> from the address.</p>
</html>
"""

SEEN_ONCE = (("Cache-Control", "private, no-store"), ("Referrer-Policy", "no-referrer"))
"""Headers of an answer whose address holds a token."""

PageOrigin = Callable[[Mapping[str, Any]], tuple[str, str]]


class PageAnswer(NamedTuple):
    """An answer given in place of the site's; without the body for a HEAD request."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


class Previews:
    """The previews of one environment of a site.

    Args:
        tokens: sign and check links and cookies.
        organization, environment: whose content is previewed.
        origin: gives scheme and host of a request as the browser has them.
        check: raises InvalidData where overrides name what the content does not have.
    """

    def __init__(
        self,
        tokens: IdentityTokens,
        organization: str,
        environment: str,
        origin: PageOrigin = lambda environ: (str(environ.get("wsgi.url_scheme", "http")), ""),
        check: Callable[[Overrides], None] = lambda overrides: None,
    ) -> None:
        self._tokens = tokens
        self._where = (organization, environment)
        self._origin = origin
        self._check = check

    def link(self, url: str, overrides: Overrides, seconds: int = LINK_LIFE) -> str:
        """Return an address that opens a page in a preview.

        Args:
            url: of the page; a preview that it has already is replaced.
            seconds: how long the link may be opened, at most 24 hours.

        Raises:
            InvalidData: the overrides name what the content does not have.
            ValueError: the overrides are too long for a cookie, or ``seconds`` is out of range.
        """
        self._check(overrides)
        return signed_link(self._tokens, self._where, url, overrides, seconds)

    def overrides(self, environ: Mapping[str, Any]) -> Overrides | None:
        """Return the overrides of the preview that a request is made in; None outside of any."""
        if f"{NAME}=" not in environ.get("HTTP_COOKIE", ""):
            return None
        return self._read("preview", cookies_of(environ).get(NAME))

    def seconds_left(self, environ: Mapping[str, Any]) -> int:
        """Return how long the preview of a request still lasts; 0 outside of any."""
        return self._tokens.seconds_left("preview", *self._where, cookies_of(environ).get(NAME))

    def environ(self, environ: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the API has to know about a request: its preview, if it is made in one."""
        overrides = self.overrides(environ)
        return {} if overrides is None else {ENVIRON: overrides}

    def make_unconditional(self, environ: dict[str, Any]) -> None:
        """Let the site send the whole page in a preview, and not refer to the browser's copy."""
        if self.overrides(environ) is not None:
            drop_conditions(environ)

    def answer(self, environ: Mapping[str, Any]) -> PageAnswer | None:
        """Return what answers a request for a link; None for any other request."""
        query = environ.get("QUERY_STRING", "")
        if NAME not in query or environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return None
        tokens = [part.partition("=")[2] for part in query.split("&") if part.partition("=")[0] == NAME]
        if not tokens:
            return None
        if tokens[-1] == _OFF:
            return _redirection(environ, self._cookie("", 0, environ))
        overrides = self._read("preview-link", tokens[-1])
        if overrides is None:
            return _expired()
        return _redirection(environ, self._cookie(self._cookie_token(overrides, LIFE), LIFE, environ))

    def moved(self, environ: Mapping[str, Any], place: str, overrides: Overrides, seconds: int) -> PageAnswer:
        """Return what leads to a page of the site in a preview with these overrides.

        Args:
            place: path and query of the page, percent-encoded; any other text leads to this site, too.

        Raises:
            ValueError: the overrides are too long for a cookie.
        """
        # One slash, since browsers take two as the beginning of another host, and a backslash as a slash.
        place = "/" + quote(place.lstrip("/\\"), safe=_IN_QUERIES)
        token = self._cookie_token(overrides, seconds)
        if len(token) > LONGEST:
            raise ValueError(f"the overrides take {len(token)} characters, expected at most {LONGEST}")
        headers = [("Location", place), ("Content-Length", "0"), *SEEN_ONCE]
        return PageAnswer("303 See Other", [*headers, ("Set-Cookie", self._cookie(token, seconds, environ))], b"")

    def _cookie_token(self, overrides: Overrides, seconds: int) -> str:
        """Return the cookie's value: the overrides, and who a visitor without an id is while the preview lasts."""
        document = {**overrides.document(), _VISITOR: overrides.visitor or str(uuid.uuid4())}
        return self._tokens.sign("preview", *self._where, document, seconds)

    def _read(self, purpose: str, token: str | None) -> Overrides | None:
        if not token or len(token) > LONGEST_TOKEN:
            return None
        document = self._tokens.read(purpose, *self._where, token)
        if document is None:
            return None
        visitor = str(document.pop(_VISITOR, ""))
        try:
            return replace(Overrides.of(document), visitor=visitor)
        except InvalidData:  # signed by a later version that has other members
            return None

    def _cookie(self, value: str, max_age: int, environ: Mapping[str, Any]) -> str:
        secure = "; Secure" if self._origin(environ)[0] == "https" else ""
        return f"{NAME}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax{secure}"


def drop_conditions(environ: dict[str, Any]) -> None:
    """Let the site send the whole page, not just a part of it, and not refer to the browser's copy."""
    for name in _CONDITIONS:
        environ.pop(name, None)


def _redirection(environ: Mapping[str, Any], cookie: str) -> PageAnswer:
    path = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1", "replace")
    # One slash, since browsers take two as the beginning of another host, and a backslash as a slash.
    place = "/" + quote(path, safe="/;=,~!$&'()*+:@").lstrip("/")
    if query := "&".join(without_preview(environ.get("QUERY_STRING", ""))):
        place += "?" + quote(query.encode("latin-1", "replace"), safe=_IN_QUERIES)
    headers = [("Location", place), ("Content-Length", "0"), *SEEN_ONCE, ("Set-Cookie", cookie)]
    return PageAnswer("303 See Other", headers, b"")


def _expired() -> PageAnswer:
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(_EXPIRED))),
        ("Content-Security-Policy", "default-src 'none'"),
        ("X-Content-Type-Options", "nosniff"),
        *SEEN_ONCE,
    ]
    return PageAnswer("403 Forbidden", headers, _EXPIRED)
