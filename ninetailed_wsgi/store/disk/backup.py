"""Copies a data folder while servers use it: every file as of one moment, checked before the copy counts."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.store.disk.arrivals import FILE as ARRIVALS
from ninetailed_wsgi.store.disk.folder import made_files
from ninetailed_wsgi.store.disk.upkeep import verify

_PAGES = 1000  # pages of a database file that are copied before others get their turn
_SQLITE = b"SQLite format 3\0"
_LOGS = ("-wal", "-shm", "-journal")


def back_up(folder: Path, target: Path, timeout: float, progress: Callable[[int, int], None]) -> tuple[int, int]:
    """Copy a data folder to ``target``, which appears when it is complete and checked.

    All databases are copied as of one moment, at which their writers wait for some milliseconds. An operation that was
    between two of its writes then is finished by the first server that finds it, as after a crash.

    Args:
        folder: a store's folder.
        target: a path that does not exist yet, or an empty folder.
        timeout: seconds to wait for a writer.
        progress: called with the number of databases copied so far and the number of all.

    Returns:
        The number of files copied, and their bytes.

    Raises:
        SettingsError: ``target`` is not empty, or is within the folder.
        StoreUnavailable: a file is missing or damaged, or stays locked; nothing is left at ``target``.
        OSError: the copy cannot be written; nothing is left at ``target``.
    """
    target = target.absolute()
    _refuse_taken(folder, target)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # left by a backup that was killed
    part.mkdir(mode=0o700, parents=True)
    try:
        # The notes first: a database that is created later is not in them, so the copy may lack it.
        for file in _plain_files(folder):
            with contextlib.suppress(FileNotFoundError):
                _copy_plain(file, part / file.relative_to(folder))
        for file in made_files(folder):
            verify(file, timeout, rows=False)
        _copy_databases(folder, part, timeout, progress)
        for file in made_files(part):
            verify(file, timeout, rows=True)
        files = [file for file in part.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files)
        part.replace(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return len(files), size


def _refuse_taken(folder: Path, target: Path) -> None:
    if target.is_relative_to(folder.absolute()):
        raise SettingsError([f"DIR: found {target}, expected a folder outside the data folder {folder.absolute()}"])
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SettingsError([f"DIR: {target} is not empty; name a new or an empty folder"])


def _plain_files(folder: Path) -> Iterator[Path]:
    """Yield the files that are neither databases nor their logs; other processes' temporary files may be among them."""
    for file in sorted(folder.rglob("*")):
        if file.name.startswith(ARRIVALS):  # kept for minutes, and removed with deleted visitors
            continue
        if file.is_file() and not file.name.endswith(_LOGS) and not _is_database(file):
            yield file


def _is_database(file: Path) -> bool:
    try:
        with file.open("rb") as file_:
            return file_.read(len(_SQLITE)) == _SQLITE
    except FileNotFoundError:
        return False


def _copy_plain(file: Path, copy: Path) -> None:
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        file.open("rb") as source,
        open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as output,
    ):
        shutil.copyfileobj(source, output)
        output.flush()
        os.fsync(output.fileno())


def _copy_databases(folder: Path, part: Path, timeout: float, progress: Callable[[int, int], None]) -> None:
    files = sorted(file for file in folder.rglob("*") if file.is_file() and _is_database(file))
    with contextlib.ExitStack() as open_snapshots:
        try:
            snapshots = _snapshots(files, timeout, open_snapshots)
            for count, (file, snapshot) in enumerate(zip(files, snapshots, strict=True), start=1):
                copy = part / file.relative_to(folder)
                copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with contextlib.closing(sqlite3.connect(copy)) as output:
                    output.execute("PRAGMA synchronous = FULL")
                    snapshot.backup(output, pages=_PAGES, sleep=0)
                copy.chmod(0o600)
                progress(count, len(files))
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the store in {folder} cannot be copied now: {error}") from error


def _snapshots(files: list[Path], timeout: float, open_snapshots: contextlib.ExitStack) -> list[sqlite3.Connection]:
    """Open a read transaction on each file, all as of one moment: no writer works while they are opened."""
    snapshots = []
    with contextlib.ExitStack() as writers:
        # Always in the same order, and a server locks one file at a time, so there is no deadlock.
        for file in files:
            connection = writers.enter_context(_connected(file, timeout))
            connection.execute("BEGIN IMMEDIATE")
        for file in files:
            snapshot = open_snapshots.enter_context(_connected(file, timeout))
            snapshot.execute("BEGIN")
            snapshot.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            snapshots.append(snapshot)
    return snapshots


@contextlib.contextmanager
def _connected(file: Path, timeout: float) -> Iterator[sqlite3.Connection]:
    address = f"{file.absolute().as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=timeout, isolation_level=None)) as connection:
        yield connection
