"""Stores for tests: each test gets a new one of every kind that a statement holds for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Clock

from ninetailed_wsgi.store.base import Store
from ninetailed_wsgi.store.disk import DiskStore
from ninetailed_wsgi.store.overlay import Overlay

MakeStore = Callable[..., Any]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_disk(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., DiskStore]]:
    """Opens disk stores, by default in one and the same folder, and closes them in the end.

    A row of theirs takes few events, so that histories of a few events lie in rows of every kind.
    """
    monkeypatch.setattr("ninetailed_wsgi.store.disk._EVENTS_IN_ROW", 80)
    opened: list[DiskStore] = []

    def make(folder: Path = tmp_path / "data", **options: Any) -> DiskStore:
        opened.append(DiskStore(folder, **{"shards": 2, "timeout": 0.2, "clock": clock, **options}))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture(params=["disk"])
def make_kept(request: pytest.FixtureRequest) -> MakeStore:
    """Makes stores that keep what they are given, of every kind there is."""
    return request.getfixturevalue(f"make_{request.param}")


@pytest.fixture(params=["disk", "overlay on disk"])
def store(request: pytest.FixtureRequest) -> Store:
    """A store of every kind."""
    kind = request.param.removeprefix("overlay on ")
    kept: Store = request.getfixturevalue(f"make_{kind}")()
    return kept if kind == request.param else Overlay(kept)


@pytest.fixture
def disk(make_disk: Callable[..., DiskStore]) -> DiskStore:
    return make_disk()
