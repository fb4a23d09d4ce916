"""Reads the visit from the environ of a page's request: the page, the campaign, the language, the cookies."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

Environ = Mapping[str, Any]

_CAMPAIGN = {
    "name": "utm_campaign",
    "source": "utm_source",
    "medium": "utm_medium",
    "term": "utm_term",
    "content": "utm_content",
}
PAGE_MEMBERS = ("path", "query", "referrer", "search", "url")
"""What `page_of` returns."""

LONGEST_COOKIE = 4096
"""Characters of a cookie's value (RFC 6265 section 6.1)."""

MOST_COOKIES = 200
"""Cookies of a visitor's id that are looked at; browsers keep at most 180 cookies of a domain."""

_SAFE_IN_PATHS = "/;=,~!$&'()*+:@"
_PLAIN_PATH = re.compile(rf"[A-Za-z0-9_.\-{re.escape(_SAFE_IN_PATHS)}]*")

_COMMON_LENGTH = 100
"""Characters of an ``Accept-Language`` header; for a longer one, the language is not cached."""

# Letters, digits and hyphens, as BCP 47 has them; anything else is not taken for a language.
_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}")


# Headers by which browsers and mail programs say that they load a page before anybody asks for it.
_SPECULATIVE = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_PURPOSE", "HTTP_X_MOZ")
_PURPOSES = ("prefetch", "prerender", "preview")


def is_visit(environ: Environ) -> bool:
    """Return whether somebody sees the answer: HEAD, prefetch and prerender are not visits (spec section 9)."""
    if environ.get("REQUEST_METHOD") == "HEAD":
        return False
    for name in _SPECULATIVE:
        if name in environ:
            purpose = environ[name].lower()
            if any(word in purpose for word in _PURPOSES):
                return False
    return True


class Visit:
    """What the request of one page tells, read when it is asked for, and again only where the site changed it.

    Args:
        environ: of the request.
        origin: returns scheme and host as the visitor's browser has them.
    """

    __slots__ = ("_cookies", "_is_seen", "_origin", "_page", "_place", "environ")

    def __init__(self, environ: Environ, origin: Callable[[Environ], tuple[str, str]]) -> None:
        self.environ = environ
        self._origin = origin
        self._place: tuple[object, ...] | None = None
        self._page: dict[str, Any] = {}
        self._is_seen: bool | None = None
        self._cookies: tuple[tuple[str, Collection[str]], list[tuple[str, str]]] | None = None

    @property
    def page(self) -> dict[str, Any]:
        """The page, as `page_of` returns it; read-only."""
        environ = self.environ
        place = (environ.get("SCRIPT_NAME"), environ.get("PATH_INFO"), environ.get("QUERY_STRING"))
        if place != self._place:
            self._page, self._place = page_of(environ, self._origin(environ)), place
        return self._page

    @property
    def is_seen(self) -> bool:
        """Whether somebody sees the answer, as `is_visit` says."""
        if self._is_seen is None:
            self._is_seen = is_visit(self.environ)
        return self._is_seen

    @property
    def locale(self) -> str:
        """The language that the browser prefers."""
        return locale_of(self.environ)

    def cookies(self, names: Collection[str]) -> list[tuple[str, str]]:
        """Return the cookies of these names in the order in which they were sent, without empty and oversized ones."""
        place = (self.environ.get("HTTP_COOKIE", ""), names)
        if self._cookies is None or self._cookies[0] != place:
            self._cookies = place, _cookies(self.environ, names)
        return self._cookies[1]

    def context(self) -> dict[str, Any]:
        """Return the ``context`` of an event on this page, without ``library``."""
        return context_of(self.environ, self.page, self.locale)


def page_of(environ: Environ, origin: tuple[str, str]) -> dict[str, Any]:
    """Return the page of a request: ``path``, ``query``, ``referrer``, ``search``, ``url``, as page events have them.

    Args:
        origin: scheme and host as the visitor's browser has them.
    """
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    if not _PLAIN_PATH.fullmatch(path):  # PERF: most paths have nothing to encode
        path = quote(_bytes(path), safe=_SAFE_IN_PATHS)
    query = _text(environ.get("QUERY_STRING", ""))
    search = f"?{query}" if query else ""
    return {
        "path": path,
        "query": _parameters(query),
        "referrer": _text(environ.get("HTTP_REFERER", "")),
        "search": search,
        "url": f"{origin[0]}://{_text(origin[1])}{path}{search}",
    }


def context_of(environ: Environ, page: Mapping[str, Any], locale: str) -> dict[str, Any]:
    """Return the ``context`` of an event on this page, without ``library``."""
    query = page["query"]
    context = {
        "locale": locale,
        "page": page,
        "campaign": {member: query[name] for member, name in _CAMPAIGN.items() if query.get(name)},
    }
    if agent := environ.get("HTTP_USER_AGENT"):
        context["userAgent"] = _text(agent)
    return context


def locale_of(environ: Environ) -> str:
    """Return the language that a browser prefers (RFC 9110 section 12.5.4), such as ``de-AT``; ``en`` without one."""
    header = environ.get("HTTP_ACCEPT_LANGUAGE", "")
    return _common_language(header) if len(header) <= _COMMON_LENGTH else _language(header)


def _language(header: str) -> str:
    best, best_weight = "en", 0.0
    for part in header.split(",")[:20]:
        tag, _, parameters = part.strip().partition(";")
        try:
            weight = float(parameters.strip().removeprefix("q=")) if parameters else 1.0
        except ValueError:
            continue
        if weight > best_weight and _LANGUAGE_TAG.fullmatch(tag.strip()):
            best, best_weight = tag.strip(), weight
    return best


# Browsers send few different headers, and those of strangers take at most 100 kB.
_common_language = lru_cache(maxsize=512)(_language)


def _parameters(query: str) -> dict[str, str]:
    """Return the parameters of a query by name; of two with one name, the last counts."""
    if "%" in query or "+" in query:
        return dict(parse_qsl(query, keep_blank_values=True))
    # PERF: parse_qsl takes three times as long, and most queries have nothing to decode.
    return {name: value for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)}


def cookies_of(environ: Environ) -> dict[str, str]:
    """Return the cookies of a request by name, as they were sent, empty and oversized ones left out."""
    return dict(reversed(_cookies(environ)))  # of two with one name, scripts see the first


def cookie_values(cookies: Iterable[tuple[str, str]], names: Iterable[str]) -> list[str]:
    """Return the values of cookies that have one of these names, in the order of the names.

    One name may have several: a page of a sibling domain can plant a cookie that the browser sends first. At most
    `MOST_COOKIES` count, because it takes a hash to see whether each was issued.
    """
    return [value for name in names for other, value in cookies if other == name][:MOST_COOKIES]


def _cookies(environ: Environ, names: Collection[str] | None = None) -> list[tuple[str, str]]:
    """Return the cookies of a request; ``names`` None: all of them."""
    cookies = []
    # Not http.cookies, which gives up at the first malformed cookie, whoever set it.
    for part in _text(environ.get("HTTP_COOKIE", "")).split(";"):
        name, _, value = part.partition("=")
        name = name.strip()
        if names is None or name in names:
            value = value.strip().strip('"')
            if 0 < len(value) <= LONGEST_COOKIE:
                cookies.append((name, unquote(value) if "%" in value else value))
    return cookies


def _bytes(text: str) -> bytes:
    """Return what the client sent: WSGI hands bytes over as Latin-1 (PEP 3333); other text is taken as it is."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _text(text: str) -> str:
    return text if text.isascii() else _bytes(text).decode("utf-8", "replace")
