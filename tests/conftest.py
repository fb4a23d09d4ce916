"""Fixtures for tests through the WSGI app: one server for many tests, each in an environment of its own."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis_servers
from folds import TwiceFolded
from support import START, Api, Clock, Once, Server

from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.redis.server import RedisServer
from ninetailed_wsgi.store.redis.store import RedisStore


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a Redis where there is none."""
    if redis_servers.PROGRAM is None:
        config.hook.pytest_deselected(items=[item for item in items if _needs_redis(item)])
        items[:] = [item for item in items if not _needs_redis(item)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if redis_servers.PROGRAM is None:
        terminalreporter.write_line(redis_servers.LEFT_OUT)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Makes something long for all test processes: the first one that asks gets a new folder for it, others its result.

    ``once(name, make)`` returns what ``make(folder)`` has returned, as JSON keeps it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def of(name: str, make: Callable[[Path], Any]) -> Any:
        file = shared / f"{name}.json"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                file.write_text(json.dumps(make(tmp_path_factory.mktemp(name))), encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    return of


def _needs_redis(item: pytest.Item) -> bool:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return "redis_program" in getattr(item, "fixturenames", ()) or any(
        kind in ("redis", "overlay on redis") for kind in parameters
    )


@pytest.fixture(scope="session")
def redis_program() -> None:
    """Marks what needs a Redis on this machine."""


@pytest.fixture
def own_redis(redis_program: None) -> Iterator[redis_servers.Redis]:
    """A server that a test may kill; it keeps each write on its disk before it answers."""
    with redis_servers.running("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(redis_program: None) -> Iterator[redis_servers.Redis]:
    """A Redis for many tests, each of which begins with it empty; it keeps nothing on its disk."""
    with redis_servers.running() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: redis_servers.Redis) -> RedisUrl:
    """The address of an empty store."""
    redis_server.client.flushall()
    return redis_server.url()


@pytest.fixture(scope="session")
def make_redis_store(redis_server: redis_servers.Redis) -> Callable[[Clock], RedisStore]:
    """Makes an empty store."""

    def make(clock: Clock) -> RedisStore:
        redis_server.client.flushall()
        return RedisStore(RedisServer(redis_server.url()), clock=clock)

    return make


@pytest.fixture(scope="module", params=["disk", "redis"])
def cases_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the conformance cases, with a store of each kind."""
    clock, folder = Clock(), tmp_path_factory.mktemp("cases")
    if request.param == "redis":
        store = request.getfixturevalue("make_redis_store")(clock)
    else:
        store = DiskStore(folder / "data", shards=2, timeout=0.2, clock=clock)
    made = Server(folder, clock=clock, store=TwiceFolded(store))
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With the demo's location database and no content; building an app takes a while, so tests share this one."""
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture
def api(shared_server: Server) -> Api:
    """A client of an environment that nobody used yet, at a time that is always the same."""
    shared_server.clock.is_at(START)
    return shared_server.environment()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers with settings, content or a store of their own."""
    made: list[Server] = []

    def make(**options: Any) -> Server:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Server(folder, **options))
        return made[-1]

    yield make
    for server in made:
        server.close()
