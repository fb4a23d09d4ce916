"""Requests of one process that write the same profile wait for each other here, in order, and not in the database.

There each would compute its answer, find that another one was faster, and compute again, or sleep and try again;
meanwhile it has one of the few threads.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Collection

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import ProfileOverload


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
        # The profiles that are being written, and who waits for each until its lock is opened.
        self._queues: dict[Key, deque[threading.Lock]] = {}

    def turn(self, keys: Collection[Key]) -> Turn:
        """For a ``with`` block in which these profiles are written.

        Entering it raises ProfileOverload where one of them has too many writers.
        """
        if self._pid != os.getpid():  # the threads that wait here are the parent's
            self._begin()
        return Turn(self, sorted(keys) if len(keys) > 1 else keys)  # in one order, so that no two wait for each other

    def take(self, key: Key) -> None:
        """Wait for the turn of a profile."""
        with self._lock:
            queue = self._queues.get(key)
            if queue is None:
                self._queues[key] = deque()
                return
            if len(queue) + 1 >= self._at_once:
                raise ProfileOverload(f"{len(queue) + 1} requests are writing this profile; try again in a second")
            turn = threading.Lock()
            turn.acquire()
            queue.append(turn)
        if not turn.acquire(timeout=self._timeout):
            with self._lock:
                if turn in queue:  # else it came at the last moment
                    queue.remove(turn)
                    raise ProfileOverload("other requests kept writing this profile until the time to wait was over")

    def give_back(self, key: Key) -> None:
        """Let the next one write the profile."""
        with self._lock:
            queue = self._queues[key]
            if queue:
                queue.popleft().release()
            else:
                del self._queues[key]


class Turn:
    """The turn of one request at all of its profiles; entered once."""

    __slots__ = ("_keys", "_taken", "_turns")

    def __init__(self, turns: Turns, keys: Collection[Key]) -> None:
        self._turns = turns
        self._keys = keys
        self._taken: list[Key] = []

    def __enter__(self) -> None:
        try:
            for key in self._keys:
                self._turns.take(key)
                self._taken.append(key)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        for key in self._taken:
            self._turns.give_back(key)
