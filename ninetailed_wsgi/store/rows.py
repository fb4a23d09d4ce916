"""One SQLite file of the data folder, as a diskcache folder that holds nothing but bytes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import diskcache

from ninetailed_wsgi.errors import StoreUnavailable

_ROWS_AT_ONCE = 100
_PUT = (
    "INSERT INTO Cache (key, raw, store_time, access_time, mode, value)"
    f" VALUES (?, 1, ?, ?, {diskcache.core.MODE_RAW}, ?)"
    " ON CONFLICT (key, raw) DO UPDATE SET store_time = excluded.store_time, value = excluded.value"
)
_NEXT_ROWS = "SELECT key, mode, value FROM Cache WHERE key > ? AND key < ? AND raw = 1 ORDER BY key LIMIT ?"


class _BytesOnly(diskcache.Disk):  # type: ignore[misc]
    """Keys and values are bytes in SQLite rows; a row that would have to be unpickled is refused (CVE-2025-69872)."""

    def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
        return 0, diskcache.core.MODE_RAW, None, sqlite3.Binary(value)

    def get(self, key: Any, raw: bool) -> Any:
        if not raw:
            raise StoreUnavailable("the store holds a pickled key, which this software never writes")
        return super().get(key, raw)

    def fetch(self, mode: int, filename: str, value: Any, read: bool) -> Any:
        if mode != diskcache.core.MODE_RAW:
            raise StoreUnavailable("the store holds a value that this software never writes")
        return super().fetch(mode, filename, value, read)


class Rows(diskcache.Cache):  # type: ignore[misc]
    """diskcache's Cache with a few statements of ours, straight on its table; diskcache does all else."""

    def __init__(self, directory: str, *, synchronous: int, **settings: Any) -> None:
        self._synchronous = synchronous
        super().__init__(directory, sqlite_synchronous=synchronous, **settings)

    def reset(self, key: str, value: Any = diskcache.core.ENOVAL, update: bool = True) -> Any:
        """Every new connection takes its settings from the file, where whoever opened it last has left their own.

        A look at the store while a service runs, by another process with other settings, must not make it less durable.
        """
        return super().reset(key, self._synchronous if key == "sqlite_synchronous" else value, update)

    def sql(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """A statement of ours, inside a transaction or as one of its own."""
        cursor: sqlite3.Cursor = self._sql(statement, values)
        return cursor

    def put(self, key: bytes, value: bytes) -> None:
        """Inside a transaction, what ``set`` does, in one statement instead of two and a tenth of the Python."""
        self._sql(_PUT, (key, now := time.time(), now, value))

    def between(self, after: bytes, before: bytes) -> list[tuple[bytes, bytes]]:
        """The next rows by key, at most a hundred; diskcache reads its index from the beginning for each hundred."""
        found = self._sql(_NEXT_ROWS, (after, before, _ROWS_AT_ONCE)).fetchall()
        return [(bytes(key), self.disk.fetch(mode, None, value, False)) for key, mode, value in found]


def open_rows(file: Path, *, timeout: float, synchronous: int) -> Rows:
    """Open one SQLite file of a diskcache folder, made when missing; every file of the data folder is opened here."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    with _unlocked(file, timeout):
        return Rows(
            str(file.parent),
            timeout=timeout / 2,  # a transaction is tried twice
            disk=_BytesOnly,
            eviction_policy="none",
            cull_limit=0,
            synchronous=synchronous,
            # Without a memory map a file cut short is an error, not the death of the process.
            sqlite_mmap_size=0,
            # 256 KiB for each connection (one for every thread and shard); 1 MiB was no faster.
            sqlite_cache_size=64,
        )


@contextlib.contextmanager
def _unlocked(file: Path, timeout: float) -> Iterator[None]:
    """Bound the wait for a locked file, for which opening it through diskcache would wait a minute.

    The connection stays open meanwhile: the last one to close a file writes it out to the disk, three times slower.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=timeout, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = FULL")  # as diskcache has it, which would come too late
        with contextlib.suppress(sqlite3.OperationalError):  # another process is about it; diskcache tries again
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        yield


def file_identity(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def first_cause(error: BaseException) -> BaseException:
    """What went wrong first: diskcache says Timeout, or fails to roll back, after any error of SQLite."""
    while isinstance(error.__context__, sqlite3.Error):
        error = error.__context__
    return error
