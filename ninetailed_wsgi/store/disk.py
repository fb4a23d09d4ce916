"""The diskcache store: documents and histories in SQLite files of one folder, shared by processes and threads.

The folder holds ``store.json`` (format and number of shards) and one diskcache folder per shard. A key's document and
its history lie in the same shard, chosen by a hash of the key, so one transaction covers both.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import diskcache
import orjson

from ninetailed_wsgi.errors import ProfileOverload, SettingsError, StoreUnavailable
from ninetailed_wsgi.store import upkeep
from ninetailed_wsgi.store.base import Document, Entry, Fold, HistoryEntry, HistoryEvent, Key
from ninetailed_wsgi.store.folder import prepare, read_description
from ninetailed_wsgi.store.rows import Rows, file_identity, first_cause, open_rows

DAY = 24 * 60 * 60 * 1000
_DOCUMENT, _HISTORY = b"d", b"h"
_COUNT = "SELECT count(*) FROM Cache WHERE key > ? AND key < ? AND raw = 1"
_HISTORY_BYTES = "SELECT coalesce(sum(length(value)), 0) FROM Cache WHERE key >= ? AND key < ? AND raw = 1"


class _Shard(NamedTuple):
    """An open shard, and which file that is: writes to a file that was removed or replaced would be lost unnoticed."""

    cache: Rows
    file: Path
    identity: tuple[int, int] | None


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
        self._history_events = history_events
        self._history_days = history_days
        self._clock = clock
        self._open_lock = threading.Lock()
        self._shards: list[_Shard | None] = [None] * prepare(self._folder, shards)
        self._pid = os.getpid()
        self._inherited: list[Any] = []

    # What the protocol of base.py asks for; its docstrings say what each does.

    def read(self, key: Key) -> Entry:
        digest = _digest(key)
        with self._serving(digest[0]) as cache:
            document, kept = _load_document(cache, digest)
        return Entry(document, kept[1], lambda: self._read_history(digest))

    def update(self, keys: Sequence[Key], fold: Fold) -> None:
        by_shard: dict[int, list[tuple[Key, bytes]]] = {}
        for key in keys:
            digest = _digest(key)
            by_shard.setdefault(digest[0] % len(self._shards), []).append((key, digest))
        for shard, group in by_shard.items():
            with self._transaction(shard, group[0][1]) as cache:
                for key, digest in group:
                    self._update_one(cache, key, digest, fold)

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        for shard in range(len(self._shards)):
            for _, value in self._stored_documents(shard):
                stored = _load(value)
                key = _key_of(stored.pop("key"))
                stored.pop("history", None)
                if organization in (None, key.organization) and environment in (None, key.environment):
                    yield key, stored

    def check(self) -> None:
        for shard in range(len(self._shards)):
            with self._serving(shard) as cache:
                cache.get(_DOCUMENT)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise StoreUnavailable(f"the data folder {self._folder} is not writable")

    def close(self) -> None:
        with self._open_lock:
            for opened in self._shards:
                if opened is not None:
                    opened.cache.close()
            self._shards = [None] * len(self._shards)

    # What the commands need of all of it.

    def count(self) -> int:
        """How many documents there are, pointers included."""
        found = 0
        for shard in range(len(self._shards)):
            with self._serving(shard) as cache:
                found += cache.sql(_COUNT, (_DOCUMENT, _HISTORY)).fetchone()[0]
        return found

    def sizes(self) -> Iterator[tuple[Key, Document, int, int]]:
        """Every document, with the number of events kept of it and the bytes of both, in no order."""
        for shard in range(len(self._shards)):
            for row_key, value in self._stored_documents(shard):
                first = _HISTORY + row_key[len(_DOCUMENT) :]
                with self._serving(shard) as cache:
                    (history,) = cache.sql(_HISTORY_BYTES, (first, first + b"\xff" * 9)).fetchone()
                stored = _load(value)
                key, kept = _key_of(stored.pop("key")), stored.pop("history", [0, 0])
                yield key, stored, min(kept[1] - kept[0], self._history_events), len(value) + history

    def compact(self) -> Iterator[tuple[int, int]]:
        """Rewrite every SQLite file of the folder without what was deleted; bytes before and after, file by file."""
        for file in self._all_files():
            yield upkeep.compact(file, self._timeout)

    def disk_usage(self) -> Iterator[int]:
        """The bytes that each SQLite file of the folder takes."""
        return map(upkeep.bytes_on_disk, self._all_files())

    def _all_files(self) -> list[Path]:
        return sorted(self._folder.glob(f"*/{diskcache.core.DBNAME}"))  # imports that wait lie here too

    # One key

    def _update_one(self, cache: Rows, key: Key, digest: bytes, fold: Fold) -> None:
        document, kept = _load_document(cache, digest)
        entry = Entry(document, kept[1], lambda: self._history(cache, digest, kept) or [])
        write = fold(key, entry)
        if write is None:
            return
        if write.document is None or write.replace_history:
            kept = self._drop_history(cache, digest, kept)
        if write.document is None:
            cache.delete(_DOCUMENT + digest)
            return
        if write.events:
            kept = self._append(cache, digest, kept, write.events)
        stored = {**write.document, "history": kept, "key": [_text(part) for part in key]}
        if not kept[1]:
            del stored["history"]
        cache.put(_DOCUMENT + digest, orjson.dumps(stored))

    def _stored_documents(self, shard: int) -> Iterator[tuple[bytes, bytes]]:
        after = _DOCUMENT
        while True:
            with self._serving(shard) as cache:
                rows = cache.between(after, _HISTORY)
            if not rows:
                return
            yield from rows
            after = rows[-1][0]

    # History: rows of the events that were written together, keyed by the ordinal of their first event. The document
    # holds [ordinal of the first kept event, next ordinal, events in the first row, newest time in the first row].

    def _read_history(self, digest: bytes) -> list[HistoryEntry]:
        with self._serving(digest[0]) as cache:
            # Rows may be trimmed between the two reads: then the document says anew where the history begins.
            for _ in range(10):
                _, kept = _load_document(cache, digest)
                if (entries := self._history(cache, digest, kept)) is not None:
                    return entries
        raise StoreUnavailable("the history of a profile is being rewritten faster than it can be read")

    def _history(self, cache: Rows, digest: bytes, kept: list[int]) -> list[HistoryEntry] | None:
        ordinal, end = kept[:2]
        first, since = end - self._history_events, self._since()
        entries: list[HistoryEntry] = []
        while ordinal < end:
            row = _load(cache.get(_row_key(digest, ordinal)))
            if row is None:
                return None
            entries += [(o, at, event) for o, (at, event) in enumerate(row, ordinal) if o >= first and at >= since]
            ordinal += len(row)
        return entries

    def _append(self, cache: Rows, digest: bytes, kept: list[int], events: Sequence[HistoryEvent]) -> list[int]:
        if len(events) > self._history_events:
            first, end, *_ = self._drop_history(cache, digest, kept)
            surplus = len(events) - self._history_events
            kept, events = [first + surplus, end + surplus, 0, 0], events[surplus:]
        first, end, first_count, first_newest = kept
        if events:
            cache.put(_row_key(digest, end), b"[" + b",".join(b"[%d,%b]" % event for event in events) + b"]")
        if first == end:
            first_count, first_newest = len(events), max((at for at, _ in events), default=0)
        end += len(events)
        since = self._since()
        while first < end and (end - first - first_count >= self._history_events or first_newest < since):
            cache.delete(_row_key(digest, first))
            first += first_count
            row = _load(cache.get(_row_key(digest, first))) or []
            # A row that is not there, which only damage explains, is passed over.
            first_count, first_newest = len(row) or 1, max((at for at, _ in row), default=0)
        return [first, end, first_count, first_newest]

    def _since(self) -> int:
        return self._clock() - self._history_days * DAY

    def _drop_history(self, cache: Rows, digest: bytes, kept: list[int]) -> list[int]:
        ordinal, end = kept[:2]
        while ordinal < end:
            row = _load(cache.pop(_row_key(digest, ordinal)))
            ordinal += len(row or [0])
        return [end, end, 0, 0]

    # Shards

    @contextlib.contextmanager
    def _serving(self, shard: int) -> Iterator[Rows]:
        """A shard to read from; whatever goes wrong with it is StoreUnavailable, and its connection starts anew."""
        cache = self._shard(shard % len(self._shards))
        try:
            yield cache
        except (sqlite3.Error, diskcache.Timeout, OSError) as error:
            # A connection that failed may be left inside a transaction.
            with contextlib.suppress(sqlite3.Error):
                cache.close()
            raise StoreUnavailable(f"the store cannot serve now: {first_cause(error)}") from error

    @contextlib.contextmanager
    def _transaction(self, shard: int, digest: bytes) -> Iterator[Rows]:
        with self._serving(shard) as cache, contextlib.ExitStack() as stack:
            try:
                stack.enter_context(cache.transact())
            except diskcache.Timeout:
                before = cache.get(_DOCUMENT + digest)
                try:
                    stack.enter_context(cache.transact())
                except diskcache.Timeout as error:
                    # Others got through to this very profile meanwhile: it is busy, the store is not stuck.
                    if cache.get(_DOCUMENT + digest) != before:
                        raise ProfileOverload("too many requests write this profile at the same time") from None
                    raise StoreUnavailable(f"the store cannot be written now: {first_cause(error)}") from None
            yield cache

    def _shard(self, shard: int) -> Rows:
        if self._pid != os.getpid():
            self._after_fork()
        opened = self._shards[shard]
        if opened is None or file_identity(opened.file) != opened.identity:
            opened = self._open(shard)
        return opened.cache

    def _open(self, shard: int) -> _Shard:
        file = self._folder / f"{shard:03d}" / diskcache.core.DBNAME
        with self._open_lock:
            opened = self._shards[shard]
            if opened is not None and file_identity(file) == opened.identity:
                return opened
            self._check_folder()
            try:
                cache = open_rows(file, timeout=self._timeout, synchronous=self._synchronous)
            except (sqlite3.Error, diskcache.Timeout, OSError) as error:
                raise StoreUnavailable(f"the store file {file} cannot be opened: {first_cause(error)}") from error
            opened = self._shards[shard] = _Shard(cache, file, file_identity(file))
            return opened

    def _check_folder(self) -> None:
        """A folder that was removed, or replaced by another kind of store, is not written to."""
        try:
            shards = read_description(self._folder)
        except FileNotFoundError:
            raise StoreUnavailable(f"the data folder {self._folder} was removed while in use") from None
        except (OSError, SettingsError) as error:
            raise StoreUnavailable(str(error)) from error
        if shards != len(self._shards):
            raise StoreUnavailable(
                f"the data folder {self._folder} was replaced while in use, by one of {shards} shards"
            )

    def _after_fork(self) -> None:
        # SQLite connections must not be used nor closed in a child; they are kept so that nothing closes them.
        self._inherited.append(self._shards)
        self._shards = [None] * len(self._shards)
        self._open_lock = threading.Lock()  # some thread of the parent may have held the old one
        self._pid = os.getpid()


def _digest(key: Key) -> bytes:
    """Sixteen bytes that stand for a key; lengths are hashed too, so that no two keys read the same."""
    parts = [part.encode("utf-8", "surrogatepass") for part in key]
    return hashlib.blake2b(b"".join(b"%d:%b" % (len(part), part) for part in parts), digest_size=16).digest()


def _text(part: str) -> str:
    """Part of a key as JSON can hold it: one character for each byte of its UTF-8, as lone surrogates are no JSON."""
    return part.encode("utf-8", "surrogatepass").decode("latin-1")


def _key_of(texts: list[str]) -> Key:
    return Key(*(text.encode("latin-1").decode("utf-8", "surrogatepass") for text in texts))


def _row_key(digest: bytes, ordinal: int) -> bytes:
    return _HISTORY + digest + ordinal.to_bytes(8, "big")


def _load_document(cache: Rows, digest: bytes) -> tuple[Document | None, list[int]]:
    """A document without what only the store knows of it, and which part of its history is kept."""
    stored = _load(cache.get(_DOCUMENT + digest))
    if stored is None:
        return None, [0, 0, 0, 0]
    del stored["key"]
    return stored, stored.pop("history", [0, 0, 0, 0])


def _load(value: bytes | None) -> Any:
    try:
        return None if value is None else orjson.loads(value)
    except ValueError as error:
        raise StoreUnavailable(f"the store holds a damaged row: {error}") from error
