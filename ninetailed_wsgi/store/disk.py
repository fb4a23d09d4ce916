"""The diskcache store: documents and histories in SQLite files of one folder, shared by processes and threads.

The folder holds ``store.json`` (format and number of shards) and one diskcache folder per shard. A key's document and
its history lie in the same shard, chosen by a hash of the key, so one transaction covers both.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import diskcache
import orjson

from ninetailed_wsgi.errors import ProfileOverload, SettingsError, StoreUnavailable
from ninetailed_wsgi.store.base import Document, Entry, Fold, HistoryEntry, HistoryEvent, Key

FORMAT = 1
DAY = 24 * 60 * 60 * 1000
_DOCUMENT, _HISTORY = b"d", b"h"
_LOOK_AGAIN = 1.0  # seconds between two looks whether the folder is still there


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
        self._shards: list[diskcache.Cache | None] = [None] * _prepare(self._folder, shards)
        self._pid = os.getpid()
        self._inherited: list[Any] = []
        self._identity = self._folder_identity()
        self._looked = time.monotonic()

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
            with self._serving(shard) as cache:
                # Documents sort before histories, so a shard is done at its first history row.
                for row in cache.iterkeys():
                    if row[:1] != _DOCUMENT:
                        break
                    stored = _load(cache.get(row))
                    if stored is None:
                        continue
                    key = Key(*stored.pop("key"))
                    stored.pop("history", None)
                    if organization in (None, key.organization) and environment in (None, key.environment):
                        yield key, stored

    def check(self) -> None:
        self._looked = 0.0
        for shard in range(len(self._shards)):
            with self._serving(shard) as cache:
                cache.get(_DOCUMENT)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise StoreUnavailable(f"the data folder {self._folder} is not writable")

    def close(self) -> None:
        with self._open_lock:
            for cache in self._shards:
                if cache is not None:
                    cache.close()
            self._shards = [None] * len(self._shards)

    # One key

    def _update_one(self, cache: diskcache.Cache, key: Key, digest: bytes, fold: Fold) -> None:
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
        stored = {**write.document, "history": kept, "key": [*key]}
        if kept[0] == kept[1]:
            del stored["history"]
        cache.set(_DOCUMENT + digest, orjson.dumps(stored))

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

    def _history(self, cache: diskcache.Cache, digest: bytes, kept: list[int]) -> list[HistoryEntry] | None:
        ordinal, end = kept[:2]
        first, after = end - self._history_events, self._clock() - self._history_days * DAY
        entries: list[HistoryEntry] = []
        while ordinal < end:
            row = _load(cache.get(_row_key(digest, ordinal)))
            if row is None:
                return None
            entries += [(o, at, event) for o, (at, event) in enumerate(row, ordinal) if o >= first and at > after]
            ordinal += len(row)
        return entries

    def _append(
        self, cache: diskcache.Cache, digest: bytes, kept: list[int], events: Sequence[HistoryEvent]
    ) -> list[int]:
        first, end, first_count, first_newest = kept
        cache.set(_row_key(digest, end), b"[" + b",".join(b"[%d,%b]" % event for event in events) + b"]")
        if first == end:
            first_count, first_newest = len(events), max(at for at, _ in events)
        end += len(events)
        after = self._clock() - self._history_days * DAY
        while first < end and (end - first - first_count >= self._history_events or first_newest <= after):
            cache.delete(_row_key(digest, first))
            first += first_count
            row = _load(cache.get(_row_key(digest, first))) or []
            first_count, first_newest = len(row), max((at for at, _ in row), default=0)
        return [first, end, first_count, first_newest]

    def _drop_history(self, cache: diskcache.Cache, digest: bytes, kept: list[int]) -> list[int]:
        ordinal, end = kept[:2]
        while ordinal < end:
            row = _load(cache.pop(_row_key(digest, ordinal)))
            ordinal += len(row or [0])
        return [end, end, 0, 0]

    # Shards

    @contextlib.contextmanager
    def _serving(self, shard: int) -> Iterator[diskcache.Cache]:
        """A shard to read from; whatever goes wrong with it is StoreUnavailable, and its connection starts anew."""
        cache = self._shard(shard % len(self._shards))
        try:
            yield cache
        except (sqlite3.Error, diskcache.Timeout, OSError) as error:
            # A connection that failed may be left inside a transaction.
            with contextlib.suppress(sqlite3.Error):
                cache.close()
            raise StoreUnavailable(f"the store cannot serve now: {error}") from error

    @contextlib.contextmanager
    def _transaction(self, shard: int, digest: bytes) -> Iterator[diskcache.Cache]:
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
                    # diskcache says Timeout for whatever kept a transaction from beginning.
                    raise StoreUnavailable(f"the store cannot be written now: {error.__context__}") from None
            yield cache

    def _shard(self, shard: int) -> diskcache.Cache:
        if self._pid != os.getpid():
            self._after_fork()
        if time.monotonic() - self._looked > _LOOK_AGAIN:
            self._look()
        return self._shards[shard] or self._open(shard)

    def _open(self, shard: int) -> diskcache.Cache:
        folder = self._folder / f"{shard:03d}"
        with self._open_lock:
            if (cache := self._shards[shard]) is not None:
                return cache
            try:
                folder.mkdir(mode=0o700, exist_ok=True)
                self._wait_unlocked(folder / diskcache.core.DBNAME)
                cache = diskcache.Cache(
                    str(folder),
                    timeout=self._timeout / 2,  # a transaction is tried twice
                    disk=_BytesOnly,
                    eviction_policy="none",
                    cull_limit=0,
                    sqlite_synchronous=self._synchronous,
                    # Without a memory map a file cut short is an error, not the death of the process.
                    sqlite_mmap_size=0,
                    # 1 MiB for each connection: there is one for every thread and shard.
                    sqlite_cache_size=256,
                )
            except (sqlite3.Error, OSError) as error:
                raise StoreUnavailable(
                    f"the store file {folder / diskcache.core.DBNAME} cannot be opened: {error}"
                ) from error
            self._shards[shard] = cache
            return cache

    def _wait_unlocked(self, file: Path) -> None:
        """Bound the wait for a locked file, for which opening it through diskcache would wait a minute."""
        connection = sqlite3.connect(file, timeout=self._timeout, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def _after_fork(self) -> None:
        with self._open_lock:
            if self._pid != os.getpid():
                # SQLite connections must not be used nor closed in a child; they are kept so that nothing closes them.
                self._inherited.append(self._shards)
                self._shards = [None] * len(self._shards)
                self._pid = os.getpid()

    def _look(self) -> None:
        """Notice that the folder was removed or replaced: writes to deleted files would be lost without an error."""
        identity = self._folder_identity()
        if identity != self._identity:
            with self._open_lock:
                self._shards = [None] * len(self._shards)
            if identity is None:
                raise StoreUnavailable(f"the data folder {self._folder} was removed while in use")
            try:
                self._shards = [None] * _prepare(self._folder, len(self._shards))
            except SettingsError as error:
                raise StoreUnavailable(str(error)) from error
            self._identity = identity
        self._looked = time.monotonic()

    def _folder_identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._folder / "store.json")
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _prepare(folder: Path, shards: int) -> int:
    """Make the folder a store, or check that it is one; the number of its shards."""
    description = folder / "store.json"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not description.exists():
            if any(not name.startswith(".") for name in os.listdir(folder)):
                raise SettingsError(
                    [f"data_dir: {folder} holds other files and no store; name an empty or a new folder"]
                )
            _write_once(description, orjson.dumps({"format": FORMAT, "shards": shards}))
        os.chmod(folder, 0o700)
        found = orjson.loads(description.read_bytes())
        written_by, count = found["format"], found["shards"]
    except OSError as error:
        raise SettingsError([f"data_dir: {folder} cannot be used: {error.strerror}"]) from error
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            [f'data_dir: {description} is damaged: expected {{"format": {FORMAT}, "shards": ...}}']
        ) from error
    if written_by != FORMAT:
        raise SettingsError(
            [f"data_dir: {folder} has store format {written_by!r}, this software reads format {FORMAT}"]
        )
    if not isinstance(count, int) or not 1 <= count <= 256:
        raise SettingsError([f"data_dir: {description} names {count!r} shards, expected 1 to 256"])
    return count


def _write_once(file: Path, content: bytes) -> None:
    """Write a file as a whole; when another process was first, its content stays."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".store-") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(handle.name, file)


def _digest(key: Key) -> bytes:
    """Sixteen bytes that stand for a key; lengths are hashed too, so that no two keys read the same."""
    parts = [part.encode("utf-8", "surrogatepass") for part in key]
    return hashlib.blake2b(b"".join(b"%d:%b" % (len(part), part) for part in parts), digest_size=16).digest()


def _row_key(digest: bytes, ordinal: int) -> bytes:
    return _HISTORY + digest + ordinal.to_bytes(8, "big")


def _load_document(cache: diskcache.Cache, digest: bytes) -> tuple[Document | None, list[int]]:
    """A document without what only the store knows of it, and which part of its history is kept."""
    stored = _load(cache.get(_DOCUMENT + digest))
    if stored is None:
        return None, [0, 0, 0, 0]
    del stored["key"]
    return stored, stored.pop("history", [0, 0, 0, 0])


def _load(value: bytes | None) -> Any:
    return None if value is None else orjson.loads(value)
