"""Reads a request body: strict JSON in UTF-8 of a bounded depth."""

from __future__ import annotations

import json
import re

import orjson

from ninetailed_wsgi.errors import InvalidData

MAX_DEPTH = 100
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_json(raw: bytes, *, walks: bool = True) -> object:
    """Parse a request body: strict JSON in UTF-8, at most `MAX_DEPTH` levels of lists and objects.

    A byte order mark at the beginning is ignored, as RFC 8259 allows.

    Args:
        walks: whether the caller walks through the whole document. If not, orjson's own depth limit is enough.

    Raises:
        InvalidData: one problem that says where the body stops being JSON; lines, columns and bytes count from 1.
    """
    raw = raw.removeprefix(_BYTE_ORDER_MARK)
    if not raw or raw.isspace():
        raise InvalidData("body: found nothing, expected JSON")
    try:
        document: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidData(_why_not_json(raw, error)) from None
    # PERF: counting brackets settles nearly every body but a batch. `count` looks at each byte, `replace` does not.
    few = len(raw) - len(raw.replace(b"{", b"").replace(b"[", b"")) <= MAX_DEPTH
    if walks and not few and not _plainly_shallow(document) and _deeper_than_allowed(document):
        raise InvalidData(_TOO_DEEP)
    return document


_TOO_DEEP = f"body: nested too deeply, expected at most {MAX_DEPTH} levels"
_WRITABLE_DEPTH = 254
"""orjson writes no document with more levels."""


def _plainly_shallow(document: object) -> bool:
    """Return whether orjson can write the document inside so many lists that a deeper one would have too many levels.

    PERF: a walk through the document takes seven times as long.
    """
    for _ in range(_WRITABLE_DEPTH - MAX_DEPTH):
        document = [document]
    try:
        orjson.dumps(document)
    except orjson.JSONEncodeError:
        return False
    return True


def _deeper_than_allowed(document: object) -> bool:
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(MAX_DEPTH):
        children = (child for node in level for child in (node.values() if isinstance(node, dict) else node))
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _why_not_json(raw: bytes, error: json.JSONDecodeError) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as undecodable:
        return f"body: not UTF-8 at byte {undecodable.start + 1}"
    if "depth" in error.msg or "recursion" in error.msg.lower():  # orjson's own limit, which is wider than ours
        return _TOO_DEEP
    # orjson points behind the sign of -Infinity.
    start = error.pos - text.startswith("-", max(error.pos - 1, 0), error.pos)
    no_number = _NO_NUMBER.match(text, start)
    reason = f"{no_number[0]} is not a JSON value" if no_number else error.msg
    column = error.colno - (error.pos - start if no_number else 0)
    return f"body: not valid JSON at line {error.lineno} column {column}: {reason}"


_NO_NUMBER = re.compile(r"-?(NaN|Infinity)")
