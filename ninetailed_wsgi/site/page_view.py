"""What the environ of a page's request says of the visit: the page, the campaign, the language, the cookies."""

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


def page_of(environ: Environ) -> dict[str, Any]:
    """The page of a request: ``path``, ``query``, ``referrer``, ``search``, ``url``, as page events have them."""
    path = quote(_bytes(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")), safe="/;=,~!$&'()*+:@")
    query = _text(environ.get("QUERY_STRING", ""))
    search = f"?{query}" if query else ""
    return {
        "path": path,
        "query": dict(parse_qsl(query, keep_blank_values=True)),
        "referrer": _text(environ.get("HTTP_REFERER", "")),
        "search": search,
        "url": f"{environ.get('wsgi.url_scheme', 'http')}://{_host(environ)}{path}{search}",
    }


def context_of(environ: Environ, page: Mapping[str, Any], locale: str) -> dict[str, Any]:
    """The ``context`` of an event on this page, without ``library``."""
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
    """The language a browser likes best (RFC 9110 section 12.5.4), such as ``de-AT``; ``en`` without one."""
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


def cookie_of(environ: Environ, names: Iterable[str]) -> str | None:
    """The value of the first of these cookies that is there, not empty and no longer than browsers keep one."""
    # Not http.cookies, which gives up at the first cookie of anybody that it finds malformed.
    parts = (part.partition("=") for part in _text(environ.get("HTTP_COOKIE", "")).split(";"))
    cookies: dict[str, str] = {}
    for name, _, value in parts:
        cookies.setdefault(name.strip(), value.strip().strip('"'))  # of two with one name, scripts see the first
    return next((unquote(cookies[name]) for name in names if 0 < len(cookies.get(name, "")) <= LONGEST_COOKIE), None)


def _bytes(given: str) -> bytes:
    """What the client sent: WSGI hands bytes over as Latin-1 (PEP 3333); what is none of that is taken as text."""
    try:
        return given.encode("latin-1")
    except UnicodeEncodeError:
        return given.encode("utf-8", "replace")


def _text(given: str) -> str:
    return given if given.isascii() else _bytes(given).decode("utf-8", "replace")


def _host(environ: Environ) -> str:
    """Host and port of the URL (PEP 3333, "URL Reconstruction")."""
    if host := environ.get("HTTP_HOST"):
        return _text(host)
    name, port = environ.get("SERVER_NAME", ""), str(environ.get("SERVER_PORT", ""))
    usual = "443" if environ.get("wsgi.url_scheme") == "https" else "80"
    return name if port in ("", usual) else f"{name}:{port}"
