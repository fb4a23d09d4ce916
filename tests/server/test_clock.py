"""The clock is set back or ahead while the service runs: events, sessions, history and imports stay right."""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import support
from support import DAY, HOUR, START, Api, milliseconds, page

from ninetailed_wsgi.commands import expire
from ninetailed_wsgi.commands.console import Console
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.store.disk.queue import ImportQueue
from ninetailed_wsgi.store.disk.store import DiskStore
from tests.serving import GEO, PREFIX, PROFILES, SERVERS, call, running, track, wait_until

YEAR = 365 * DAY
CLICKED_TWICE = {
    "id": "twice",
    "name": "twice",
    "rules": {"any": [{"all": [{"type": "track", "value": "click", "operator": "equal", "count": "2"}]}]},
}


@pytest.fixture
def api(make_server: Callable[..., support.Server]) -> Api:
    server = make_server(content={"audiences": [CLICKED_TWICE], "experiences": []})
    return server.environment("org", "main")


def ordinals(api: Api, name: str) -> list[int]:
    store = api.server.store
    return [ordinal for ordinal, _, _ in store.read(Key("org", "main", name)).history()]


def test_events_after_the_clock_was_set_back_follow_those_before_and_are_all_counted(api: Api) -> None:
    api.update("anna", page(), support.track())
    api.clock.pass_(-HOUR)
    after = api.update("anna", support.track())["profile"]
    assert after["audiences"] == ["twice"]
    assert ordinals(api, "anna") == [0, 1, 2]
    api.clock.pass_(HOUR)
    assert api.update("anna", page())["profile"]["audiences"] == ["twice"]
    assert ordinals(api, "anna") == [0, 1, 2, 3]


def test_a_clock_set_back_within_a_session_goes_on_with_it_and_one_set_back_further_begins_another(api: Api) -> None:
    first = api.update("anna", page())["profile"]["session"]
    api.clock.pass_(-10 * support.MINUTE)
    again = api.update("anna", page())["profile"]["session"]
    assert (again["id"], again["count"], again["isReturningVisitor"]) == (first["id"], 1, False)
    assert again["activeSessionLength"] == 600
    api.clock.pass_(-5 * HOUR)
    assert api.update("anna", page())["profile"]["session"]["count"] == 2
    assert all(length >= 0 for length in (again["activeSessionLength"], again["averageSessionLength"]))


def test_a_clock_far_ahead_for_a_while_costs_the_history_that_was_too_old_then_and_nothing_else(api: Api) -> None:
    api.update("anna", page(), support.track(), support.track())
    api.update("ben", page())
    api.clock.pass_(10 * YEAR)
    api.update("anna", page())
    api.clock.pass_(-10 * YEAR)
    assert api.update("anna", page())["profile"]["audiences"] == ["twice"]  # what was counted stays counted
    assert ordinals(api, "anna") == [3, 4]  # as each is kept for 365 days
    assert ordinals(api, "ben") == [0]  # who was not written meanwhile


def test_a_clock_set_back_expires_nobody(api: Api, tmp_path: Path) -> None:
    api.update("anna", page())
    store = api.server.store
    assert isinstance(store, DiskStore)
    out = io.StringIO()
    console = Console(out, io.StringIO())
    expire.expire(store, Environment("org", "main"), 1, milliseconds(START) - 10 * YEAR, console, dry_run=False)
    assert out.getvalue() == "0 deleted, 1 kept\n"
    assert api.knows("anna")


def test_batches_accepted_after_the_clock_was_set_back_wait_behind_those_before(api: Api) -> None:
    queue = ImportQueue(api.server.folder, clock=api.clock)
    for batch in (b"1", b"2", b"3"):
        queue.put(batch)
        api.clock.pass_(-DAY)
    assert queue.state().oldest == 0.0  # never less
    found = []
    while (head := queue.head()) is not None:
        found.append(head.batch)
        queue.finish(head.number)
    assert found == [b"1", b"2", b"3"]
    queue.close()


SERVE = """
import sys, time
real, real_ns = time.time, time.time_ns
def jumped():
    with open(sys.argv[1]) as file:
        return int(file.read() or 0)
time.time = lambda: real() + jumped()
time.time_ns = lambda: real_ns() + jumped() * 10**9
from ninetailed_wsgi.commands.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("kind", SERVERS)
def test_a_served_app_goes_on_through_jumps_of_the_wall_clock(kind: str, tmp_path: Path) -> None:
    clock, content = tmp_path / "clock", tmp_path / "content.json"
    clock.write_text("0")
    content.write_text(json.dumps({"audiences": [], "experiences": []}))
    options = ["--data-dir", str(tmp_path / "data"), "--content", str(content), "--geoip-database", str(GEO)]
    serve = ["serve", "--server", kind, "--bind", "127.0.0.1:0", "--workers", "2", *options]
    with running([sys.executable, "-c", SERVE, str(clock), *serve], tmp_path) as server, server.connection() as kept:
        wait_until(lambda: len(server.workers()) == 2, "both workers run")
        workers, numbers = server.workers(), itertools.count()
        for seconds in (0, 3600, -3600, -86_400 * 400, 86_400 * 400, 0):
            clock.write_text(f"{seconds:<20}")
            for _ in range(3):
                number = next(numbers)
                assert call(kept, "POST", f"{PROFILES}/anna", {"events": [track(f"update-{number}")]}).status == 200
                imported = {**track(f"import-{number}"), "anonymousId": "ben"}
                assert call(kept, "POST", PREFIX + "/import/events", {"events": [imported]}).status == 200
        content.write_text(json.dumps({"audiences": [{**CLICKED_TWICE, "id": "new"}], "experiences": []}))

        def new_content_is_served() -> bool:
            body = {"events": [track("seen", "click"), track("seen-too", "click")]}
            profile = call(kept, "POST", f"{PROFILES}/eva", body).json()["data"]["profile"]
            return bool(profile["audiences"] == ["new"])

        wait_until(new_content_is_served, "new content is served")
        wait_until(lambda: ImportQueue(tmp_path / "data").state().waiting == 0, "what was accepted is applied")
        assert server.workers() == workers
        assert "[ERROR]" not in server.printed.read_text()
    store = DiskStore(tmp_path / "data", history_days=1000)
    for name, kind in (("anna", "update"), ("ben", "import")):
        document = store.read(Key("acme", "main", name))
        assert document.next_ordinal == 18
        messages = [event["messageId"] for _, _, event in document.history()]
        assert len(messages) == len(set(messages))
        assert messages[-1] == f"{kind}-17"
    store.close()
