"""gunicorn's worker and log, changed where slow clients and visitors' privacy need it."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from concurrent.futures import Future
from typing import Any

from gunicorn import glogging
from gunicorn.workers import gthread

from ninetailed_wsgi.operations.logs import JsonFormat, TextFormat, of_gunicorn

STALLED_AFTER = 10  # seconds without a byte in the middle of a request; phones on bad networks pause for some
LONGEST_REQUEST = 30  # seconds for a whole request to arrive: 1 MiB at 35 kB/s; and as long again to take the answer

DRAINED_BYTES = 4 << 20  # of a body that is refused, so that its sender reads the answer instead of a broken pipe
DRAINED_WITHIN = 5  # seconds
DRAINED_AT_ONCE = 65_536


class Worker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's worker with threads; a connection gets one of them when its first byte is there, not before.

    gunicorn lets a thread wait five seconds for that byte. Browsers and load balancers open connections ahead of need:
    with 2 processes of 4 threads, 20 such connections kept everybody else waiting for 25 seconds.

    A request that does not arrive in time, byte after byte, is cut off; so is an answer that is not taken.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._since: dict[Any, float] = {}  # connections that have a thread

    def handle(self, conn: Any) -> Any:
        """In a thread: one request of a connection."""
        self._since[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            del self._since[conn]

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Announce the end of a connection whose body is too long to be drained behind the answer."""
        lengths = [value for name, value in req.headers if name == "CONTENT-LENGTH"]
        if lengths and lengths[0].isdecimal() and int(lengths[0]) > DRAINED_BYTES:
            req.force_close()
        return super().handle_request(req, conn)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """Drain what the app did not read, so that a client that is still sending gets the answer, such as a 413.

        gunicorn drains 64 kB and closes; the client then meets a broken pipe before it looks for an answer.
        """
        message, unreader = conn.parser.mesg, conn.parser.unreader
        unreader.max_body_chunk = DRAINED_AT_ONCE  # else it holds a mebibyte, and copies that for each kilobyte
        deadline = time.monotonic() + DRAINED_WITHIN
        left = DRAINED_BYTES
        try:
            while left > 0 and (seconds := deadline - time.monotonic()) > 0:
                conn.sock.settimeout(seconds)
                part = message.body.read(DRAINED_AT_ONCE)
                if not part:
                    return bool(super()._keepalive_after(conn, keepalive))
                left -= len(part)
        except Exception:  # it went away or stalled, or its chunks are none
            return False
        finally:
            conn.sock.settimeout(None)
        return False

    def enqueue_req(self, conn: Any) -> None:
        """Called by the thread that watches all sockets: give the connection to a thread, or go on watching it."""
        if conn.initialized or conn.wait_for_data(0):
            super().enqueue_req(conn)
        else:
            silent: Future[object] = Future()
            silent.set_result(gthread._DEFER)
            self.finish_request(conn, silent)

    def murder_pending(self) -> None:
        """Close connections that have been silent too long; at the end, all that have not sent anything."""
        self._cut_off_the_slow()
        if not self.alive:
            for conn in self.pending_conns:
                conn.timeout = 0.0
        super().murder_pending()

    def _cut_off_the_slow(self) -> None:
        """Every second. The end of reading wakes a thread that reads and harms none that has read its request."""
        now = time.monotonic()
        # The app itself may wait for the store: an answer has that long on top.
        answered_within = 2 * LONGEST_REQUEST + self.cfg.graceful_timeout
        for conn, since in list(self._since.items()):
            if now - since > LONGEST_REQUEST:
                with contextlib.suppress(OSError):  # it may be closed by now
                    conn.sock.shutdown(socket.SHUT_RDWR if now - since > answered_within else socket.SHUT_RD)


class Log(glogging.Logger):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's own log, in the form of ours and without what it would tell of visitors."""

    form = TextFormat()

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.addFilter(_in_one_line)
        self.error_log.addFilter(of_gunicorn)
        for handler in self.error_log.handlers:
            handler.setFormatter(self.form)


class JsonLog(Log):
    """The same as JSON."""

    form = JsonFormat()


def _in_one_line(record: logging.LogRecord) -> bool:
    """A client that stalls in the middle of its head or of our answer is no fault of this service: no traceback."""
    if record.exc_info and isinstance(record.exc_info[1], BlockingIOError):
        record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
        record.msg, record.args = (
            "a client stalled for %d seconds in the middle of a request or answer",
            (STALLED_AFTER,),
        )
    return True
