"""Connections that clients keep are spread over the workers, whoever accepted them."""

from __future__ import annotations

import http.client
import os
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from ninetailed_wsgi.server.shares import Shares
from tests.serving import Server, serving, wait_until

OPEN = "01"  # the state ESTABLISHED in /proc/net/tcp


def test_a_worker_has_more_than_its_share_if_another_one_has_fewer_connections() -> None:
    shares = Shares()
    shares.write(1, 5)
    assert not shares.is_exceeded(1)
    shares.write(2, 4)
    assert shares.is_exceeded(1)
    assert not shares.is_exceeded(1, by=2)
    assert not shares.is_exceeded(2)
    shares.leave(2)
    assert not shares.is_exceeded(1)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="counts connections with Linux' /proc")
@pytest.mark.parametrize("connections", [8, 32])
def test_kept_connections_are_spread_over_the_workers(tmp_path: Path, connections: int) -> None:
    with serving(tmp_path, "--workers", "2") as server, ExitStack() as stack:
        clients = [stack.enter_context(server.connection()) for _ in range(connections)]

        def are_spread() -> bool:
            ask(clients)
            counts = connections_by_worker(server).values()
            return len(counts) == 2 and sum(counts) == connections and max(counts) - min(counts) <= 2

        wait_until(are_spread, "the connections are spread")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="counts connections with Linux' /proc")
def test_the_worker_that_takes_the_place_of_a_dead_one_gets_its_share(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2") as server, ExitStack() as stack:
        wait_until(lambda: len(server.workers()) == 2, "both workers start")
        dead = min(server.workers())
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: dead not in server.workers() and len(server.workers()) == 2, "another worker starts")
        clients = [stack.enter_context(server.connection()) for _ in range(8)]

        def are_spread() -> bool:
            ask(clients)
            counts = connections_by_worker(server)
            return sum(counts.values()) == 8 and min(counts.values()) >= 3

        wait_until(are_spread, "the connections are spread")


def ask(clients: list[http.client.HTTPConnection]) -> None:
    """Send a request over each connection, which is opened anew where the server announced its end."""
    for client in clients:
        client.request("GET", "/health/live")
        answer = client.getresponse()
        answer.read()
        assert answer.status == 200


def connections_by_worker(server: Server) -> dict[int, int]:
    """The number of open connections of each worker."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    opened = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{server.port:04X}") and line[3] == OPEN}
    counts = Counter(dict.fromkeys(server.workers(), 0))
    for worker in counts:
        for file in Path(f"/proc/{worker}/fd").iterdir():
            try:
                counts[worker] += os.readlink(file) in opened
            except FileNotFoundError:  # it was closed just now
                continue
    return counts
