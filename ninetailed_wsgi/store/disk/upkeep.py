"""Maintains the SQLite files of a data folder: finds damage and frees unused pages."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.store.disk.folder import check_file

_TRIES = 10


def verify(file: Path, timeout: float, *, rows: bool) -> None:
    """Raise StoreUnavailable, which names the file, if a database file is damaged.

    Args:
        rows: whether to check the whole content; otherwise only the header.
        timeout: seconds to wait for others that have it locked.
    """
    check_file(file)
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=timeout)
        ) as connection:
            connection.execute("SELECT 1 FROM Cache LIMIT 1").fetchone()
            if rows and (result := connection.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
                raise StoreUnavailable(f"the store file {file} is damaged: {result[0]}")
    except sqlite3.Error as error:
        raise StoreUnavailable(f"the store file {file} cannot be opened: {error}") from error


def compact(file: Path, timeout: float) -> tuple[int, int]:
    """Rewrite one SQLite file without deleted data; return its bytes before and after, its log included.

    Others may use the file at the same time; writers wait while it is rewritten. Afterward, nothing that was deleted
    before can be read in the file or its log.

    Args:
        file: the database.
        timeout: seconds that each step waits for others to finish; a step is tried ten times.

    Raises:
        StoreUnavailable: others kept the file busy all the time, or it cannot be rewritten. Its data is unchanged.
    """
    before = bytes_on_disk(file)
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=timeout, isolation_level=None)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA mmap_size = 0")
            _vacuum(connection)
            _empty_log(connection, file)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{file} cannot be compacted now: {error}") from error
    return before, bytes_on_disk(file)


def bytes_on_disk(file: Path) -> int:
    """Return the bytes that a SQLite file takes, including its write-ahead log."""
    sizes = 0
    for part in (file, file.with_name(file.name + "-wal")):
        with contextlib.suppress(FileNotFoundError):
            sizes += part.stat().st_size
    return sizes


def _vacuum(connection: sqlite3.Connection) -> None:
    for attempt in range(_TRIES):
        try:
            connection.execute("VACUUM")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or attempt == _TRIES - 1:
                raise


def _empty_log(connection: sqlite3.Connection, file: Path) -> None:
    """Write the log back into the file and truncate it: until then both hold the old data."""
    for _ in range(_TRIES):
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not busy:
            return
    raise StoreUnavailable(f"{file} was read without a pause, so that its log could not be emptied; run this again")
