"""Reads the visit from the environ of a page's request: the page, the campaign, the language, the cookies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
LONGEST_COOKIE = 4096
"""Characters of a cookie's value (RFC 6265 section 6.1)."""

# Letters, digits and hyphens, as BCP 47 has them; anything else is not believed to be a language.
_LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}")


# Headers by which browsers and mail programs say that they load a page before anybody asks for it.
_SPECULATIVE = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_PURPOSE", "HTTP_X_MOZ")
_PURPOSES = ("prefetch", "prerender", "preview")


def is_visit(environ: Environ) -> bool:
    """Return whether somebody sees the answer: HEAD, prefetch and prerender are no visits (spec section 9)."""
    if environ.get("REQUEST_METHOD") == "HEAD":
        return False
    purposes = [environ[name].lower() for name in _SPECULATIVE if name in environ]
    return not any(word in purpose for purpose in purposes for word in _PURPOSES)


def page_of(environ: Environ, origin: tuple[str, str]) -> dict[str, Any]:
    """Return the page of a request: ``path``, ``query``, ``referrer``, ``search``, ``url``, as page events have them.

    Args:
        origin: scheme and host as the visitor's browser has them.
    """
    path = quote(_bytes(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")), safe="/;=,~!$&'()*+:@")
    query = _text(environ.get("QUERY_STRING", ""))
    search = f"?{query}" if query else ""
    return {
        "path": path,
        "query": dict(parse_qsl(query, keep_blank_values=True)),
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
    best, best_weight = "en", 0.0
    for part in environ.get("HTTP_ACCEPT_LANGUAGE", "").split(",")[:20]:
        tag, _, parameters = part.strip().partition(";")
        try:
            weight = float(parameters.strip().removeprefix("q=")) if parameters else 1.0
        except ValueError:
            continue
        if weight > best_weight and _LANGUAGE_TAG.fullmatch(tag.strip()):
            best, best_weight = tag.strip(), weight
    return best


def cookies_of(environ: Environ) -> dict[str, str]:
    """Return the cookies of a request by name, as they were sent, empty and oversized ones left out."""
    return dict(reversed(_cookies(environ)))  # of two with one name, scripts see the first


def cookie_values(environ: Environ, names: Iterable[str]) -> list[str]:
    """Return the values of these cookies, in the order of the names.

    One name may have several: a page of a sibling domain can plant a cookie that the browser sends first.
    """
    cookies = _cookies(environ)
    return [value for name in names for other, value in cookies if other == name]


def _cookies(environ: Environ) -> list[tuple[str, str]]:
    # Not http.cookies, which gives up at the first cookie of anybody that it finds malformed.
    parts = [part.partition("=") for part in _text(environ.get("HTTP_COOKIE", "")).split(";")]
    cookies = [(name.strip(), value.strip().strip('"')) for name, _, value in parts]
    return [(name, unquote(value)) for name, value in cookies if 0 < len(value) <= LONGEST_COOKIE]


def _bytes(text: str) -> bytes:
    """Return what the client sent: WSGI hands bytes over as Latin-1 (PEP 3333); other text is taken as it is."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


def _text(text: str) -> str:
    return text if text.isascii() else _bytes(text).decode("utf-8", "replace")
