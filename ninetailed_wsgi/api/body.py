"""Reads the body of a request, never more of it than a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.errors import InvalidData, PayloadTooLarge, UnsupportedEncoding

_AT_ONCE = 65_536


def read_body(environ: Mapping[str, Any], length: int | None, limit: int) -> bytes:
    """Read a body of a stated length, or one that the server ends itself (``wsgi.input_terminated``).

    Args:
        environ: of the request.
        length: bytes as the Content-Length says, or None without one.
        limit: how many bytes it may have, and how many are held in memory.

    Raises:
        PayloadTooLarge: the body is longer than ``limit``.
        UnsupportedEncoding: the body is compressed.
        InvalidData: the body is shorter than its stated length, cannot be read, or nothing says where it ends.
    """
    if encoding := environ.get("HTTP_CONTENT_ENCODING"):
        _check_encoding(encoding)
    if length is not None:
        return _of_length(environ["wsgi.input"], length, limit)
    if environ.get("wsgi.input_terminated"):
        # A chunked body, or one of HTTP/2, which needs no length either.
        return _to_end(environ["wsgi.input"], limit)
    if environ.get("HTTP_TRANSFER_ENCODING"):
        raise InvalidData(
            "body: found no Content-Length (a chunked body), expected a body of a stated length: "
            "this server does not say where a chunked body ends"
        )
    return b""


def _check_encoding(encoding: str) -> None:
    """Raise UnsupportedEncoding for a compressed body: unpacking it could turn few bytes into many."""
    if any(each.strip().lower() not in ("", "identity") for each in encoding.split(",")):
        text = shorten(encoding)
        raise UnsupportedEncoding(f"body: found Content-Encoding {text}, expected none: leave the body uncompressed")


def _of_length(stream: Any, length: int, limit: int) -> bytes:
    if length > limit:
        raise PayloadTooLarge(f"body: found {length} bytes, expected at most {limit}")
    parts = []
    missing = length
    while missing:
        try:
            part = stream.read(missing)
        except OSError as error:
            raise InvalidData(f"body: ended after {length - missing} of {length} bytes") from error
        if not part:
            raise InvalidData(f"body: ended after {length - missing} of {length} bytes, as its Content-Length says")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _to_end(stream: Any, limit: int) -> bytes:
    parts = []
    size = 0
    while part := _next(stream, min(_AT_ONCE, limit - size + 1), size):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise PayloadTooLarge(f"body: found more than {limit} bytes, expected at most {limit}")
    return b"".join(parts)


def _next(stream: Any, most: int, read: int) -> bytes:
    try:
        part: bytes = stream.read(most)
    except Exception as error:  # each server has its own error for invalid chunks, and few are an OSError
        raise InvalidData(f"body: cannot be read after {read} bytes, expected chunks as of HTTP/1.1") from error
    return part
