"""The import queue: what was put is applied in order and exactly once, whatever dies, by one process at a time."""

from __future__ import annotations

import contextlib
import gc
import json
import re
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from parties import CutAt, CutOff, Wrapped
from support import Clock, identify, of, page, track

from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import InvalidData, ProfileOverload, StoreUnavailable
from ninetailed_wsgi.server.checks import check_imports
from ninetailed_wsgi.service.imports import MAX_DEATHS, MAX_TRIES, Consumer
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.disk import queue_lock
from ninetailed_wsgi.store.disk.queue import ImportQueue
from ninetailed_wsgi.store.disk.rows import Rows
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.protocol import DEATHS_APART, Head, KeptStore, Queue, QueueState, Store
from ninetailed_wsgi.store.redis import queue_place

WHERE = Environment("org", "main")
MINUTE = 60_000
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def disk_queue(make_disk_queue: Callable[..., ImportQueue]) -> ImportQueue:
    return make_disk_queue()


@pytest.fixture(autouse=True)
def _no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests apply what waits themselves, where they want it."""
    monkeypatch.setattr(Consumer, "ensure", lambda self: None)


def head(queue: Queue) -> Head:
    found = queue.head()
    assert found is not None
    return found


def drained(queue: Queue) -> list[bytes]:
    """The batches that wait, in order; afterwards none does."""
    found: list[bytes] = []
    assert Consumer(queue, lambda number, batch: found.append(batch)).drain()
    return found


# The queue


def test_whether_a_queue_is_empty_is_told_without_reading_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DiskStore(tmp_path / "data", shards=1).close()
    queue = ImportQueue(tmp_path / "data")
    assert queue.empty()
    queue.put(b"x" * 1_000_000)
    monkeypatch.setattr(Rows, "value", lambda *_: pytest.fail("a batch was read"))
    assert not queue.empty()
    queue.close()


def test_batches_come_out_in_the_order_they_were_put(queue: Queue) -> None:
    batches = [b"%d" % number for number in range(30)]
    for batch in batches:
        queue.put(batch)
    assert drained(queue) == batches
    assert queue.head() is None


def test_what_was_put_is_there_after_a_restart(make_queue: Callable[..., Queue]) -> None:
    make_queue().put(b"1")
    assert drained(make_queue()) == [b"1"]
    assert make_queue().head() is None


def test_a_queue_that_takes_too_many_bytes_refuses_another_batch_until_they_were_applied(
    make_queue: Callable[..., Queue],
) -> None:
    queue = make_queue(most_bytes=1 << 20)
    with contextlib.suppress(StoreUnavailable):
        for _ in range(40):
            queue.put(b"x" * 80_000)
    with pytest.raises(StoreUnavailable, match="the import queue is full: the waiting batches take"):
        queue.put(b"x" * 80_000)
    waiting = queue.state().waiting
    assert 10 <= waiting < 20
    for _ in range(waiting):
        queue.finish(head(queue).number)
    queue.put(b"x" * 80_000)


def test_a_full_queue_refuses_another_batch_until_one_was_applied(make_queue: Callable[..., Queue]) -> None:
    queue = make_queue(limit=2)
    queue.put(b"1")
    queue.put(b"2")
    with pytest.raises(StoreUnavailable, match="the import queue is full: 2 batches wait"):
        queue.put(b"3")
    queue.finish(head(queue).number)
    queue.put(b"3")
    assert drained(queue) == [b"2", b"3"]


def test_no_number_is_given_twice_even_when_the_queue_was_empty_or_the_clock_went_back(
    queue: Queue, clock: Clock
) -> None:
    numbers = []
    for _ in range(3):
        queue.put(b"{}")
        numbers.append(head(queue).number)
        queue.finish(numbers[-1])
        clock.pass_(-60 * MINUTE)
    assert numbers == sorted(set(numbers))


def test_the_state_says_how_many_wait_how_long_and_how_many_were_put_aside(queue: Queue, clock: Clock) -> None:
    assert queue.state() == QueueState(0, 0.0, 0)
    queue.put(b"1")
    clock.pass_(40_000)
    queue.put(b"2")
    queue.put(b"3")
    clock.pass_(2_000)
    assert queue.state() == QueueState(3, 42.0, 0)
    queue.set_aside(head(queue), "no good")
    assert queue.state() == QueueState(2, 2.0, 1)


def test_looking_at_a_queue_that_was_never_used_makes_no_file(disk_queue: ImportQueue, data: Path) -> None:
    before = sorted(data.rglob("*"))
    assert disk_queue.state().waiting == 0
    assert disk_queue.head() is None
    assert drained(disk_queue) == []
    assert sorted(data.rglob("*")) == before


def test_the_queue_is_for_its_owner_only(disk_queue: ImportQueue, data: Path) -> None:
    disk_queue.put(b"1")
    assert (data / "queue").stat().st_mode & 0o777 == 0o700


def test_a_data_folder_that_was_removed_gets_no_batches(disk_queue: ImportQueue, data: Path) -> None:
    (data / "store.json").unlink()
    with pytest.raises(StoreUnavailable, match="was removed"):
        disk_queue.put(b"1")


# Batches that cannot be applied


def test_a_batch_that_fails_five_times_goes_aside_with_the_reason_and_the_next_one_is_applied(
    queue: Queue,
) -> None:
    queue.put(b"bad")
    queue.put(b"good")
    applied: list[bytes] = []

    def apply(number: int, batch: bytes) -> None:
        applied.append(batch)
        if batch == b"bad":
            raise ValueError("poison")

    consumer = Consumer(queue, apply)
    assert [consumer.drain() for _ in range(MAX_TRIES)] == [False] * (MAX_TRIES - 1) + [True]
    assert applied == [b"bad"] * MAX_TRIES + [b"good"]
    assert list(queue.contents.aside().values()) == [
        {"reason": "ValueError: poison", "tries": MAX_TRIES, "batch": "bad"}
    ]
    assert queue.state() == QueueState(0, 0.0, 1)


def dying(make_queue: Callable[..., Queue], times: int, each_time: Callable[[], None]) -> int:
    """How often a batch was begun that kills its process; as many processes come and die."""
    make_queue().put(b"deadly")
    begun = 0

    def die(number: int, batch: bytes) -> None:
        nonlocal begun
        begun += 1
        raise SystemExit

    for _ in range(times):
        with contextlib.suppress(SystemExit):
            Consumer(make_queue(), die).drain()
        each_time()
    return begun


def test_a_batch_that_kills_its_process_goes_aside_after_twenty_deaths(
    make_queue: Callable[..., Queue], clock: Clock
) -> None:
    assert dying(make_queue, MAX_DEATHS + 3, lambda: clock.pass_(DEATHS_APART)) == MAX_DEATHS
    [aside] = make_queue().contents.aside().values()
    assert (aside["batch"], aside["tries"]) == ("deadly", MAX_DEATHS)
    assert "killed" in aside["reason"]


def test_processes_killed_in_a_row_by_somebody_else_put_no_batch_aside(
    make_queue: Callable[..., Queue], clock: Clock
) -> None:
    assert dying(make_queue, 30, lambda: clock.pass_(DEATHS_APART // 10)) == 30
    assert make_queue().state() == QueueState(1, 3.0, 0)


@pytest.mark.parametrize("error", [StoreUnavailable("disk full"), ProfileOverload("busy")], ids=repr)
def test_a_batch_waits_for_ever_while_it_is_not_the_batch_that_fails(queue: Queue, error: Exception) -> None:
    queue.put(b"1")

    def fail(number: int, batch: bytes) -> None:
        raise error

    consumer = Consumer(queue, fail)
    assert not any(consumer.drain() for _ in range(MAX_TRIES * 2))
    assert queue.state().aside == 0
    assert head(queue).tries == 0
    assert drained(queue) == [b"1"]


def test_a_batch_cut_off_between_going_aside_and_leaving_the_queue_goes_aside_once(
    disk_queue: ImportQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_queue.put(b"bad")
    with monkeypatch.context() as patch:
        patch.setattr(ImportQueue, "finish", lambda self, number: None)
        disk_queue.set_aside(head(disk_queue), "first")
    disk_queue.set_aside(head(disk_queue), "second")
    assert [each["reason"] for each in disk_queue.contents.aside().values()] == ["first"]
    assert disk_queue.head() is None


# Applied exactly once


def serving(store: Store, queue: Queue, clock: Clock) -> ExperienceService:
    """A process that serves from a store and its queue."""
    return ExperienceService(
        store=store,
        content=ContentFolder(None),
        queue=queue,
        clock=clock,
        new_session_id=lambda: str(uuid.uuid4()),
    )


def drain(service: ExperienceService) -> bool:
    assert service.consumer is not None
    return service.consumer.drain()


def send(service: ExperienceService, name: str, *events: dict[str, Any]) -> None:
    service.upsert(WHERE, name, {"events": [*events]})


def accept(service: ExperienceService, *events: dict[str, Any]) -> None:
    service.import_many(WHERE, {"events": [*events]})


def messages(store: Store, name: str) -> list[str]:
    """What happened to the visitor of this name, oldest first."""
    found = identity.resolve(store, WHERE.key(name))
    return [event["messageId"] for _, _, event in store.read(found.key).history()]


def ids(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["messageId"] for event in events]


def plain() -> list[dict[str, Any]]:
    return [of(name, page()) for name in ("a", "b", "a", "c", "b", "a")]


def merging() -> list[dict[str, Any]]:
    """Two visitors turn out to be one in the middle of a batch, and then a third that was there before."""
    return [
        of("a", page()),
        of("b", page()),
        of("a", identify("user")),
        of("b", track()),
        of("b", identify("user")),
        of("a", track()),
        of("c", track()),
        of("c", identify("user")),
        of("b", track()),
        of("user", track()),
    ]


@pytest.mark.parametrize("took_effect", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("batch", [plain, merging])
def test_an_accepted_batch_is_applied_exactly_once_wherever_its_application_is_cut_off(
    tmp_path: Path,
    make_kept: Callable[..., KeptStore],
    make_queue: Callable[..., Queue],
    clock: Clock,
    batch: Callable[[], Any],
    took_effect: bool,
) -> None:
    for at in range(200):
        folder = tmp_path / f"{at}"
        kept = make_kept(folder)
        queue = make_queue(folder)
        events, before, live = batch(), [track()], [[track() for _ in range(150)] for _ in range(2)]
        send(serving(kept, queue, clock), "c", *before)
        accept(serving(kept, queue, clock), *events)
        cut = CutAt(kept, at, took_effect=took_effect)
        drain(serving(cut, queue, clock))
        for many in live:  # more than the message ids that a profile remembers
            send(serving(kept, queue, clock), "a", *many)
        assert drain(serving(kept, queue, clock))
        names = {"a", "b", "c"} if batch is plain else {"user"}
        found = Counter(message for name in names for message in messages(kept, name))
        assert found == Counter(ids([*events, *before, *live[0], *live[1]])), f"cut off at write {at}"
        queue.close()
        kept.close()
        if cut.count <= at:
            return
    raise AssertionError("the batch has no end")


@pytest.mark.parametrize("at", range(4))
def test_profiles_that_live_traffic_merges_while_half_a_batch_is_applied_get_each_event_once(
    kept: KeptStore, queue: Queue, clock: Clock, at: int
) -> None:
    # The places of the two in the batch alternate: the highest place that one has had says nothing of the other.
    events = [of(name, track()) for name in ("a", "b", "a", "b", "b", "a")]
    live = [identify("user"), identify("user")]
    accept(serving(kept, queue, clock), *events)
    drain(serving(CutAt(kept, at), queue, clock))
    send(serving(kept, queue, clock), "a", live[0])
    send(serving(kept, queue, clock), "b", live[1])
    assert drain(serving(kept, queue, clock))
    assert Counter(messages(kept, "user")) == Counter(ids([*events, *live]))


def test_a_batch_after_another_is_applied_though_its_places_are_the_same(
    kept: KeptStore, queue: Queue, clock: Clock
) -> None:
    service, events = serving(kept, queue, clock), [of("a", track()) for _ in range(6)]
    for start in (0, 2, 4):
        accept(service, *events[start : start + 2])
        assert drain(service)
    assert messages(kept, "a") == ids(events)


def test_a_batch_of_two_hundred_events_is_remembered_as_a_whole(kept: KeptStore, queue: Queue, clock: Clock) -> None:
    events = [of("a", track()) for _ in range(200)]
    live = [track() for _ in range(200)]
    accept(serving(kept, queue, clock), *events)
    drain(serving(CutAt(kept, 0, took_effect=True), queue, clock))
    send(serving(kept, queue, clock), "a", *live)
    assert drain(serving(kept, queue, clock))
    assert messages(kept, "a") == ids([*events, *live])


def test_events_without_a_time_happened_when_they_were_accepted(kept: KeptStore, queue: Queue, clock: Clock) -> None:
    accepted = clock()
    accept(serving(kept, queue, clock), of("a", track()))
    clock.pass_(120 * MINUTE)
    assert drain(serving(kept, queue, clock))
    assert [at for _, at, _ in kept.read(WHERE.key("a")).history()] == [accepted]


def test_a_bad_batch_is_refused_at_once_and_a_full_queue_is_503(
    kept: KeptStore, make_queue: Callable[..., Queue], clock: Clock
) -> None:
    service = serving(kept, make_queue(limit=1), clock)
    with pytest.raises(InvalidData, match=r"events\[0\].timestamp"):
        accept(service, of("a", track(timestamp="yesterday")))
    with pytest.raises(InvalidData, match="found 51 different anonymousId"):
        accept(service, *[of(str(number), track()) for number in range(51)])
    assert service.imports() == QueueState(0, 0.0, 0)
    accept(service, of("a", track()))
    with pytest.raises(StoreUnavailable) as refused:
        accept(service, of("a", track()))
    assert refused.value.status == 503


def test_nothing_is_lost_while_the_store_cannot_serve(kept: KeptStore, queue: Queue, clock: Clock) -> None:
    class Broken(Wrapped):
        def update(self, *_: Any) -> None:
            raise CutOff("no space left")

    events = [of("a", track())]
    accept(serving(Broken(kept), queue, clock), *events)
    assert not any(drain(serving(Broken(kept), queue, clock)) for _ in range(10))
    assert drain(serving(kept, queue, clock))
    assert messages(kept, "a") == ids(events)


# One at a time


def test_only_one_of_several_consumers_is_at_work(make_queue: Callable[..., Queue]) -> None:
    first, second = make_queue(), make_queue()
    first.put(b"1")
    seen = []

    def apply(number: int, batch: bytes) -> None:
        seen.append(Consumer(second, lambda number, batch: seen.append(batch)).drain())

    assert Consumer(first, apply).drain()
    assert seen == [False]


def test_a_deletion_comes_next_and_consumers_that_come_and_go_do_not_keep_it_out(
    make_queue: Callable[..., Queue],
) -> None:
    consumer, other, deletion = make_queue(), make_queue(timeout=0.1), make_queue(timeout=120)
    consumer.put(b"1")
    entered, leave = threading.Event(), threading.Event()

    def delete() -> None:
        with deletion.alone(wait=True) as alone:
            assert alone
            entered.set()
            assert leave.wait(60)

    thread = threading.Thread(target=delete)
    with consumer.alone() as alone:
        assert alone
        thread.start()
        assert not entered.wait(0.05)
    end = time.monotonic() + 60
    while not entered.is_set() and time.monotonic() < end:
        with other.alone():
            pass
    with consumer.alone() as first, other.alone(wait=True) as second:
        assert not first
        assert not second
    leave.set()
    thread.join(60)
    with consumer.alone() as alone:
        assert alone


def test_a_consumer_that_waits_for_a_deletion_comes_before_the_next_one(
    make_queue: Callable[..., Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer, deletion = make_queue(timeout=120), make_queue(timeout=120)
    consumer.put(b"1")
    waits, order = threading.Event(), []

    def sleep(seconds: float) -> None:
        waits.set()
        threading.Event().wait(seconds)

    for module in (queue_lock, queue_place):
        monkeypatch.setattr(module, "CONSUMER_WAITS", 120)
        monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(queue_place, "_NEXT_FOR", 120_000)

    def work() -> None:
        with consumer.alone() as alone:
            order.append("the consumer" if alone else "nobody")

    thread = threading.Thread(target=work)
    with deletion.alone(wait=True) as alone:
        assert alone
        thread.start()
        assert waits.wait(60)
        assert order == []
    with deletion.alone(wait=True) as alone:
        assert alone
        order.append("a deletion")
    thread.join(60)
    assert order == ["the consumer", "a deletion"]


def test_batches_are_rewritten_where_they_wait_and_where_they_were_put_aside(queue: Queue) -> None:
    for batch in (b"bad", b"1", b"2", b"3"):
        queue.put(batch)
    queue.set_aside(head(queue), "KeyError: bad")
    with queue.alone(wait=True) as alone:
        assert alone
        queue.rewrite({b"bad": b"good", b"1": b"one", b"2": None, b"3": b"3"}.__getitem__)
    assert list(queue.batches()) == [b"one", b"3"]
    assert list(queue.batches(aside=True)) == [b"one", b"3", b"good"]
    assert list(queue.contents.aside().values()) == [{"reason": "KeyError", "tries": 0, "batch": "good"}]
    with queue.alone(wait=True):
        queue.rewrite(lambda batch: None)
    assert queue.state() == QueueState(0, 0.0, 0)
    queue.put(b"4")
    assert drained(queue) == [b"4"]


FORKING = """
import os, sys
from ninetailed_wsgi.service.imports import Consumer
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.disk.queue import ImportQueue

DiskStore(sys.argv[1], shards=1)
queue = ImportQueue(sys.argv[1])
shown = lambda number, batch: os.write(1, batch)
consumer = Consumer(queue, shown)

def in_a_child(work):
    if (child := os.fork()) == 0:
        work()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

queue.put(b"1")
in_a_child(consumer.drain)                      # a child applies what its parent has put
in_a_child(lambda: queue.put(b"2"))             # and the other way round
consumer.drain()
queue.put(b"3")
with queue.alone() as alone:                    # a fork in the middle, as by another thread
    assert alone
    handles = set(queue.locked)
    if (child := os.fork()) == 0:
        assert handles and not queue.locked
        for handle in handles:
            try:
                os.fstat(handle)
                os._exit(1)
            except OSError:
                pass
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert ImportQueue(sys.argv[1]).head() is not None
    with ImportQueue(sys.argv[1]).alone() as other:
        assert not other                        # the child's end has not opened the lock
consumer.drain()
"""


def test_parent_and_child_of_a_fork_each_apply_what_waits_and_neither_holds_the_others_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(tmp_path / "data")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout, run.stderr) == (0, "123", "")


THREADED = """
import json, os, sys, threading
from ninetailed_wsgi.service.imports import Consumer
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.disk.queue import ImportQueue

DiskStore(sys.argv[1], shards=1)
queue = ImportQueue(sys.argv[1])
applied, enough = [], threading.Event()

def apply(number, batch):
    applied.append(int(batch))
    if len(applied) == 200:
        enough.set()

consumer = Consumer(queue, apply)
for number in range(200):
    queue.put(b"%d" % number)
    consumer.wake()
    if number % 10 == 0:                        # while the thread is at work
        if (child := os.fork()) == 0:
            os._exit(0 if consumer._thread is None and queue.state().waiting >= 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
assert enough.wait(60)
print(json.dumps(applied))
"""


def test_a_process_may_fork_while_its_thread_applies_batches(tmp_path: Path) -> None:
    command = [sys.executable, "-c", THREADED, str(tmp_path / "data")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout) == list(range(200))


def test_the_thread_of_a_consumer_that_nobody_holds_ends(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("ninetailed_wsgi.service.imports.LOOK_EVERY", 0.01)
    applied = threading.Event()
    queue.put(b"1")
    consumer = Consumer(queue, lambda number, batch: applied.set())
    consumer.ensure()
    thread = consumer._thread
    assert thread is not None
    assert applied.wait(60)
    del consumer
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


def test_check_says_how_much_waits_and_warns_of_what_was_put_aside(
    make_disk_queue: Callable[..., ImportQueue], data: Path
) -> None:
    settings = Settings(data_dir=data, import_queue=7)
    queue = make_disk_queue(clock=lambda: time.time_ns() // 1_000_000)
    assert str(check_imports(settings)).split(maxsplit=2) == ["ok", "imports", "0 of at most 7 waiting, 0 set aside"]
    queue.put(b"1")
    queue.put(b"2")
    assert re.fullmatch(r"2 of at most 7 waiting, the oldest for \d+ s, 0 set aside", check_imports(settings).text)
    queue.set_aside(head(queue), "no good")
    found = check_imports(settings)
    assert found.status == "warn"
    assert found.text.endswith(", 1 set aside")
