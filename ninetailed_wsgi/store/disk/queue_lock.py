"""The locks of an import queue on disk: only one consumer or deletion of all processes works at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.operations.forks import forked_since
from ninetailed_wsgi.store.protocol import CONSUMER_WAITS

_LOOK_AGAIN = 0.002  # seconds


class QueueLock:
    """Three lock files in a folder: the holder of ``lock`` works, the holder of ``turn`` comes next.

    Only the consumer that holds ``importer`` asks for the turn, and waits for it. So it comes between two deletions,
    however soon one follows the other, and a deletion waits for one batch, however many processes there are.

    Args:
        folder: the folder of the batches that wait; it must exist.
        timeout: seconds to wait for each lock.

    Attributes:
        descriptors: the descriptors of the locks while `alone` is entered; a forked child has to close its copies.
    """

    def __init__(self, folder: Path, timeout: float) -> None:
        self._folder = folder
        self._timeout = timeout
        self.descriptors: set[int] = set()

    @contextlib.contextmanager
    def alone(self, *, wait: bool) -> Iterator[bool]:
        """Yield whether nobody else is in such a block; ``wait``: as a deletion, after waiting for the others."""
        if wait:
            with self._enter(self._timeout) as entered:
                yield entered
        else:
            with self._open("importer") as importer:
                if _lock(importer, 0):
                    with self._enter(min(self._timeout, CONSUMER_WAITS)) as entered:
                        yield entered
                else:
                    yield False

    @contextlib.contextmanager
    def _enter(self, seconds: float) -> Iterator[bool]:
        with self._open("turn") as turn, self._open("lock") as lock:
            entered = _lock(turn, seconds) and _lock(lock, seconds)
            fcntl.flock(turn, fcntl.LOCK_UN)
            yield entered

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[int]:
        try:
            descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"the import queue cannot be locked: {error}") from error
        self.descriptors.add(descriptor)
        forked = forked_since()
        try:
            yield descriptor
        finally:
            # Closed, not unlocked: if a forked child has a copy, the child closes it.
            if not forked():
                self.descriptors.discard(descriptor)
                os.close(descriptor)


def _lock(descriptor: int, seconds: float) -> bool:
    """Try to take a lock for so many seconds; return whether this succeeded."""
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() >= end:
                return False
            time.sleep(_LOOK_AGAIN)
