"""The import queue: batches that were accepted and wait, on disk, to be applied in the order they came.

``queue/`` of the data folder holds the batches under numbers that grow and are never given twice, ``aside/`` those that
could not be applied, under the same numbers. Both are diskcache folders, as the shards are. A batch is JSON,
``{"at": ms, "where": [organization, environment], "events": [...]}``, where a deleted visitor's events are null.
Beside them a table says whom each batch is about (`queue_names.py`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.operations.forks import PerProcess, forked_since
from ninetailed_wsgi.store.disk import queue_names
from ninetailed_wsgi.store.disk.diskcache_core import core
from ninetailed_wsgi.store.disk.folder import Watch, check_file, file_identity
from ninetailed_wsgi.store.disk.rows import Rows, first_cause, open_rows
from ninetailed_wsgi.store.protocol import DEATHS_APART, Head, Queued, QueueState

_LAST, _TRIES = b"last", b"tries"  # rows beside the batches: the last number; [number, tries, since (ms)] of the head
_NO_TRIES = b"[0,0,0]"

_BATCHES = "FROM Cache WHERE key > 0 AND key < 9223372036854775807 AND raw = 1"
_HEAD = f"SELECT key, mode, value {_BATCHES} ORDER BY key LIMIT 1"
_PUSH = (
    "INSERT INTO Cache (key, raw, store_time, access_time, mode, value)"
    f" VALUES (?, 1, ?, ?, {core.MODE_RAW}, ?) ON CONFLICT (key, raw) DO NOTHING"
)
# Pages in use, however many batches there are; to add up their lengths would read each of them.
_BYTES = (
    "SELECT (page_count - freelist_count) * page_size"
    " FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
)


@dataclass(slots=True)
class _Open:
    """The databases that this process has open, each with the file that it was then."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    files: dict[str, tuple[Rows, tuple[int, int] | None]] = field(default_factory=dict)


class ImportQueue:
    """Batches in the data folder, for any number of processes and threads of one machine.

    Args:
        folder: the data folder, with its store; nothing is made in it before the first batch is put.
        limit: batches that may wait.
        most_bytes: of the pages that they may take in the file.
        synchronous, timeout: as of :class:`~ninetailed_wsgi.store.disk.store.DiskStore`.
        clock: now, in milliseconds since the epoch.

    Attributes:
        locked: descriptors of the locks while `alone` is entered; a forked child has to close its copies.

    Every method raises :class:`~ninetailed_wsgi.errors.StoreUnavailable` when the disk cannot serve.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        limit: int = 10_000,
        most_bytes: int = 1 << 30,
        synchronous: str = "NORMAL",
        timeout: float = 5.0,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._folder = Path(folder)
        self._limit = limit
        self._most_bytes = most_bytes
        self._synchronous = {"NORMAL": 1, "FULL": 2}[synchronous.upper()]
        self._timeout = timeout
        self._clock = clock
        self._files = {name: self._folder / name / core.DBNAME for name in ("queue", "aside")}
        self._watch = Watch(self._folder)
        self._open = PerProcess(_Open)
        self.locked: set[int] = set()

    def put(self, batch: bytes, names: Collection[Key] = ()) -> None:
        """Keep a batch; when this returns, the death of any process loses it no more. StoreUnavailable when full."""
        now = self._clock()
        with self._transaction("queue") as rows:
            ((waiting,),) = rows.rows(f"SELECT COUNT(*) {_BATCHES}")
            if waiting >= self._limit:
                raise StoreUnavailable(f"the import queue is full: {waiting} batches wait to be applied")
            ((bytes_,),) = rows.rows(_BYTES)
            if bytes_ >= self._most_bytes:
                raise StoreUnavailable(f"the import queue is full: what waits to be applied takes {bytes_} bytes")
            # Numbers also grow when the folder was removed, as profiles remember the number of their last batch.
            number = max(int(rows.fetch(_LAST) or 0) + 1, now * 1000)
            rows.put(_LAST, b"%d" % number)
            rows.run(_PUSH, (number, now / 1000, now / 1000, batch))
            queue_names.add(rows, number, names)

    def empty(self) -> bool:
        """Whether nothing waits; reads no batch for it."""
        if not self._used("queue"):
            return True
        with self._serving("queue") as rows:
            return not rows.rows(f"SELECT 1 {_BATCHES} LIMIT 1")

    def head(self) -> Head | None:
        """Return the first batch that waits, or None."""
        if not self._used("queue"):
            return None
        with self._serving("queue") as rows:
            for number, mode, value in rows.rows(_HEAD):
                counted, tries, tried = orjson.loads(rows.fetch(_TRIES) or _NO_TRIES)
                tries, tried = (tries, tried) if counted == number else (0, 0)
                return Head(number, rows.value(mode, value), tries, tried)
        return None

    def begin(self, head: Head) -> None:
        """Count a try, before it: a batch that kills the process that applies it must not be tried for ever."""
        now = self._clock()
        if abs(now - head.tried) >= DEATHS_APART:
            self._count(head.number, head.tries + 1, now)

    def failed(self, head: Head) -> None:
        """Count a try that ended with an error."""
        self._count(head.number, head.tries + 1, self._clock())

    def again(self, head: Head) -> None:
        """Take the last try back: it was not the batch that failed."""
        self._count(head.number, head.tries, head.tried)

    def done(self, number: int) -> None:
        """The batch was applied."""
        with self._transaction("queue") as rows:
            rows.drop(number)
            queue_names.drop(rows, number)

    def set_aside(self, head: Head, reason: str) -> None:
        """Keep a batch apart that cannot be applied: ``{"reason", "tries", "batch"}`` under its number."""
        kept = orjson.dumps({"reason": reason, "tries": head.tries, "batch": head.batch.decode()})
        now = self._clock() / 1000
        with self._transaction("aside") as rows:
            rows.run(_PUSH, (head.number, now, now, kept))  # cut off after this, it is set aside again: the first stays
        self.done(head.number)

    def aside(self) -> dict[int, dict[str, Any]]:
        """What was put aside, by number."""
        if not self._used("aside"):
            return {}
        with self._serving("aside") as rows:
            found = rows.rows(f"SELECT key, mode, value {_BATCHES} ORDER BY key")
            return {number: orjson.loads(rows.value(mode, value)) for number, mode, value in found}

    def state(self) -> QueueState:
        """How much waits, and how long; reads only, so that looking makes no file."""
        waiting, since = self._look("queue")
        oldest = max(0.0, self._clock() / 1000 - since) if since is not None else 0.0
        return QueueState(waiting, oldest, self._look("aside")[0])

    def index(self, names: Callable[[bytes], Collection[Key]]) -> None:
        """Note whom the batches are about of which nobody has noted it yet, as ``names`` reads it from each."""
        for file in self._files:
            if file_identity(self._files[file]) is None:
                continue
            with self._serving(file) as rows:
                missing = queue_names.missing(rows)
            for number in missing:
                if (batch := self._batch(file, number)) is not None:
                    with self._transaction(file) as rows:
                        if rows.fetch(number) is not None:
                            queue_names.add(rows, number, names(batch))
            if missing:  # maybe put by an older version, which takes out batches as well
                with self._transaction(file) as rows:
                    queue_names.drop_gone(rows)

    def batches(self, names: Collection[Key] | None = None, *, aside: bool = False) -> Iterator[bytes]:
        """The batches that wait, then those put aside where these are asked for too; see the protocol."""
        for name in self._files if aside else ("queue",):
            for number in self._numbers(name, names):
                if (batch := self._batch(name, number)) is not None:
                    yield batch

    def rewrite(self, change: Callable[[bytes], bytes | None], names: Collection[Key] | None = None) -> None:
        """Replace each batch, waiting or aside, by what ``change`` makes of it; None: by nothing.

        To be called inside `alone`, so that none is being applied. Repeatable; all that wait are changed, or none.
        """
        for name in reversed(self._files):  # those that wait last: who they are about is read from them
            # Found before the transaction, which keeps others from putting batches.
            changed = [number for number in self._numbers(name, names) if self._changes(name, number, change)]
            if changed:
                with self._transaction(name) as rows:
                    for number in changed:
                        self._rewrite_one(rows, name, number, change)

    @contextlib.contextmanager
    def alone(self, *, wait: bool = False) -> Iterator[bool]:
        """Whether nobody else of any process is in such a block; the death of a process ends its block.

        Who waits, for the queue's timeout at most, comes next: others do not enter any more.
        """
        with self._lock_file("turn") as turn, self._lock_file("lock") as lock:
            seconds = self._timeout if wait else 0.0
            entered = _locked(turn, seconds) and _locked(lock, seconds)
            fcntl.flock(turn, fcntl.LOCK_UN)
            yield entered

    def last(self) -> int:
        """The number that was given last; 0 before the first."""
        if not self._used("queue"):
            return 0
        with self._serving("queue") as rows:
            return int(rows.fetch(_LAST) or 0)

    def dump(self) -> Iterator[Queued]:
        """The batches that wait, in their order, then those put aside, in theirs, while others go on."""
        for name in self._files:
            for number in self._numbers(name):
                with self._serving(name) as rows:
                    value = rows.fetch(number)
                if value is not None and name == "aside":
                    value = orjson.dumps(orjson.loads(value), option=orjson.OPT_SORT_KEYS)
                if value is not None:
                    yield Queued(number, value, name == "aside")

    def load(self, queued: Sequence[Queued], last: int) -> None:
        """Add batches of another queue, in their order, behind those that wait; numbers given later are above ``last``.

        Nobody else may be at work on this queue. What is there already under a number stays.
        """
        if last > self.last():
            with self._transaction("queue") as rows:
                rows.put(_LAST, b"%d" % last)
        for number, value, aside in queued:
            put = number / 1_000_000  # numbers are microseconds, unless very many were put at once
            with self._transaction("aside" if aside else "queue") as rows:
                rows.run(_PUSH, (number, put, put, value))

    def clear(self, *, aside: bool) -> None:
        """Remove the batches that wait, or those put aside; nobody else may be at work on this queue."""
        name = "aside" if aside else "queue"
        if self._used(name):
            with self._transaction(name) as rows:
                rows.run(f"DELETE {_BATCHES}")
                queue_names.drop_all(rows)

    def close(self) -> None:
        """Give back what this process holds open."""
        open_files = self._open()
        with open_files.lock:
            for rows, _ in open_files.files.values():
                rows.close()
            open_files.files = {}

    @contextlib.contextmanager
    def _lock_file(self, name: str) -> Iterator[int]:
        try:
            handle = os.open(self._folder / "queue" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"the import queue cannot be locked: {error}") from error
        self.locked.add(handle)
        forked = forked_since()
        try:
            yield handle
        finally:
            # Closed, not unlocked: a fork's copy of it, if there is one, is closed by the fork.
            if not forked():
                self.locked.discard(handle)
                os.close(handle)

    def _numbers(self, name: str, about: Collection[Key] | None = None) -> list[int]:
        if file_identity(self._files[name]) is None:
            return []
        with self._serving(name) as rows:
            if about is not None:
                return queue_names.find(rows, about)
            return [number for (number,) in rows.rows(f"SELECT key {_BATCHES} ORDER BY key")]

    def _batch(self, name: str, number: int) -> bytes | None:
        with self._serving(name) as rows:
            value = rows.fetch(number)
        return value if value is None or name == "queue" else str(orjson.loads(value)["batch"]).encode()

    def _changes(self, name: str, number: int, change: Callable[[bytes], bytes | None]) -> bool:
        batch = self._batch(name, number)
        return batch is not None and change(batch) != batch

    def _rewrite_one(self, rows: Rows, name: str, number: int, change: Callable[[bytes], bytes | None]) -> None:
        value = rows.fetch(number)
        if value is None:
            return
        if name == "queue":
            new = change(value)
        else:
            kept = orjson.loads(value)
            if (batch := change(kept["batch"].encode())) is not None:
                # Of the reason only the kind of the error stays: its text may quote an event.
                kept.update(batch=batch.decode(), reason=kept["reason"].partition(":")[0])
            new = batch and orjson.dumps(kept)
        if new is None:
            rows.drop(number)
        else:
            rows.run("UPDATE Cache SET value = ? WHERE key = ? AND raw = 1", (new, number))
        queue_names.drop(rows, number)

    def _count(self, number: int, tries: int, since: int) -> None:
        with self._transaction("queue") as rows:
            rows.put(_TRIES, orjson.dumps([number, tries, since]))

    def _look(self, name: str) -> tuple[int, float | None]:
        """How many batches lie in a folder, and since when (s) the first."""
        if not self._used(name):
            return 0, None
        file = self._files[name]
        try:
            address = f"{file.absolute().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(address, uri=True, timeout=self._timeout)) as connection:
                ((count,),) = connection.execute(f"SELECT COUNT(*) {_BATCHES}").fetchall()
                first = connection.execute(f"SELECT store_time {_BATCHES} ORDER BY key LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"the import queue {file} cannot be read: {error}") from error
        return count, first[0] if first else None

    def _used(self, name: str) -> bool:
        """Whether there is such a file; StoreUnavailable when there was one."""
        return file_identity(self._files[name]) is not None or check_file(self._files[name])

    @contextlib.contextmanager
    def _transaction(self, name: str) -> Iterator[Rows]:
        with self._serving(name) as rows, rows.transaction():
            self._watch.check()  # it may have waited
            yield rows

    @contextlib.contextmanager
    def _serving(self, name: str) -> Iterator[Rows]:
        rows = self._rows(name)
        try:
            yield rows
        except (sqlite3.Error, core.Timeout, OSError) as error:
            # A connection that failed may be left inside a transaction.
            with contextlib.suppress(sqlite3.Error):
                rows.close()
            cause = first_cause(error)
            if type(cause) is sqlite3.DatabaseError:  # it is malformed, or no database at all
                raise StoreUnavailable(f"the import queue {self._files[name]} is damaged: {cause}") from error
            raise StoreUnavailable(f"the import queue cannot serve now: {cause}") from error

    def _rows(self, name: str) -> Rows:
        open_files = self._open()
        self._watch.check()
        file = self._files[name]
        opened = open_files.files.get(name)
        if opened is None or file_identity(file) != opened[1]:
            with open_files.lock:
                try:
                    rows = open_rows(file, timeout=self._timeout, synchronous=self._synchronous)
                    queue_names.make(rows)
                except (sqlite3.Error, core.Timeout, OSError) as error:
                    raise StoreUnavailable(f"the import queue {file} cannot be opened: {first_cause(error)}") from error
                opened = open_files.files[name] = (rows, file_identity(file))
        return opened[0]


def _locked(handle: int, seconds: float) -> bool:
    """Whether a lock was taken within so many seconds."""
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.002)
