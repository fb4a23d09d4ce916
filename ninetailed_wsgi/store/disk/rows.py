"""One SQLite file of the data folder, as a diskcache folder that holds nothing but bytes."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.operations.private_files import make_private
from ninetailed_wsgi.store.disk.diskcache_core import core
from ninetailed_wsgi.store.disk.folder import check_file, note_file

_ROWS_AT_ONCE = 100
_READ = "SELECT access_count, mode, value FROM Cache WHERE key = ? AND raw = 1"
_PUT = (
    "INSERT INTO Cache (key, raw, store_time, access_time, mode, value)"
    f" VALUES (?, 1, ?, ?, {core.MODE_RAW}, ?)"
    " ON CONFLICT (key, raw) DO UPDATE SET store_time = excluded.store_time, value = excluded.value"
)
_DELETE = "DELETE FROM Cache WHERE key = ? AND raw = 1"
# The version of a row uses the column of diskcache's access count; it starts at the time, so no row has one twice.
_SWAP = (
    "UPDATE Cache SET store_time = ?, access_count = access_count + 1, value = ?"
    " WHERE key = ? AND raw = 1 AND access_count = ?"
)
_SWAP_IN = (
    "INSERT INTO Cache (key, raw, store_time, access_time, access_count, mode, value)"
    f" VALUES (?, 1, ?, ?, ?, {core.MODE_RAW}, ?) ON CONFLICT (key, raw) DO NOTHING"
)
_SWAP_OUT = "DELETE FROM Cache WHERE key = ? AND raw = 1 AND access_count = ?"
_NEXT_ROWS = "SELECT key, mode, value FROM Cache WHERE key > ? AND key < ? AND raw = 1 ORDER BY key LIMIT ?"

_NEVER_WRITTEN = "the store holds a value that this software never writes"

# What diskcache creates to evict, expire and count, none of which is used here. Keeping it up to date took a fifth of
# a write's time.
_UNUSED = re.compile("CREATE TRIGGER|CREATE INDEX IF NOT EXISTS Cache_expire_time")


class _BytesOnly(core.Disk):  # type: ignore[misc]
    """Keys and values are bytes in SQLite rows; a row that would have to be unpickled is refused (CVE-2025-69872)."""

    def store(self, value: Any, read: bool, key: Any = core.UNKNOWN) -> Any:
        return 0, core.MODE_RAW, None, sqlite3.Binary(value)

    def get(self, key: Any, raw: bool) -> Any:
        if not raw:
            raise StoreUnavailable("the store holds a pickled key, which this software never writes")
        return super().get(key, raw)

    def fetch(self, mode: int, filename: str, value: Any, read: bool) -> Any:
        if mode != core.MODE_RAW:
            raise StoreUnavailable(_NEVER_WRITTEN)
        return super().fetch(mode, filename, value, read)


class ConnectionTurn:
    """Lets one thread at a time use the connection during the block; StoreUnavailable after ``timeout`` seconds."""

    def __init__(self, timeout: float) -> None:
        self._lock = threading.RLock()
        self._timeout = timeout

    def __enter__(self) -> None:
        if not self._lock.acquire(True, self._timeout):
            raise StoreUnavailable("the store is not available: other requests have been waiting for it too long")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class Rows(core.Cache):  # type: ignore[misc]
    """diskcache's Cache with our own statements on its table; diskcache creates the file.

    For all threads of one process, in turns; a forked process opens its own. All threads share one connection, because
    SQLite drops a connection's page cache when another one writes: with four, a request took half as long again.

    Attributes:
        turn: a block to enter around steps that must not mix with those of other threads; each method enters it itself.
    """

    def __init__(self, directory: str, *, timeout: float, synchronous: int) -> None:
        self.turn = ConnectionTurn(timeout)
        self._shared: sqlite3.Connection | None = None
        self._pragmas = {
            "sqlite_synchronous": synchronous,
            # Without a memory map, a truncated file is an error and does not kill the process.
            "sqlite_mmap_size": 0,
            # 1 MiB of page cache for each file: more was no faster with a million profiles.
            "sqlite_cache_size": -1024,
            # Unlike some builds of SQLite, do not overwrite freed bytes at once; `compact` does that.
            "sqlite_secure_delete": 0,
        }
        super().__init__(
            directory,
            timeout=timeout / 3,  # a write is tried three times
            disk=_BytesOnly,
            eviction_policy="none",
            cull_limit=0,
            # Rows grow and shrink at every write; freeing their pages each time costs more than it saves (compact).
            sqlite_auto_vacuum=0,
            **self._pragmas,
        )

    @property
    def _con(self) -> sqlite3.Connection:
        if self._shared is None:
            self._shared = sqlite3.connect(
                Path(self.directory, core.DBNAME),
                timeout=self.timeout,
                isolation_level=None,
                check_same_thread=False,
            )
            # Ignore the file's settings: the process that opened it last may want less durability.
            for name, value in self._pragmas.items():
                self._shared.execute(f"PRAGMA {name.removeprefix('sqlite_')} = {value}")
        return self._shared

    def close(self) -> None:
        """Close the connection; the next statement opens another one."""
        with self.turn:
            connection, self._shared = self._shared, None
            if connection is not None:
                connection.close()

    @property
    def _sql_retry(self) -> Callable[..., Any]:
        run = super()._sql_retry
        return lambda statement, *values: None if _UNUSED.match(statement) else run(statement, *values)

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement that changes rows; return how many it changed."""
        with self.turn:
            return self._con.execute(statement, values).rowcount

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return the rows that a statement selects."""
        with self.turn:
            return self._con.execute(statement, values).fetchall()

    def fetch(self, key: bytes | int) -> bytes | None:
        """Return the value of a row, or None."""
        return self.read(key)[1]

    def read(self, key: bytes | int) -> tuple[int | None, bytes | None]:
        """Return the version and the value of a row; both are None if there is no row."""
        with self.turn:
            row = self._con.execute(_READ, (_plain(key),)).fetchone()
        if row is None:
            return None, None
        version, mode, value = row
        return version, self.value(mode, value)

    def swap(self, key: bytes, version: int | None, value: bytes | None) -> bool:
        """Write a row, or remove it (None), if it still has the version that `read` gave; return whether it had."""
        if value is None:
            return self.run(_SWAP_OUT, (key, version)) == 1
        if version is None:
            return self.run(_SWAP_IN, (key, now := time.time(), now, time.time_ns(), value)) == 1
        return self.run(_SWAP, (time.time(), _plain(value), _plain(key), version)) == 1

    def put(self, key: bytes, value: bytes) -> None:
        """Write a row, whether or not it exists."""
        self.run(_PUT, (key, now := time.time(), now, value))

    def drop(self, key: bytes | int) -> None:
        """Remove a row if it exists."""
        self.run(_DELETE, (key,))

    def value(self, mode: int, value: bytes) -> bytes:
        """Return the value of a selected row; raise StoreUnavailable if it would have to be unpickled."""
        if mode != core.MODE_RAW:
            raise StoreUnavailable(_NEVER_WRITTEN)
        return value

    def between(self, after: bytes, before: bytes) -> list[tuple[bytes, bytes]]:
        """Return the next rows by key, at most a hundred; diskcache would read its index from the start each time."""
        lines = self.rows(_NEXT_ROWS, (after, before, _ROWS_AT_ONCE))
        return [(bytes(key), self.value(mode, value)) for key, mode, value in lines]

    def transaction(self) -> Transaction:
        """Return a transaction, undone if the block fails; sqlite3.OperationalError if the file stays locked."""
        return Transaction(self)


class Transaction:
    """A ``with`` block around writes of `Rows` in one transaction; a generator would take half as long as SQLite."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __enter__(self) -> None:
        self._rows.turn.__enter__()
        try:
            self._rows.run("BEGIN IMMEDIATE")
        except BaseException:
            self._rows.turn.__exit__()
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._rows.run("COMMIT" if kind is None else "ROLLBACK")
        finally:
            self._rows.turn.__exit__()


def _plain(value: bytes | int) -> bytearray | int:
    """Return a value that sqlite3 takes directly: for bytes it searches an adapter each time, which is slower."""
    return value if isinstance(value, int) else bytearray(value)


def open_rows(file: Path, *, timeout: float, synchronous: int) -> Rows:
    """Open one SQLite file of a diskcache folder, created if there never was one; all files are opened here.

    Raises:
        StoreUnavailable: the file that existed before is not usable, see `check_file`.
        sqlite3.Error, OSError: it cannot be opened now, or is damaged.
    """
    is_old = check_file(file)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    make_private(file)  # SQLite would apply the umask; its log takes the file's mode
    with _unlocked(file, timeout, is_old):
        rows = Rows(str(file.parent), timeout=timeout, synchronous=synchronous)
        note_file(file)
        return rows


@contextlib.contextmanager
def _unlocked(file: Path, timeout: float, is_old: bool) -> Iterator[None]:
    """Limit the wait for a locked file; diskcache would wait a minute to open it.

    The connection stays open during the block: the last one to close a file writes it to the disk, three times slower.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=timeout, isolation_level=None)) as connection:
        if is_old:
            connection.execute("SELECT 1 FROM Cache LIMIT 1")  # diskcache would create the table
        with contextlib.suppress(sqlite3.OperationalError):  # another process does it; diskcache retries
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        yield


def first_cause(error: BaseException) -> BaseException:
    """Return what went wrong first: diskcache says Timeout, or fails to roll back, after any error of SQLite."""
    while isinstance(error.__context__, sqlite3.Error):
        error = error.__context__
    return error
