"""HTTP with limits on time, size and redirects; error texts contain no URL, because it may contain secrets."""

from __future__ import annotations

import http.client
import ssl
import time
import zlib
from email.message import Message
from typing import IO
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

TIMEOUT = 5.0
"""Seconds to wait for a connection, and then for each part of an answer."""

WHOLE_WITHIN = 30.0
"""Seconds within which a whole document must have arrived."""

LARGEST = 64 * 1024 * 1024
"""Bytes of a document, unpacked."""

REDIRECTS = 5

_MEBIBYTE = 1024 * 1024


class Unfetched(Exception):
    """The content cannot be fetched now; the text says why and contains no secrets."""


def opener(*, tls: bool, redirects: bool = True) -> OpenerDirector:
    """Return an opener for URLs: redirects are limited and stay on http and https, or are not followed at all.

    urllib verifies TLS, uses the proxies from environment variables and logs nothing.
    """
    # One context for all connections: otherwise each would read every certificate authority of the system again.
    handlers = [HTTPSHandler(context=ssl.create_default_context())] if tls else []
    return build_opener(_Redirects if redirects else _NoRedirects, *handlers)


class _Redirects(HTTPRedirectHandler):
    max_redirections = REDIRECTS

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise Unfetched("redirects to an address that is neither http nor https")
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise Unfetched("redirects from https to an address without TLS")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # as the base


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        return None  # so that the caller gets the redirect's status


def read_body(answer: http.client.HTTPResponse, end: float) -> bytes:
    """Return a whole body, unpacked; raise `Unfetched` if it is too large, cut off or late; ``end`` is monotonic."""
    encoding = ",".join(answer.headers.get_all("Content-Encoding", ["identity"])).strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise Unfetched("is sent with a Content-Encoding that was not asked for, expected gzip or none")
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding != "identity" else None
    announced = answer.length
    received, size, parts = 0, 0, []
    while size <= LARGEST and (part := answer.read1(65536)):
        received += len(part)
        if unpacking:
            try:
                part = unpacking.decompress(part, LARGEST + 1 - size)
            except zlib.error:
                raise Unfetched("is sent with a Content-Encoding that its content does not have") from None
            if unpacking.unused_data:
                raise Unfetched("has data after the end of the compressed content")
        size += len(part)
        parts.append(part)
        if time.monotonic() > end:
            raise Unfetched("did not arrive completely in time: its server is too slow")
    if size > LARGEST:
        raise Unfetched(f"is larger than {LARGEST // _MEBIBYTE} MiB")
    if (announced is not None and received < announced) or (unpacking and not unpacking.eof):
        raise Unfetched(f"broke off after {received} bytes")
    return b"".join(parts)


def reason(error: Exception) -> str:
    """Describe an error; an exception's own text may quote the URL, so this uses only the system's message."""
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"cannot be fetched: its server's certificate is not trusted, {cause.verify_message}"
    if isinstance(cause, TimeoutError):
        return "cannot be fetched: its server does not answer in time"
    if isinstance(cause, OSError) and cause.strerror:
        return f"cannot be fetched: {cause.strerror}"
    return f"cannot be fetched: {type(cause).__name__}"
