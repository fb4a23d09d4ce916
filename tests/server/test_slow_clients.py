"""Clients that send or take byte after byte, just often enough, hold a thread for a bounded time."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from serving import PROFILES, Server, page, running, wait_until
from test_gunicorn import HEAD, read_answer

from ninetailed_wsgi.server.worker import LONGEST_REQUEST, Worker

SHORT = """
import sys
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.server import worker
worker.STALLED_AFTER, worker.LONGEST_REQUEST = 2, 1
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With one thread and times of a second, so that one slow client would keep everybody waiting."""
    folder = tmp_path_factory.mktemp("slow")
    options = ["--bind", "127.0.0.1:0", "--data-dir", str(folder / "data"), "--workers", "1", "--threads", "1"]
    options += ["--store-timeout", "5", "--max-body-bytes", "100000000"]
    with running([sys.executable, "-c", SHORT, "serve", *options], folder) as server:
        yield server


def test_a_body_that_comes_byte_after_byte_is_cut_off_and_others_are_served(server: Server) -> None:
    body = json.dumps({"events": [page("slow")]}).encode()
    with server.socket() as slow:
        slow.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode())
        send_slowly(slow, body)
    assert server.call("POST", PROFILES, {"events": [page("next")]}).status == 200


def test_a_head_that_comes_byte_after_byte_is_cut_off(server: Server) -> None:
    with server.socket() as slow:
        send_slowly(slow, HEAD.encode() * 10)
    assert server.call("GET", "/health/live").status == 200


def test_an_answer_that_nobody_takes_is_given_up(server: Server) -> None:
    with server.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        slow.sendall(ask * 200)  # megabytes of answers, more than any buffer between holds
        wait_until(lambda: answers(server), "others are served", 8)


def test_a_request_that_the_store_keeps_waiting_for_longer_than_that_is_answered_all_the_same(server: Server) -> None:
    data = next(server.printed.parent.glob("data"))
    with contextlib.ExitStack() as locked, server.connection() as connection:
        for file in data.glob("*/cache.db"):
            lock = locked.enter_context(contextlib.closing(sqlite3.connect(file, isolation_level=None)))
            lock.execute("BEGIN IMMEDIATE")
        connection.request("POST", PROFILES, json.dumps({"events": [page("waits")]}), {"Content-Type": "text/plain"})
        began = time.monotonic()
        wait_until(lambda: time.monotonic() > began + 2.2, "time passes")  # a look each second, after one second
        locked.close()
        assert connection.getresponse().status == 200


def test_an_answer_that_is_taken_byte_after_byte_is_cut_off_in_the_end() -> None:
    ours, theirs = socket.socketpair()
    worker = Worker.__new__(Worker)
    worker.cfg = SimpleNamespace(graceful_timeout=8)
    with ours, theirs:
        now = time.monotonic()
        worker._since = {Held(ours): now - 2 * LONGEST_REQUEST}
        worker._cut_off_the_slow()
        ours.sendall(b"still")  # what was read in time may take its time to be answered
        worker._since = {Held(ours): now - 2 * LONGEST_REQUEST - 9}
        worker._cut_off_the_slow()
        with pytest.raises(BrokenPipeError):
            ours.sendall(b"x")
        assert theirs.recv(100) == b"still"


class Held:
    """A connection that has a thread."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock


def send_slowly(slow: socket.socket, data: bytes) -> None:
    """A byte each tenth of a second until the server has had enough, which must be soon."""
    started = time.monotonic()
    slow.settimeout(0.1)
    for byte in data:
        try:
            slow.sendall(bytes([byte]))
            slow.recv(4096)  # an answer before the request is complete, or the end
            break
        except TimeoutError:
            pass
        except ConnectionError:
            break
        assert time.monotonic() - started < 8
    assert 0.9 < time.monotonic() - started < 8


def answers(server: Server) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=2) as client:
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            return read_answer(client).status == 200
    except TimeoutError:
        return False
