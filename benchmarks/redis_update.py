"""Measures what an update of a profile costs on Redis: the script that compares and sets beside WATCH, MULTI and EXEC.

Run it with ``python benchmarks/redis_update.py``; it starts a Redis of its own on a free port and ends it. Both ways
take turns in every round. Each update reads a record of a usual size, counts in it, writes it and appends an event to a
history of at most 500: first of many profiles in turn by one thread, then of one profile by eight at the same time. At
the end: how many commands and bytes a page event of a known visitor takes through the whole app.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import redis

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from redis_servers import Redis, running  # noqa: E402
from support import NOWHERE, Server, page, profile_path  # noqa: E402

from ninetailed_wsgi.core.names import Key  # noqa: E402
from ninetailed_wsgi.store.protocol import StoreEntry, Write  # noqa: E402
from ninetailed_wsgi.store.redis.server import RedisServer  # noqa: E402
from ninetailed_wsgi.store.redis.store import RedisStore  # noqa: E402

ROUNDS, UPDATES, PROFILES, THREADS, HOT = 15, 200, 100, 8, 25
RECORD = {"id": "4f3c6c5f0a0f4a6e8b1d0c9b7a695847", "traits": {"plan": "pro"}, "seen": "0123456789ab" * 100, "count": 0}
EVENT = orjson.dumps(page("/pricing"))


class Watching:
    """The same update without a script: WATCH, read, MULTI, write, EXEC, and again when EXEC says no."""

    def __init__(self, server: Redis) -> None:
        self._client = redis.Redis(port=server.port, db=1, protocol=2)

    def update(self, key: Key) -> None:
        name = f"w:{{{key.name}}}"
        with self._client.pipeline() as pipe:
            while True:
                try:
                    pipe.watch(name)
                    raw = pipe.get(name)
                    document = orjson.loads(raw) if raw else dict(RECORD)
                    document["count"] += 1
                    pipe.multi()
                    pipe.set(name, orjson.dumps(document))
                    pipe.rpush(name + ":h", EVENT)
                    pipe.ltrim(name + ":h", -500, -1)
                    pipe.execute()
                    return
                except redis.WatchError:
                    continue


class Scripted:
    """The store's own update."""

    def __init__(self, server: Redis) -> None:
        self._store = RedisStore(RedisServer(server.url(0)), timeout=60)

    def update(self, key: Key) -> None:
        def count(_: Key, entry: StoreEntry) -> Write:
            document: dict[str, Any] = entry.document or dict(RECORD)
            document["count"] += 1
            return Write(document, [(time.time_ns() // 1_000_000, EVENT)])

        self._store.update([key], count)


class ScriptedAfterRead(Scripted):
    """As the service does it: the profile was looked up just before."""

    def update(self, key: Key) -> None:
        self._store.read(key)
        super().update(key)


def one_thread(update: Callable[[Key], None]) -> float:
    """Microseconds per update of profiles in turn."""
    keys = [Key("org", "main", f"visitor {number}") for number in range(PROFILES)]
    begun = time.perf_counter()
    for number in range(UPDATES):
        update(keys[number % PROFILES])
    return (time.perf_counter() - begun) / UPDATES * 1e6


def hot(update: Callable[[Key], None]) -> float:
    """Microseconds per update when eight threads update one profile."""
    key = Key("org", "main", "hot")
    threads = [threading.Thread(target=lambda: [update(key) for _ in range(HOT)]) for _ in range(THREADS)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (time.perf_counter() - begun) / (THREADS * HOT) * 1e6


def traffic(server: Redis, name: str = "script") -> tuple[int, int, int]:
    """Commands that came over the network, bytes to the server and bytes from it, so far."""
    # Those that a script calls are counted by Redis too, and not wanted here.
    sent = ("get", "lrange", "eval", "evalsha")
    if name == "WATCH":
        sent = ("watch", "get", "multi", "set", "rpush", "ltrim", "exec")
    stats, whole = server.client.info("commandstats"), server.client.info("stats")
    count = sum(stats.get(f"cmdstat_{each}", {"calls": 0})["calls"] for each in sent)
    return count, whole["total_net_input_bytes"], whole["total_net_output_bytes"]


def whole_requests(server: Redis, folder: Path) -> None:
    """What one page event of a known visitor takes, through the app."""
    app = Server(folder, store=RedisStore(RedisServer(server.url(2))), clock=None)
    app.clock.now = time.time_ns() // 1_000_000
    api = app.environment("org", "main")
    for number in range(50):
        api.update(f"visitor {number % 10}", page("/pricing"))
    before, count = traffic(server), 200
    idle = tuple(later - first for first, later in zip(traffic(server), traffic(server), strict=True))
    for number in range(count):
        api.request("POST", profile_path(f"visitor {number % 10}"), json={"events": [page("/")]}, remote_addr=NOWHERE)
    after = traffic(server)
    spent = [(late - early - 3 * own) / count for early, late, own in zip(before, after, idle, strict=True)]
    print(f"a page event of a known visitor: {spent[0]:.2f} commands, {spent[1]:,.0f} bytes out, {spent[2]:,.0f} in")


def main(folder: Path) -> None:
    with running() as server:
        ways = {"script": Scripted(server), "read, then script": ScriptedAfterRead(server), "WATCH": Watching(server)}
        cold: dict[str, list[float]] = {name: [] for name in ways}
        contended: dict[str, list[float]] = {name: [] for name in ways}
        spent: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                before = traffic(server, name)[0]
                cold[name].append(one_thread(way.update))
                spent[name] = (traffic(server, name)[0] - before) / UPDATES
                contended[name].append(hot(way.update))
        print(f"{'':<20}{'commands sent':>14}{'us/update':>12}{'us, 8 on one':>14}")
        for name in ways:
            medians = statistics.median(cold[name]), statistics.median(contended[name])
            print(f"{name:<20}{spent[name]:>14.2f}{medians[0]:>12.0f}{medians[1]:>14.0f}")
        whole_requests(server, folder)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        main(Path(temporary))
