"""Imports under gunicorn: accepted batches are applied soon, and exactly once whoever is killed meanwhile."""

from __future__ import annotations

import http.client
import os
import random
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.store.base import Key
from ninetailed_wsgi.store.disk import DiskStore
from ninetailed_wsgi.store.queue import ImportQueue, QueueState
from tests.serving import PREFIX, PROFILES, Server, call, serving, track, wait_until

IMPORT = PREFIX + "/import/events"
CLIENTS, VISITORS, KILLS = 4, 5, 8

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds gunicorn's workers through /proc")


def of(name: str, event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "anonymousId": name}


def test_an_accepted_batch_is_applied_soon(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2") as server:
        answer = server.call("POST", IMPORT, {"events": [of("anna", track("1")), of("ben", track("2"))]})
        assert (answer.status, answer.json()["data"]) == (200, {})
        for name in ("anna", "ben"):
            wait_until(lambda name=name: server.call("GET", f"{PROFILES}/{name}").status == 200, "it is applied")  # type: ignore[misc]
        bad = server.call("POST", IMPORT, {"events": [of("anna", {**track("3"), "timestamp": "yesterday"})]})
        assert bad.status == 400
    assert ImportQueue(tmp_path / "data").state() == QueueState(0, 0.0, 0)


class Load:
    """Clients that post numbered batches, each to any server that runs, and remember what was acknowledged."""

    def __init__(self) -> None:
        self.server: Server | None = None
        self.enough = threading.Event()
        self.acknowledged: list[list[str]] = [[] for _ in range(CLIENTS)]

    def post(self, client: int) -> None:
        numbers = count()
        while not self.enough.is_set():
            server = self.server
            if server is None:
                self.enough.wait(0.01)
                continue
            try:
                with server.connection() as connection:
                    while not self.enough.is_set():
                        batch = next(numbers)
                        sent = [of(f"visitor-{n % VISITORS}", track(f"{client}-{batch}-{n}")) for n in range(10)]
                        if call(connection, "POST", IMPORT, {"events": sent}).status == 200:
                            self.acknowledged[client] += [event["messageId"] for event in sent]
            except (OSError, http.client.HTTPException):
                self.enough.wait(0.01)  # the worker is gone, and with it this connection

    def grown(self) -> bool:
        return self.total() > self.before

    def mark(self, more: int) -> None:
        self.before = self.total() + more

    def total(self) -> int:
        return sum(map(len, self.acknowledged))


def test_everything_acknowledged_is_applied_exactly_once_though_workers_and_masters_are_killed(tmp_path: Path) -> None:
    chance, load = random.Random(7), Load()
    with ThreadPoolExecutor(CLIENTS) as clients:
        posting = [clients.submit(load.post, client) for client in range(CLIENTS)]
        try:
            for _ in range(2):
                with serving(tmp_path, "--workers", "2", "--history-events", "1000000") as server:
                    load.server = server
                    kills = KILLS // 2
                    for _kill in range(kills - 1):
                        load.mark(chance.randrange(20, 200))
                        wait_until(load.grown, "clients get on")
                        os.kill(chance.choice(sorted(server.workers())), signal.SIGKILL)
                        wait_until(lambda: len(server.workers()) == 2, "a new worker runs")
                    load.mark(50)
                    wait_until(load.grown, "clients get on")
                    workers = server.workers()
                    server.process.kill()
                    for worker in workers:  # those that a killed master leaves behind notice it only after a second
                        os.kill(worker, signal.SIGKILL)
                    server.process.wait(15)
                    load.server = None
        finally:
            load.enough.set()
    for each in posting:
        each.result()
    with serving(tmp_path, "--workers", "2", "--history-events", "1000000") as server:
        assert server.call("GET", "/health/ready").status == 200  # the first request lets the rest be applied
        wait_until(lambda: ImportQueue(tmp_path / "data").state().waiting == 0, "the rest is applied")
    assert ImportQueue(tmp_path / "data").state().aside == 0
    found = applied(tmp_path / "data")
    assert [message for client in load.acknowledged for message in client if found[message] != 1] == []
    assert set(found.values()) == {1}  # also what was kept and not acknowledged any more
    for file in (tmp_path / "data").glob("*/cache.db"):
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def applied(folder: Path) -> Counter[str]:
    """How often each message happened, in a folder that nobody serves from."""
    store = DiskStore(folder, history_events=1_000_000)
    keys: Iterator[Key] = (key for key, _ in store.documents())
    found = Counter(event["messageId"] for key in list(keys) for _, _, event in store.read(key).history())
    store.close()
    return found
