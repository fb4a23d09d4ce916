"""Spreads connections over a server's workers: who has more than its share lets the others have the next ones."""

from __future__ import annotations

import mmap

MOST_WORKERS = 64
"""Workers that are counted at one time; of more, two share a place, and what they say is that of the latest."""

_ABSENT = 2**31 - 1


class Shares:
    """The numbers of connections of all workers, in memory that they share since before they were forked.

    The kernel wakes whichever worker it likes for a new connection, and clients keep theirs: in a third of all starts
    one of two workers had all eight of a load balancer's connections, and the other one nothing to do.
    """

    def __init__(self) -> None:
        self._connections = memoryview(mmap.mmap(-1, MOST_WORKERS * 4)).cast("i")
        for worker in range(MOST_WORKERS):
            self.leave(worker)

    def write(self, worker: int, connections: int) -> None:
        """Say how many connections the worker of this number has; it counts from then on."""
        self._connections[worker % MOST_WORKERS] = connections

    def leave(self, worker: int) -> None:
        """Count the worker of this number no more, as it accepts nothing more."""
        self.write(worker, _ABSENT)

    def is_exceeded(self, worker: int, by: int = 1) -> bool:
        """Return whether another worker has fewer connections than the one of this number, by so many or more."""
        return min(self._connections) <= self._connections[worker % MOST_WORKERS] - by
