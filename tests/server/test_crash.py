"""Workers and masters are killed at random under load; what was acknowledged is there exactly once: `make crash`.

`KILLS` says how often somebody is killed, `SEED` repeats a run. In between, masters are told to reload or to stop.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.store.disk.queue import ImportQueue
from tests.serving import PREFIX, PROFILES, ROOT, SERVERS, Server, call, serving, track, wait_until

KILLS = int(os.environ.get("KILLS") or 4)
SEED = int(os.environ.get("SEED") or 0) or random.SystemRandom().randrange(1, 1 << 30)
VISITORS, MERGED_WITH_EACH_USER, PROFILES_COUNTED, TIMES = 40, 5, 8, [2**power for power in range(13)]
# Some thousand events of the busiest profile take more bytes than a history keeps by default.
WHOLE_HISTORY = ["--history-events", "1000000", "--history-bytes", "1000000000"]
OPTIONS = ["--workers", "2", *WHOLE_HISTORY]
UNDER_GRANIAN = ["worker", "stop", "worker", "master"]
"""What happens under Granian, the last one first: it ends itself when two workers die within 5 seconds."""

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds gunicorn's workers through /proc"),
]


def audience(times: int) -> dict[str, Any]:
    """Whoever clicked so many times."""
    rule = {"type": "track", "value": "clicked", "operator": "greaterThanInclusive", "count": str(times)}
    return {"id": f"{times}-times", "name": f"{times} times", "rules": {"any": [{"all": [rule]}]}}


Body = tuple[str, list[dict[str, Any]]]


def of(name: str, event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "anonymousId": name}


def identify(message_id: str, user: str) -> dict[str, Any]:
    event = {**track(message_id), "type": "identify", "userId": user, "traits": {}}
    return {name: value for name, value in event.items() if name not in ("event", "properties")}


def updates(client: str) -> Iterator[Body]:
    """One event at a time, to profiles that all such clients share."""
    for n in itertools.count():
        yield f"{PROFILES}/shared-{n // 20 % VISITORS}", [track(f"{client}-{n}")]


def batches(client: str) -> Iterator[Body]:
    for n in itertools.count():
        yield PREFIX + "/events", [of(f"visitor-{(n + i) % VISITORS}", track(f"{client}-{n}-{i}")) for i in range(10)]


def imports(client: str) -> Iterator[Body]:
    for _, events in batches(client):
        yield PREFIX + "/import/events", events


def merges(client: str) -> Iterator[Body]:
    """Visitors that turn out to be a user who is known already, so that each becomes part of the user's profile."""
    for n in itertools.count():
        name, user = f"{client}-{n}", f"{client}-user-{n // MERGED_WITH_EACH_USER}"
        yield f"{PROFILES}/{name}", [track(f"{name}-1")]
        yield f"{PROFILES}/{name}", [track(f"{name}-2"), identify(f"{name}-3", user), track(f"{name}-4")]
        yield f"{PROFILES}/{name}", [track(f"{name}-5")]


CLIENTS: list[Callable[[str], Iterator[Body]]] = [updates, updates, batches, merges, imports, imports]


class Load:
    """Clients that post numbered events, each to any server that runs, and remember what was acknowledged."""

    def __init__(self, clients: Sequence[Callable[[str], Iterator[Body]]] = CLIENTS) -> None:
        self.clients = clients
        self.servers: list[Server] = []
        self.enough = threading.Event()
        self.acknowledged: list[list[str]] = [[] for _ in clients]
        self.refused: Counter[str] = Counter()

    def post(self, client: int) -> None:
        bodies = self.clients[client](f"{self.clients[client].__name__}-{client}")
        path, events = next(bodies)
        for turn in itertools.count(client):
            if self.enough.is_set():
                return
            servers = self.servers
            if not servers:
                self.enough.wait(0.01)
                continue
            try:
                with servers[turn % len(servers)].connection() as connection:
                    while not self.enough.is_set():
                        answer = call(connection, "POST", path, {"events": events})
                        if answer.status == 200:
                            self.acknowledged[client] += [event["messageId"] for event in events]
                        elif answer.status not in (429, 503):
                            self.refused[f"{answer.status} {answer.body[:300]!r}"] += 1
                        if answer.status == 200 or "import" in path:
                            path, events = next(bodies)
                        if answer.status != 200 and len(servers) > 1:
                            break  # ask another server
            except (OSError, http.client.HTTPException):
                # The worker is gone, and with it the connection. What was sent is sent again, as SDKs do; but not an
                # import, which may be any number of batches old by then.
                if "import" in path:
                    path, events = next(bodies)
                self.enough.wait(0.01)

    def gets_on(self, more: int) -> None:
        before = self.total()
        wait_until(lambda: self.total() >= before + more, "clients get on", 120)

    def total(self) -> int:
        return sum(map(len, self.acknowledged))


@contextmanager
def posting(load: Load) -> Iterator[None]:
    """All clients at once, until the block ends."""
    with ThreadPoolExecutor(len(load.clients)) as threads:
        futures = [threads.submit(load.post, client) for client in range(len(load.clients))]
        try:
            yield
        finally:
            load.enough.set()
    for each in futures:
        each.result()


def blows(chance: random.Random) -> list[str]:
    """What happens to the processes, in random order."""
    found = ["worker"] * (KILLS - KILLS // 4) + ["master"] * (KILLS // 4) + ["reload", "stop"] * max(1, KILLS // 10)
    chance.shuffle(found)
    return found


def strike(server: Server, load: Load, chance: random.Random, left: list[str]) -> None:
    """One blow after another, while clients post, until the server has ended or none is left."""
    while left:
        load.gets_on(chance.randrange(20, 150))
        workers = sorted(server.workers())
        blow = left.pop()
        if blow == "worker":
            os.kill(chance.choice(workers), signal.SIGKILL)
            wait_until(lambda: len(server.workers()) == 2, "a new worker runs")
        elif blow == "reload":
            server.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(server.workers() - set(workers)) == 2, "new workers take over")  # noqa: B023
        elif blow == "stop":
            server.process.terminate()
            assert server.process.wait(60) == 0
            return
        else:
            server.process.kill()
            for worker in workers:  # those that a killed master leaves behind notice it only after a second
                os.kill(worker, signal.SIGKILL)
            server.process.wait(60)
            return


@pytest.mark.parametrize("kind", SERVERS)
def test_what_was_acknowledged_is_there_exactly_once_though_workers_and_masters_are_killed(
    kind: str, tmp_path: Path
) -> None:
    chance, load, began = random.Random(SEED), Load(), time.monotonic()
    content = tmp_path / "content.json"
    content.write_text(json.dumps({"audiences": [audience(times) for times in TIMES], "experiences": []}))
    options = [*OPTIONS, "--server", kind, "--content", str(content)]
    left = blows(chance) if kind == "gunicorn" else list(UNDER_GRANIAN)
    print(f"\ncrash: {KILLS} kills, SEED={SEED}", flush=True)
    with posting(load):
        while left:
            with serving(tmp_path, *options) as server:
                wait_until(lambda: len(server.workers()) == 2, "both workers run")
                load.servers = [server]
                strike(server, load, chance, left)
                load.servers = []
    print(f"crash: {load.total()} events acknowledged, {time.monotonic() - began:.0f} s", flush=True)
    assert not load.refused
    with serving(tmp_path, *options) as server:
        assert server.call("GET", "/health/ready").status == 200  # the first request lets the rest be applied
        while waiting := ImportQueue(tmp_path / "data").state().waiting:
            wait_until(lambda: ImportQueue(tmp_path / "data").state().waiting < waiting, "another is applied")
        assert ImportQueue(tmp_path / "data").contents.aside() == {}
        profiles = exported("--data-dir", str(tmp_path / "data"))
        for profile in chance.sample(profiles, min(PROFILES_COUNTED, len(profiles))):
            counted_exactly(server, profile)
    each_is_there_once(load, profiles)
    for file in (tmp_path / "data").glob("*/cache.db"):
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def each_is_there_once(load: Load, profiles: list[dict[str, Any]]) -> None:
    found = Counter(event["event"]["messageId"] for profile in profiles for event in profile["events"])
    acknowledged = [message for client in load.acknowledged for message in client]
    assert {message: found[message] for message in acknowledged if found[message] != 1} == {}
    assert set(found.values()) == {1}  # also what was kept and not acknowledged any more


def exported(*where: str) -> list[dict[str, Any]]:
    """Every profile with its events, as the command gives them out."""
    command = [sys.executable, "-m", "ninetailed_wsgi", "export", "acme/main", "--events"]
    run = subprocess.run(
        [*command, *where, *WHOLE_HISTORY[:2]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def counted_exactly(server: Server, profile: dict[str, Any]) -> None:
    """One click less than the next audience asks for does not make the visitor a member of it, one more does."""
    path = f"{PROFILES}/{profile['profile']['id']}"
    clicks = sum(event["event"]["type"] == "track" for event in profile["events"])
    asked = min(times for times in TIMES if times > clicks + 1)
    for number, more in enumerate([asked - 1 - clicks, 1]):
        for start in range(0, more, 200):
            sent = [track(f"more-{number}-{event}") for event in range(start, min(start + 200, more))]
            answer = server.call("POST", path, {"events": sent})
        expected = {f"{times}-times" for times in TIMES if times <= clicks + more}
        clicks += more
        assert set(answer.json()["data"]["profile"]["audiences"]) == expected
