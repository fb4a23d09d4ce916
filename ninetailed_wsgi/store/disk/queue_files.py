"""The two databases of an import queue: ``queue/`` of the data folder, and ``aside/`` for what cannot be applied."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.store.disk import queue_names
from ninetailed_wsgi.store.disk.diskcache_core import core
from ninetailed_wsgi.store.disk.folder import Watch, check_file, file_identity
from ninetailed_wsgi.store.disk.rows import Rows, first_cause, open_rows
from ninetailed_wsgi.store.disk.shards import SYNCHRONOUS

NAMES = ("queue", "aside")

LAST = b"last"
"""The key of the row with the number that was given last."""

BATCHES = "FROM Cache WHERE key > 0 AND key < 9223372036854775807 AND raw = 1"
PUSH = (
    "INSERT INTO Cache (key, raw, store_time, access_time, mode, value)"
    f" VALUES (?, 1, ?, ?, {core.MODE_RAW}, ?) ON CONFLICT (key, raw) DO NOTHING"
)


@dataclass(slots=True)
class _Open:
    """The databases that this process has open, each with the identity of its file at that time."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    files: dict[str, tuple[Rows, tuple[int, int] | None]] = field(default_factory=dict)


class QueueFiles:
    """The databases of one import queue, each created when something is first put there.

    Args:
        folder: the data folder.
        synchronous, timeout: as for :class:`~ninetailed_wsgi.store.disk.store.DiskStore`.
    """

    def __init__(self, folder: Path, *, synchronous: str, timeout: float) -> None:
        self._synchronous = SYNCHRONOUS[synchronous.upper()]
        self._timeout = timeout
        self._files = {name: folder / name / core.DBNAME for name in NAMES}
        self._watch = Watch(folder)
        self._open_here = PerProcess(_Open)

    def exists(self, name: str) -> bool:
        """Return whether there is such a file now."""
        return file_identity(self._files[name]) is not None

    def used(self, name: str) -> bool:
        """Return whether there is such a file; raise StoreUnavailable if there was one before."""
        return self.exists(name) or check_file(self._files[name])

    def look(self, name: str) -> tuple[int, float | None]:
        """Return how many batches are in a file, and since when (s) the first one waits; create no file."""
        if not self.used(name):
            return 0, None
        file = self._files[name]
        try:
            address = f"{file.absolute().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=self._timeout)) as connection:
                ((count,),) = connection.execute(f"SELECT COUNT(*) {BATCHES}").fetchall()
                first = connection.execute(f"SELECT store_time {BATCHES} ORDER BY key LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the import queue {file} cannot be read: {error}") from error
        return count, first[0] if first else None

    def numbers(self, name: str, about: Collection[Key] | None = None) -> list[int]:
        """Return the numbers of the batches in a file, in order; with ``about``, only of those about these names."""
        if not self.exists(name):
            return []
        with self.serving(name) as rows:
            if about is not None:
                return queue_names.find(rows, about)
            return [number for (number,) in rows.rows(f"SELECT key {BATCHES} ORDER BY key")]

    def batch(self, name: str, number: int) -> bytes | None:
        """Return the batch with a number as it was put; None if it is gone."""
        with self.serving(name) as rows:
            value = rows.fetch(number)
        return value if value is None or name == "queue" else str(orjson.loads(value)["batch"]).encode()

    @contextlib.contextmanager
    def transaction(self, name: str) -> Iterator[Rows]:
        """Write the rows of a file in one transaction."""
        with self.serving(name) as rows, rows.transaction():
            self._watch.check()  # the wait may have been long
            yield rows

    @contextlib.contextmanager
    def serving(self, name: str) -> Iterator[Rows]:
        """Yield the rows of a file, created if it never existed; any failure in the block raises StoreUnavailable."""
        rows = self._rows(name)
        try:
            yield rows
        except (sqlite3.Error, core.Timeout, OSError) as error:
            # A connection that failed may be left inside a transaction.
            with contextlib.suppress(sqlite3.Error):
                rows.close()
            cause = first_cause(error)
            if type(cause) is sqlite3.DatabaseError:  # the file is malformed, or no database
                raise StoreUnavailable(f"the import queue {self._files[name]} is damaged: {cause}") from error
            raise StoreUnavailable(f"the import queue is not available: {cause}") from error

    def close(self) -> None:
        """Close what this process has open."""
        here = self._open_here()
        with here.lock:
            for rows, _ in here.files.values():
                rows.close()
            here.files = {}

    def _rows(self, name: str) -> Rows:
        here = self._open_here()
        self._watch.check()
        file = self._files[name]
        opened = here.files.get(name)
        if opened is None or file_identity(file) != opened[1]:
            with here.lock:
                try:
                    rows = open_rows(file, timeout=self._timeout, synchronous=self._synchronous)
                    queue_names.make(rows)
                except (sqlite3.Error, core.Timeout, OSError) as error:
                    raise StoreUnavailable(f"the import queue {file} cannot be opened: {first_cause(error)}") from error
                opened = here.files[name] = (rows, file_identity(file))
        return opened[0]
