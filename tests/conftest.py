"""Fixtures for tests through the WSGI app: one server for many tests, each in an environment of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import START, Api, Server


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
