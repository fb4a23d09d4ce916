"""The diskcache store: documents and histories in SQLite files of one folder, shared by processes and threads.

The folder holds ``store.json`` (format and number of shards) and one diskcache folder per shard. All rows of a key lie
in the same shard, chosen by a hash of the key, so one transaction covers them.

How a profile and its history lie in rows says `history.py`.

An update reads the row, folds, and writes it if it has still the version that was read; otherwise it does so again
inside a transaction, where nobody else writes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import ProfileOverload, StoreUnavailable
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.store.disk import upkeep
from ninetailed_wsgi.store.disk.diskcache_core import core
from ninetailed_wsgi.store.disk.folder import (
    Watch,
    check_file,
    file_identity,
    filled_from,
    id_key,
    made_files,
    note_source,
    prepare,
    replace_id_key,
)
from ninetailed_wsgi.store.disk.history import (
    DOCUMENT,
    HISTORY,
    Extent,
    History,
    PendingRows,
    key_in,
    read_row,
    row_of,
    state_of,
)
from ninetailed_wsgi.store.disk.rows import Rows, first_cause, open_rows
from ninetailed_wsgi.store.keys import digest_of
from ninetailed_wsgi.store.protocol import Decided, Document, Entry, Fold, HistoryEntry, Stored

_COUNT = "SELECT count(*) FROM Cache WHERE key > ? AND key < ? AND raw = 1"
_HISTORY_BYTES = "SELECT coalesce(sum(length(value)), 0) FROM Cache WHERE key >= ? AND key < ? AND raw = 1"


class _Shard(NamedTuple):
    """An open shard, and which file that is: writes to a file that was removed or replaced would be lost unnoticed."""

    rows: Rows
    file: str
    identity: tuple[int, int] | None


class _Update(NamedTuple):
    """What an update writes: a row, if it still has the version that was read, and history rows (None: removed)."""

    row_key: bytes
    version: int | None
    value: bytes | None
    history: dict[bytes, bytes | None]


class _Changed(Exception):
    """Somebody else wrote what an update has read."""


@dataclass(slots=True)
class _OpenShards:
    """The shards that this process has open."""

    shards: list[_Shard | None]
    lock: threading.Lock = field(default_factory=threading.Lock)


class DiskStore:
    """Profiles on the local disk, for any number of processes and threads of one machine.

    Args:
        folder: where the data lie; made with mode 0700. A folder that holds something else is refused.
        shards: number of SQLite files of a new store; an existing one keeps its own.
        synchronous: ``NORMAL`` survives the death of every process, ``FULL`` a power loss too, at a sync per write.
        timeout: seconds a writer waits for a lock.
        history_events, history_days: how much of a profile's history is kept.
        clock: now, in milliseconds since the epoch.

    Raises:
        SettingsError: the folder cannot be used, or was written by another version of this software.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        shards: int = 32,
        synchronous: str = "NORMAL",
        timeout: float = 5.0,
        history_events: int = 500,
        history_days: int = 365,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._folder = Path(folder)
        self._synchronous = {"NORMAL": 1, "FULL": 2}[synchronous.upper()]
        self._timeout = timeout
        self._history = History(history_events, history_days, clock)
        self._damaged: set[int] = set()  # met by this process, and maybe mended since
        self._count = count = prepare(self._folder, shards)
        self._watch, self._open_shards = Watch(self._folder, count), PerProcess(lambda: _OpenShards([None] * count))
        self._id_key: bytes | None = None

    # What the protocol of base.py asks for; its docstrings say what each does.

    def read(self, key: Key) -> Entry:
        digest = digest_of(key)
        with self._serving(digest[0]) as rows:
            document, extent = read_row(rows.fetch(DOCUMENT + digest))
        return Entry(document, extent.next, lambda: self._read_history(digest))

    def update(self, keys: Sequence[Key], fold: Fold[Decided]) -> dict[Key, Decided]:
        by_shard: dict[int, list[tuple[Key, bytes]]] = {}
        for key in keys:
            digest = digest_of(key)
            by_shard.setdefault(digest[0] % self._count, []).append((key, digest))
        if len(by_shard) == 1:
            return self._update_shard(*by_shard.popitem(), fold)
        decisions: dict[Key, Decided] = {}
        for shard, group in by_shard.items():
            decisions.update(self._update_shard(shard, group, fold))
        return decisions

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        for shard in range(self._count):
            for _, value in self._stored_documents(shard):
                key = key_in(value)
                document, _ = read_row(value)
                if (
                    document is not None
                    and organization in (None, key.organization)
                    and environment in (None, key.environment)
                ):
                    yield key, document

    def check(self) -> None:
        for shard in range(self._count):
            with self._serving(shard) as rows:
                rows.fetch(DOCUMENT)
        for shard in list(self._damaged):
            upkeep.verify(self._file(shard), self._timeout, rows=True)
            self._damaged.discard(shard)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise StoreUnavailable(f"the data folder {self._folder} is not writable")

    def close(self) -> None:
        open_shards = self._open_shards()
        with open_shards.lock:
            for opened in open_shards.shards:
                if opened is not None:
                    opened.rows.close()
            open_shards.shards = [None] * self._count

    def id_key(self) -> bytes:
        """Return the key that profile ids are certified with; it was made with the store."""
        if self._id_key is None:
            self._id_key = id_key(self._folder)
        return self._id_key

    # What the commands need of all of it.

    def take_id_key(self, key: bytes) -> None:
        """Certify ids with the key of the store that this one is filled from."""
        replace_id_key(self._folder, key)
        self._id_key = key

    def count(self) -> int:
        """How many documents there are, pointers included."""
        found = 0
        for shard in range(self._count):
            with self._serving(shard) as rows:
                found += rows.rows(_COUNT, (DOCUMENT, HISTORY))[0][0]
        return found

    def sizes(self) -> Iterator[tuple[Key, Document, int, int]]:
        """Every document, with the number of events kept of it and the bytes of both, in no order."""
        for shard in range(self._count):
            for row_key, value in self._stored_documents(shard):
                first = HISTORY + row_key[len(DOCUMENT) :]
                with self._serving(shard) as rows:
                    [(history,)] = rows.rows(_HISTORY_BYTES, (first, first + b"\xff" * 9))
                document, extent = read_row(value)
                yield (
                    key_in(value),
                    document or {},
                    min(extent.next - extent.first, self._history.most_events),
                    len(value) + history,
                )

    def footprint(self) -> str:
        """How much room the store takes, and where, in a few words."""
        return f"{sum(self.disk_usage()):,} bytes on disk"

    def dump(self) -> Iterator[Stored]:
        """Everything that is stored, each key by itself as it is at one moment, in no order, while others write."""
        for shard in range(self._count):
            after = DOCUMENT
            while page := self._next_documents(shard, after):
                yield from self.fetch([row_key[len(DOCUMENT) :] for row_key, _ in page])
                after = page[-1][0]

    def fetch(self, digests: Sequence[bytes]) -> list[Stored]:
        """As `dump`, what is stored for some keys, named by their digests (see keys.py), in no order."""
        found = []
        for shard, group in self._by_shard(digests).items():
            with self._serving(shard) as rows, rows.turn:
                rows.run("BEGIN")  # what is read until the end is of one moment
                try:
                    for digest in group:
                        if (row := rows.fetch(DOCUMENT + digest)) is not None:
                            document, extent = read_row(row)
                            history = self._history.events(rows, digest, extent)
                            found.append(Stored(key_in(row), document or {}, extent.next, history))
                finally:
                    rows.run("ROLLBACK")
        return found

    def load(self, stored: Sequence[Stored]) -> None:
        """Write what another store dumped, in the place of what is there; the bounds of histories hold."""
        given = {digest_of(each.key): each for each in stored}
        for shard, group in self._by_shard(given).items():
            with self._serving(shard) as rows, rows.transaction():
                for digest in group:
                    key, document, next_ordinal, history = given[digest]
                    version, row = rows.read(DOCUMENT + digest)
                    writes, first = PendingRows(rows), next_ordinal - len(history)
                    self._history.drop(writes, digest, read_row(row)[1])
                    extent = self._history.append(writes, digest, Extent(first, first, 0, 0), history)
                    value = row_of(key, row, document, extent)
                    self._write(rows, _Update(DOCUMENT + digest, version, value, writes.pending))

    def states(self) -> Iterator[dict[bytes, bytes]]:
        """Of each key its digest and its state: another one after each write, the same in every store; in pages."""
        for shard in range(self._count):
            after = DOCUMENT
            while page := self._next_documents(shard, after):
                yield {row_key[len(DOCUMENT) :]: state_of(value) for row_key, value in page}
                after = page[-1][0]

    def states_of(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """As `states`, of those of some keys that are there."""
        found = {}
        for shard, group in self._by_shard(digests).items():
            with self._serving(shard) as rows:
                for digest in group:
                    if (row := rows.fetch(DOCUMENT + digest)) is not None:
                        found[digest] = state_of(row)
        return found

    def filled_from(self) -> str | None:
        """Return the source of the unfinished migration into this store, or None."""
        return filled_from(self._folder)

    def fill_from(self, source: str | None) -> None:
        """Mark this store as one that a migration fills, and that nobody is to serve from; None: it is whole."""
        note_source(self._folder, source)

    def _by_shard(self, digests: Iterable[bytes]) -> dict[int, list[bytes]]:
        grouped: dict[int, list[bytes]] = {}
        for digest in digests:
            grouped.setdefault(digest[0] % self._count, []).append(digest)
        return grouped

    def compact(self) -> Iterator[tuple[int, int]]:
        """Rewrite every SQLite file of the folder without what was deleted; bytes before and after, file by file."""
        for file in self._all_files():
            check_file(file)
            yield upkeep.compact(file, self._timeout)

    def disk_usage(self) -> Iterator[int]:
        """The bytes that each SQLite file of the folder takes."""
        return map(upkeep.bytes_on_disk, self._all_files())

    def _all_files(self) -> list[Path]:
        return made_files(self._folder)  # imports that wait lie here too

    # One key

    def _update_shard(self, shard: int, keys: Sequence[tuple[Key, bytes]], fold: Fold[Decided]) -> dict[Key, Decided]:
        rows = self._shard(shard)
        try:
            decisions = self._update_unlocked(rows, *keys[0], fold) if len(keys) == 1 else None
            return self._update_locked(rows, keys, fold) if decisions is None else decisions
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(shard, rows, error) from error

    def _update_unlocked(self, rows: Rows, key: Key, digest: bytes, fold: Fold[Decided]) -> dict[Key, Decided] | None:
        """Update one key if nobody else does at the same time; what was decided, or None when somebody else does."""
        try:
            decision, update = self._fold(rows, key, digest, fold)
            if update is None:
                return {key: decision}
            if not update.history:
                return {key: decision} if rows.swap(*update[:3]) else None
            with rows.transaction():
                self._write(rows, update)
        except _Changed:
            return None
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            return None
        return {key: decision}

    def _update_locked(self, rows: Rows, keys: Sequence[tuple[Key, bytes]], fold: Fold[Decided]) -> dict[Key, Decided]:
        decisions = {}
        with self._transaction(rows, keys[0][1]):
            self._watch.check()  # it may have waited
            for key, digest in keys:
                decisions[key], update = self._fold(rows, key, digest, fold)
                if update is not None:
                    self._write(rows, update)
        return decisions

    def _fold(self, rows: Rows, key: Key, digest: bytes, fold: Fold[Decided]) -> tuple[Decided, _Update | None]:
        row_key = DOCUMENT + digest
        version, value = rows.read(row_key)
        document, extent = read_row(value)

        def history() -> list[HistoryEntry]:
            if (entries := self._history.entries(rows, digest, extent)) is None:
                raise _Changed
            return entries

        decision = fold(key, Entry(document, extent.next, history))
        write = None if decision is None else decision.write
        if write is None or (value is None and write.document is None):
            return decision, None
        writes = PendingRows(rows)
        if write.document is None or write.replace_history:
            extent = self._history.drop(writes, digest, extent)
        if write.document is None:
            return decision, _Update(row_key, version, None, writes.pending)
        if write.events:
            extent = self._history.append(writes, digest, extent, write.events, write.first)
        return decision, _Update(row_key, version, row_of(key, value, write.document, extent), writes.pending)

    def _write(self, rows: Rows, update: _Update) -> None:
        if not rows.swap(*update[:3]):
            raise _Changed
        for row_key, value in update.history.items():
            if value is None:
                rows.drop(row_key)
            else:
                rows.put(row_key, value)

    def _stored_documents(self, shard: int) -> Iterator[tuple[bytes, bytes]]:
        after = DOCUMENT
        while found := self._next_documents(shard, after):
            yield from found
            after = found[-1][0]

    def _next_documents(self, shard: int, after: bytes) -> list[tuple[bytes, bytes]]:
        with self._serving(shard) as rows:
            return rows.between(after, HISTORY)

    # History

    def _read_history(self, digest: bytes) -> list[HistoryEntry]:
        with self._serving(digest[0]) as rows:
            # Rows may be trimmed between the two reads: then the document says anew where the history begins.
            for _ in range(10):
                _, extent = read_row(rows.fetch(DOCUMENT + digest))
                if (entries := self._history.entries(rows, digest, extent)) is not None:
                    return entries
        raise StoreUnavailable("the history of a profile is being rewritten faster than it can be read")

    # Shards

    @contextlib.contextmanager
    def _serving(self, shard: int) -> Iterator[Rows]:
        """A shard to read from; any failure is StoreUnavailable, and the connection is opened again."""
        shard %= self._count
        rows = self._shard(shard)
        try:
            yield rows
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(shard, rows, error) from error

    def _unavailable(self, shard: int, rows: Rows, error: BaseException) -> StoreUnavailable:
        # A connection that failed may be left inside a transaction.
        with contextlib.suppress(sqlite3.Error):
            rows.close()
        cause = first_cause(error)
        if type(cause) is sqlite3.DatabaseError:  # it is malformed, or no database at all
            self._damaged.add(shard)
            return StoreUnavailable(f"the store file {self._file(shard)} is damaged: {cause}")
        return StoreUnavailable(f"the store cannot serve now: {cause}")

    @contextlib.contextmanager
    def _transaction(self, rows: Rows, digest: bytes) -> Iterator[None]:
        """A transaction that waits twice for others; ProfileOverload if they wrote this very profile."""
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
            yield

    def _shard(self, shard: int) -> Rows:
        self._watch.glance()
        opened = self._open_shards().shards[shard]
        if opened is None or file_identity(opened.file) != opened.identity:
            opened = self._open(shard)
        return opened.rows

    def _file(self, shard: int) -> Path:
        return Path(self._folder, f"{shard:03d}", core.DBNAME)

    def _open(self, shard: int) -> _Shard:
        file = self._file(shard)
        open_shards = self._open_shards()
        with open_shards.lock:
            opened = open_shards.shards[shard]
            if opened is not None and file_identity(opened.file) == opened.identity:
                return opened
            self._watch.check()
            try:
                rows = open_rows(file, timeout=self._timeout, synchronous=self._synchronous)
            except (sqlite3.Error, core.Timeout, OSError) as error:
                raise StoreUnavailable(f"the store file {file} cannot be opened: {first_cause(error)}") from error
            opened = open_shards.shards[shard] = _Shard(rows, str(file), file_identity(file))
            return opened
