"""Connections whose requests come in quick succession keep their thread, and nobody waits for that."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from gunicorn.config import Config
from gunicorn.workers.gthread import TConn

from ninetailed_wsgi.server import lingering_worker
from ninetailed_wsgi.server.gunicorn_server import configuration
from ninetailed_wsgi.server.lingering_worker import worker_class
from ninetailed_wsgi.server.worker import ANSWERS_UNSENT, SOCKET_TIMEVAL
from ninetailed_wsgi.settings import Settings
from tests.serving import PROFILES, call, page, serving

LONGEST_BODY = 1000
GET = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
BODY = b"POST /next HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
TIMEOUT = 60  # seconds of this test, for what is there already
HURRY = 600  # seconds


class Line:
    """A worker with two threads and one connection, whose requests are read from a socket."""

    def __init__(self) -> None:
        config = Config()
        ours = configuration(Settings(threads=2))
        for name in ("threads", "keepalive", "sendfile"):
            config.set(name, ours[name])
        self.worker = worker_class(LONGEST_BODY)(1, os.getppid(), [], None, 30, config, Mock())
        self.worker.wsgi = self.answer
        self.paths: list[str] = []
        self.status = "200 OK"
        sock, self.client = socket.socketpair()
        self.client.settimeout(TIMEOUT)
        self.conn = TConn(config, sock, ("127.0.0.1", 1), ("127.0.0.1", 80))
        self.conn.init()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, SOCKET_TIMEVAL)
        # The loop sets this at each answer; further in the future, so that no slow machine makes the next request late.
        self.conn.timeout = time.monotonic() + config.keepalive + HURRY

    def answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.paths.append(environ["PATH_INFO"])
        start_response(self.status, [("Content-Length", "4")])
        return [b"done"]

    def handle(self) -> bool:
        """Answer a request that has arrived; return whether the loop keeps the connection."""
        self.conn.parser.unreader.unread(GET.replace(b"next", b"first"))
        return bool(self.worker.handle(self.conn))

    def waiting(self) -> bytes:
        """What the loop finds in the connection's buffer."""
        buffered: bytes = self.conn.parser.unreader.take_buffered()
        return buffered


@pytest.fixture
def line() -> Iterator[Line]:
    line = Line()
    yield line
    line.client.close()
    line.conn.sock.close()
    line.worker.tmp.close()


def test_a_request_that_comes_at_once_after_the_one_before_is_answered_by_the_same_thread(line: Line) -> None:
    line.client.sendall(GET)
    assert line.handle()
    assert line.paths == ["/first", "/next"]
    answers = line.client.recv(10_000)
    assert (answers.count(b" 200 OK"), answers.count(b"done")) == (2, 2)


class Recorded:
    """A socket that notes what is sent at a time."""

    def __init__(self, sock: socket.socket, sent: list[bytes]) -> None:
        self.sock = sock
        self.sent = sent

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


def test_the_head_of_an_answer_is_sent_with_its_body(line: Line) -> None:
    sent: list[bytes] = []
    line.conn.sock = Recorded(line.conn.sock, sent)
    assert line.handle()
    [answer] = sent
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\ndone")


def test_the_head_of_an_answer_without_a_body_comes_too(line: Line) -> None:
    line.status = "204 No Content"
    assert line.handle()
    assert line.client.recv(10_000).startswith(b"HTTP/1.1 204 No Content\r\n")


def test_the_head_of_an_answer_comes_before_a_file(line: Line, tmp_path: Path) -> None:
    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "4")])
        return environ["wsgi.file_wrapper"]((tmp_path / "file").open("rb"))  # type: ignore[no-any-return]

    (tmp_path / "file").write_bytes(b"done")
    line.worker.wsgi = answer
    assert line.handle()
    sent = line.client.recv(10_000)
    assert sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert sent.endswith(b"\r\n\r\ndone")


def late(line: Line) -> None:
    """The request before came a while after the answer before it, as a browser's do."""
    line.conn.timeout -= 2 * HURRY


def new(line: Line) -> None:
    """It was the connection's first."""
    line.conn.timeout = None


def busy(line: Line) -> None:
    """The other thread has a request, so that of a third connection would wait for this thread."""
    line.worker._with_thread.add("other")
    line.worker.nr_conns = 3


def refused(line: Line) -> None:
    """The loop sends the answer later."""
    line.status = "429 Too Many Requests"


@pytest.mark.parametrize("state", [late, new, busy, refused])
def test_the_loop_gets_the_connection_back(line: Line, state: Any) -> None:
    state(line)
    line.client.sendall(GET)
    assert line.handle()
    assert line.paths == ["/first"]
    assert line.conn.sock.recv(1000) == GET  # which the loop reads


def test_the_last_thread_keeps_its_connection_while_no_other_is_without_a_thread(line: Line) -> None:
    busy(line)
    line.worker.nr_conns = 2
    line.client.sendall(GET)
    assert line.handle()
    assert line.paths == ["/first", "/next"]


def test_a_client_that_takes_no_answer_keeps_no_thread(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering_worker, "unsent", lambda sock: ANSWERS_UNSENT + 1)
    line.client.sendall(GET)
    assert line.handle()
    assert line.paths == ["/first"]


@pytest.mark.parametrize(
    "data",
    [GET[:20], BODY % 10 + b"1234", BODY % (LONGEST_BODY + 1) + b"12", b"\r\n"],
    ids=["head", "body", "big", "line"],
)
def test_the_loop_gets_what_is_no_whole_request_or_too_long(line: Line, data: bytes) -> None:
    line.client.sendall(data)
    assert line.handle()
    assert (line.paths, line.waiting()) == (["/first"], data)


def test_the_loop_gets_a_request_that_came_with_the_one_before(line: Line) -> None:
    line.client.sendall(GET + GET)
    assert line.handle()
    assert (line.paths, line.waiting()) == (["/first", "/next"], GET)


def test_a_connection_that_ends_or_says_nothing_goes_back_to_the_loop_at_once(line: Line) -> None:
    assert line.handle()
    line.client.shutdown(socket.SHUT_WR)
    assert line.handle()
    assert line.paths == ["/first", "/first"]
    assert not line.worker._with_thread
    assert not line.worker.is_busy()


def test_more_busy_connections_than_threads_are_all_answered(tmp_path: Path) -> None:
    def visit(client: int) -> list[int]:
        path = f"{PROFILES}/visitor-{client}"
        with server.connection() as connection:
            events = [{"events": [page(f"message-{client}-{number}")]} for number in range(25)]
            return [call(connection, "POST", path, event).status for event in events]

    with serving(tmp_path, "--workers", "1", "--threads", "2") as server, ThreadPoolExecutor(6) as clients:
        assert list(clients.map(visit, range(6))) == [[200] * 25] * 6
