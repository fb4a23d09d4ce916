"""`serve --expire-after DAYS` removes inactive visitors by itself, in small steps, by one worker of a server."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from support import DAY, Api, Clock, Server, identify, page

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.operations.metrics import Metrics
from ninetailed_wsgi.service.expiry import PASS_EVERY, Expiry
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.disk.store import DiskStore
from tests.serving import PROFILES, SERVERS, serving, track, wait_until

Make = Callable[..., Server]
DAYS = 30


@pytest.fixture
def lock() -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        yield file


@pytest.fixture(params=["disk", "redis"])
def api(request: pytest.FixtureRequest, make_server: Make, tmp_path: Path) -> Api:
    clock = Clock()
    if request.param == "redis":
        store = request.getfixturevalue("make_redis_store")(clock)
    else:
        store = DiskStore(tmp_path / "profiles", shards=2, clock=clock)
    return make_server(clock=clock, store=store).environment("org", "main")


class Counts(Metrics):
    """Counts the removed visitors here instead of in the process."""

    def __init__(self) -> None:
        self.removed = 0

    def expired(self) -> None:
        self.removed += 1


def expiry_of(api: Api, lock: BinaryIO, **options: Any) -> Expiry:
    """An expiry for which time passes as it does for the store."""
    clock = api.server.clock
    options = {"is_busy": lambda: False, "seconds": lambda: clock() / 1000, **options}
    return Expiry(api.server.store, DAYS, lock, clock=clock, **options)


def test_only_visitors_without_an_event_for_so_many_days_are_removed_with_all_their_names(
    api: Api, lock: BinaryIO
) -> None:
    counts = Counts()
    expiry = expiry_of(api, lock, metrics=counts)
    api.update("anna", page(), identify("anna@example.com"))
    api.clock.pass_(DAY)
    api.update("ben", page())
    api.clock.pass_(DAYS * DAY)
    expiry.step()
    assert (api.knows("anna"), api.knows("anna@example.com"), api.knows("ben")) == (False, False, True)
    assert counts.removed == 1


def test_one_pass_follows_another_an_hour_later(api: Api, lock: BinaryIO) -> None:
    expiry = expiry_of(api, lock)
    expiry.step()
    api.update("anna", page(timestamp="2020-01-01T00:00:00Z"))
    expiry.step()
    assert api.knows("anna")
    api.clock.pass_(int(PASS_EVERY * 1000))
    expiry.step()
    assert not api.knows("anna")


def test_a_step_ends_after_one_visitor_while_requests_run_and_the_next_one_resumes(api: Api, lock: BinaryIO) -> None:
    for number in range(5):
        api.update(f"v{number}", page())
    api.clock.pass_((DAYS + 1) * DAY)
    counts = Counts()
    expiry = expiry_of(api, lock, metrics=counts, is_busy=lambda: True)
    removed = []
    for _ in range(6):
        expiry.step()
        removed.append(counts.removed)
    assert removed == [1, 2, 3, 4, 5, 5]
    assert not any(api.knows(f"v{number}") for number in range(5))


def test_a_step_is_short_also_when_nobody_asks_anything(api: Api, lock: BinaryIO) -> None:
    for number in range(5):
        api.update(f"v{number}", page())
    api.clock.pass_((DAYS + 1) * DAY)
    seconds = iter(range(1000))
    counts = Counts()
    expiry_of(api, lock, metrics=counts, seconds=lambda: next(seconds)).step()
    assert counts.removed == 1


def test_a_visitor_who_comes_back_while_a_pass_runs_stays(api: Api, lock: BinaryIO) -> None:
    for name in ("anna", "ben"):
        api.update(name, page())
    api.clock.pass_((DAYS + 1) * DAY)
    expiry = expiry_of(api, lock, is_busy=lambda: True)
    expiry.step()
    (left,) = [name for name in ("anna", "ben") if api.knows(name)]
    api.update(left, page())
    expiry.step()
    assert api.knows(left)


def test_visitors_of_environments_that_are_not_served_stay(api: Api, lock: BinaryIO) -> None:
    api.update("anna", page())
    other = api.server.environment("org", "other")
    other.update("ben", page())
    api.clock.pass_((DAYS + 1) * DAY)
    expiry_of(api, lock, environments=[Environment("org", "main")]).step()
    assert (api.knows("anna"), other.knows("ben")) == (False, True)


def test_a_clock_that_is_set_ahead_while_the_server_runs_removes_nobody(api: Api, lock: BinaryIO) -> None:
    api.update("anna", page())
    expiry = expiry_of(api, lock, seconds=lambda: 5.0)
    api.clock.pass_(10 * 365 * DAY)
    expiry.step()
    assert api.knows("anna")


def test_a_store_that_cannot_serve_is_asked_again_with_the_next_pass(
    api: Api, lock: BinaryIO, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api.update("anna", page())
    api.clock.pass_((DAYS + 1) * DAY)
    expiry = expiry_of(api, lock)

    def fails(*_: Any) -> Any:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(api.server.store, "update", fails)
        expiry.step()
    assert "inactive visitors are removed later: the disk is full" in caplog.text
    api.clock.pass_(int(PASS_EVERY * 1000))
    expiry.step()
    assert not api.knows("anna")


def test_one_worker_of_a_server_does_it_and_another_one_takes_over_when_it_ends(api: Api, lock: BinaryIO) -> None:
    api.update("anna", page())
    api.clock.pass_((DAYS + 1) * DAY)
    read, write = os.pipe()
    holds = f"import fcntl, os; fcntl.lockf(0, fcntl.LOCK_EX); print(1, flush=True); os.read({read}, 1)"
    with subprocess.Popen([sys.executable, "-c", holds], stdin=lock, stdout=subprocess.PIPE, pass_fds=[read]) as other:
        assert other.stdout is not None
        other.stdout.readline()
        expiry = expiry_of(api, lock)
        expiry.step()
        assert api.knows("anna")
        os.write(write, b"1")
    os.close(read)
    os.close(write)
    expiry.step()
    assert not api.knows("anna")


@pytest.mark.parametrize("kind", SERVERS)
def test_a_served_app_removes_inactive_visitors_and_counts_them(kind: str, tmp_path: Path) -> None:
    options = ("--server", kind, "--expire-after", "30", "--metrics", "--workers", "2")
    store = DiskStore(tmp_path / "data", shards=2)
    server = Server(tmp_path / "made", clock=Clock("2024-01-01T00:00:00Z"), store=store)
    server.environment("acme", "main").update("anna", page())
    store.close()
    with serving(tmp_path, *options) as served:
        assert served.call("POST", f"{PROFILES}/ben", {"events": [track("1")]}).status == 200
        wait_until(lambda: served.call("GET", f"{PROFILES}/anna").status == 404, "she is removed")
        assert served.call("GET", f"{PROFILES}/ben").status == 200
        wait_until(lambda: b"ninetailed_profiles_expired_total 1.0" in served.call("GET", "/metrics").body, "counted")


def test_nobody_expires_unless_told() -> None:
    assert Settings().expire_after == 0
    with pytest.raises(SettingsError, match=r"expire_after .*expected a whole number"):
        Settings.from_env({"NINETAILED_EXPIRE_AFTER": "soon"})
