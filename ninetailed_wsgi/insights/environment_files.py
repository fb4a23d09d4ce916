"""Files with the newest numbers of each environment: written where nobody waits, read by requests."""

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
    """Write the numbers of an environment in place of the last and return their file.

    Raises:
        OSError: they cannot be written; the last ones stay.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = _file(folder, environment)
    with replacement(file) as output:
        output.write(orjson.dumps(members))
    return file


def read(folder: Path, environment: Environment, numbers: Callable[..., _Numbers]) -> _Numbers | None:
    """Return ``numbers(**members)``; None where nothing was written yet, or the file is damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        return numbers(**orjson.loads(_file(folder, environment).read_bytes()))
    return None


def _file(folder: Path, environment: Environment) -> Path:
    name = hashlib.blake2b(orjson.dumps([*environment]), digest_size=16).hexdigest()
    return folder / f"{name}.json"
