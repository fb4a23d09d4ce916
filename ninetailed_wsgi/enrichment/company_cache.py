"""Keeps what a company service answered, under a keyed hash of the address, in a file that all processes share.

It is a cache: if it cannot be read or written, nobody learns of a company, and nothing else happens.
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
"""Its name in the data folder. It begins with a dot, so that a folder with nothing else can still become a store."""

MOST_KEPT = 200_000
"""Addresses; those that end first go."""

_WAITS = 1.0  # seconds that a writer waits for another one
_log = logging.getLogger("ninetailed_wsgi")
_Result = TypeVar("_Result")


class CacheRow(NamedTuple):
    """What is kept of an address; ``company`` is empty where the service knows none, or failed."""

    company: dict[str, Any]


class CompanyCache:
    """Answers of a company service by digest.

    Args:
        folder: the data folder, which is there.
        wall_clock: seconds since the epoch.
    """

    def __init__(self, folder: Path, wall_clock: Callable[[], float]) -> None:
        self._file = folder / FILE
        self._wall_clock = wall_clock
        self._reader = PerProcess(_CacheConnection)
        self._is_unwritable = False

    def get(self, digest: str) -> CacheRow | None:
        """Return what is kept and still holds; None: nothing. Waits for no writer."""
        if not self._file.exists():
            return None
        return self._safely(lambda: self._get(digest))

    def keep(self, digest: str, company: dict[str, Any], seconds: float) -> None:
        """Keep an answer for some seconds, and let go of what no longer holds."""
        self._safely(lambda: self._keep(digest, orjson.dumps(company) if company else b"", seconds))

    def forget(self, digests: Collection[str]) -> None:
        """Delete what is kept under these digests, so that nothing of it is left in the file."""
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
        except (sqlite3.DatabaseError, ValueError) as error:  # damaged: the next answer makes a new file
            self._complain(error)
            for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
                with suppress(OSError):
                    self._file.with_name(name).unlink()
        except OSError as error:
            self._complain(error)
        return None

    def _complain(self, error: Exception) -> None:
        if not self._is_unwritable and "locked" not in str(error):  # that is over in a moment
            self._is_unwritable = True
            _log.warning("%s: the company cache cannot be used: %s", self._file, error)


class _CacheConnection:
    """The connection of one process that only reads; a new one where the file is another one."""

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
