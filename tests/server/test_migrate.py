"""Moving everything to another store: `migrate` between folders and Redis, also while servers serve from one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis_servers import Redis
from support import identify, of, page, track

from ninetailed_wsgi.commands import migrate as migration
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.service.imports import Consumer
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.disk.contents import DiskContents
from ninetailed_wsgi.store.protocol import Write
from tests.serving import PREFIX, PROFILES, call, serving, wait_until

WHERE = Environment("acme", "main")
Open = Callable[[str], migration.Side]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("NINETAILED_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def urls(redis_server: Redis) -> list[str]:
    """Addresses of empty stores."""
    redis_server.client.flushall()
    return [str(redis_server.url(database)) for database in range(3)]


@pytest.fixture
def open_() -> Iterator[Open]:
    """Opens the store of a migration, whatever it is marked as."""
    opened: list[migration.Side] = []

    def open_place(where: str) -> migration.Side:
        settings = Settings(store=where) if "://" in where else Settings(data_dir=Path(where), store_shards=2)  # type: ignore[arg-type]
        opened.append(migration.open_place(settings, filling=True))
        return opened[-1]

    yield open_place
    for place in opened:
        place.store.close()
        place.queue.close()


@pytest.fixture
def filled(open_: Open) -> str:
    """A folder with something of everything that a store can hold."""
    place = open_("source")
    service = serve_from(place)
    for number in range(30):
        service.upsert(
            WHERE,
            f"v{number}",
            {"events": [page(), track(properties={"n": number, "price": 1.5, "name": "\u00fc\u2028"})]},
        )
    service.upsert(Environment("other", "\U0001f98a"), "v1", {"events": [track()]})
    for name in ("v1", "v2"):  # v2 becomes part of v1
        service.upsert(WHERE, name, {"events": [identify("anna@example.com")]})
    service.upsert(WHERE, "full", {"events": [track() for _ in range(200)]})
    place.store.update([WHERE.key("v3")], lambda _, entry: Write({**(entry.document or {}), "into": "v4"}))
    place.store.update([Key("\ud800", "", "")], lambda *_: Write({"to": "nobody", "nonce": 1}))
    for number in range(3):
        service.import_many(WHERE, {"events": [of(f"w{number}", track())]})
    head = place.queue.head()
    assert head is not None
    place.queue.set_aside(head, "RuntimeError: no good")
    return "source"


def serve_from(place: migration.Side) -> ExperienceService:
    """A service whose imports wait until they are drained."""
    service = ExperienceService(store=place.store, content=ContentFolder(None), queue=place.queue)
    service.consumer.ensure = lambda: None  # type: ignore[union-attr, method-assign]
    return service


def drain(place: migration.Side) -> None:
    assert Consumer(place.queue, serve_from(place).apply_import).drain()


def whole(place: migration.Side) -> list[Any]:
    """Everything that a store and its queue hold."""
    stored = [(key, orjson.dumps(document), end, past) for key, document, end, past in place.store.contents.dump()]
    return [sorted(stored), list(place.queue.contents.dump()), place.queue.contents.last()]


def events(place: migration.Side) -> Counter[str]:
    """How often each message id is in a history."""
    return Counter(
        orjson.loads(event)["messageId"] for each in place.store.contents.dump() for _, event in each.history
    )


def migrate(source: str, target: str, *flags: str) -> int:
    return main(["migrate", "--from", source, "--to", target, *flags])


def test_everything_moves_to_redis_and_back(
    filled: str, urls: list[str], open_: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    before = whole(open_(filled))
    assert migrate(filled, urls[0]) == 0
    assert capsys.readouterr().out.endswith("run the same command with --final\n")
    assert migrate(filled, urls[0], "--final") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("34 documents compared: 0 copied, 0 removed; 0 batches of imports copied")
    assert ": 34 documents, 30 profiles, 2 aliases, 263 events, 2 batches waiting, 1 set aside, checksum " in said[1]
    assert said[1].split(": ")[1] == said[2].split(": ")[1]
    assert said[3] == f"verified, both stores are equal: serve from {urls[0]}"

    assert migrate(urls[0], urls[1], "--final") == 0
    assert migrate(urls[1], "back", "--final") == 0
    assert migrate("back", "again", "--final") == 0
    for where in (filled, *urls[:2], "back", "again"):
        assert whole(open_(where)) == before
    again = open_("again")
    drain(again)
    assert set(events(again).values()) == {1}
    again.queue.put(b"{}")
    assert again.queue.contents.last() > before[2]


def test_a_second_run_copies_what_has_changed_and_removes_what_was_deleted(
    filled: str, urls: list[str], open_: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    source = open_(filled)
    service = serve_from(source)
    for target in (urls[0], "target"):
        assert migrate(filled, target) == 0
        service.upsert(WHERE, "v5", {"events": [track()]})
        service.upsert(WHERE, "new", {"events": [track()]})
        drain(source)
        service.import_many(WHERE, {"events": [of("w9", track())]})
        service.delete(WHERE, "v6" if target == urls[0] else "v7")
        capsys.readouterr()
        assert migrate(filled, target, "--final") == 0
        copied = f"{4 if target == urls[0] else 3} copied, 1 removed; 1 batches"
        assert copied in capsys.readouterr().out
        assert whole(open_(target)) == whole(source)


def test_an_import_that_was_applied_in_part_is_not_doubled(filled: str, urls: list[str], open_: Open) -> None:
    source = open_(filled)
    drain(source)
    service = serve_from(source)
    sent = [of(f"w{number % 3}", track()) for number in range(9)]
    service.import_many(WHERE, {"events": sent})
    head = source.queue.head()
    assert head is not None
    batch = {**json.loads(head.batch), "events": [*sent[:4], *[None] * 5]}
    service.apply_import(head.number, orjson.dumps(batch))  # and the process dies
    assert migrate(filled, urls[0], "--final") == 0
    target = open_(urls[0])
    drain(target)
    found = events(target)
    assert [found[event["messageId"]] for event in sent] == [1] * 9


DIES = """
import os, signal, sys
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.store.redis.contents import RedisContents
from ninetailed_wsgi.store.redis.queue_contents import RedisQueueContents
from ninetailed_wsgi.store.redis.store import RedisStore

def dies(name, owner, method):
    original, calls = getattr(owner, method), []
    def call(self, *arguments, **options):
        calls.append(name)
        if len(calls) == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *arguments, **options)
    if name == sys.argv[1]:
        setattr(owner, method, call)

dies("documents", RedisContents, "load")
dies("batches", RedisQueueContents, "load")
dies("end", RedisStore, "fill_from")
main(["migrate", "--from", sys.argv[3], "--to", sys.argv[4], "--final"])
"""


@pytest.mark.parametrize(("place", "call"), [("documents", 2), ("batches", 2), ("end", 2)])
def test_a_killed_migration_goes_on_and_nobody_uses_its_target_before_its_end(
    filled: str, urls: list[str], open_: Open, place: str, call: int, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", DIES, place, str(call), filled, urls[0]]
    killed = subprocess.run(command, check=False, timeout=120, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for reading in ("serve", "stats", "check"):
        assert main([reading, "--store", urls[0]]) != 0
        said = capsys.readouterr()
        assert f"{urls[0]} is being filled from {Path(filled).resolve()}" in said.out + said.err
    assert migrate("elsewhere", urls[0]) == 2
    assert migrate(filled, urls[0], "--final") == 0
    assert whole(open_(urls[0])) == whole(open_(filled))
    assert main(["stats", "--store", urls[0]]) == 0


def test_an_interrupted_migration_into_a_folder_says_how_it_goes_on(
    filled: str, urls: list[str], open_: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert migrate(filled, urls[0], "--final") == 0
    with monkeypatch.context() as patch:
        patch.setattr(DiskContents, "fetch", lambda self, digests: interrupt())
        assert migrate(filled, "target") == 130
    assert "interrupted; run the same command again to resume" in capsys.readouterr().err
    assert main(["stats", "--data-dir", "target"]) == 2
    assert main(["serve", "--data-dir", "target"]) == 2
    assert migrate(urls[0], "target") == 1
    assert f"target (--to) is being filled from {Path(filled).resolve()}" in capsys.readouterr().err
    assert migrate(filled, "target", "--final") == 0
    assert whole(open_("target")) == whole(open_(filled))
    assert main(["stats", "--data-dir", "target"]) == 0


def interrupt() -> Any:
    raise KeyboardInterrupt


def test_what_differs_in_the_end_is_named_and_the_target_is_not_released(
    filled: str, urls: list[str], redis_server: Redis, open_: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    assert migrate(filled, urls[0]) == 0
    client = redis_server.client
    [name] = [name for name in client.keys("nt:*:h") if client.llen(name) == 200]  # type: ignore[union-attr]
    client.rpop(name)
    capsys.readouterr()
    assert migrate(filled, urls[0], "--final") == 1
    said = capsys.readouterr().out
    assert "263 events" in said
    assert "262 events" in said
    assert "\n  acme/main 'full': the events differed\nthe stores differ: stop every server" in said
    assert main(["stats", "--store", urls[0]]) == 2
    assert migrate(filled, urls[0], "--final") == 0
    assert whole(open_(urls[0])) == whole(open_(filled))


def test_a_target_that_holds_something_else_is_refused(
    filled: str, urls: list[str], open_: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        return main(["migrate", *arguments]), capsys.readouterr().err

    other = open_(urls[0])
    serve_from(other).upsert(WHERE, "other", {"events": [track()]})
    status, said = refused("--from", filled, "--to", urls[0])
    assert (status, "contains profiles that no migration copied" in said) == (1, True)
    assert [stored.key.name for stored in other.store.contents.dump()] == ["other"]
    assert migrate(filled, urls[1], "--final") == 0
    status, said = refused("--from", filled, "--to", urls[1])  # it may be served from by now
    assert (status, "that no migration copied" in said) == (1, True)
    assert refused("--from", filled, "--to", f"./{filled}")[0] == 1
    assert refused("--from", urls[2], "--to", "new")[0] == 1
    assert refused("--from", "nowhere", "--to", "new")[0] == 2
    assert refused()[0] == 2
    status, said = refused("--from", filled, "--to", "redis://anna:s3cret@localhost:99999")
    assert status == 2
    assert "s3cret" not in said
    assert not Path("nowhere").exists()

    monkeypatch.setenv("NINETAILED_STORE", urls[2])  # such as an address with a password
    assert main(["migrate", "--from", filled, "--final"]) == 0
    assert whole(open_(urls[2])) == whole(open_(filled))


@pytest.mark.parametrize("source", ["disk", "redis"])
def test_what_a_server_acknowledges_during_a_migration_is_at_the_target_once(
    source: str, urls: list[str], tmp_path: Path, open_: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [str(tmp_path / "data"), urls[0]]
    at, target = places if source == "disk" else reversed(places)
    options = ("--workers", "1", *(("--store", at) if source == "redis" else ("--store-shards", "2")))
    acknowledged: list[list[str]] = []
    deleted: list[str] = []
    over = threading.Event()

    with serving(tmp_path, *options) as server:

        def write(client: int) -> None:
            with server.connection() as connection:
                for number in range(1, 10_000):
                    if over.is_set():
                        return
                    body = {"events": [track(), track()]}
                    ids = [event["messageId"] for event in body["events"]]
                    path = f"{PROFILES}/{client}-{number % 50}"
                    if number % 7 == 0:
                        path = f"{PREFIX}/import/events"
                        body = {"events": [of(f"{client}-{event}", each) for event, each in enumerate(body["events"])]}
                    assert call(connection, "POST", path, body).status < 300
                    acknowledged[client] += ids
                    if number % 20 == 0:
                        name = f"{client}-gone-{number}"
                        assert call(connection, "POST", f"{PROFILES}/{name}", {"events": [track()]}).status == 200
                        assert call(connection, "DELETE", f"{PROFILES}/{name}").status < 300
                        deleted.append(name)

        acknowledged += [[], []]
        clients = [threading.Thread(target=write, args=(client,)) for client in range(2)]
        for thread in clients:
            thread.start()
        wait_until(lambda: all(len(ids) > 100 for ids in acknowledged), "something is stored")
        assert migrate(at, target) == 0
        assert migrate(at, target) == 0
        over.set()
        for thread in clients:
            thread.join()
    assert migrate(at, target, "--final") == 0
    assert "verified, both stores are equal" in capsys.readouterr().out
    moved = open_(target)
    drain(moved)
    found = events(moved)
    assert found == Counter(ids for client in acknowledged for ids in client)
    assert deleted
    assert not {stored.key.name for stored in moved.store.contents.dump()} & set(deleted)
