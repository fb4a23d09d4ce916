"""The service and its commands with the profiles on Redis: what a person sees, also in an outage."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from redis_servers import Redis

from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.store.redis.queue import RedisQueue
from ninetailed_wsgi.store.redis.server import RedisServer
from tests.serving import PREFIX, PROFILES, free_port, page, serving, track, wait_until

WHERE = "acme/main"


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("NINETAILED_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_two_servers_share_profiles_and_imports_and_serve_again_after_an_outage(
    own_redis: Redis, tmp_path: Path
) -> None:
    url = str(own_redis.url())
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    options = ("--store", url, "--store-timeout", "20", "--workers", "1")
    with serving(tmp_path / "first", *options) as first, serving(tmp_path / "second", *options) as second:
        assert f"store         {url} (Redis" in first.printed.read_text()
        assert first.call("POST", f"{PROFILES}/anna", {"events": [track("1")]}).status == 200
        assert second.call("GET", f"{PROFILES}/anna").status == 200
        batch = {"events": [{**track("2"), "anonymousId": "ben"}]}
        assert second.call("POST", f"{PREFIX}/import/events", batch).status == 200
        wait_until(lambda: first.call("GET", f"{PROFILES}/ben").status == 200, "it is applied")

        own_redis.kill()
        for server in (first, second):
            answer = server.call("POST", f"{PROFILES}/anna", {"events": [track("3")]})
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert server.call("GET", "/health/live").status == 200
            assert server.call("GET", "/health/ready").status == 503
        own_redis.start()
        for server in (first, second):
            assert server.call("GET", "/health/ready").status == 200
            assert server.call("POST", f"{PROFILES}/anna", {"events": [track("3")]}).status == 200
    assert [path.name for path in tmp_path.rglob("*") if path.name == "data"] == []


@pytest.mark.redis
def test_who_watches_at_one_server_sees_what_arrives_at_another(redis_url: RedisUrl, tmp_path: Path) -> None:
    options = ("--store", str(redis_url), "--workers", "1", "--inspector")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with serving(tmp_path / "first", *options) as first, serving(tmp_path / "second", *options) as second:

        def seen() -> dict[str, Any]:
            arrivals = first.call("GET", f"/inspector/live.json?in={WHERE}").json()["data"]["arrivals"]
            return {each["profileId"]: each for each in arrivals}

        def send(name: str) -> None:
            assert second.call("POST", f"{PROFILES}/{name}", {"events": [page(name, "/journal")]}).status == 200

        send("before")
        assert seen() == {}, "nobody watched"
        names = (f"anna{number}" for number in itertools.count())

        def arrives() -> bool:
            """Send until the other server has learned, within a second, that somebody watches here."""
            send(next(names))
            return bool(seen())

        wait_until(arrives, "what one server gets is seen at the other")
        (arrival, *_) = seen().values()
        assert (arrival["source"], arrival["events"]) == ("request", [{"type": "page", "what": "/journal"}])
        assert second.call("POST", f"{PROFILES}/ben", {"events": [{"type": "odd"}]}).status == 400
        assert seen()["ben"]["refused"].startswith("400: "), "a refused request too"
        text = first.call("GET", f"/inspector/live?in={WHERE}").body.decode()
        assert all(part in text for part in ("/journal", "Refused", f"/inspector/visitors/{arrival['profileId']}"))
        drafts = first.call("GET", f"/inspector/what-if?in={WHERE}").body.decode()
        assert "other servers on the same Redis have their own" in drafts
        assert second.call("DELETE", f"{PROFILES}/{arrival['profileId']}").status == 200
        assert seen() == {}, "who is deleted at one server is shown at none"


def run(capsys: pytest.CaptureFixture[str], url: RedisUrl, *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    status = main([*arguments, "--store", str(url)])
    captured = capsys.readouterr()
    return status, captured.out or captured.err


def test_the_commands_work_on_redis(redis_url: RedisUrl, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "visits.ndjson"
    file.write_text("".join(json.dumps({**track(str(n)), "anonymousId": f"v{n % 7}"}) + "\n" for n in range(50)))
    assert run(capsys, redis_url, "import", str(file), WHERE) == (0, "50 lines: 50 events imported, 0 rejected\n")
    status, stats = run(capsys, redis_url, "stats")
    assert status == 0
    assert "acme/main: 7 profiles, 0 aliases, 50 events, " in stats
    assert stats.endswith(" bytes in the memory of Redis\n")
    status, exported = run(capsys, redis_url, "export", WHERE, "--events")
    lines = [json.loads(line) for line in exported.splitlines()]
    assert (status, len(lines), sum(len(line["events"]) for line in lines)) == (0, 7, 50)
    status, explained = run(capsys, redis_url, "explain", WHERE, "v1")
    assert status == 0
    assert "v1" in explained
    (tmp_path / "gone.txt").write_text("v1\nnobody\n")
    assert run(capsys, redis_url, "delete", WHERE, str(tmp_path / "gone.txt")) == (0, "1 deleted, 1 not found\n")
    assert run(capsys, redis_url, "expire", WHERE, "--inactive-days", "1") == (0, "0 deleted, 6 kept\n")
    compacted = "unused names were removed; Redis frees its space by itself\n"
    assert run(capsys, redis_url, "compact") == (0, compacted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone.txt", "visits.ndjson"]


def test_check_says_what_it_found_of_redis_and_changes_nothing(
    own_redis: Redis, redis_url: RedisUrl, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = run(capsys, own_redis.url(), "check")
    assert status == 0
    assert f"ok    store         {own_redis.url()} (Redis 7" in found or "(Valkey" in found
    assert "append-only file, fsync always" in found
    assert "0 of at most 10000 waiting, 0 set aside" in found
    assert own_redis.client.dbsize() == 0
    RedisQueue(RedisServer(own_redis.url())).put(b"1")
    assert "1 of at most 10000 waiting" in run(capsys, own_redis.url(), "check")[1]
    assert "a restart loses every profile" in run(capsys, redis_url, "check")[1]

    own_redis.client.config_set("maxmemory-policy", "allkeys-lru")
    status, found = run(capsys, own_redis.url(), "check")
    assert status == 1
    assert "fail  store" in found
    assert "maxmemory-policy allkeys-lru" in found
    status, found = run(capsys, own_redis.url(), "serve")
    assert status == 2
    assert "cannot start" in found
    assert "noeviction" in found


def test_a_server_that_is_not_there_is_no_start(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"redis://anna:s3cret@127.0.0.1:{free_port()}/0"
    assert main(["serve", "--store", url]) == 2
    assert main(["check", "--store", url]) == 1
    captured = capsys.readouterr()
    assert "is not available" in captured.err
    assert "is not available" in captured.out
    assert "s3cret" not in captured.out + captured.err
