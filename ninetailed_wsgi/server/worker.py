"""gunicorn's worker and log, changed where slow clients and visitors' privacy need it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import selectors
import socket
import struct
import sys
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any

from gunicorn import glogging

from ninetailed_wsgi.operations.logs import JsonFormat, TextFormat, hide_requests
from ninetailed_wsgi.server.arrival import DRAINED_BYTES, Arrival
from ninetailed_wsgi.server.idle_connections import least_needed, owner
from ninetailed_wsgi.server.shares import SharingWorker

STALLED_AFTER = 10  # seconds without a byte in the middle of a request; phones on bad networks pause for some
LONGEST_REQUEST = 30  # seconds for a whole request to arrive: 1 MiB at 35 kB/s; and as long again to take the answer

HALF_WAY_PER_ADDRESS = 128  # connections of one address in the middle of a request, in each process
HALF_WAY_BYTES = 64 << 20  # bytes of all requests that are arriving, in each process

ANSWERS_UNSENT = 65_536  # bytes; a client that has more to read gets no further answer yet
ANSWER_BUFFER = 262_144  # bytes, which Linux doubles: any answer fits at once, so no thread waits for its client

DRAINED_WITHIN = 5  # seconds

_ROOM = 10  # one of so many connections is ended if there is no room for another

_AT_ONCE = 65_536
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

SOCKET_WAIT = 0.01
"""Seconds that a thread waits for bytes of a connection at most."""

SOCKET_TIMEVAL = struct.pack("ll", 0, int(SOCKET_WAIT * 1e6))
"""The same as Linux' ``struct timeval``."""


class Worker(SharingWorker):
    """gunicorn's worker with threads; a request gets one of them only when all of it is there.

    gunicorn reads heads and bodies in its threads, and closes connections, with a wait, in the same loop that accepts
    new ones: sixteen slow clients kept everybody else waiting for 20 seconds. Here that loop collects what arrives,
    within limits per address and in all, and drains what nobody needs, without waiting for any client.

    An answer that the client does not read in time is cut off.
    """

    longest_body = 1 << 20  # bytes; `worker_class` sets it

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._since: dict[Any, float] = {}  # connections that have a thread
        self._arriving: dict[Any, _Half] = {}  # connections without a whole request
        self._half_way = _HalfWay(max(HALF_WAY_BYTES, 2 * self.longest_body))
        self._draining: dict[Any, _Rest] = {}  # connections that are about to end
        self._too_long: set[Any] = set()
        self._untaken: dict[Any, float] = {}  # connections that ask more but read no answer, since when
        self._last_round = 0.0

    def is_busy(self) -> bool:
        """Return whether a request is being answered."""
        return bool(self._since)

    # In a thread

    def handle(self, conn: Any) -> Any:
        """Answer one request of a connection."""
        self._since[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            del self._since[conn]
            self._too_long.discard(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Announce the end of a connection whose body is too long, because the rest is not read."""
        if conn in self._too_long:
            req.force_close()
        return super().handle_request(req, conn)

    # In the loop that watches all sockets

    def enqueue_req(self, conn: Any) -> None:
        """Collect the next request of a connection, once the answers before it are on their way."""
        if conn.parser and unsent(conn.sock) > ANSWERS_UNSENT:
            self._untaken.setdefault(conn, time.monotonic())
            return
        self._untaken.pop(conn, None)
        rest = conn.parser.unreader.take_buffered() if conn.parser else b""
        conn.sock.setblocking(False)
        self._arriving[conn] = _Half(Arrival(self.longest_body, rest), time.monotonic())
        if rest:
            self._half_way.add(self._arriving[conn], conn, len(rest))
        if self._collect(conn):
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_arrival, conn))

    def _on_arrival(self, conn: Any, sock: Any) -> None:
        # Another one's arrival may have dropped it in this round.
        if conn in self._arriving and not self._collect(conn):
            with contextlib.suppress(KeyError, ValueError):
                self.poller.unregister(sock)

    def _collect(self, conn: Any) -> bool:
        """Read what is there; return whether to wait for more. If not, a thread has the request, or it is dropped."""
        half = self._arriving[conn]
        arrival = half.arrival
        while not arrival.is_whole():
            try:
                data = conn.sock.recv(_AT_ONCE)
            except (BlockingIOError, InterruptedError):
                return self._keep_waiting(conn, half)
            except OSError:
                return self._drop(conn)
            if not data and not arrival.data:
                return self._drop(conn)
            if not data:
                break  # the rest will never come, and a thread answers so
            arrival.data += data
            half.latest = time.monotonic()
            self._half_way.add(half, conn, len(data))
        self._hand_over(conn, arrival)
        return False

    def _keep_waiting(self, conn: Any, half: _Half) -> bool:
        while (other := self._half_way.one_too_many(half.address)) is not None:
            self._drop(other)
        if conn not in self._arriving:
            return False
        if half.arrival.expects_leave:
            half.arrival.expects_leave = False
            with contextlib.suppress(OSError):
                conn.sock.send(_CONTINUE)
        return True

    def _hand_over(self, conn: Any, arrival: Arrival) -> None:
        """Give a request to a thread, which will find all of it in its buffer and not wait for the socket."""
        self._half_way.remove(self._arriving.pop(conn), conn)
        try:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, SOCKET_TIMEVAL)
            conn.init()
        except OSError:
            self.nr_conns -= 1
            conn.close()
            return
        conn.parser.unreader.unread(bytes(arrival.data))
        conn.data_ready = True
        if arrival.is_too_long:
            self._too_long.add(conn)
        super().enqueue_req(conn)

    def _drop(self, conn: Any) -> bool:
        self._half_way.remove(self._arriving.pop(conn), conn)
        self._end(conn)
        return False

    def _end(self, conn: Any) -> None:
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Keep the connection, or end it without waiting for its client, as gunicorn would for two seconds."""
        if not fs.cancelled() and fs.exception() is None and fs.result():
            super().finish_request(conn, fs)
            return
        try:
            conn.sock.setblocking(False)
            conn.sock.shutdown(socket.SHUT_WR)
            self._draining[conn] = _Rest(time.monotonic() + DRAINED_WITHIN)
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))
        except (OSError, ValueError):  # the client closed it first
            self._draining.pop(conn, None)
            self._end(conn)

    def _drain(self, conn: Any, sock: Any) -> None:
        """Read what a client still sends, so that it gets to the answer; closing the socket would cut that off."""
        rest = self._draining[conn]
        try:
            data = sock.recv(_AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        rest.bytes += len(data)
        if not data or rest.bytes >= DRAINED_BYTES:
            del self._draining[conn]
            self._end(conn)

    def murder_pending(self) -> None:
        """End what takes too long, once a second, and silent connections at shutdown; every round calls this."""
        super().murder_pending()
        if self.nr_conns >= self.worker_connections:
            self._make_room()
        now = time.monotonic()
        if now - self._last_round < 1 and self.alive:
            return
        self._last_round = now
        self._cut_off_the_slow(now)
        for conn, half in list(self._arriving.items()):
            slow = now - half.latest > STALLED_AFTER or now - half.began > LONGEST_REQUEST
            silent = now - half.latest > self.cfg.keepalive or not self.alive
            if slow if half.bytes else silent:
                self._drop(conn)
        for conn, since in list(self._untaken.items()):
            if now - since > STALLED_AFTER or not self.alive:
                del self._untaken[conn]
                self._end(conn)
            else:
                self.enqueue_req(conn)
        for conn, rest in list(self._draining.items()):
            if now > rest.deadline or (not self.alive and now > rest.deadline - DRAINED_WITHIN + 1):
                del self._draining[conn]
                self._end(conn)

    def _make_room(self) -> None:
        """End some idle connections to make room; if there are none, some that just came or have no whole request."""
        count, now = max(1, self.worker_connections // _ROOM), time.monotonic()
        silent = [(half.latest, conn) for conn, half in self._arriving.items() if not half.bytes]
        silent += ((conn.timeout - self.cfg.keepalive, conn) for conn in self.keepalived_conns)
        silent.sort(key=itemgetter(0))
        idle = [conn for since, conn in silent if now - since >= 1]  # who has just come may speak at once
        half_way = [conn for conn, half in self._arriving.items() if half.bytes]
        for conn in least_needed(idle or [*(conn for _, conn in silent), *half_way], count):
            if conn in self._arriving:
                self._drop(conn)
            else:
                self.keepalived_conns.remove(conn)
                self._end(conn)

    def _cut_off_the_slow(self, now: float) -> None:
        """End connections whose answer is not read in time; the limit includes the app's wait for the store."""
        for conn, since in list(self._since.items()):
            if now - since > 2 * LONGEST_REQUEST + self.cfg.graceful_timeout:
                with contextlib.suppress(OSError):  # it may be closed by now
                    conn.sock.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True)
class _Half:
    """A connection without a whole request; times in seconds, ``began`` and ``address`` from its first byte on."""

    arrival: Arrival
    latest: float
    began: float = 0.0
    bytes: int = 0
    address: object = None


class _HalfWay:
    """The connections in the middle of a request, by address, and the bytes of all of them.

    If there are too many, the oldest one of the address with too many ends: an address may be a proxy's or that of many
    visitors, whose requests are half-way for milliseconds, and those of somebody who stalls are the oldest.

    Args:
        most: bytes of all requests that may be half-way.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._groups: dict[object, dict[Any, _Half]] = {}  # each with the oldest first

    def add(self, half: _Half, conn: Any, size: int) -> None:
        """Count further bytes of a connection; with its first bytes, count the connection, too."""
        if not half.bytes:
            half.address = owner(conn)
            half.began = half.latest
            self._groups.setdefault(half.address, {})[conn] = half
        half.bytes += size
        self._bytes += size

    def one_too_many(self, address: object) -> Any:
        """Return the connection that has to end because this address, or all together, have too much; None if none."""
        group = self._groups.get(address, {})
        if len(group) > HALF_WAY_PER_ADDRESS and address is not None:  # None: a Unix socket, which is a proxy's
            return next(iter(group))
        if self._bytes > self._most:
            largest = max(self._groups.values(), key=_bytes_of)
            return next(iter(largest))
        return None

    def remove(self, half: _Half, conn: Any) -> None:
        """Stop counting a connection: its request is whole, or it is dropped."""
        self._bytes -= half.bytes
        if half.bytes:
            group = self._groups[half.address]
            del group[conn]
            if not group:
                del self._groups[half.address]


def _bytes_of(group: Mapping[Any, _Half]) -> int:
    return sum(half.bytes for half in group.values())


@dataclass(slots=True)
class _Rest:
    """A connection that is drained until this time (seconds), and the bytes drained so far."""

    deadline: float
    bytes: int = 0


def unsent(sock: Any) -> int:
    """Return the bytes of answers that the client has not confirmed."""
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


class Log(glogging.Logger):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's own log, in our format and without what it would tell about visitors."""

    form = TextFormat()

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.addFilter(_warn_of_stalls)
        self.error_log.addFilter(hide_requests)
        for handler in self.error_log.handlers:
            handler.setFormatter(self.form)


class JsonLog(Log):
    """The same as JSON."""

    form = JsonFormat()


def _warn_of_stalls(record: logging.LogRecord) -> bool:
    """Make a warning, without a traceback, of a client that stalled in its head or in our answer, which is no error."""
    if record.exc_info and isinstance(record.exc_info[1], BlockingIOError):
        record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
        record.msg, record.args = (
            "a client stalled for %d seconds in the middle of a request or answer",
            (STALLED_AFTER,),
        )
    return True
