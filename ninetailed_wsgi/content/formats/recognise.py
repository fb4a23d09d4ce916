"""Detects the format of a content document and reads it: Contentful, Contentstack, GraphQL or the generic form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress

import orjson

from ninetailed_wsgi.content.entries import Content, Faulty, refusal
from ninetailed_wsgi.content.formats.contentful import read_delivery, read_export
from ninetailed_wsgi.content.formats.contentstack import is_contentstack, read_contentstack
from ninetailed_wsgi.content.formats.generic import MEMBERS, read_generic, read_list, read_metrics
from ninetailed_wsgi.content.formats.graphql import is_graphql, read_graphql
from ninetailed_wsgi.core.problems import excerpt

# A surrogate pair, a lone surrogate, or the start of any other escape, so that an escaped backslash is skipped.
_ESCAPE = re.compile(rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u[dD][89a-fA-F]..|.)", re.DOTALL)
_HALF = len(rb"\ud83d")


def parse(raw: bytes) -> object:
    """Parse a content document; raise `Faulty` if it is not JSON.

    A lone surrogate, which JavaScript may leave at the end of a cut text, becomes U+FFFD, because one bad text must not
    invalidate the whole document.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        with suppress(orjson.JSONDecodeError):
            if b"\\ud" in raw or b"\\uD" in raw:
                return orjson.loads(_ESCAPE.sub(_without_half, raw))
        raise Faulty(f"is not JSON: {error}" if raw.strip() else "is empty, expected JSON") from error


def _without_half(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if len(escape[0]) == _HALF else escape[0]


def read_document(document: object, file: str, locale: str | None, *, drafts: bool = False) -> Content:
    """Read a parsed document of any format; ``file`` is its name in messages, other arguments as for `read_file`."""
    if is_contentstack(document):
        return read_contentstack(document, file, locale, drafts=drafts)
    if isinstance(document, list):
        if any(isinstance(item, dict) and "sys" in item for item in document):
            return read_delivery({"items": document}, file, locale, drafts=drafts)
        return read_list(document, file)
    if isinstance(document, dict):
        if "items" in document:
            return _with_metrics(read_delivery(document, file, locale, drafts=drafts), document, file)
        if isinstance(document.get("sys"), dict) and "fields" in document:
            return read_delivery({"items": [document]}, file, locale, drafts=drafts)
        if _is_generic(document):
            return read_generic(document, file)
        if "entries" in document:
            return _with_metrics(read_export(document, file, locale, drafts=drafts), document, file)
        if is_graphql(document):
            return _with_metrics(read_graphql(document, file, locale, drafts=drafts), document, file)
    members = f" with {', '.join(sorted(map(str, document))[:8])}" if isinstance(document, dict) and document else ""
    return refusal(
        file,
        f"is not recognized: found {excerpt(document)}{members}, expected a Contentful export (entries), "
        "Delivery API answer (items), GraphQL answer (data), entries of Contentstack (uid), or the generic form "
        "(audiences, experiences), which any other system can write: see docs/content.md",
    )


def _with_metrics(content: Content, document: Mapping[str, object], file: str) -> Content:
    if "metrics" in document:
        content.add(read_metrics(document, file))
    return content


def _is_generic(document: Mapping[str, object]) -> bool:
    """Return whether a document has the generic form; an export may have ``metrics`` too, but entries with ``sys``."""
    if any(member in document for member in MEMBERS if member not in ("entries", "metrics")):
        return True
    if "metrics" in document and "entries" not in document:
        return True
    entries = document.get("entries")
    if not isinstance(entries, list) or not entries:
        return False
    return all(isinstance(one, dict) and "nt_experiences" in one for one in entries)
