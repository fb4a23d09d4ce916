"""Caches the answers of a company service, under a keyed hash of the address, in a file that all processes share.

If the cache cannot be read or written, companies stay unknown, and nothing else fails.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson

from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.operations.private_files import make_private

FILE = ".companies"
"""The file's name in the data folder. The dot lets a folder with only this file still become a store."""

MOST_KEPT = 200_000
"""Maximum number of addresses; those that expire first are dropped."""

_WAITS = 1.0  # seconds that a writer waits for another writer
_log = logging.getLogger("ninetailed_wsgi")
_Result = TypeVar("_Result")


class CacheRow(NamedTuple):
    """What is cached for an address; ``company`` is empty if the service knows none or failed."""

    company: dict[str, Any]


class CompanyCache:
    """The answers of a company service by digest.

    Args:
        folder: the data folder, which must exist.
        wall_clock: seconds since the epoch.
    """

    def __init__(self, folder: Path, wall_clock: Callable[[], float]) -> None:
        self._file = folder / FILE
        self._wall_clock = wall_clock
        self._reader = PerProcess(_CacheConnection)
        self._is_unwritable = False

    def get(self, digest: str) -> CacheRow | None:
        """Return the cached row if it has not expired, else None. Never waits for a writer."""
        if not self._file.exists():
            return None
        return self._safely(lambda: self._get(digest))

    def keep(self, digest: str, company: dict[str, Any], seconds: float) -> None:
        """Cache an answer for some seconds, and delete expired ones."""
        self._safely(lambda: self._keep(digest, orjson.dumps(company) if company else b"", seconds))

    def forget(self, digests: Collection[str]) -> None:
        """Delete the rows of these digests, so that nothing of them is left in the file."""
        if self._file.exists():
            self._safely(lambda: self._forget(digests))

    def _get(self, digest: str) -> CacheRow | None:
        row = self._reader().row(self._file, digest, self._wall_clock())
        if row is None:
            return None
        if not isinstance(company := orjson.loads(row) if row else {}, dict):
            raise ValueError("a row of it is damaged")
        return CacheRow(company)

    def _keep(self, digest: str, document: bytes, seconds: float) -> None:
        now = self._wall_clock()
        with closing(self._writer()) as database, database:
            database.execute("DELETE FROM company WHERE until <= ?", (now,))
            database.execute("INSERT OR REPLACE INTO company VALUES (?, ?, ?)", (digest, now + seconds, document))
            surplus = "SELECT digest FROM company ORDER BY until DESC LIMIT -1 OFFSET ?"
            database.execute(f"DELETE FROM company WHERE digest IN ({surplus})", (MOST_KEPT,))

    def _forget(self, digests: Collection[str]) -> None:
        with closing(self._writer()) as database:
            with database:
                database.executemany("DELETE FROM company WHERE digest = ?", [(digest,) for digest in digests])
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _writer(self) -> sqlite3.Connection:
        make_private(self._file)
        database = sqlite3.connect(self._file, timeout=_WAITS)
        for pragma in ("journal_mode = WAL", "synchronous = OFF", "secure_delete = ON"):
            database.execute(f"PRAGMA {pragma}")
        database.execute(
            "CREATE TABLE IF NOT EXISTS company (digest TEXT PRIMARY KEY, until REAL, document BLOB) WITHOUT ROWID"
        )
        database.execute("CREATE INDEX IF NOT EXISTS ends ON company (until)")
        return database

    def _safely(self, step: Callable[[], _Result]) -> _Result | None:
        try:
            return step()
        except sqlite3.OperationalError as error:  # locked, full, no permission
            self._complain(error)
        except (sqlite3.DatabaseError, ValueError) as error:  # damaged: the next answer creates a new file
            self._complain(error)
            for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
                with suppress(OSError):
                    self._file.with_name(name).unlink()
        except OSError as error:
            self._complain(error)
        return None

    def _complain(self, error: Exception) -> None:
        if not self._is_unwritable and "locked" not in str(error):  # a lock is over in a moment
            self._is_unwritable = True
            _log.warning("%s: the company cache cannot be used: %s", self._file, error)


class _CacheConnection:
    """The read-only connection of one process; it reconnects when the file was replaced."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._inode = 0

    def row(self, file: Path, digest: str, now: float) -> bytes | None:
        with self._lock:
            inode = file.stat().st_ino
            if self._database is None or inode != self._inode:
                if self._database is not None:
                    self._database.close()
                self._database = sqlite3.connect(
                    f"file:{file}?mode=rw", uri=True, timeout=0, check_same_thread=False, isolation_level=None
                )
                self._inode = inode
            row = self._database.execute(
                "SELECT document FROM company WHERE digest = ? AND until > ?", (digest, now)
            ).fetchone()
        document = b"" if row is None else row[0]
        if not isinstance(document, bytes):
            raise ValueError("a row of it is damaged")
        return None if row is None else document
