"""Reads where content comes from: files and folders, addresses, and content that is written in Python."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from ninetailed_wsgi.settings.contentful import SCHEMES, SpaceAddress
from ninetailed_wsgi.settings.readers import existing_file

CONTENT = "a content file, or of a folder with one file per environment"

_SCHEMES = ("http", "https", "redis", "rediss")
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Items:
    """Audiences and experiences that were passed in code, as the builders make them."""

    items: Sequence[Any]

    def __hash__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"Items({len(self.items)})"


Origin: TypeAlias = Path | str | Items | SpaceAddress
"""A file or folder; an address, or ``package.module:name``; a list; a space of Contentful."""


_ADDRESS_TYPES: tuple[type, ...] = (str, os.PathLike, Items, SpaceAddress)


def content(value: object) -> tuple[Origin, ...]:
    """Read the origins of content: one, several with ``;`` between them, or a list that may hold content itself."""
    if value is None or value == "":
        return ()
    if isinstance(value, str) and ";" in value and not Path(value).exists():
        parts = [part.strip() for part in value.split(";") if part.strip()]
        if not parts:
            raise ValueError(f"the path of {CONTENT}, or several with ; between them")
        return _unique(map(_origin, parts))
    if isinstance(value, str | os.PathLike):
        return (_origin(value),)
    if isinstance(value, SpaceAddress):
        return (value,)
    if isinstance(value, Mapping):
        return (Items((value,)),)
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise ValueError(f"the path of {CONTENT}; or a list of what ninetailed_wsgi.authoring makes")
    addresses = [one for one in value if isinstance(one, _ADDRESS_TYPES)]
    items = tuple(one for one in value if not isinstance(one, _ADDRESS_TYPES))
    origins = [
        origin for one in addresses for origin in ((one,) if isinstance(one, Items | SpaceAddress) else content(one))
    ]
    return _unique([*([Items(items)] if items else []), *origins])


def _unique(origins: Iterable[Origin]) -> tuple[Origin, ...]:
    unique: list[Origin] = []
    for origin in origins:
        if origin not in unique:
            unique.append(origin)
    return tuple(unique)


def _origin(value: str | os.PathLike[str]) -> Origin:
    if isinstance(value, str) and "://" in value:
        return _address(value)
    if isinstance(value, str) and _NAME.fullmatch(value) and not Path(value).exists():
        return value
    try:
        path = existing_file(CONTENT, folder_too=True)(value)
    except ValueError as error:
        path_words, _, reason = str(error).partition("; ")
        is_name = isinstance(value, str) and (":" in value or "/" not in value)
        name = ", or package.module:name of content in Python" if is_name else ""
        raise ValueError(f"{path_words}{name}; {reason}") from None
    assert path is not None
    if path.suffix == ".py":
        raise ValueError(f"a content file; for content in Python, {path.stem}:NAME with the name of its list")
    return path


def _address(value: str) -> str | SpaceAddress:
    scheme = value.partition("://")[0]
    if scheme in SCHEMES:
        return SpaceAddress.parse(value)
    if scheme not in ("http", "https", "redis", "rediss"):
        raise ValueError(
            f"the path of {CONTENT}; or an address that begins with http://, https://, redis://, rediss://, contentful://"
        )
    try:
        parts = urlsplit(value)
        sound = bool(parts.hostname) and parts.port != 0 and re.fullmatch(r"[!-~]+", value)
    except ValueError:
        sound = None
    if not sound:
        raise ValueError(f"{scheme}://HOST[:PORT]/..., what is special in a name or password percent-encoded")
    if scheme.startswith("redis") and len(parse_qs(parts.query).get("key", ())) != 1:
        raise ValueError(f"the key of a hash: {scheme}://HOST[:PORT]/DB?key=NAME")
    return value
