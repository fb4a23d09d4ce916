"""Stores for tests: each test gets a new one of every kind that a statement holds for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_servers import Redis
from support import Clock

from ninetailed_wsgi.store.disk.queue import ImportQueue
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.overlay import Overlay
from ninetailed_wsgi.store.protocol import KeptStore, Queue, Store
from ninetailed_wsgi.store.redis.queue import RedisQueue
from ninetailed_wsgi.store.redis.server import RedisServer
from ninetailed_wsgi.store.redis.store import RedisStore

MakeStore = Callable[..., Any]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_disk(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., DiskStore]]:
    """Opens disk stores, by default in one and the same folder, and closes them in the end.

    A row of theirs takes few events, so that histories of a few events lie in rows of every kind.
    """
    monkeypatch.setattr("ninetailed_wsgi.store.disk.history._EVENTS_IN_ROW", 80)
    opened: list[DiskStore] = []

    def make(folder: Path = tmp_path / "data", **options: Any) -> DiskStore:
        opened.append(DiskStore(folder, **{"shards": 2, "timeout": 0.2, "clock": clock, **options}))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def make_redis(redis_server: Redis, clock: Clock) -> Iterator[Callable[..., RedisStore]]:
    """Opens Redis stores, by default on one and the same database; a folder stands for a database of its own."""
    redis_server.client.flushall()
    databases: dict[Path | None, int] = {}
    opened: list[RedisStore] = []

    def make(folder: Path | None = None, *, shards: int = 0, timeout: float = 5.0, **options: Any) -> RedisStore:
        server = RedisServer(redis_server.url(databases.setdefault(folder, len(databases))))
        opened.append(RedisStore(server, **{"timeout": timeout, "clock": clock, **options}))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture(params=["disk", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    """The kinds of stores that keep what they are given."""
    return str(request.param)


@pytest.fixture
def make_kept(request: pytest.FixtureRequest, kind: str) -> MakeStore:
    """Makes stores of every kind that keep what they are given; in a folder, which stands for a place of its own."""
    return request.getfixturevalue(f"make_{kind}")


@pytest.fixture
def kept(make_kept: MakeStore) -> KeptStore:
    return make_kept()


@pytest.fixture(params=["disk", "overlay on disk", "redis", "overlay on redis"])
def store(request: pytest.FixtureRequest) -> Store:
    """A store of every kind."""
    kind = request.param.removeprefix("overlay on ")
    below: Store = request.getfixturevalue(f"make_{kind}")()
    return below if kind == request.param else Overlay(below)


@pytest.fixture
def disk(make_disk: Callable[..., DiskStore]) -> DiskStore:
    return make_disk()


# Import queues


@pytest.fixture
def data(tmp_path: Path, disk: DiskStore) -> Path:
    """A data folder with a store."""
    return tmp_path / "data"


@pytest.fixture
def make_disk_queue(data: Path, clock: Clock) -> Iterator[Callable[..., ImportQueue]]:
    opened: list[ImportQueue] = []

    def make(folder: Path = data, **options: Any) -> ImportQueue:
        opened.append(ImportQueue(folder, **{"timeout": 0.2, "clock": clock, **options}))
        return opened[-1]

    yield make
    for queue in opened:
        queue.close()


@pytest.fixture
def make_redis_queue(make_redis: Callable[..., RedisStore], clock: Clock) -> Callable[..., RedisQueue]:
    def make(folder: Path | None = None, **options: Any) -> RedisQueue:
        # Another process has connections of its own.
        return RedisQueue(make_redis(folder).server, **{"clock": clock, **options})

    return make


@pytest.fixture
def make_queue(request: pytest.FixtureRequest, kind: str) -> Callable[..., Queue]:
    """Opens one and the same queue, of each kind, each time as another process would."""
    make: Callable[..., Queue] = request.getfixturevalue(f"make_{kind}_queue")
    return make


@pytest.fixture
def queue(make_queue: Callable[..., Queue]) -> Queue:
    return make_queue()
