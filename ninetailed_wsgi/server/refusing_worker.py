"""Lets gunicorn's worker delay a 429, while its connection waits in the loop and takes no thread."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from typing import Any

from ninetailed_wsgi.server.refusals import Refusals
from ninetailed_wsgi.server.worker import Worker

_REFUSAL = b" 429 "
_STATUS = slice(8, 13)  # of a status line, HTTP/1.1 429 Too Many Requests


class RefusingWorker(Worker):
    """The worker that delays 429s; all other answers are sent as they are made."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._answers: dict[Any, bytes] = {}  # 429s of connections whose thread is about to be free
        self._refusals: Refusals[tuple[Any, Any, bytes]] = Refusals()

    def delays(self, conn: Any) -> bool:
        """Return whether the answer to a connection is a 429, which the loop sends later."""
        return conn in self._answers

    # In a thread

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer a request, and put the answer aside if it is a 429."""
        sock = conn.sock
        conn.sock = sending = _Sending(sock)
        try:
            is_kept = super().handle_request(req, conn)
            sending.finish()
            if sending.refusal is not None:
                self._answers[conn] = bytes(sending.refusal)
            return is_kept
        finally:
            conn.sock = sock

    # In the loop that watches all sockets

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Keep or end the connection, later if its answer is delayed; at shutdown no answer is."""
        refusal = self._answers.pop(conn, None)
        if refusal is None:
            super().finish_request(conn, fs)
        elif self.alive:
            self._refusals.add((conn, fs, refusal), time.monotonic())
        else:
            self._refuse(conn, fs, refusal)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, but not longer than until a 429 is due, and send those that are."""
        if (rest := self._refusals.seconds(time.monotonic())) is not None:
            timeout = min(timeout, rest)
        super().wait_for_and_dispatch_events(timeout)
        for conn, fs, refusal in self._refusals.due(time.monotonic() if self.alive else math.inf):
            self._refuse(conn, fs, refusal)

    def _refuse(self, conn: Any, fs: Any, refusal: bytes) -> None:
        """Send a 429, which is so short that the buffer takes all of it, and continue as after any answer."""
        with contextlib.suppress(OSError):  # the client left, which the next look at its socket shows
            conn.sock.send(refusal, socket.MSG_DONTWAIT)
        super().finish_request(conn, fs)


class _Sending:
    """A connection's socket while a request is answered; the head of an answer is sent with the start of its body.

    Attributes:
        refusal: the answer so far if it is a 429, of which nothing is sent yet; otherwise None.
    """

    # PERF: gunicorn sends the head by itself, which wakes the client for half an answer.
    __slots__ = ("_head", "_sock", "refusal")

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._head: bytes | None = None  # that waits for the body; None: not made yet; empty: it is sent
        self.refusal: bytearray | None = None

    def sendall(self, data: bytes) -> None:
        if self._head is None:
            self._head = data
            if data[_STATUS] == _REFUSAL:
                self.refusal, self._head = bytearray(data), b""
        elif self.refusal is not None:
            self.refusal += data
        else:
            head, self._head = self._head, b""
            self._sock.sendall(head + data)

    def finish(self) -> None:
        """Send the head of an answer without a body."""
        if self._head:
            self._sock.sendall(self._head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
