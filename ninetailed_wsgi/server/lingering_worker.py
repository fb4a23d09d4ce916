"""Lets a thread of gunicorn's worker keep a connection whose requests come in quick succession."""

from __future__ import annotations

import time
from typing import Any

from ninetailed_wsgi.server.arrival import Arrival
from ninetailed_wsgi.server.refusing_worker import RefusingWorker
from ninetailed_wsgi.server.shares import Shares
from ninetailed_wsgi.server.worker import ANSWERS_UNSENT, SOCKET_WAIT, unsent

_AT_ONCE = 65_536


class LingeringWorker(RefusingWorker):
    """The worker whose threads wait a moment for the next request of a connection before the loop watches it again.

    The way over the loop changes threads twice for each request, which costs a quarter of a request. A thread lingers
    only if the request before came as soon, as a proxy's do, and while another thread is free or all connections have
    one: then a new connection waits for the moment.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._with_thread: set[Any] = set()  # connections

    # In a thread

    def handle(self, conn: Any) -> Any:
        """Answer a request of a connection, and those that follow at once."""
        # gunicorn sets this time at the end of each answer, in the loop.
        lingers = conn.timeout is not None and time.monotonic() - conn.timeout + self.cfg.keepalive < SOCKET_WAIT
        self._with_thread.add(conn)
        try:
            is_kept = super().handle(conn)
            while is_kept and lingers and self._may_linger(conn) and self._has_next(conn):
                is_kept = super().handle(conn)
            return is_kept
        finally:
            self._with_thread.remove(conn)

    def _may_linger(self, conn: Any) -> bool:
        """Return whether no other connection needs the thread, and the loop has nothing to do for this one."""
        threads = self.cfg.threads
        is_free = len(self._with_thread) < threads or self.nr_conns <= threads
        return is_free and not self.delays(conn) and not conn.parser.unreader.buf.getvalue()

    def _has_next(self, conn: Any) -> bool:
        """Wait for the next request; return whether it is there. The loop gets what is only a part, or too long."""
        if unsent(conn.sock) > ANSWERS_UNSENT:
            return False
        try:
            data = conn.sock.recv(_AT_ONCE)
        except OSError:  # nothing came, or the client is gone, which the loop will see too
            return False
        conn.parser.unreader.unread(data)
        arrival = Arrival(self.longest_body, data)
        return bool(data) and arrival.is_whole() and not arrival.is_too_long


def worker_class(longest_body: int) -> type[LingeringWorker]:
    """Return the worker for an app that refuses bodies of more than ``longest_body`` bytes."""
    return type("Worker", (LingeringWorker,), {"longest_body": longest_body, "shares": Shares()})
