"""A 429 is sent late, so that a client which comes back at once costs others nothing, and no thread waits for it."""

from __future__ import annotations

import http.client
import io
import json
import math
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ninetailed_wsgi.server import granian_server
from ninetailed_wsgi.server.granian_server import BoundedApp
from ninetailed_wsgi.server.refusals import LONGEST_PAUSE, REFUSALS_PER_SECOND, SHORTEST_PAUSE, Refusals, pause
from ninetailed_wsgi.server.refusing_worker import _Sending
from tests.serving import PREFIX, PROFILES, SERVERS, Server, page, running, serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a machine has one loopback address")

WITHOUT_END = """
import sys
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.server import refusals
refusals.SHORTEST_PAUSE = refusals.LONGEST_PAUSE = 3600
main(sys.argv[1:])
"""
SOMEBODY = f"{PROFILES}/somebody"
ROUTES = [
    ("POST", PROFILES),
    ("GET", SOMEBODY),
    ("DELETE", SOMEBODY),
    ("POST", f"{PREFIX}/events"),
    ("POST", f"{PREFIX}/import/events"),
    ("POST", "/ofrep/v1/evaluate/flags/any"),
    ("HEAD", SOMEBODY),
]
LIMITED = ["--workers", "1", "--threads", "1", "--rate-limit", "1/day", "--store-timeout", "1"]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("refusals"), "--server", request.param, *LIMITED) as server:
        yield server


def sent(server: Server, method: str, path: str, address: str) -> http.client.HTTPConnection:
    """A connection from an address of this machine, over which a request is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60, source_address=(address, 0))
    body = json.dumps({"events": [page("a")]}) if method == "POST" else None
    connection.request(method, path, body, {"Content-Type": "application/json"})
    return connection


def status(connection: http.client.HTTPConnection) -> int:
    answer = connection.getresponse()
    answer.read()
    return answer.status


@pytest.mark.parametrize("kind", SERVERS)
def test_clients_that_are_refused_wait_without_a_thread_and_until_the_stop_at_most(kind: str, tmp_path: Path) -> None:
    options = ["serve", "--bind", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"), "--server", kind, *LIMITED]
    with running([sys.executable, "-c", WITHOUT_END, *options], tmp_path) as server, ExitStack() as stack:
        assert status(sent(server, "GET", SOMEBODY, "127.0.0.1")) == 404
        refused = [sent(server, method, path, "127.0.0.1") for method, path in ROUTES]
        for connection in refused:
            stack.callback(connection.close)
        for number in range(2, 10):
            assert status(sent(server, "POST", PROFILES, f"127.0.0.{number}")) == 200
        for connection in refused:
            assert says_nothing(connection)
        if kind == "gunicorn":
            server.process.send_signal(signal.SIGTERM)
            assert [status(connection) for connection in refused] == [429] * len(ROUTES)
            assert server.process.wait(60) == 0


def says_nothing(connection: http.client.HTTPConnection) -> bool:
    connection.sock.settimeout(0)
    try:
        connection.sock.recv(1)
    except BlockingIOError:
        return True
    finally:
        connection.sock.settimeout(60)
    return False


def test_a_client_that_comes_back_at_once_is_refused_a_bounded_number_of_times(server: Server) -> None:
    with closing(sent(server, "GET", SOMEBODY, "127.0.1.1")) as connection:
        assert status(connection) == 404
        began = time.monotonic()
        for _ in range(3):
            connection.request("GET", SOMEBODY)
            assert status(connection) == 429
        assert time.monotonic() - began >= 3 * SHORTEST_PAUSE
    began = time.monotonic()
    for _ in range(3):
        assert status(sent(server, "GET", SOMEBODY, "127.0.1.1")) == 429
    assert time.monotonic() - began >= 3 * SHORTEST_PAUSE
    assert status(sent(server, "GET", SOMEBODY, "127.0.1.2")) == 404


def test_requests_behind_a_refused_one_are_answered_in_their_order(server: Server) -> None:
    assert status(sent(server, "GET", SOMEBODY, "127.0.2.1")) == 404
    ask, close = (f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n" for path in (SOMEBODY, "/health/live"))
    with socket.create_connection(("127.0.0.1", server.port), timeout=60, source_address=("127.0.2.1", 0)) as client:
        client.sendall(f"{ask}\r\n{close}Connection: close\r\n\r\n".encode())
        answers = b"".join(iter(lambda: client.recv(65_536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"429", b"200"]


def test_a_client_that_left_before_its_refusal_harms_nobody(server: Server) -> None:
    assert status(sent(server, "GET", SOMEBODY, "127.0.3.1")) == 404
    for _ in range(20):
        sent(server, "GET", SOMEBODY, "127.0.3.1").close()
    assert status(sent(server, "GET", SOMEBODY, "127.0.3.1")) == 429
    assert status(sent(server, "GET", "/health/ready", "127.0.3.2")) == 200
    assert "Traceback" not in server.printed.read_text()


# How long


def test_a_pause_grows_with_those_that_wait_and_ends_before_the_client_may_come_back() -> None:
    assert pause(0) == pause(1) == SHORTEST_PAUSE
    assert pause(REFUSALS_PER_SECOND // 2) == 0.5
    assert pause(10_000) == LONGEST_PAUSE == 1


def test_refusals_are_sent_in_order_once_they_are_due() -> None:
    refusals: Refusals[str] = Refusals()
    assert refusals.seconds(0) is None
    refusals.add("first", 10)
    refusals.add("second", 10.1)
    assert refusals.seconds(10.1) == pytest.approx(SHORTEST_PAUSE - 0.1)
    assert list(refusals.due(10 + SHORTEST_PAUSE)) == ["first"]
    assert refusals.seconds(11) == 0
    assert list(refusals.due(11)) == ["second"]
    assert list(refusals.due(math.inf)) == []


def test_of_many_refusals_so_many_are_sent_in_a_second_and_none_waits_longer_than_one() -> None:
    refusals: Refusals[int] = Refusals()
    for number in range(1000):
        refusals.add(number, 0)
    assert len(list(refusals.due(0.5))) <= REFUSALS_PER_SECOND // 2 + 1
    assert list(refusals.due(LONGEST_PAUSE))[-1] == 999


@pytest.mark.parametrize(
    ("begin", "aside"), [(b"HTTP/1.1 429 Too", True), (b"HTTP/1.0 429 Too", True), (b"HTTP/1.1 200 429 ", False)]
)
def test_only_a_429_is_put_aside(begin: bytes, aside: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sending = _Sending(ours)
        sending.sendall(begin)
        sending.sendall(b" HTTP/1.1 429 ")
        theirs.setblocking(False)
        if aside:
            assert bytes(sending.refusal or b"") == begin + b" HTTP/1.1 429 "
            with pytest.raises(BlockingIOError):
                theirs.recv(1)
        else:
            assert sending.refusal is None
            assert theirs.recv(100) == begin + b" HTTP/1.1 429 "
        assert sending.fileno() == ours.fileno()


# Granian: a thread waits, besides those that compute


def test_under_granian_so_many_refusals_wait_and_further_ones_are_sent_at_once(monkeypatch: Any) -> None:
    slept: list[float] = []
    monkeypatch.setattr(granian_server, "REFUSALS", 1)

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            assert ask(app) == "429 Too Many Requests"

    app = BoundedApp(refuse, 1, 1000, sleep)
    assert ask(app) == "429 Too Many Requests"
    assert slept == [SHORTEST_PAUSE]
    assert ask(app) == "429 Too Many Requests"
    assert slept == [SHORTEST_PAUSE] * 2


def refuse(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("429 Too Many Requests", [])
    return []


def ask(app: BoundedApp) -> str:
    answer = SimpleNamespace(status="")
    app({"wsgi.input": io.BytesIO()}, lambda status, headers: setattr(answer, "status", status))
    return str(answer.status)
