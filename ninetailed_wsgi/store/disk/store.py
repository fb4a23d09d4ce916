"""The diskcache store: documents and histories in SQLite files of one folder, shared by processes and threads.

The folder holds ``store.json`` (format and number of shards) and one diskcache folder per shard. All rows of a key are
in the same shard, chosen by a hash of the key, so one transaction covers them.

`history.py` describes how a profile and its history are stored in rows.

An update reads the row, folds, and writes the row if it still has the version that was read; otherwise it repeats this
inside a transaction, where nobody else writes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.store.disk.arrivals import DiskArrivals
from ninetailed_wsgi.store.disk.contents import DiskContents
from ninetailed_wsgi.store.disk.folder import filled_from, id_key, note_source, prepare, replace_id_key
from ninetailed_wsgi.store.disk.history import (
    DOCUMENT,
    Changed,
    Extent,
    History,
    PendingRows,
    RowUpdate,
    key_in,
    read_row,
    row_of,
)
from ninetailed_wsgi.store.disk.rows import Rows
from ninetailed_wsgi.store.disk.shards import Shards
from ninetailed_wsgi.store.keys import digest_of
from ninetailed_wsgi.store.protocol import Document, Fold, HistoryEntry, OutcomeT, StoreEntry
from ninetailed_wsgi.store.recent import RecentDocuments


class DiskStore:
    """Profiles on the local disk, for any number of processes and threads of one machine.

    Args:
        folder: where the data is; created with mode 0700. A folder that holds something else is refused.
        shards: number of SQLite files of a new store; an existing store keeps its own number.
        synchronous: ``NORMAL`` survives the death of every process, ``FULL`` also a power loss, with a sync per write.
        timeout: seconds a writer waits for a lock.
        history_events, history_days: how much of a profile's history is kept.
        clock: returns the time in milliseconds since the epoch.

    Attributes:
        contents: all that the store holds, for the commands.
        arrivals: the newest events, while somebody watches.

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
        self._history = History(history_events, history_days, clock)
        self._shards = Shards(self._folder, prepare(self._folder, shards), synchronous=synchronous, timeout=timeout)
        self._recent = RecentDocuments()
        self._id_key: bytes | None = None
        self.contents = DiskContents(self._shards, self._history)
        self.arrivals = DiskArrivals(self._folder)

    # protocol.py documents these methods.

    def read(self, key: Key) -> StoreEntry:
        digest = digest_of(key)
        document, extent = self._read_row(digest, self._shards.fetch(digest))
        return StoreEntry(document, extent.next, lambda: self._read_history(digest))

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        if len(keys) == 1:
            digest = digest_of(keys[0])
            return self._update_shard(self._shards.of(digest), [(keys[0], digest)], fold)
        by_shard: dict[int, list[tuple[Key, bytes]]] = {}
        for key in keys:
            digest = digest_of(key)
            by_shard.setdefault(self._shards.of(digest), []).append((key, digest))
        decisions: dict[Key, OutcomeT] = {}
        for shard, group in by_shard.items():
            decisions.update(self._update_shard(shard, group, fold))
        return decisions

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        for _, value in self.contents.rows():
            key = key_in(value)
            if organization in (None, key.organization) and environment in (None, key.environment):
                document, _ = read_row(value)
                if document is not None:
                    yield key, document

    def check(self) -> None:
        self._shards.check()

    def close(self) -> None:
        self._shards.close()

    def id_key(self) -> bytes:
        """Return the key that certifies profile ids; it was made with the store."""
        if self._id_key is None:
            self._id_key = id_key(self._folder)
        return self._id_key

    def take_id_key(self, key: bytes) -> None:
        """Certify ids with this key, that of the store from which this one is filled."""
        replace_id_key(self._folder, key)
        self._id_key = key

    def filled_from(self) -> str | None:
        """Return the source of the unfinished migration into this store, or None."""
        return filled_from(self._folder)

    def fill_from(self, source: str | None) -> None:
        """Mark this store as one that a migration is filling and that must not serve yet; None: it is complete."""
        note_source(self._folder, source)

    # One key

    def _update_shard(self, shard: int, keys: Sequence[tuple[Key, bytes]], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        rows = self._shards.rows(shard)
        try:
            decisions = self._update_unlocked(rows, *keys[0], fold) if len(keys) == 1 else None
            return self._update_locked(rows, keys, fold) if decisions is None else decisions
        except (sqlite3.Error, OSError) as error:
            raise self._shards.unavailable(shard, rows, error) from error

    def _update_unlocked(self, rows: Rows, key: Key, digest: bytes, fold: Fold[OutcomeT]) -> dict[Key, OutcomeT] | None:
        """Update one key and return what was decided; return None if somebody else writes it at the same time."""
        try:
            decision, update = self._fold(rows, key, digest, fold)
            if update is None:
                return {key: decision}
            if not update.history:
                return {key: decision} if rows.swap(update.key, update.version, update.value) else None
            with rows.transaction():
                update.write(rows)
        except Changed:
            return None
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            return None
        return {key: decision}

    def _update_locked(
        self, rows: Rows, keys: Sequence[tuple[Key, bytes]], fold: Fold[OutcomeT]
    ) -> dict[Key, OutcomeT]:
        decisions = {}
        with self._shards.transaction(rows, keys[0][1]):
            for key, digest in keys:
                decisions[key], update = self._fold(rows, key, digest, fold)
                if update is not None:
                    update.write(rows)
        return decisions

    def _fold(self, rows: Rows, key: Key, digest: bytes, fold: Fold[OutcomeT]) -> tuple[OutcomeT, RowUpdate | None]:
        row_key = DOCUMENT + digest
        version, value = rows.read(row_key)
        document, extent = self._read_row(digest, value)

        def history() -> list[HistoryEntry]:
            if (entries := self._history.entries(rows, digest, extent)) is None:
                raise Changed
            return entries

        decision = fold(key, StoreEntry(document, extent.next, history))
        write = None if decision is None else decision.write
        if write is None or (value is None and write.document is None):
            return decision, None
        writes = PendingRows(rows)
        if write.document is None or write.replace_history:
            extent = self._history.drop(writes, digest, extent)
        if write.document is None:
            self._recent.forget(digest)
            return decision, RowUpdate(row_key, version, None, writes.pending)
        if write.events:
            extent = self._history.append(writes, digest, extent, write.events, write.first)
        text = orjson.dumps(write.document)
        self._recent.remember(digest, text, write.document)
        return decision, RowUpdate(row_key, version, row_of(key, value, text, extent), writes.pending)

    def _read_row(self, digest: bytes, row: bytes | None) -> tuple[Document | None, Extent]:
        if row is None:
            self._recent.forget(digest)
        return read_row(row, partial(self._recent.parse, digest))

    def _read_history(self, digest: bytes) -> list[HistoryEntry]:
        with self._shards.serving(self._shards.of(digest)) as rows:
            # Rows may be trimmed between the two reads: then the new document says where the history begins.
            for _ in range(10):
                _, extent = read_row(rows.fetch(DOCUMENT + digest))
                if (entries := self._history.entries(rows, digest, extent)) is not None:
                    return entries
        raise StoreUnavailable("the history of a profile is being rewritten faster than it can be read")
