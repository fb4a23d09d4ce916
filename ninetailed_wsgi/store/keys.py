"""A key as stores keep it: sixteen bytes that stand for it, and a name from which it can be read again."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import orjson

from ninetailed_wsgi.core.names import Key


@lru_cache(maxsize=4096)
def digest_of(key: Key) -> bytes:
    """Return sixteen bytes that stand for a key; lengths are hashed too, so that no two keys give the same text.

    Results are cached: a request needs one several times, and a visitor sends several requests.
    """
    organization, environment, name = key
    text = f"{len(organization)}:{organization}{len(environment)}:{environment}{name}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def name_of(key: Key) -> bytes:
    """Return a key as JSON text."""
    return orjson.dumps(list(map(_text, key)))


def key_of(name: bytes) -> Key:
    """Return the key of a name that `name_of` made; raise ValueError for any other name."""
    texts: list[str] = orjson.loads(name)
    return Key(*(text.encode("latin-1").decode("utf-8", "surrogatepass") for text in texts))


def _text(part: str) -> str:
    """Return part of a key as JSON can hold it: one character per byte of UTF-8, as JSON has no lone surrogates."""
    return part.encode("utf-8", "surrogatepass").decode("latin-1")
