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
from typing import Any, NamedTuple

import diskcache
import orjson

from ninetailed_wsgi.errors import ProfileOverload, SettingsError, StoreUnavailable
from ninetailed_wsgi.store import upkeep
from ninetailed_wsgi.store.base import Document, Entry, Fold, HistoryEntry, HistoryEvent, Key

FORMAT = 1
DAY = 24 * 60 * 60 * 1000
_DOCUMENT, _HISTORY = b"d", b"h"
_ROWS_AT_ONCE = 100  # documents read by one query when all are asked for
_PUT = (
    "INSERT INTO Cache (key, raw, store_time, access_time, mode, value)"
    f" VALUES (?, 1, ?, ?, {diskcache.core.MODE_RAW}, ?)"
    " ON CONFLICT (key, raw) DO UPDATE SET store_time = excluded.store_time, value = excluded.value"
)
_COUNT = "SELECT count(*) FROM Cache WHERE key > ? AND key < ? AND raw = 1"
_HISTORY_BYTES = "SELECT coalesce(sum(length(value)), 0) FROM Cache WHERE key >= ? AND key < ? AND raw = 1"
_NEXT_DOCUMENTS = "SELECT key, mode, value FROM Cache WHERE key > ? AND key < ? AND raw = 1 ORDER BY key LIMIT ?"


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


class Rows(diskcache.Cache):  # type: ignore[misc]
    """diskcache's Cache with two statements of ours, straight on its table; all else is done by diskcache."""

    def __init__(self, directory: str, *, synchronous: int, **settings: Any) -> None:
        self._synchronous = synchronous
        super().__init__(directory, sqlite_synchronous=synchronous, **settings)

    def reset(self, key: str, value: Any = diskcache.core.ENOVAL, update: bool = True) -> Any:
        """Every new connection takes its settings from the file, where whoever opened it last has left their own.

        A look at the store while a service runs, by another process with other settings, must not make it less durable.
        """
        return super().reset(key, self._synchronous if key == "sqlite_synchronous" else value, update)

    def sql(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """A statement of ours, inside a transaction or as one of its own."""
        cursor: sqlite3.Cursor = self._sql(statement, values)
        return cursor

    def put(self, key: bytes, value: bytes) -> None:
        """Inside a transaction, what ``set`` does, in one statement instead of two and a tenth of the Python."""
        self._sql(_PUT, (key, now := time.time(), now, value))

    def documents(self, after: bytes) -> list[tuple[bytes, bytes]]:
        """The next documents by key; diskcache reads its index from the beginning for every hundred keys."""
        found = self._sql(_NEXT_DOCUMENTS, (after, _HISTORY, _ROWS_AT_ONCE)).fetchall()
        return [(bytes(key), self.disk.fetch(mode, None, value, False)) for key, mode, value in found]


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
        self._shards: list[_Shard | None] = [None] * _prepare(self._folder, shards)
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
                rows = cache.documents(after)
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
            shards = _read_description(self._folder)
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


def examine(folder: Path) -> int | None:
    """The number of shards of the store in a folder, None where there is no store yet; changes nothing.

    Raises:
        SettingsError: the folder holds other files, or a store of another version of this software.
        OSError: the folder cannot be read.
    """
    # Listed before the look for store.json: another process may be making the same store.
    foreign = [name for name in os.listdir(folder) if not name.startswith(".") and name != "lost+found"]
    if (folder / "store.json").exists():
        return _read_description(folder)
    if foreign:
        raise SettingsError([f"data_dir: {folder} holds other files and no store; name an empty or a new folder"])
    return None


def open_rows(file: Path, *, timeout: float, synchronous: int) -> Rows:
    """Open one SQLite file of a diskcache folder, made when missing; every file of the data folder is opened here."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    with _unlocked(file, timeout):
        return Rows(
            str(file.parent),
            timeout=timeout / 2,  # a transaction is tried twice
            disk=_BytesOnly,
            eviction_policy="none",
            cull_limit=0,
            synchronous=synchronous,
            # Without a memory map a file cut short is an error, not the death of the process.
            sqlite_mmap_size=0,
            # 256 KiB for each connection (one for every thread and shard); 1 MiB was no faster.
            sqlite_cache_size=64,
        )


@contextlib.contextmanager
def _unlocked(file: Path, timeout: float) -> Iterator[None]:
    """Bound the wait for a locked file, for which opening it through diskcache would wait a minute.

    The connection stays open meanwhile: the last one to close a file writes it out to the disk, three times slower.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=timeout, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = FULL")  # as diskcache has it, which would come too late
        with contextlib.suppress(sqlite3.OperationalError):  # another process is about it; diskcache tries again
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
        yield


def _prepare(folder: Path, shards: int) -> int:
    """Make the folder a store, or check that it is one; the number of its shards."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if examine(folder) is None:
            _write_once(folder / "store.json", orjson.dumps({"format": FORMAT, "shards": shards}))
        os.chmod(folder, folder.stat().st_mode & 0o700)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise SettingsError([f"data_dir: {folder} is not writable"])
        return _read_description(folder)
    except OSError as error:
        raise SettingsError([f"data_dir: {folder} cannot be used: {error.strerror}"]) from error


def _read_description(folder: Path) -> int:
    """The number of shards of the store in a folder; SettingsError when this software cannot read that store."""
    description = folder / "store.json"
    try:
        found = orjson.loads(description.read_bytes())
        written_by, count = found["format"], found["shards"]
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


def file_identity(file: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def first_cause(error: BaseException) -> BaseException:
    """What went wrong first: diskcache says Timeout, or fails to roll back, after any error of SQLite."""
    while isinstance(error.__context__, sqlite3.Error):
        error = error.__context__
    return error


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
