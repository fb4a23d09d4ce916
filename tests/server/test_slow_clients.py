"""Clients that send or take byte after byte, just often enough, hold a thread for a bounded time."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from statistics import median
from types import SimpleNamespace

import pytest
from serving import PROFILES, SERVERS, Server, call, page, running, serving, wait_until
from test_gunicorn import HEAD, read_answer

from ninetailed_wsgi.server import worker
from ninetailed_wsgi.server.arrival import Arrival
from ninetailed_wsgi.server.worker import LONGEST_REQUEST, Worker

SHORT = """
import sys
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.server import worker
from ninetailed_wsgi.server.arrival import Arrival
worker.STALLED_AFTER, worker.LONGEST_REQUEST = 2, 1
main(sys.argv[1:])
"""


OPTIONS = ["--workers", "1", "--threads", "1", "--store-timeout", "60", "--max-body-bytes", "100000000"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With one thread and times of a second, so that one slow client would keep everybody waiting."""
    folder = tmp_path_factory.mktemp("slow")
    options = ["--bind", "127.0.0.1:0", "--data-dir", str(folder / "data"), *OPTIONS]
    with running([sys.executable, "-c", SHORT, "serve", *options], folder) as server:
        yield server


@pytest.fixture(scope="module", params=SERVERS)
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same, under each server that `serve` knows."""
    if request.param == "gunicorn":
        yield request.getfixturevalue("server")
        return
    with serving(tmp_path_factory.mktemp("slow"), "--server", request.param, *OPTIONS) as server:
        yield server


def test_a_body_that_comes_byte_after_byte_is_cut_off_and_others_are_served(server: Server) -> None:
    body = json.dumps({"events": [page("slow")]}).encode() + b" " * 2000
    send_slowly(server, body, f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode())
    assert server.call("POST", PROFILES, {"events": [page("next")]}).status == 200


def test_a_head_that_comes_byte_after_byte_is_cut_off(server: Server) -> None:
    send_slowly(server, HEAD.encode() * 10)
    assert server.call("GET", "/health/live").status == 200


def test_an_answer_that_nobody_takes_keeps_nobody_else_waiting(either: Server) -> None:
    with either.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        slow.sendall(ask * 200)  # megabytes of answers, more than any buffer between holds
        wait_until(lambda: answers(either), "others are served")


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
    ending = Worker.__new__(Worker)
    ending.cfg = SimpleNamespace(graceful_timeout=8)
    with ours, theirs:
        now = time.monotonic()
        ending._since = {Held(ours): now - 2 * LONGEST_REQUEST}
        ending._cut_off_the_slow(now)
        ours.sendall(b"still")  # what was read in time may take its time to be answered
        ending._since = {Held(ours): now - 2 * LONGEST_REQUEST - 9}
        ending._cut_off_the_slow(now)
        with pytest.raises(BrokenPipeError):
            ours.sendall(b"x")
        assert theirs.recv(100) == b"still"


class Held:
    """A connection that has a thread."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock


SLOW = {
    "in the middle of the head": HEAD.encode(),
    "in the middle of the body": f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode(),
    "in the middle of a chunk": f"{HEAD}Transfer-Encoding: chunked\r\n\r\n64\r\n{{".encode(),
    "after a head that announces too much": f"{HEAD}Content-Length: {1 << 40}\r\n\r\n".encode(),
    "after an answer that ends the connection": (
        b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    ),
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW.keys())
def test_sixteen_clients_that_stall_or_trickle_delay_nobody_by_the_time_of_one(either: Server, text: bytes) -> None:
    with either.connection() as connection:

        def duration() -> float:
            started = time.monotonic()
            assert call(connection, "POST", PROFILES, {"events": [page("someone")]}).status in (200, 429)
            return time.monotonic() - started

        before = median(duration() for _ in range(20))
        with contextlib.ExitStack() as slow:
            clients = [slow.enter_context(either.socket()) for _ in range(16)]
            for client in clients:
                client.sendall(text)
            durations = []
            for number in range(32):
                with contextlib.suppress(ConnectionError):  # some are cut off by now
                    clients[number % 8].sendall(b"1")  # eight of them trickle, and the others stall
                durations.append(duration())
        assert median(durations) < before + 1


def test_connections_of_one_address_that_are_half_way_are_bounded_and_the_oldest_ones_end(server: Server) -> None:
    with contextlib.ExitStack() as half_way:
        clients = [half_way.enter_context(server.socket()) for _ in range(worker.HALF_WAY_PER_ADDRESS + 5)]
        for client in clients:
            client.sendall(HEAD.encode())
        wait_until(lambda: all(map(is_closed, clients[:5])), "the oldest are closed")
        latest = half_way.enter_context(server.socket())
        body = json.dumps({"events": [page("behind the same address")]}).encode()
        latest.sendall(f"{HEAD}Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        assert latest.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"  # so it is half-way, and has its place
        latest.sendall(body)
        assert read_answer(latest).status == 200


def half_way(sizes: Sequence[tuple[str, int]], most: int) -> list[str]:
    """Connections by address and bytes arrive one after another; return which end, each named by address and place."""
    halves, arriving, ends = worker._HalfWay(most), {}, []
    for place, (address, size) in enumerate(sizes):
        client = (address, 50_000) if address else ""
        conn = Connection(f"{address}#{place}", client)
        arriving[conn] = half = worker._Half(Arrival(1 << 20), float(place))
        halves.add(half, conn, size)
        while (other := halves.one_too_many(half.address)) is not None:
            halves.remove(arriving.pop(other), other)
            ends.append(other.name)
    for conn, half in arriving.items():
        halves.remove(half, conn)
    assert (halves._bytes, halves._groups) == (0, {})
    return ends


class Connection:
    """A connection of gunicorn, as far as it is looked at."""

    def __init__(self, name: str, client: object) -> None:
        self.name, self.client = name, client


def test_of_too_many_half_way_connections_those_end_that_are_the_oldest_of_the_address_with_too_much() -> None:
    most = worker.HALF_WAY_PER_ADDRESS
    crowd = [("192.0.2.1", 10)] * most
    assert half_way([("192.0.2.9", 10), *crowd, ("192.0.2.9", 10)], 1 << 20) == []
    assert half_way([("192.0.2.9", 10), *crowd, ("192.0.2.1", 10)], 1 << 20) == ["192.0.2.1#1"]
    assert half_way([("", 10)] * (2 * most), 1 << 20) == [], "a proxy's Unix socket"
    big = [("192.0.2.9", 90), ("192.0.2.1", 60), ("192.0.2.1", 60), ("192.0.2.9", 10), ("192.0.2.7", 1)]
    assert half_way(big, 200) == ["192.0.2.1#1"]
    assert half_way([("192.0.2.9", 10), ("192.0.2.1", 300)], 200) == ["192.0.2.1#1"], "one that is too large alone"
    assert half_way([("2001:db8::1", 10)] * most + [("2001:db8::2", 10)], 1 << 20) == ["2001:db8::1#0"]


def is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def send_slowly(server: Server, data: bytes, first: bytes = b"") -> None:
    """A byte each tenth of a second until the server has had enough, which must be a second later, not at the end."""
    started = time.monotonic()
    with server.socket() as slow:
        slow.sendall(first)
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
        else:
            pytest.fail("the server waited for all of it")
    assert time.monotonic() - started > 0.9


def answers(server: Server) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=2) as client:
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            return read_answer(client).status == 200
    except TimeoutError:
        return False
