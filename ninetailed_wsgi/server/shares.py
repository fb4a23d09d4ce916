"""Spreads connections over a server's workers: a worker with more than its share leaves the next ones to others."""

from __future__ import annotations

import mmap
import time
from typing import Any

from gunicorn.workers import gthread

MOST_WORKERS = 64
"""Workers that are counted at one time; with more, two share a place, which has the number of the latest."""

ACCEPTS_LATER = 0.01  # seconds that a worker with more than its share of the connections leaves a new one to others
HURRIES_FOR = 0.02  # seconds for which it leaves them none, after they took none
SHEDS_EVERY = 0.02  # seconds between two kept connections that a worker with too many of them ends

_ABSENT = 2**31 - 1


class Shares:
    """The number of connections of each worker, in memory that they share because it was made before the fork.

    The kernel wakes whichever worker it likes for a new connection, and clients keep theirs: in a third of all starts
    one of two workers had all eight of a load balancer's connections, and the other one had nothing to do.
    """

    def __init__(self) -> None:
        self._connections = memoryview(mmap.mmap(-1, MOST_WORKERS * 4)).cast("i")
        for worker in range(MOST_WORKERS):
            self.leave(worker)

    def write(self, worker: int, connections: int) -> None:
        """Set the number of connections of a worker, which is counted from then on."""
        self._connections[worker % MOST_WORKERS] = connections

    def leave(self, worker: int) -> None:
        """Stop counting a worker, because it accepts no more connections."""
        self.write(worker, _ABSENT)

    def is_exceeded(self, worker: int, by: int = 1) -> bool:
        """Return whether another worker has fewer connections than this one, by so many or more."""
        return min(self._connections) <= self._connections[worker % MOST_WORKERS] - by


class SharingWorker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's worker with threads, which has at most one connection more than the others.

    A worker with more lets the others accept first, and from time to time ends one of its kept connections. An answer
    announces the end, so the client opens the next connection without a loss.
    """

    shares: Shares
    """Those of the server's workers, made before they are forked."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._is_counted = False  # among the shares, while it accepts connections
        self._connections = 0
        super().__init__(*args, **options)
        self._accepts_from = 0.0  # monotonic time until which others may take a new connection
        self._hurries_until = 0.0  # monotonic time until which it takes all connections
        self._sheds_from = 0.0  # monotonic time from which it looks whether to end one

    @property
    def nr_conns(self) -> int:
        """The number of connections, under gunicorn's name; the other workers read it, too."""
        return self._connections

    @nr_conns.setter
    def nr_conns(self, connections: int) -> None:
        self._connections = connections
        if self._is_counted:
            self.shares.write(self.age, connections)

    def run(self) -> None:
        """Accept connections, in fair shares with the other workers, until the end."""
        self._is_counted = True
        self.nr_conns = 0
        super().run()

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept new connections or leave them to others, for a moment or for good."""
        if not self.alive:
            self.leave()
        if not enabled or time.monotonic() >= self._accepts_from:
            super().set_accept_enabled(enabled)

    def leave(self) -> None:
        """Give up the share, so that no other worker waits for this one. The master calls it for one that died."""
        self._is_counted = False
        self.shares.leave(self.age)  # gunicorn numbers its workers by age

    def accept(self, listener: Any) -> None:
        """Accept a connection, unless another worker with fewer of them may take it in the next moment."""
        now = time.monotonic()
        if now >= self._hurries_until and self._has_more_than_its_share():
            if not self._accepts_from <= now < self._accepts_from + ACCEPTS_LATER / 2:
                self._accepts_from = now + ACCEPTS_LATER
                self.set_accept_enabled(False)
                return
            self._hurries_until = now + HURRIES_FOR  # the others had their time and are busy
        super().accept(listener)

    def _has_more_than_its_share(self, by: int = 1) -> bool:
        return self._is_counted and self.shares.is_exceeded(self.age, by)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, but not longer than the others have time to take a new connection."""
        if self.alive and (rest := self._accepts_from - time.monotonic()) > 0:
            timeout = min(timeout, rest)
        super().wait_for_and_dispatch_events(timeout)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request; announce the connection's end if another worker has fewer of them by two or more."""
        now = time.monotonic()
        if now >= self._sheds_from:
            self._sheds_from = now + SHEDS_EVERY
            if self._has_more_than_its_share(by=2):
                req.force_close()
        return super().handle_request(req, conn)
