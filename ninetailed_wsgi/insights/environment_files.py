"""Files with the newest numbers of each environment: written in the background, read by requests."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.operations.files import replacement

_Numbers = TypeVar("_Numbers")


def write(folder: Path, environment: Environment, members: Mapping[str, Any]) -> Path:
    """Write the numbers of an environment in place of the last ones and return their file.

    Raises:
        OSError: they cannot be written; the last ones stay.
    """
    return write_bytes(folder, environment, orjson.dumps(members))


def read(folder: Path, environment: Environment, numbers: Callable[..., _Numbers]) -> _Numbers | None:
    """Return ``numbers(**members)``; None if nothing was written yet, or the file is damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        return numbers(**orjson.loads(file_of(folder, environment).read_bytes()))
    return None


def write_bytes(folder: Path, environment: Environment, document: bytes, ending: str = ".json") -> Path:
    """Write a document of an environment in place of the last one, as `write` does."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = file_of(folder, environment, ending)
    with replacement(file) as output:
        output.write(document)
    return file


def file_of(folder: Path, environment: Environment, ending: str = ".json") -> Path:
    """Return the path of an environment's file: a hash, because an environment's name may hold any character."""
    name = hashlib.blake2b(orjson.dumps([*environment]), digest_size=16).hexdigest()
    return folder / f"{name}{ending}"
