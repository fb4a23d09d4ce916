"""Keeps how many visitors are in each audience and variant, counted where nobody waits, for the inspector to read.

A file for each environment in the folder ``population`` of the data folder. What it holds is a document of
`replay.what_if`: what is published, beside the draft where there is one (spec sections 14 and 15).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.insights.replay import what_if
from ninetailed_wsgi.store.protocol import Store

_FOLDER = "population"


class Population(NamedTuple):
    """What was counted last, and when (ms)."""

    document: dict[str, Any]
    computed_at: int


def compute(
    data_dir: Path,
    store: Store,
    published: Callable[[str, str], Catalog],
    draft: Callable[[str, str], Catalog] | None,
    now: int,
) -> None:
    """Count the visitors of every environment and keep the numbers in place of the last.

    Args:
        draft: gives the content that is not published; None: there is none, and nothing moves.

    Raises:
        StoreUnavailable: the store cannot be read now; the last numbers stay.
        OSError: the numbers cannot be written.
    """
    for where in sorted({Environment(key.organization, key.environment) for key, _ in store.documents()}):
        before = published(*where)
        keep(data_dir, where, what_if(store, where, before, draft(*where) if draft else before, now)[0], now)


def keep(data_dir: Path, where: Environment, document: dict[str, Any], now: int) -> None:
    """Keep the numbers of an environment; OSError where they cannot be written."""
    file = _file(data_dir, where)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}")
    # No visitor by name: an erasure does not reach this file.
    fresh.write_bytes(orjson.dumps(Population({**document, "samples": []}, now)._asdict()))
    fresh.replace(file)


def read(data_dir: Path, where: Environment) -> Population | None:
    """Return what was counted last; None where nothing was yet, or the file is damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        return Population(**orjson.loads(_file(data_dir, where).read_bytes()))
    return None


def _file(data_dir: Path, where: Environment) -> Path:
    name = hashlib.blake2b(orjson.dumps([*where]), digest_size=16).hexdigest()
    return data_dir / _FOLDER / f"{name}.json"
