"""The SQLite files of a data folder, the shards: opened in each process when needed, and closed after a failure."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ninetailed_wsgi.errors import ProfileOverload, StoreUnavailable
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.store.disk import upkeep
from ninetailed_wsgi.store.disk.diskcache_core import core
from ninetailed_wsgi.store.disk.folder import Watch, file_identity, made_files
from ninetailed_wsgi.store.disk.history import DOCUMENT
from ninetailed_wsgi.store.disk.rows import Rows, first_cause, open_rows

SYNCHRONOUS = {"NORMAL": 1, "FULL": 2}
"""SQLite's numbers for how often it waits for the disk."""


class Shard(NamedTuple):
    """An open shard and the identity of its file: writes to a removed or replaced file would be lost unnoticed."""

    rows: Rows
    file: str
    identity: tuple[int, int] | None


@dataclass(slots=True)
class _OpenShards:
    """The shards that this process has open."""

    shards: list[Shard | None]
    lock: threading.Lock = field(default_factory=threading.Lock)


class Shards:
    """The shards of one data folder; the digest of a key chooses its shard.

    Args:
        folder: the data folder, prepared by `folder.prepare`.
        count: how many there are.
        synchronous: ``NORMAL`` or ``FULL``, see `DiskStore`.
        timeout: seconds that a writer waits for a lock.
    """

    def __init__(self, folder: Path, count: int, *, synchronous: str, timeout: float) -> None:
        self.folder = folder
        self.count = count
        self.timeout = timeout
        self.watch = Watch(folder, count)
        self._synchronous = SYNCHRONOUS[synchronous.upper()]
        self._open_here = PerProcess(lambda: _OpenShards([None] * count))
        self._damaged: set[int] = set()  # found by this process, maybe repaired since

    def of(self, digest: bytes) -> int:
        """Return the number of the shard that has the rows of a key."""
        return digest[0] % self.count

    def group(self, digests: Iterable[bytes]) -> dict[int, list[bytes]]:
        """Return digests of keys by the number of their shard."""
        groups: dict[int, list[bytes]] = {}
        for digest in digests:
            groups.setdefault(self.of(digest), []).append(digest)
        return groups

    def rows(self, shard: int) -> Rows:
        """Return the rows of a shard; open it if this process has not done so yet.

        Raises:
            StoreUnavailable: it cannot be opened, or the folder is not the one that was opened.
        """
        self.watch.glance()
        opened = self._open_here().shards[shard]
        if opened is None or file_identity(opened.file) != opened.identity:
            opened = self._open(shard)
        return opened.rows

    def fetch(self, digest: bytes) -> bytes | None:
        """Return the row of a key's document, or None; any failure raises StoreUnavailable."""
        shard = self.of(digest)
        rows = self.rows(shard)
        try:
            return rows.fetch(DOCUMENT + digest)
        except (sqlite3.Error, OSError) as error:
            raise self.unavailable(shard, rows, error) from error

    @contextlib.contextmanager
    def serving(self, shard: int) -> Iterator[Rows]:
        """Yield the rows of a shard to read from; any failure inside the block raises StoreUnavailable."""
        rows = self.rows(shard)
        try:
            yield rows
        except (sqlite3.Error, OSError) as error:
            raise self.unavailable(shard, rows, error) from error

    @contextlib.contextmanager
    def transaction(self, rows: Rows, digest: bytes) -> Iterator[None]:
        """Write in one transaction, which waits twice for others; raise ProfileOverload if they wrote this profile."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(rows.transaction())
            except sqlite3.OperationalError:
                before = rows.fetch(DOCUMENT + digest)
                try:
                    stack.enter_context(rows.transaction())
                except sqlite3.OperationalError as error:
                    if rows.fetch(DOCUMENT + digest) != before:
                        raise ProfileOverload("too many requests write this profile at the same time") from None
                    raise StoreUnavailable(f"the store cannot be written now: {error}") from None
            self.watch.check()  # the wait may have been long
            yield

    def unavailable(self, shard: int, rows: Rows, error: BaseException) -> StoreUnavailable:
        """Close a shard that failed, and return what to raise; the next request opens it again."""
        # A connection that failed may be left inside a transaction.
        with contextlib.suppress(sqlite3.Error):
            rows.close()
        cause = first_cause(error)
        if type(cause) is sqlite3.DatabaseError:  # the file is malformed, or no database
            self._damaged.add(shard)
            return StoreUnavailable(f"the store file {self._file(shard)} is damaged: {cause}")
        return StoreUnavailable(f"the store is not available: {cause}")

    def check(self) -> None:
        """Raise StoreUnavailable with the reason if a shard cannot serve."""
        for shard in range(self.count):
            with self.serving(shard) as rows:
                rows.fetch(DOCUMENT)
        for shard in list(self._damaged):
            upkeep.verify(self._file(shard), self.timeout, rows=True)
            self._damaged.discard(shard)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise StoreUnavailable(f"the data folder {self.folder} is not writable")

    def close(self) -> None:
        """Close what this process has open."""
        here = self._open_here()
        with here.lock:
            for shard in here.shards:
                if shard is not None:
                    shard.rows.close()
            here.shards = [None] * self.count

    def files(self) -> list[Path]:
        """Return every SQLite file of the folder, including those of waiting imports."""
        return made_files(self.folder)

    def _file(self, shard: int) -> Path:
        return Path(self.folder, f"{shard:03d}", core.DBNAME)

    def _open(self, shard: int) -> Shard:
        file, here = self._file(shard), self._open_here()
        with here.lock:
            opened = here.shards[shard]
            if opened is not None and file_identity(opened.file) == opened.identity:
                return opened
            self.watch.check()
            try:
                rows = open_rows(file, timeout=self.timeout, synchronous=self._synchronous)
            except (sqlite3.Error, core.Timeout, OSError) as error:
                raise StoreUnavailable(f"the store file {file} cannot be opened: {first_cause(error)}") from error
            opened = here.shards[shard] = Shard(rows, str(file), file_identity(file))
            return opened
