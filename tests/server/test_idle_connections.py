"""Connections that say nothing keep nobody out: the oldest ones of whoever has most of them end."""

from __future__ import annotations

import contextlib
import http.client
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from ninetailed_wsgi.server.idle_connections import least_needed, owner
from tests.serving import Server, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a machine has one loopback address")

PLACES = 30
FEW_PLACES = f"""
import sys
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.server import gunicorn_server
configuration = gunicorn_server.configuration
gunicorn_server.configuration = lambda *a, **b: {{**configuration(*a, **b), "worker_connections": {PLACES}}}
main(sys.argv[1:])
"""
ASK = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Connection(NamedTuple):
    """A connection as gunicorn has it; a socket file's client has no address."""

    name: str
    client: tuple[str, int] | str


def of(names: str) -> list[Connection]:
    """Connections of addresses of one letter, the oldest first."""
    return [Connection(f"{name}{place}", (name, 1) if name != "-" else "") for place, name in enumerate(names)]


@pytest.mark.parametrize(
    ("connections", "count", "ended"),
    [
        ("aaa", 1, ["a0"]),
        ("baaa", 2, ["a1", "a2"]),
        ("baaa", 3, ["a1", "a2", "b0"]),
        ("aabbb", 3, ["b2", "a0", "b3"]),
        ("--a", 1, ["-0"]),
        ("a", 5, ["a0"]),
        ("", 5, []),
        ("aaa", 0, []),
    ],
)
def test_the_oldest_of_the_address_with_most_end_first(connections: str, count: int, ended: list[str]) -> None:
    assert [each.name for each in least_needed(of(connections), count)] == ended


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_addresses_of_one_customer_count_together(first: str, second: str, same: bool) -> None:
    owners = {owner(Connection("", (address, 1))) for address in (first, second)}
    assert len(owners) == (1 if same else 2)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With one process and few places."""
    folder = tmp_path_factory.mktemp("idle")
    options = ["--bind", "127.0.0.1:0", "--data-dir", str(folder / "data"), "--workers", "1"]
    with running([sys.executable, "-c", FEW_PLACES, "serve", *options], folder) as server:
        yield server


def connected(server: Server, address: str) -> http.client.HTTPConnection:
    """A connection from an address of this machine, over which nothing was said yet."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30, source_address=(address, 0))
    client.connect()
    client.auto_open = 0  # or it would hide that the server ended it
    return client


def status(client: http.client.HTTPConnection) -> int:
    client.request("GET", "/health/live")
    answer = client.getresponse()
    answer.read()
    return answer.status


@pytest.mark.parametrize("speaks", [False, True], ids=["that never said anything", "that are kept after an answer"])
def test_many_connections_keep_out_nobody_and_end_none_of_who_has_few(server: Server, speaks: bool) -> None:
    with contextlib.ExitStack() as stack:

        def client(address: str) -> http.client.HTTPConnection:
            return stack.enter_context(contextlib.closing(connected(server, address)))

        few = [client("127.0.0.2") for _ in range(3)]
        assert status(few[0]) == 200
        for _ in range(3 * PLACES):
            another = client("127.0.0.3")
            if speaks:
                assert status(another) == 200
        for _ in range(5):
            assert status(client("127.0.0.4")) == 200
        assert [status(each) for each in few] == [200] * 3


def test_many_connections_that_are_half_way_keep_out_nobody_either(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(contextlib.closing(connected(server, "127.0.0.8")))
        slow.sock.sendall(ASK[:-2])
        for _ in range(3 * PLACES):
            client = stack.enter_context(contextlib.closing(connected(server, "127.0.0.9")))
            with contextlib.suppress(ConnectionError):  # it may have ended by now
                client.sock.sendall(ASK[:-2])
        for _ in range(5):
            assert status(stack.enter_context(contextlib.closing(connected(server, "127.0.0.10")))) == 200
        slow.sock.sendall(ASK[-2:])
        assert slow.sock.recv(65_536).startswith(b"HTTP/1.1 200 OK")


def test_a_request_that_is_arriving_is_not_ended_for_others(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(server.socket())
        slow.sendall(ASK[:-2])
        for _ in range(3 * PLACES):
            stack.enter_context(server.socket())
        assert status(connected(server, "127.0.0.7")) == 200
        slow.sendall(ASK[-2:])
        assert slow.recv(65_536).startswith(b"HTTP/1.1 200 OK")
