"""Keeps the last computed results of each environment, so that requests only read and never compute.

There is a file for each environment in the folder ``results`` of the data folder. It holds no data of single visitors.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.insights import environment_files

if TYPE_CHECKING:
    from ninetailed_wsgi.content import Catalog
    from ninetailed_wsgi.store.protocol import Store

_FOLDER = "results"


class Latest(NamedTuple):
    """The last results of an environment, as ``results --json`` writes them, and when they were computed (ms)."""

    results: list[dict[str, Any]]
    computed_at: int


def compute(
    data_dir: Path,
    store: Store,
    content: Callable[[str, str], Catalog],
    clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> None:
    """Compute the results of every environment that has exposures, in one scan, and store them in place of the last.

    Args:
        data_dir: where they are stored.
        content: returns the catalog of an organization's environment.
        clock: returns the time, ms.

    Raises:
        StoreUnavailable: the store cannot be read now; the last results stay.
        OSError: the results cannot be written.
    """
    from ninetailed_wsgi.insights import scan  # it loads scipy; a worker only reads

    now = clock()
    folder = data_dir / _FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    current = set()
    for environment, results in scan.every(store, content, now + 1).items():
        last = Latest([result.document(now) for result in results], now)
        current.add(environment_files.write(folder, environment, last._asdict()))
    for file in set(folder.iterdir()) - current:  # their last visitor was deleted, or a process was killed
        file.unlink(missing_ok=True)


def read(data_dir: Path, environment: Environment) -> Latest | None:
    """Return the last results of an environment; None if there are none yet, or the file is damaged."""
    return environment_files.read(data_dir / _FOLDER, environment, Latest)
