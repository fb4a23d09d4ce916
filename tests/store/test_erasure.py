"""Deletion reaches the imports that wait and those set aside; what was accepted before it never comes back after it."""

from __future__ import annotations

import contextlib
import io
import itertools
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from parties import CutAt, Wrapped
from redis_servers import Redis
from support import Clock, identify, of, page, track

from ninetailed_wsgi.commands.compact import compact
from ninetailed_wsgi.commands.console import Console
from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import ProfileNotFound, StoreUnavailable
from ninetailed_wsgi.service import batches, erasure
from ninetailed_wsgi.service.batches import Batch
from ninetailed_wsgi.service.imports import Consumer
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.disk.queue import ImportQueue
from ninetailed_wsgi.store.disk.queue_files import QueueFiles
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.keys import digest_of
from ninetailed_wsgi.store.protocol import KeptStore, Queue, Store
from ninetailed_wsgi.store.redis.queue import RedisQueue
from ninetailed_wsgi.store.redis.queue_batches import RedisBatches
from ninetailed_wsgi.store.redis.store import RedisStore

WHERE = Environment("org", "main")
EMAIL = "anna.unforgettable@example.com"
ID = "device-of-somebody-unforgettable"
TEXTS = (EMAIL.encode(), ID.encode(), *(digest_of(WHERE.key(name)) for name in (EMAIL, ID)))


@pytest.fixture
def queue(make_queue: Callable[..., Queue]) -> Queue:
    return make_queue(timeout=0.2)


@pytest.fixture(autouse=True)
def _no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests apply what waits themselves, where they want it."""
    monkeypatch.setattr(Consumer, "ensure", lambda self: None)


@pytest.fixture
def service(kept: KeptStore, queue: Queue, clock: Clock) -> ExperienceService:
    return serving(kept, queue, clock)


def serving(store: Store, queue: Queue, clock: Clock) -> ExperienceService:
    return ExperienceService(
        store=store, content=ContentFolder(None), queue=queue, clock=clock, new_session_id=lambda: str(uuid.uuid4())
    )


def accept(service: ExperienceService, *events: dict[str, Any], where: Environment = WHERE) -> None:
    service.import_many(where, {"events": [*events]})


def drain(service: ExperienceService) -> None:
    assert service.consumer is not None
    assert service.consumer.drain()


def put_aside(service: ExperienceService, queue: Queue, *events: dict[str, Any]) -> None:
    accept(service, *events)
    head = queue.head()
    assert head is not None
    queue.set_aside(head, f"KeyError: {EMAIL}")


def knows(service: ExperienceService, name: str) -> bool:
    try:
        return bool(service.get(WHERE, name))
    except ProfileNotFound:
        return False


def events_of(service: ExperienceService, name: str) -> list[str]:
    return [entry["event"]["messageId"] for entry in service.record(WHERE, name, events=True)["events"]]


def about_her(name: str = ID, **members: Any) -> list[dict[str, Any]]:
    """Events with an e-mail address in every place where one may be."""
    context = {"page": {"url": f"https://shop.example/?m={EMAIL}"}, "userAgent": EMAIL, "location": {"city": EMAIL}}
    return [
        of(name, identify("", {"email": EMAIL}, **members)),
        of(name, page("/" + EMAIL, properties={"query": {"m": EMAIL}}, context=context)),
        of(name, track("mailed to " + EMAIL, properties={EMAIL: EMAIL})),
        of(name, track(messageId=f"{EMAIL}-{uuid.uuid4()}", userId=EMAIL)),
        of(name, identify(EMAIL, {"more": {"deep": [EMAIL]}})),
    ]


def test_a_deleted_visitor_leaves_no_byte_in_the_folder_after_compact(
    tmp_path: Path, disk: DiskStore, make_disk_queue: Callable[..., ImportQueue], clock: Clock
) -> None:
    queue = make_disk_queue()
    service = serving(disk, queue, clock)
    everywhere(service, disk, queue)
    folder = tmp_path / "data"
    assert traces(folder)

    service.delete(WHERE, EMAIL)
    drain(service)
    compact(disk, Console(io.StringIO(), io.StringIO()))
    assert traces(folder) == []
    assert len(events_of(service, "other")) == 3
    [aside] = queue.contents.aside().values()
    assert aside["reason"] == "KeyError"
    assert {file.name for file in folder.rglob("*")} >= {"cache.db-wal", "cache.db-shm", "lock", "turn"}


def test_a_deleted_visitor_leaves_no_byte_in_redis_after_compact(
    make_redis: Callable[..., RedisStore],
    make_redis_queue: Callable[..., RedisQueue],
    redis_server: Redis,
    clock: Clock,
) -> None:
    store, queue = make_redis(), make_redis_queue()
    service = serving(store, queue, clock)
    everywhere(service, store, queue)
    assert redis_traces(redis_server)

    service.delete(WHERE, EMAIL)
    drain(service)
    compact(store, Console(io.StringIO(), io.StringIO()))
    assert redis_traces(redis_server) == []
    assert len(events_of(service, "other")) == 3
    [aside] = queue.contents.aside().values()
    assert (aside["reason"], aside["tries"]) == ("KeyError", 0)


def everywhere(service: ExperienceService, store: KeptStore, queue: Queue) -> None:
    # Every way in: one profile's events, a batch, imports applied, waiting and aside, and three profiles that merge.
    service.upsert(WHERE, ID, {"events": about_her()})
    service.upsert_many(WHERE, {"events": [*about_her(f"tablet-{ID}"), of("other", track())]})
    accept(service, *about_her(f"phone-{ID}"), of("other", track()))
    drain(service)
    put_aside(service, queue, *about_her(), of("other", track()))
    accept(service, *about_her(), of("other", track()))
    accept(service, *about_her(f"watch-{ID}"))
    alias = identity.resolve(store, WHERE.key(f"cut-off-{EMAIL}"))
    assert identity.claim(store, alias, WHERE.key(ID))  # and the process died


def traces(folder: Path) -> list[Path]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if any(text in file.read_bytes() or text in file.name.encode() for text in TEXTS)]


def redis_traces(server: Redis) -> list[bytes]:
    """The keys that hold or are such a text, wherever in them."""
    client, found = server.client, []
    for name in client.keys("*"):
        # Small ones have their parts side by side; those of streams that were deleted are kept among them.
        whole = client.execute_command("DUMP", name)
        parts: Any = {
            b"string": lambda name: [client.get(name)],
            b"list": lambda name: client.lrange(name, 0, -1),
            b"hash": lambda name: client.hgetall(name).items(),
            b"stream": lambda name: client.xrange(name),
            b"zset": lambda name: client.zrange(name, 0, -1),
        }[client.type(name)](name)
        if any(text in name + whole or text in repr(parts).encode() for text in TEXTS):
            found.append(name)
    return found


@pytest.fixture
def batches_read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The batches that deletions have read, one by one."""
    texts: list[bytes] = []

    def reading(text: bytes, environment: Environment) -> Any:
        texts.append(text)
        return batches.events_of(text, environment)

    monkeypatch.setattr(erasure, "events_of", reading)
    return texts


def crowd(service: ExperienceService, number: int = 40) -> None:
    for visitor in range(number):
        accept(service, of(f"visitor{visitor}", track()), of(f"other{visitor}", identify(f"user{visitor}")))


def test_a_deletion_reads_only_the_batches_about_its_visitor(
    service: ExperienceService, queue: Queue, batches_read: list[bytes]
) -> None:
    service.upsert(WHERE, "a", {"events": [identify("user")]})
    service.upsert(WHERE, "b", {"events": [identify("user")]})  # becomes part of a
    crowd(service)
    accept(service, of("b", track()), of("c", track()))
    accept(service, of("tablet", identify("b")))
    accept(service, of("tablet", track()))
    accept(service, of("user", track()))
    service.delete(WHERE, "a")
    assert len(set(batches_read)) == 4
    assert queue.state().waiting == 41
    drain(service)
    assert [knows(service, name) for name in ("a", "b", "user", "tablet")] == [False] * 4
    assert knows(service, "c")
    assert knows(service, "visitor39")


@pytest.fixture
def numbers_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the batches that were read out of a file or a Redis, one by one."""
    numbers: list[int] = []
    batch, read = QueueFiles.batch, RedisBatches.read

    def from_file(files: QueueFiles, name: str, number: int) -> bytes | None:
        numbers.append(number)
        return batch(files, name, number)

    def from_redis(batches: RedisBatches, of: list[int]) -> Any:
        numbers.extend(of)
        return read(batches, of)

    monkeypatch.setattr(QueueFiles, "batch", from_file)
    monkeypatch.setattr(RedisBatches, "read", from_redis)
    return numbers


def test_of_sixty_large_batches_a_deletion_takes_those_out_of_the_store_that_name_its_visitor(
    service: ExperienceService, queue: Queue, numbers_read: list[int]
) -> None:
    note = {"note": "x" * 10_000}
    for number in range(60):
        events = [of(f"visitor{number}", track(properties=note)), of(f"visitor{number + 1}", track(properties=note))]
        accept(service, *events, of(f"other{number}", track()))
    service.delete(WHERE, "visitor30")
    about_visitor = set(numbers_read)
    assert len(about_visitor) == 2
    for numbers in (about_visitor, set()):  # those that were rewritten are indexed again, once
        numbers_read.clear()
        with pytest.raises(ProfileNotFound):
            service.delete(WHERE, "nobody")
        assert set(numbers_read) == numbers
    assert queue.state().waiting == 60
    drain(service)
    assert [knows(service, f"visitor{number}") for number in (29, 30, 31)] == [True, False, True]


def test_batches_are_applied_while_visitors_are_deleted_one_after_the_other(
    service: ExperienceService, kept: KeptStore, make_queue: Callable[..., Queue], clock: Clock
) -> None:
    crowd(service, 60)
    importing = serving(kept, make_queue(timeout=120), clock)
    deleting = serving(kept, make_queue(timeout=120), clock)
    end = time.monotonic() + 120

    def work() -> None:
        assert importing.consumer is not None
        while not importing.consumer.drain() and time.monotonic() < end:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    for number in itertools.cycle(range(60)):
        with contextlib.suppress(ProfileNotFound):
            deleting.delete(WHERE, f"visitor{number}")
        if not thread.is_alive() or time.monotonic() > end:
            break
    thread.join(120)
    assert make_queue().empty()
    assert all(knows(service, f"other{number}") for number in range(60))


def test_a_batch_that_was_applied_put_aside_or_rewritten_is_found_by_those_it_is_about(
    service: ExperienceService, queue: Queue, batches_read: list[bytes]
) -> None:
    crowd(service, 4)
    drain(service)
    put_aside(service, queue, of("a", track()), of("b", track()), of("c", track()))
    crowd(service, 4)
    service.delete(WHERE, "a")
    service.delete(WHERE, "b")
    assert [entry["batch"].count('"type"') for entry in queue.contents.aside().values()] == [1]
    assert len(set(batches_read)) == 2
    service.delete(WHERE, "c")
    assert queue.contents.aside() == {}
    assert queue.state().waiting == 4


def test_batches_of_a_queue_without_names_are_indexed_by_the_first_deletion(
    service: ExperienceService, queue: Queue, batches_read: list[bytes], clock: Clock
) -> None:
    for name in ("a", "b", "c", "d"):
        queue.put(Batch(WHERE, clock(), [of(name, track())]).encode())
    service.delete(WHERE, "b")
    service.delete(WHERE, "d")
    assert len(set(batches_read)) == 2
    drain(service)
    assert [knows(service, name) for name in ("a", "b", "c", "d")] == [True, False, True, False]


def test_a_queue_of_a_version_without_a_table_of_names_gets_one(
    tmp_path: Path, disk: DiskStore, make_disk_queue: Callable[..., ImportQueue], clock: Clock
) -> None:
    earlier = serving(disk, make_disk_queue(), clock)
    accept(earlier, of("a", track()))
    accept(earlier, of("b", track()))
    file = tmp_path / "data" / "queue" / "cache.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE Names")
    service = serving(disk, make_disk_queue(), clock)
    accept(service, of("c", track()))
    service.delete(WHERE, "a")
    drain(service)
    assert [knows(service, name) for name in ("a", "b", "c")] == [False, True, True]
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM Names").fetchone() == (0,)


def test_a_redis_queue_without_names_gets_them(
    make_redis: Callable[..., RedisStore],
    make_redis_queue: Callable[..., RedisQueue],
    redis_server: Redis,
    clock: Clock,
) -> None:
    store, queue = make_redis(), make_redis_queue()
    service = serving(store, queue, clock)
    accept(service, of("a", track()))
    accept(service, of("b", track()))
    names = ("nt:{imports}:names", "nt:{imports}:named")
    assert redis_server.client.delete(*names) == 2
    service.delete(WHERE, "a")
    drain(service)
    assert [knows(service, name) for name in ("a", "b")] == [False, True]
    assert redis_server.client.exists(*names) == 0


def test_what_is_sent_after_a_deletion_is_a_new_profile(service: ExperienceService) -> None:
    before, after = track(), track()
    accept(service, of("a", before), of("b", track()))
    service.delete(WHERE, "a")
    accept(service, of("a", after))
    drain(service)
    assert events_of(service, "a") == [after["messageId"]]
    assert knows(service, "b")


def test_a_visitor_who_is_only_in_an_import_can_be_deleted_and_once(service: ExperienceService, queue: Queue) -> None:
    accept(service, of("a", track()))
    service.delete(WHERE, "a")
    assert queue.state().waiting == 0
    with pytest.raises(ProfileNotFound):
        service.delete(WHERE, "a")


def test_who_a_waiting_identify_event_names_is_the_same_visitor(service: ExperienceService) -> None:
    # As if all that was accepted had been applied before: device, user and tablet would be one by then.
    service.upsert(WHERE, "tablet", {"events": [track()]})
    accept(service, of("user", track()), of("device", track()))
    accept(service, of("device", identify("user")), of("other", track()))
    accept(service, of("tablet", identify("user")), of("stranger", identify("other")))
    service.delete(WHERE, "device")
    drain(service)
    assert [knows(service, name) for name in ("device", "user", "tablet")] == [False] * 3
    assert [knows(service, name) for name in ("other", "stranger")] == [True] * 2


def test_the_same_name_in_another_environment_stays(service: ExperienceService, queue: Queue) -> None:
    elsewhere = Environment("org", "main2")
    accept(service, of("a", track()), where=elsewhere)
    accept(service, of("a", track()))
    service.delete(WHERE, "a")
    drain(service)
    assert service.get(elsewhere, "a")
    assert not knows(service, "a")


def test_a_deletion_of_nobody_leaves_waiting_imports_as_they_are(service: ExperienceService, queue: Queue) -> None:
    accept(service, of("a", track()))
    assert list(service.delete_many(WHERE, [])) == []
    assert queue.state().waiting == 1


@pytest.mark.parametrize("name", ['","events":', "a\\", '"', "{}]"])
def test_an_environment_may_have_a_name_that_looks_like_part_of_a_batch(
    service: ExperienceService, queue: Queue, name: str
) -> None:
    where = Environment("org", name)
    accept(service, of("a", track()), where=where)
    accept(service, of("a", track()))
    service.delete(where, "a")
    assert service.imported(where, {"a"}) == []
    assert len(service.imported(WHERE, {"a"})) == 1


def test_an_identify_event_put_aside_makes_nobody_the_same(service: ExperienceService, queue: Queue) -> None:
    service.upsert(WHERE, "b", {"events": [track()]})
    put_aside(service, queue, of("b", identify("a")), of("c", track()))
    service.upsert(WHERE, "a", {"events": [track()]})
    service.delete(WHERE, "a")
    assert knows(service, "b")
    assert '"a"' not in str(queue.contents.aside())


@pytest.mark.parametrize("took_effect", [False, True], ids=["before", "after"])
def test_a_batch_cut_off_before_a_deletion_is_finished_without_the_visitor_and_each_other_event_once(
    kept: KeptStore, queue: Queue, clock: Clock, took_effect: bool
) -> None:
    for at in itertools.count():
        service, (a, b) = serving(kept, queue, clock), (f"a{at}", f"b{at}")
        events = [of(a, track()), of(b, track()), of(a, identify(f"user{at}")), of(b, track()), of(a, track())]
        accept(service, *events)
        cut = CutAt(kept, at, took_effect=took_effect)
        broken = serving(cut, queue, clock)
        assert broken.consumer is not None
        broken.consumer.drain()
        service.delete(WHERE, a)
        drain(service)
        assert [knows(service, name) for name in (a, f"user{at}")] == [False] * 2
        assert sorted(events_of(service, b)) == sorted(events[place]["messageId"] for place in (1, 3))
        if cut.count <= at:
            return


def test_a_deletion_cut_off_anywhere_and_sent_again_is_complete(
    kept: KeptStore, queue: Queue, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewritten: Any = type(queue).rewrite
    for at in range(20):
        service = serving(kept, queue, clock)
        service.upsert(WHERE, "a", {"events": [identify("user"), track()]})
        accept(service, of("b", identify("user")), of("user", track()), of("c", track()))
        cut = serving(CutAt(kept, at), queue, clock)
        with monkeypatch.context() as patch:
            if at % 2:  # the death of the process right after the batches were rewritten

                def dies(self: Queue, change: Any, names: Any) -> None:
                    rewritten(self, change, names)
                    raise StoreUnavailable("killed")

                patch.setattr(type(queue), "rewrite", dies)
            for name in ("user", "a"):
                with contextlib.suppress(StoreUnavailable, ProfileNotFound):
                    cut.delete(WHERE, name)
        for name in ("a", "user"):
            with contextlib.suppress(ProfileNotFound):
                service.delete(WHERE, name)
        drain(service)
        assert not any(knows(service, name) for name in ("a", "b", "user"))
        assert knows(service, "c")


def test_a_deletion_while_a_batch_is_applied_waits_for_its_end_and_then_deletes_what_that_made(
    kept: KeptStore, queue: Queue, make_queue: Callable[..., Queue], clock: Clock
) -> None:
    applying, go_on = threading.Event(), threading.Event()

    class Slow(Wrapped):
        def update(self, *arguments: Any) -> Any:
            applying.set()
            assert go_on.wait(60)
            return self.inner.update(*arguments)

    slow, service = serving(Slow(kept), queue, clock), serving(kept, queue, clock)
    accept(service, of("a", track()), of("b", track()))
    thread = threading.Thread(target=lambda: drain(slow))
    thread.start()
    assert applying.wait(60)
    with pytest.raises(StoreUnavailable, match="an import is being applied"):
        service.delete(WHERE, "a")
    with contextlib.closing(make_queue(timeout=120)) as patient:
        deleting = threading.Thread(target=lambda: serving(kept, patient, clock).delete(WHERE, "a"))
        deleting.start()
        go_on.set()
        for each in (thread, deleting):
            each.join(60)
    assert not knows(service, "a")
    assert knows(service, "b")


def test_all_that_waits_for_one_visitor_is_found_for_an_export(service: ExperienceService, queue: Queue) -> None:
    mine = [of("a", track()), of("b", identify("user")), of("a", page())]
    put_aside(service, queue, mine[2], of("c", track()))
    accept(service, mine[0], of("c", track()), mine[1])
    assert service.imported(WHERE, {"a", "user"}) == mine
    assert service.imported(Environment("org", "other"), {"a", "user"}) == []
