"""Three servers on one Redis, and on a Cluster: both are killed under load, and nothing is lost or doubled.

`make redis`. `SEED` repeats a run.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis_servers import Cluster, Redis, running

from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.store.redis.queue import RedisQueue
from ninetailed_wsgi.store.redis.server import RedisServer
from tests.server.test_crash import (
    SEED,
    WHOLE_HISTORY,
    Body,
    Load,
    batches,
    each_is_there_once,
    exported,
    imports,
    merges,
    posting,
)
from tests.serving import PROFILES, Server, serving, track, wait_until

pytestmark = pytest.mark.redis

SERVERS, COLD = 3, 1000
BLOWS = 3
"""How often a server is killed, and how often a master."""


def hot(client: str) -> Iterator[Body]:
    """All to one profile."""
    for n in itertools.count():
        yield f"{PROFILES}/hot", [track(f"{client}-{n}")]


def cold(client: str) -> Iterator[Body]:
    """One event at a time to a thousand profiles."""
    chance = random.Random(f"{SEED} {client}")
    for n in itertools.count():
        yield f"{PROFILES}/cold-{chance.randrange(COLD)}", [track(f"{client}-{n}")]


CLIENTS = [hot, hot, cold, cold, cold, merges, batches, imports]


class Servers:
    """Three servers on one store, of which one may be killed and started anew."""

    def __init__(self, stack: ExitStack, folder: Path, url: RedisUrl, *options: str) -> None:
        self._stack = stack
        self._folder = folder
        self._options = ("--store", str(url), "--workers", "1", *WHOLE_HISTORY, *options)
        self._started = itertools.count()
        self.running = [self._start() for _ in range(SERVERS)]

    def kill_one(self, chance: random.Random, load: Load) -> None:
        """SIGKILL to a server and its worker at once; another one takes its place."""
        killed = chance.choice(self.running)
        for process in (killed.process.pid, *killed.workers()):
            os.kill(process, signal.SIGKILL)
        self.running.remove(killed)
        load.servers = list(self.running)
        self.running.append(self._start())
        load.servers = list(self.running)

    def _start(self) -> Server:
        folder = self._folder / f"server-{next(self._started)}"
        folder.mkdir()
        return self._stack.enter_context(serving(folder, *self._options))


def prove(tmp_path: Path, url: RedisUrl, blow: Callable[[random.Random], None], *options: str) -> None:
    """Post from eight clients while servers are killed and ``blow`` is struck, and count what is there afterwards."""
    chance, load = random.Random(SEED), Load(CLIENTS)
    print(f"\nseveral servers: SEED={SEED}", flush=True)
    with ExitStack() as stack:
        servers = Servers(stack, tmp_path, url, *options)
        load.servers = list(servers.running)
        with posting(load):
            for _ in range(BLOWS):
                load.gets_on(300)
                servers.kill_one(chance, load)
                load.gets_on(300)
                blow(chance)
            load.gets_on(300)
        queue = RedisQueue(RedisServer(url))
        while waiting := queue.state().waiting:
            wait_until(lambda: queue.state().waiting < waiting, "another import is applied", 60)
        assert queue.contents.aside() == {}
    assert not load.refused
    assert all(load.acknowledged)
    profiles = exported("--store", str(url))
    each_is_there_once(load, profiles)
    users = [alias for profile in profiles for alias in profile["aliases"] if "-user-" in alias]
    assert len(users) == len(set(users))  # whoever identified as one user is one visitor


def test_nothing_is_lost_or_doubled_though_servers_and_redis_are_killed(tmp_path: Path, redis_program: None) -> None:
    with running("--appendonly", "yes", "--appendfsync", "always") as redis:

        def blow(chance: random.Random) -> None:
            redis.kill()
            redis.start()

        prove(tmp_path, redis.url(), blow)


@pytest.fixture
def cluster(redis_program: None, tmp_path: Path) -> Iterator[Cluster]:
    """Three masters, each with a replica."""
    made = Cluster(tmp_path, "--appendonly", "yes", replicas=True)
    yield made
    made.end()


def test_nothing_is_lost_or_doubled_though_servers_and_masters_of_a_cluster_are_killed(
    tmp_path: Path, cluster: Cluster
) -> None:
    nodes = [*cluster.servers, *cluster.replicas]

    def masters() -> list[Redis]:
        return [node for node in nodes if node.client.info("replication")["role"] == "master"]

    def has_replica(node: Redis) -> bool:
        # One that still copies its master is connected, but cannot take over.
        first: Any = node.client.info("replication").get("slave0", {})
        return first.get("state") == "online"

    def is_whole() -> bool:
        there = masters()
        return len(there) == len(cluster.servers) and all(map(has_replica, there))

    def blow(chance: random.Random) -> None:
        wait_until(is_whole, "every master has its replica")
        killed = chance.choice(masters())
        killed.kill()
        nodes.remove(killed)
        wait_until(lambda: len(masters()) == len(cluster.servers), "a replica takes over")
        killed.start()
        nodes.append(killed)

    prove(tmp_path, cluster.url, blow, "--store-wait-replicas", "1")
