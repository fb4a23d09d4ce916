"""Fetches content that all servers share, if it changed, from a web server or from a hash in Redis."""

from __future__ import annotations

import base64
import http.client
import time
import zlib
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol
from urllib.error import HTTPError
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit
from urllib.request import Request

from ninetailed_wsgi.content.web import LARGEST, REDIRECTS, TIMEOUT, WHOLE_WITHIN, Unfetched, opener, read_body, reason
from ninetailed_wsgi.errors import SettingsError

_MEBIBYTE = 1024 * 1024
# Times in HTTP are whole seconds: a second change within the same second can have the same Last-Modified, and the same
# ETag, which some servers derive from that time and the size.
_SETTLED_AFTER = 2.0


class Fetched(NamedTuple):
    """A document, and what the next fetch needs to detect a change.

    Attributes:
        validator: such as ``ETag "5f3a"``; None: only comparing the document can detect a change.
        changed: when the document changed, in seconds since the epoch; None if the origin does not say.
    """

    document: bytes
    validator: str | None
    changed: float | None


class Remote(Protocol):
    """Where shared content is kept."""

    def fetch(self, validator: str | None) -> Fetched | None:
        """Return the document, or None if it still matches this validator; raise `Unfetched` if that fails."""


def opened(address: str) -> Remote:
    """Open an address that `settings` accepted, without connecting; raise SettingsError if a package is missing."""
    return WebDocument(address) if urlsplit(address).scheme in ("http", "https") else RedisHash(address)


class WebDocument:
    """A document on a web server, requested with its ETag or time, so that an unchanged document is not sent again."""

    def __init__(self, url: str, *, timeout: float = TIMEOUT, whole_within: float = WHOLE_WITHIN) -> None:
        parts = urlsplit(url)
        login, _, host = parts.netloc.rpartition("@")
        self._url = urlunsplit(parts._replace(netloc=host, fragment=""))
        self._login = base64.b64encode(unquote(login).encode()).decode()
        self._timeout = timeout
        self._whole_within = whole_within
        self._opener = opener(tls=parts.scheme == "https")

    def fetch(self, validator: str | None) -> Fetched | None:
        """Return the document, or None if it still matches this validator; raise `Unfetched` if that fails."""
        try:
            with self._opener.open(self._request(validator), timeout=self._timeout) as answer:
                document = read_body(answer, time.monotonic() + self._whole_within)
                return Fetched(document, *_validator(answer.headers))
        except HTTPError as error:
            error.close()
            if error.code == HTTPStatus.NOT_MODIFIED and validator:
                return None
            redirects = f" after {REDIRECTS} redirects" if error.code in (301, 302, 303, 307, 308) else ""
            raise Unfetched(f"is answered {error.code}{redirects}, expected 200") from None
        except (OSError, ValueError, http.client.HTTPException, zlib.error) as error:  # ValueError: no valid host
            raise Unfetched(reason(error)) from None

    def _request(self, validator: str | None) -> Request:
        request = Request(self._url, headers={"Accept": "application/json", "Accept-Encoding": "gzip"})
        request.add_header("User-Agent", "ninetailed-wsgi")
        if self._login:
            request.add_unredirected_header("Authorization", f"Basic {self._login}")  # for this host only
        if validator:
            kind, _, value = validator.partition(" ")
            request.add_header({"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}[kind], value)
        return request


def _validator(headers: Mapping[str, str]) -> tuple[str | None, float | None]:
    etag, modified = headers.get("ETag"), headers.get("Last-Modified")
    changed, now = _seconds(modified), _seconds(headers.get("Date"))
    if changed is not None and now is not None and now - changed < _SETTLED_AFTER:
        return None, changed
    if etag:
        return f"ETag {etag}", changed
    return (f"Last-Modified {modified}" if changed is not None and now is not None else None), changed


def _seconds(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


class RedisHash:
    """A hash in Redis or Valkey with the fields ``version`` and ``content``, which one command writes together."""

    def __init__(self, address: str, *, timeout: float = TIMEOUT) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise SettingsError(["content: redis:// requires an extra: pip install 'ninetailed-wsgi[redis]'"]) from None
        parts = urlsplit(address)
        query = dict(parse_qsl(parts.query))
        self._key = query.pop("key")
        self._errors = redis.RedisError
        try:
            self._client: Any = redis.Redis.from_url(
                urlunsplit(parts._replace(query=urlencode(query))),
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 1),  # the server may have closed an idle connection
            )
        except (ValueError, TypeError):
            raise SettingsError(["content: the address of the Redis server has an invalid option"]) from None

    def fetch(self, validator: str | None) -> Fetched | None:
        """Return the document, or None if it still matches this validator; raise `Unfetched` if that fails."""
        try:
            pipeline = self._client.pipeline(transaction=True)
            version, size = pipeline.hget(self._key, "version").hstrlen(self._key, "content").execute()
            if size > LARGEST:
                raise Unfetched(f"is larger than {LARGEST // _MEBIBYTE} MiB")
            if validator is not None and validator == _redis_validator(version, size):
                return None
            version, document = self._client.hmget(self._key, "version", "content")
        except (self._errors, OSError, TypeError, ValueError) as error:  # the last two: a bad option or host name
            raise Unfetched(f"cannot be fetched: {error}") from None
        if version is None or document is None:
            raise Unfetched(f"is not there: expected a hash {self._key} with the fields version and content")
        return Fetched(document, _redis_validator(version, len(document)), None)


def _redis_validator(version: bytes | None, size: int) -> str:
    """Combine version and size, which usually detects changed content even if the version was not changed."""
    return f"version {(version or b'').decode(errors='replace')}, {size} bytes"
