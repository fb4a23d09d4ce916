"""Calls Contentful's Delivery and Preview APIs; no other module does (spec section 18)."""

from __future__ import annotations

import http.client
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, urlencode, urlsplit
from urllib.request import Request

import orjson

from ninetailed_wsgi.content.contentful.space_state import EXPERIENCES_FIELD, FIELDS, entry_id, personalization
from ninetailed_wsgi.content.entries import Faulty
from ninetailed_wsgi.content.formats.recognise import parse
from ninetailed_wsgi.content.web import TIMEOUT, WHOLE_WITHIN, Unfetched, opener, read_body, reason
from ninetailed_wsgi.settings.contentful import SpaceAddress

PAGES = (500, 100, 20, 5)
"""Entries per page, tried in this order: a page is held in memory, and Contentful rejects answers over 7 MB."""

MOST_PAGES = 20_000
"""Maximum pages of one synchronization: ten million entries. Only a server that loops sends more."""

_WHERE = "with --contentful-token-file or NINETAILED_CONTENTFUL_TOKEN"


class Busy(Unfetched):
    """Contentful cannot answer now; the request may be retried.

    Attributes:
        seconds: how long Contentful asks to wait before a retry; None if it does not say.
    """

    def __init__(self, text: str, seconds: float | None = None) -> None:
        super().__init__(text)
        self.seconds = seconds


class TokenRefused(Unfetched):
    """The token of the synchronization is no longer accepted: everything must be read again."""


class TooLarge(TokenRefused):
    """A page exceeds Contentful's limit: everything must be read again in smaller pages."""


class Page(NamedTuple):
    """One page of a synchronization; ``token`` leads to the next page, or from the ``last`` page to later changes."""

    items: list[Any]
    token: str
    last: bool


class DeliveryApi:
    """One environment of a space, read with a token.

    Args:
        address: the space and the environment.
        host: such as ``https://cdn.contentful.com``.
        token: of the API that the address needs.
        timeout: seconds to wait for a connection, and then for each part of an answer.

    Every method may raise `Unfetched`, whose text contains neither the token nor untrusted text.
    """

    def __init__(self, address: SpaceAddress, host: str, token: str, *, timeout: float = TIMEOUT) -> None:
        self._address = address
        self._host = host
        self._token = token
        self._timeout = timeout
        self._opener = opener(tls=host.startswith("https:"), redirects=False)  # a redirect would lose the token
        space, environment = quote(address.space, safe=""), quote(address.environment, safe="")
        self._space = f"{host}/spaces/{space}"
        self._root = f"{self._space}/environments/{environment}"

    def locales(self) -> tuple[Mapping[str, Any], ...]:
        """Return the locales of the space, only with the members that decide which value of a field is read."""
        members = ("code", "default", "fallbackCode")
        rows = [item for item in _items(self._get("/locales", limit=1000)) if isinstance(item, dict)]
        items = [item for item in rows if isinstance(item.get("code"), str)]
        return tuple({name: item.get(name) for name in members} for item in items)

    def content_types(self) -> tuple[str, ...]:
        """Return the content types of personalization that exist in the space."""
        return personalization(kind for kind, _ in self._content_types())

    def changes(self, token: str | None, size: int = PAGES[0]) -> Page:
        """Return the page that a token leads to; None: the first page of all content, in pages of this size."""
        query: dict[str, Any] = {"initial": "true", "limit": size} if token is None else {"sync_token": token}
        page = self._get("/sync", **query)
        for member, last in (("nextPageUrl", False), ("nextSyncUrl", True)):
            # Do not open the address itself: it could lead anywhere, and the request would carry the token.
            if token := _sync_token(page.get(member)):
                return Page(_items(page), token, last)
        raise Unfetched("answered a page of a synchronization without nextPageUrl and nextSyncUrl")

    def drafts(self) -> Iterator[object]:
        """Yield the newest version, published or not, of every entry that can affect a decision."""
        types = self._content_types()
        yield from self._entries({"sys.contentType.sys.id[in]": ",".join(FIELDS)})
        for kind, fields in types:
            if EXPERIENCES_FIELD in fields and kind not in FIELDS:
                path = f"fields.{EXPERIENCES_FIELD}"
                yield from self._entries({"content_type": kind, f"{path}[exists]": "true", "select": f"sys,{path}"})

    def _entries(self, query: Mapping[str, Any]) -> Iterator[object]:
        skip, before = 0, ""
        for _ in range(MOST_PAGES):
            page = self._get("/entries", **query, locale="*", include=0, order="sys.id", limit=PAGES[0], skip=skip)
            items = _items(page)
            first = entry_id(items[0]) if items else ""
            if first and first == before:
                break  # the server ignores the parameter skip
            before = first
            yield from items
            skip += len(items)
            total = page.get("total")
            if not items or not isinstance(total, int) or skip >= total:
                return
        raise Unfetched("answered an endless series of pages of entries")

    def _content_types(self) -> list[tuple[str, frozenset[str]]]:
        types = []
        for item in _items(self._get("/content_types", limit=1000)):
            sys, fields = (item.get("sys"), item.get("fields")) if isinstance(item, dict) else (None, None)
            if isinstance(sys, dict) and isinstance(sys.get("id"), str):
                rows = fields if isinstance(fields, list) else ()
                ids = (field.get("id") for field in rows if isinstance(field, dict))
                types.append((sys["id"], frozenset(id for id in ids if isinstance(id, str))))
        return types

    def _get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._answer(f"{self._root}{path}?{urlencode(query)}")

    def _answer(self, url: str) -> dict[str, Any]:
        request = Request(url, headers={"Accept": "application/json", "Accept-Encoding": "gzip"})
        request.add_header("User-Agent", "ninetailed-wsgi")
        request.add_unredirected_header("Authorization", f"Bearer {self._token}")  # for this host only
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                document = parse(read_body(answer, time.monotonic() + WHOLE_WITHIN))
        except HTTPError as error:
            with error:
                self._refused(error, url)
        except Faulty:
            raise Busy("did not answer JSON: is --contentful-url the address of a Contentful host?") from None
        except (OSError, ValueError, http.client.HTTPException, zlib.error) as error:
            raise Busy(reason(error)) from None
        if not isinstance(document, dict):
            raise Unfetched("did not answer a JSON object: is --contentful-url the address of a Contentful host?")
        return document

    def _refused(self, error: HTTPError, url: str) -> NoReturn:
        status = error.code
        if status == 429:
            raise Busy("answered 429: too many requests are sent to it", _reset(error.headers))
        if status >= 500 or status == 408:
            raise Busy(f"answered {status}: it cannot serve now", _reset(error.headers))
        if status in (301, 302, 303, 307, 308):
            raise Unfetched(
                f"answered {status}, a redirect, which is not followed: is --contentful-url the address of a "
                "Contentful host?"
            )
        if status in (401, 403):
            api = "Preview API (drafts)" if self._address.drafts else "Delivery API"
            raise Unfetched(
                f"refused the token ({status}): it is wrong or revoked, or none of the {api}; "
                f"copy it from Settings > API keys of the space {self._address.space} and set it {_WHERE}"
            )
        if status == 404:
            raise Unfetched(self._missing(error, url))
        if status == 400 and "/sync?" in url and "too big" in str(_reason(error).get("message")):
            raise TooLarge("answered 400: a page is larger than it can be")
        if "sync_token=" in url and status in (400, 410, 422):
            raise TokenRefused(f"answered {status} to a token of a synchronization")
        raise Unfetched(f"answered {status}, expected 200")

    def _missing(self, error: HTTPError, url: str) -> str:
        """Describe a 404, which Contentful answers for a wrong space or environment and for missing permissions."""
        space, environment = self._address.space, self._address.environment
        if url != self._space and _missing_type(error) != "Environment":
            try:
                self._answer(self._space)
            except Busy:
                raise
            except Unfetched:
                return (
                    f"knows no space {space} that this token may read: check the space in --content, or set the token "
                    f"of this space {_WHERE}"
                )
        return (
            f"knows no environment {environment} in the space {space} that this token may read: check the environment "
            "in --content, or allow it for the token under Settings > API keys"
        )


def _items(document: Mapping[str, Any]) -> list[Any]:
    items = document.get("items")
    if not isinstance(items, list):
        raise Unfetched("answered no list of items: is --contentful-url the address of a Contentful host?")
    return items


def _sync_token(address: object) -> str | None:
    try:
        return parse_qs(urlsplit(address).query)["sync_token"][0] if isinstance(address, str) else None
    except (KeyError, ValueError):  # no token, or not a URL
        return None


def _reason(error: HTTPError) -> dict[str, Any]:
    """Return the body of an error; empty if it is not an object."""
    answer = error.fp
    if not isinstance(answer, http.client.HTTPResponse):
        return {}
    try:
        reason = orjson.loads(read_body(answer, time.monotonic() + WHOLE_WITHIN))  # the body may be compressed
    except (OSError, ValueError, http.client.HTTPException, Unfetched):
        return {}
    return reason if isinstance(reason, dict) else {}


def _missing_type(error: HTTPError) -> object:
    details = _reason(error).get("details")
    if not isinstance(details, dict):
        return None
    sys = details.get("sys")
    return details.get("type") or (sys.get("type") if isinstance(sys, dict) else None)


def _reset(headers: Any) -> float | None:
    for name in ("X-Contentful-RateLimit-Reset", "Retry-After"):
        try:
            seconds = float(headers.get(name) or "")
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    return None
