"""Requests of one process that write the same profile wait for each other here, in order, and not in the database.

There a writer that finds the file taken sleeps and tries again, longer each time, and whoever comes at the right moment
is served before it; meanwhile it has one of the few threads. See ARCHITECTURE.md for what that was measured to cost.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from ninetailed_wsgi.errors import ProfileOverload
from ninetailed_wsgi.store.base import Key


class Turns:
    """One writer at a time for each profile, first come first served.

    Args:
        at_once: requests that may write one profile or wait for it; one more is refused.
        timeout: seconds that one waits for its turn.
    """

    def __init__(self, at_once: int, timeout: float) -> None:
        self._at_once = at_once
        self._timeout = timeout
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        # Who writes is first; the others wait until their lock is opened.
        self._queues: dict[Key, deque[threading.Lock]] = {}

    @contextmanager
    def taken(self, keys: Collection[Key]) -> Iterator[None]:
        """The turns of these profiles; ProfileOverload where one of them has too many writers."""
        if self._pid != os.getpid():  # the threads that waited here are the parent's
            self._begin()
        taken: list[Key] = []
        try:
            for key in sorted(keys) if len(keys) > 1 else keys:  # in one order, so that no two wait for each other
                self._take(key)
                taken.append(key)
            yield
        finally:
            for key in taken:
                self._give_back(key)

    def _take(self, key: Key) -> None:
        turn = threading.Lock()
        with self._lock:
            queue = self._queues.setdefault(key, deque())
            if len(queue) >= self._at_once:
                raise ProfileOverload(f"{len(queue)} requests are writing this profile; another one may in a second")
            if queue:
                turn.acquire()
            queue.append(turn)
        if turn.acquire(timeout=self._timeout):
            return
        with self._lock:
            if queue[0] is not turn:  # else it came at the last moment
                queue.remove(turn)
                raise ProfileOverload("other requests kept writing this profile until the time to wait was over")

    def _give_back(self, key: Key) -> None:
        with self._lock:
            queue = self._queues[key]
            queue.popleft()
            if queue:
                queue[0].release()
            else:
                del self._queues[key]
