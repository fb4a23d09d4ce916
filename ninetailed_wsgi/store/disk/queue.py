"""The import queue on disk: batches that were accepted and wait to be applied in the order they came.

``queue/`` of the data folder holds the batches under numbers that grow and are never given twice. ``aside/`` holds the
batches that could not be applied, under the same numbers. Both are diskcache folders, like the shards. A batch is bytes
here; only the service knows their form. A table beside them says whom each batch is about (`queue_names.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.store.disk import queue_names
from ninetailed_wsgi.store.disk.queue_contents import DiskQueueContents
from ninetailed_wsgi.store.disk.queue_files import BATCHES, LAST, NAMES, PUSH, QueueFiles
from ninetailed_wsgi.store.disk.queue_lock import QueueLock
from ninetailed_wsgi.store.disk.rows import Rows
from ninetailed_wsgi.store.protocol import Head, QueueState
from ninetailed_wsgi.store.tries import Tries

_TRIES = b"tries"  # the row with [number, tries, since (ms)] of the head
_NO_TRIES = b"[0,0,0]"

_HEAD = f"SELECT key, mode, value {BATCHES} ORDER BY key LIMIT 1"
# Counts pages in use, because adding up the lengths of the batches would read each of them.
_BYTES = (
    "SELECT (page_count - freelist_count) * page_size"
    " FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
)


class ImportQueue(Tries):
    """Batches in the data folder, for any number of processes and threads of one machine.

    Args:
        folder: the data folder, with its store; nothing is created in it before the first batch is put.
        limit: how many batches may wait.
        most_bytes: how many bytes of pages they may take in the file.
        synchronous, timeout: as for :class:`~ninetailed_wsgi.store.disk.store.DiskStore`.
        clock: returns the time in milliseconds since the epoch.

    Attributes:
        locked: descriptors of the locks while `alone` is entered; a forked child has to close its copies.
        contents: all that the queue holds, for the commands.

    Every method raises :class:`~ninetailed_wsgi.errors.StoreUnavailable` if the disk cannot serve.
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
        super().__init__(clock)
        self._limit = limit
        self._most_bytes = most_bytes
        self._files = QueueFiles(Path(folder), synchronous=synchronous, timeout=timeout)
        self._lock = QueueLock(Path(folder, "queue"), timeout)
        self.locked = self._lock.descriptors
        self.contents = DiskQueueContents(self._files)

    def put(self, batch: bytes, names: Collection[Key] = ()) -> None:
        """Store a batch, so that it survives the death of any process; raise StoreUnavailable if the queue is full."""
        now = self._clock()
        with self._files.transaction("queue") as rows:
            ((waiting,),) = rows.rows(f"SELECT COUNT(*) {BATCHES}")
            if waiting >= self._limit:
                raise StoreUnavailable(f"the import queue is full: {waiting} batches wait to be applied")
            ((bytes_,),) = rows.rows(_BYTES)
            if bytes_ >= self._most_bytes:
                raise StoreUnavailable(f"the import queue is full: the waiting batches take {bytes_} bytes")
            # Numbers grow even after the folder was removed, because profiles remember the number of their last batch.
            number = max(int(rows.fetch(LAST) or 0) + 1, now * 1000)
            rows.put(LAST, b"%d" % number)
            rows.run(PUSH, (number, now / 1000, now / 1000, batch))
            queue_names.add(rows, number, names)

    def empty(self) -> bool:
        """Return whether nothing waits, without reading a batch."""
        if not self._files.used("queue"):
            return True
        with self._files.serving("queue") as rows:
            return not rows.rows(f"SELECT 1 {BATCHES} LIMIT 1")

    def head(self) -> Head | None:
        """Return the first batch that waits, or None."""
        if not self._files.used("queue"):
            return None
        with self._files.serving("queue") as rows:
            for number, mode, value in rows.rows(_HEAD):
                numbered, tries, last_try = orjson.loads(rows.fetch(_TRIES) or _NO_TRIES)
                tries, last_try = (tries, last_try) if numbered == number else (0, 0)
                return Head(number, rows.value(mode, value), tries, last_try)
        return None

    def finish(self, number: int) -> None:
        """Remove a batch that was applied."""
        with self._files.transaction("queue") as rows:
            rows.drop(number)
            queue_names.drop(rows, number)

    def set_aside(self, head: Head, reason: str) -> None:
        """Set aside a batch that cannot be applied: as ``{"reason", "tries", "batch"}`` under its number."""
        text = orjson.dumps({"reason": reason, "tries": head.tries, "batch": head.batch.decode()})
        now = self._clock() / 1000
        with self._files.transaction("aside") as rows:
            rows.run(PUSH, (head.number, now, now, text))  # repeated if cut off after this: the first one stays
        self.finish(head.number)

    def state(self) -> QueueState:
        """Return how many batches wait, and how long, without creating a file."""
        waiting, since = self._files.look("queue")
        oldest = max(0.0, self._clock() / 1000 - since) if since is not None else 0.0
        return QueueState(waiting, oldest, self._files.look("aside")[0])

    def index(self, names: Callable[[bytes], Collection[Key]]) -> None:
        """Index the batches that are not indexed yet by the visitors they are about; ``names`` reads these."""
        for name in NAMES:
            if not self._files.exists(name):
                continue
            with self._files.serving(name) as rows:
                missing = queue_names.missing(rows)
            for number in missing:
                if (batch := self._files.batch(name, number)) is not None:
                    with self._files.transaction(name) as rows:
                        if rows.fetch(number) is not None:
                            queue_names.add(rows, number, names(batch))
            if missing:  # maybe put by an older version, which removes batches as well
                with self._files.transaction(name) as rows:
                    queue_names.drop_gone(rows)

    def batches(self, names: Collection[Key] | None = None, *, aside: bool = False) -> Iterator[bytes]:
        """Yield the batches that wait; with ``aside``, also those that were set aside. See the protocol."""
        for name in NAMES if aside else ("queue",):
            for number in self._files.numbers(name, names):
                if (batch := self._files.batch(name, number)) is not None:
                    yield batch

    def rewrite(self, change: Callable[[bytes], bytes | None], names: Collection[Key] | None = None) -> None:
        """Replace each batch, waiting or set aside, by what ``change`` returns for it; None removes it.

        Call this inside `alone`, so that no batch is being applied. It may be repeated. It changes either all waiting
        batches or none.
        """
        for name in reversed(NAMES):  # waiting batches last, as they say whom they are about
            # Search before the transaction, because the transaction keeps others from putting batches.
            numbers = [number for number in self._files.numbers(name, names) if self._changes(name, number, change)]
            if numbers:
                with self._files.transaction(name) as rows:
                    for number in numbers:
                        self._rewrite_one(rows, name, number, change)

    def alone(self, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Return a ``with`` block that says whether it is the only one of all processes. See the protocol."""
        return self._lock.alone(wait=wait)

    def close(self) -> None:
        """Give back what this process holds open."""
        self._files.close()

    def _changes(self, name: str, number: int, change: Callable[[bytes], bytes | None]) -> bool:
        batch = self._files.batch(name, number)
        return batch is not None and change(batch) != batch

    def _rewrite_one(self, rows: Rows, name: str, number: int, change: Callable[[bytes], bytes | None]) -> None:
        value = rows.fetch(number)
        if value is None:
            return
        if name == "queue":
            new = change(value)
        else:
            members = orjson.loads(value)
            if (batch := change(members["batch"].encode())) is not None:
                # Keep only the kind of the error from the reason: its text may quote an event.
                members.update(batch=batch.decode(), reason=members["reason"].partition(":")[0])
            new = batch and orjson.dumps(members)
        if new is None:
            rows.drop(number)
        else:
            rows.run("UPDATE Cache SET value = ? WHERE key = ? AND raw = 1", (new, number))
        queue_names.drop(rows, number)

    def _count(self, number: int, tries: int, last_try: int) -> None:
        with self._files.transaction("queue") as rows:
            rows.put(_TRIES, orjson.dumps([number, tries, last_try]))
