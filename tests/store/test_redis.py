"""The Redis store's own promises: what it refuses, what it asks, several processes, and outages of every kind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from parties import NOW, CutAt, append, happened, key, numbers, put
from redis.connection import Connection
from redis_servers import Redis
from serving import free_port
from support import Clock, of, track

from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.errors import ProfileOverload, SettingsError, StoreUnavailable
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.store.protocol import Document, StoreEntry, Write
from ninetailed_wsgi.store.redis.queue import RedisQueue
from ninetailed_wsgi.store.redis.queue_place import ConsumerPlace
from ninetailed_wsgi.store.redis.server import RedisServer
from ninetailed_wsgi.store.redis.store import RedisStore

MakeRedis = Callable[..., RedisStore]
ROOT = Path(__file__).parent.parent.parent
WHERE = Environment("org", "main")
STREAM = "nt:{imports}:queue"


@contextlib.contextmanager
def opened(url: RedisUrl, **options: Any) -> Iterator[RedisStore]:
    store = RedisStore(RedisServer(url, **options), clock=Clock())
    yield store
    store.close()


def unavailable(step: Callable[[], Any]) -> str:
    with pytest.raises(StoreUnavailable) as refused:
        step()
    assert refused.value.status == 503
    return str(refused.value)


def asked(server: Redis) -> Counter[str]:
    """How often each command was called, also by scripts."""
    stats = server.client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): of["calls"] for name, of in stats.items()})


def test_a_connection_that_another_thread_closed_is_an_outage(
    own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(connection: Connection, *_: object, **__: object) -> None:
        connection.disconnect()  # else a late answer would be taken for that of the next command
        raise ValueError("I/O operation on closed file.")

    with opened(own_redis.url()) as store:
        put(store, key(), {})
        with monkeypatch.context() as racing:
            racing.setattr("redis.connection.Connection.read_response", closed)
            unavailable(lambda: put(store, key(), {}))
        put(store, key(), {})


# What it refuses


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_evicts_is_refused_with_the_remedy(own_redis: Redis, policy: str) -> None:
    own_redis.client.config_set("maxmemory-policy", policy)
    with pytest.raises(SettingsError) as refused:
        RedisServer(own_redis.url()).start()
    assert policy in str(refused.value)
    assert "CONFIG SET maxmemory-policy noeviction" in str(refused.value)
    assert own_redis.client.dbsize() == 0


def test_a_server_that_evicts_and_was_away_at_the_start_is_given_nothing(own_redis: Redis) -> None:
    own_redis.kill()
    with opened(own_redis.url()) as store:
        own_redis.options += ("--maxmemory-policy", "allkeys-lru")
        own_redis.start()
        assert "allkeys-lru" in unavailable(lambda: put(store, key(), {}))
        own_redis.client.config_set("maxmemory-policy", "noeviction")
        put(store, key(), {})


def test_a_store_of_another_format_is_refused_and_left_alone(redis_server: Redis, redis_url: RedisUrl) -> None:
    redis_server.client.set("nt:store", "3")
    with pytest.raises(SettingsError, match="store format '3', this software reads format 2"):
        RedisServer(redis_url).start()
    assert redis_server.client.get("nt:store") == b"3"


def test_a_store_of_the_format_before_is_upgraded_by_the_command(redis_server: Redis, redis_url: RedisUrl) -> None:
    redis_server.client.set("nt:store", "1")
    with pytest.raises(SettingsError, match="run `ninetailed-wsgi upgrade`"):
        RedisServer(redis_url).start()
    assert RedisServer(redis_url).marker.upgrade()
    assert not RedisServer(redis_url).marker.upgrade()
    RedisServer(redis_url).start()
    assert RedisServer(redis_url).marker.id_key() == RedisServer(redis_url).marker.id_key() != b""


def test_a_server_that_keeps_nothing_on_its_disk_is_warned_of(
    own_redis: Redis, redis_url: RedisUrl, caplog: pytest.LogCaptureFixture
) -> None:
    RedisServer(own_redis.url()).start()
    assert caplog.text == ""
    RedisServer(redis_url).start()
    assert "a restart loses every profile" in caplog.text


def test_neither_a_refusal_nor_an_outage_shows_the_password(own_redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    own_redis.client.config_set("requirepass", "right")
    url = RedisUrl.parse(f"redis://:s3cret@127.0.0.1:{own_redis.port}/0")
    server = RedisServer(url)
    server.start()
    said = unavailable(lambda: put(RedisStore(server), key(), {}))
    assert "127.0.0.1" in said
    assert "s3cret" not in said + caplog.text + repr(url) + str(url)
    with opened(RedisUrl.parse(f"redis://default:right@127.0.0.1:{own_redis.port}/0")) as store:
        put(store, key(), {})


def test_without_the_package_one_line_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from ninetailed_wsgi.commands.main import main\n"
        "sys.exit(main(['serve', '--store', 'redis://127.0.0.1']))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert "pip install 'ninetailed-wsgi[redis]'" in ended.stderr
    assert "Traceback" not in ended.stderr


# What it asks


def test_an_update_of_what_was_just_read_takes_one_command_and_no_history_is_read(
    redis_server: Redis, make_redis: MakeRedis
) -> None:
    store = make_redis()
    append(store, key(), *happened(*range(100)))
    before = asked(redis_server)
    store.read(key())
    append(store, key(), *happened(1))
    spent = asked(redis_server) - before
    assert (spent["get"], spent["evalsha"], spent["lrange"]) == (1, 1, 0)


def test_many_keys_are_read_together_and_written_together(redis_server: Redis, make_redis: MakeRedis) -> None:
    store, keys = make_redis(), [key(f"visitor {number}") for number in range(50)]
    put(store, key(), {})
    client = redis_server.client
    before = client.info("stats")["total_reads_processed"]
    store.update(keys, lambda where, _: Write({"name": where.name}, happened(1)))
    # A long text comes in some pieces.
    assert client.info("stats")["total_reads_processed"] - before < 10


def test_what_was_read_long_ago_is_not_decided_on(make_redis: MakeRedis) -> None:
    store, other = make_redis(), make_redis()
    put(store, key(), {"n": 1})
    store.read(key())
    put(other, key(), {"n": 2})
    seen: list[Document | None] = []

    def look(_: Key, entry: StoreEntry) -> None:
        seen.append(entry.document)

    store.update([key()], look)
    assert seen[-1] == {"n": 2}
    store.read(key())
    put(other, key(), {"n": 3})

    def refuse_old(_: Key, entry: StoreEntry) -> Write:
        if entry.document != {"n": 3}:
            raise ValueError("old")
        return Write({"n": 4})

    store.update([key()], refuse_old)
    assert store.read(key()).document == {"n": 4}


def test_a_document_removed_and_made_anew_meanwhile_is_not_taken_for_the_old_one(make_redis: MakeRedis) -> None:
    store, other = make_redis(), make_redis()
    put(store, key(), {"n": 1})
    seen = []

    def fold(_: Key, entry: StoreEntry) -> Write:
        seen.append(entry.document)
        if len(seen) == 1:
            put(other, key(), None)
            put(other, key(), {"n": 1})
        return Write({"n": len(seen)})

    assert store.update([key()], fold) == {key(): Write({"n": 2})}  # of the two decisions, the one that was stored
    assert len(seen) == 2


def test_a_profile_that_others_always_write_first_is_busy_after_the_timeout(make_redis: MakeRedis) -> None:
    store, other = make_redis(timeout=3), make_redis()  # half of it for each answer

    def fold(_: Key, entry: StoreEntry) -> Write:
        append(other, key(), *happened(0))
        return Write({"count": 0})

    with pytest.raises(ProfileOverload):
        store.update([key()], fold)


def test_a_writer_that_lost_reads_again_after_its_pause_in_which_others_write(
    make_redis: MakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, others = make_redis(timeout=60), make_redis()
    monkeypatch.setattr("ninetailed_wsgi.store.redis.store.time.sleep", lambda _: append(others, key(), *happened(3)))
    faster = iter([1, 2])

    def fold(_: Key, entry: StoreEntry) -> Write:
        for number in faster:
            append(others, key(), *happened(number))
            break
        return Write({"count": entry.next_ordinal + 1}, happened(4))

    store.update([key()], fold)
    assert numbers(store, key()) == [1, 2, 3, 4]


def test_scripts_that_the_server_has_forgotten_are_sent_again(redis_server: Redis, make_redis: MakeRedis) -> None:
    store, keys = make_redis(), [key(f"visitor {number}") for number in range(10)]
    for _ in range(2):
        redis_server.client.script_flush()
        store.update(keys, lambda where, entry: Write({"n": (entry.document or {"n": 0})["n"] + 1}))
    assert all(store.read(where).document == {"n": 2} for where in keys)


def test_other_keys_of_the_database_are_left_alone(redis_server: Redis, make_redis: MakeRedis) -> None:
    redis_server.client.set("session:1", "theirs")
    store = make_redis()
    put(store, key(), {})
    assert [where for where, _ in store.documents()] == [key()]
    assert store.contents.count() == 1
    put(store, key(), None)
    assert sorted(redis_server.client.keys()) == [b"nt:ids", b"nt:store", b"session:1"]


def test_a_damaged_document_is_reported(redis_server: Redis, make_redis: MakeRedis) -> None:
    store = make_redis()
    put(store, key(), {})
    (name,) = redis_server.client.keys("nt:{*}")
    redis_server.client.set(name, b"?")
    assert "damaged" in unavailable(lambda: store.read(key()))


# Outages


def test_a_server_that_comes_back_serves_at_once_and_has_lost_nothing(own_redis: Redis) -> None:
    with opened(own_redis.url()) as store:
        append(store, key(), *happened(1))
        own_redis.kill()
        assert "127.0.0.1" in unavailable(lambda: append(store, key(), *happened(2)))
        unavailable(lambda: store.read(key()))
        unavailable(store.check)
        unavailable(lambda: list(store.documents()))
        own_redis.start()
        append(store, key(), *happened(3))
        assert numbers(store, key()) == [1, 3]
        store.check()


def test_a_process_that_starts_in_an_outage_serves_when_it_is_over(own_redis: Redis) -> None:
    own_redis.kill()
    server = RedisServer(own_redis.url())
    server.start()
    own_redis.start()
    store = RedisStore(server)
    put(store, key(), {"a": 1})
    assert store.read(key()).document == {"a": 1}
    server.close()


def test_a_server_that_says_nothing_keeps_no_thread_longer_than_the_timeout(own_redis: Redis) -> None:
    with opened(own_redis.url(), timeout=4.0) as store:
        put(store, key(), {"a": 1})
        own_redis.pause()
        try:
            threads = [threading.Thread(target=unavailable, args=(lambda: store.read(key()),)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert not any(thread.is_alive() for thread in threads)
        finally:
            own_redis.resume()
        assert store.read(key()).document == {"a": 1}


def test_a_server_without_memory_refuses_writes_and_serves_reads(own_redis: Redis) -> None:
    with opened(own_redis.url()) as store:
        append(store, key(), *happened(1))
        own_redis.client.config_set("maxmemory", 1)
        assert "maxmemory" in unavailable(lambda: append(store, key(), *happened(2)))
        assert numbers(store, key()) == [1]
        own_redis.client.config_set("maxmemory", 0)
        append(store, key(), *happened(3))
        assert numbers(store, key()) == [1, 3]


def test_a_replica_is_no_place_to_write_and_health_says_so(own_redis: Redis) -> None:
    with opened(own_redis.url()) as store:
        put(store, key(), {"a": 1})
        own_redis.client.replicaof("127.0.0.1", free_port())
        assert "read only replica" in unavailable(lambda: put(store, key(), {"a": 2}))
        assert "not the master" in unavailable(store.check)
        own_redis.client.replicaof("NO", "ONE")
        put(store, key(), {"a": 3})
        store.check()


class Losing:
    """Stands before a server and, when told to, loses the answer to the next script together with the connection."""

    def __init__(self, server: Redis) -> None:
        self.server, self.lose = server, threading.Event()
        self.meanwhile: Callable[[], object] = lambda: None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = RedisUrl.parse(f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0")
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.server.port)) as server:
            while sent := client.recv(1_000_000):
                server.sendall(sent)
                answer = server.recv(1_000_000)
                if b"EVAL" in sent and self.lose.is_set():
                    self.lose.clear()
                    self.meanwhile()
                    return
                client.sendall(answer)


@pytest.fixture
def losing(redis_server: Redis) -> Iterator[Losing]:
    redis_server.client.flushall()
    losing = Losing(redis_server)
    yield losing
    losing.close()


def test_a_write_whose_answer_is_lost_is_done_once(losing: Losing) -> None:
    with opened(losing.url) as store:
        for _ in range(2):  # the second time, the server knows the script
            losing.lose.set()
            append(store, key(), *happened(1))
            assert not losing.lose.is_set()
        assert store.read(key()).document == {"count": 2}
        assert len(store.read(key()).history()) == 2
        losing.lose.set()
        put(store, key(), None)
        assert store.read(key()).document is None


def test_a_write_whose_answer_is_lost_and_after_which_others_have_written_is_reported(
    losing: Losing, make_redis: MakeRedis
) -> None:
    other = make_redis()
    losing.meanwhile = lambda: append(other, key(), *happened(2))
    with opened(losing.url) as store:
        append(store, key(), *happened(0))
        losing.lose.set()
        assert "LOST" in unavailable(lambda: append(store, key(), *happened(1)))
    assert numbers(other, key()) == [0, 1, 2]


def test_a_batch_whose_answer_is_lost_is_reported(losing: Losing) -> None:
    with opened(losing.url) as store:
        queue = RedisQueue(store.server)
        queue.put(b"1")
        losing.lose.set()
        assert "LOST" in unavailable(lambda: queue.put(b"2"))
        assert queue.state().waiting == 2


# Several threads and processes


def test_eight_threads_on_one_hot_key_and_many_cold_ones_lose_nothing(make_redis: MakeRedis) -> None:
    store = make_redis(timeout=60.0)
    cold = [key(f"cold {number}") for number in range(200)]

    def count(_: Key, entry: StoreEntry) -> Write:
        return Write({"count": (entry.document or {"count": 0})["count"] + 1}, happened(0))

    def work(number: int) -> None:
        for turn in range(25):
            store.update([key("hot")], count)
            store.update([key("hot"), *cold[number * 25 + turn :: 40]], count)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read(key("hot")).document == {"count": 400}
    assert len(store.read(key("hot")).history()) == 400
    counts = Counter[Key]()
    for number in range(8):
        for turn in range(25):
            counts.update(cold[number * 25 + turn :: 40])
    assert {where: document["count"] for where, document in store.documents() if where != key("hot")} == counts


WRITER = """
import os, sys
from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.protocol import Write
from ninetailed_wsgi.store.redis.store import RedisStore
from ninetailed_wsgi.store.redis.server import RedisServer

store = RedisStore(RedisServer(RedisUrl.parse(sys.argv[1])), history_events=1_000_000, clock=lambda: 0)

def count(where, entry):
    event = (int(sys.argv[3]), b'{"number":%d}' % number)
    return Write({"count": (entry.document or {"count": 0})["count"] + 1}, [event])

for number in range(int(sys.argv[2]), 1000000):
    store.update([Key("org", "main", "visitor")], count)
    os.write(1, b"%d\\n" % number)
"""


def test_a_writer_that_is_killed_leaves_everything_it_acknowledged_exactly_once(
    redis_url: RedisUrl, make_redis: MakeRedis
) -> None:
    acknowledged: list[int] = []
    for turn in range(3):
        command = [sys.executable, "-c", WRITER, str(redis_url), str(turn * 300_000), str(NOW)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            acknowledged += [int(writer.stdout.readline()) for _ in range(50 + turn)]
            writer.kill()
            acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]
    store = make_redis(history_events=1_000_000)
    kept = Counter(numbers(store, key()))
    assert set(kept.values()) == {1}
    assert set(acknowledged) <= set(kept)
    assert len(kept) <= len(acknowledged) + 3  # and at most the one that each was at
    assert store.read(key()).document == {"count": len(kept)}


def test_parent_and_child_of_a_fork_each_speak_for_themselves(make_redis: MakeRedis) -> None:
    store = make_redis()
    append(store, key(), *happened(0))
    children = []
    for number in range(1, 5):
        if (child := os.fork()) == 0:
            with contextlib.suppress(BaseException):
                for _ in range(10):
                    append(store, key(), *happened(number))
                os._exit(0)
            os._exit(1)
        children.append(child)
        append(store, key(), *happened(0))
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert Counter(numbers(store, key())) == {0: 5, 1: 10, 2: 10, 3: 10, 4: 10}


# Imports


CONSUMER = """
import os, sys, time
from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.service.imports import Consumer
from ninetailed_wsgi.store.redis.queue import RedisQueue
from ninetailed_wsgi.store.redis.server import RedisServer

def apply(number, batch):
    os.write(1, batch)
    time.sleep(600)

Consumer(RedisQueue(RedisServer(RedisUrl.parse(sys.argv[1]))), apply).drain()
"""


def test_the_batch_of_a_consumer_that_was_killed_is_claimed_when_its_lease_ends(
    redis_url: RedisUrl, make_redis: MakeRedis
) -> None:
    from ninetailed_wsgi.service.imports import Consumer

    server = make_redis().server
    patient, prompt = RedisQueue(server, lease=600), RedisQueue(server, lease=0.001)
    patient.put(b"1")
    patient.put(b"2")
    with subprocess.Popen(
        [sys.executable, "-c", CONSUMER, str(redis_url)], cwd=ROOT, stdout=subprocess.PIPE
    ) as consumer:
        assert consumer.stdout is not None
        assert consumer.stdout.read(1) == b"1"
        consumer.send_signal(signal.SIGKILL)
    applied: list[bytes] = []
    assert not Consumer(patient, lambda number, batch: applied.append(batch)).drain()
    assert Consumer(prompt, lambda number, batch: applied.append(batch)).drain()
    assert applied == [b"1", b"2"]
    assert patient.state().waiting == 0


def let_leases_end(server: Redis) -> None:
    """Whoever is at a batch has said nothing for a minute, as Redis sees it, and as he does not know."""
    for entry in server.client.xpending_range(STREAM, "importers", "-", "+", 1):
        owner, number = entry["consumer"], entry["message_id"]
        server.client.xclaim(STREAM, "importers", owner, 0, [number], idle=60_000, justid=True)


class Sleeping(CutAt):
    """A store whose owner sleeps before its n-th update, while something else happens."""

    def __init__(self, store: RedisStore, at: int, meanwhile: Callable[[], object]) -> None:
        super().__init__(store, None)
        self.wakes_at, self.meanwhile = at, meanwhile

    def update(self, keys: Any, fold: Any) -> dict[Key, Any]:
        decisions = {}
        for where in keys:
            if self.count == self.wakes_at:
                self.meanwhile()
            decisions |= super().update([where], fold)
        return decisions


@pytest.mark.parametrize("at", range(4))
def test_a_consumer_that_slept_past_its_lease_doubles_and_loses_nothing(
    make_redis: MakeRedis, redis_server: Redis, clock: Clock, at: int
) -> None:
    store = make_redis()
    batches = [[of(name, track(str(number))) for name in ("a", "b", "c")] for number in range(3)]
    live = [track() for _ in range(200)]  # as many as the message ids that a profile remembers

    def serving(store: Any) -> ExperienceService:
        queue = RedisQueue(make_redis().server, clock=clock)
        return ExperienceService(store=store, content=ContentFolder(None), queue=queue, clock=clock)

    def drained(service: ExperienceService) -> bool:
        assert service.consumer is not None
        return service.consumer.drain()

    def others_take_over() -> None:
        let_leases_end(redis_server)
        assert drained(serving(store))
        serving(store).upsert(WHERE, "a", {"events": live})

    slow = serving(Sleeping(store, at, others_take_over))
    slow.consumer.ensure = lambda: None  # type: ignore[union-attr, method-assign]
    for batch in batches:
        slow.import_many(WHERE, {"events": batch})
    drained(slow)
    assert drained(serving(store))
    sent = Counter(event["messageId"] for batch in [*batches, live] for event in batch)
    found = Counter(event["messageId"] for name in "abc" for _, _, event in store.read(WHERE.key(name)).history())
    assert found == sent


def test_what_a_late_consumer_says_of_a_batch_that_is_done_changes_nothing(make_redis: MakeRedis, clock: Clock) -> None:
    queue = RedisQueue(make_redis().server, clock=clock)
    queue.put(b"1")
    queue.put(b"2")
    late = queue.head()
    assert late is not None
    with queue.alone():
        queue.finish(late.number)
    with queue.alone():
        queue.failed(late)
        queue.set_aside(late, "no good")
        queue.finish(late.number)
    found = queue.head()
    assert found is not None
    assert (found.batch, found.tries) == (b"2", 0)
    assert queue.contents.aside() == {}


def test_a_consumer_begins_no_update_in_the_last_part_of_its_lease(make_redis: MakeRedis, clock: Clock) -> None:
    store = make_redis()
    queue = RedisQueue(store.server, lease=5.0, clock=clock)  # as long as one update may take
    queue.put(b"1")
    with queue.alone() as alone:
        assert alone
        assert "another process may have taken over" in unavailable(lambda: put(store, key(), {"a": 1}))
    put(store, key(), {"a": 1})


@pytest.mark.parametrize("late", ["done", "failed", "set_aside"])
def test_a_deletion_takes_the_place_of_a_consumer_that_counts_as_dead_and_hears_no_more_of_it(
    make_redis: MakeRedis, redis_server: Redis, clock: Clock, late: str
) -> None:
    consumer, deletion = (RedisQueue(make_redis().server, clock=clock) for _ in range(2))
    consumer.put(b"hers and his")
    with consumer.alone():
        head = consumer.head()
        assert head is not None
        let_leases_end(redis_server)
        with deletion.alone(wait=True) as alone:
            assert alone
            deletion.rewrite(lambda batch: b"his")
            if late == "done":
                consumer.finish(head.number)
            elif late == "failed":
                consumer.failed(head)
            else:
                consumer.set_aside(head, "KeyError: hers")
    found = deletion.head()
    assert found is not None
    assert (found.batch, found.tries) == (b"his", 0)
    assert deletion.contents.aside() == {}


def test_a_deletion_that_died_keeps_consumers_out_only_until_its_lease_ends(
    make_redis: MakeRedis, redis_server: Redis, clock: Clock
) -> None:
    queue, other = (RedisQueue(make_redis().server, timeout=0.05, clock=clock) for _ in range(2))
    queue.put(b"1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConsumerPlace, "_leave", lambda self, name: None)  # as by the death of its process
        with queue.alone(wait=True) as alone:
            assert alone
    with other.alone() as alone, other.alone(wait=True) as also:
        assert not alone
        assert not also
    assert 0 < redis_server.client.pttl("nt:{imports}:turn") <= 10_000
    redis_server.client.pexpire("nt:{imports}:turn", 0)
    with other.alone() as alone:
        assert alone


def test_a_deletion_that_lost_its_place_changes_nothing(
    make_redis: MakeRedis, redis_server: Redis, clock: Clock
) -> None:
    queue = RedisQueue(make_redis().server, clock=clock)
    for number in range(3):
        queue.put(b"%d" % number)

    def change(batch: bytes) -> bytes:
        if batch == b"2":
            redis_server.client.delete("nt:{imports}:turn")
        return batch + b" changed"

    with queue.alone(wait=True) as alone:
        assert alone
        assert "LOST the place" in unavailable(lambda: queue.rewrite(change))
    assert list(queue.batches()) == [b"0", b"1", b"2"]
    assert 0 < redis_server.client.pttl("nt:{imports}:changes") <= 10_000


# Leaving things as they were


def test_everything_moves_to_another_store_and_back(
    make_redis: MakeRedis, make_disk: Callable[..., Any], tmp_path: Path
) -> None:
    def whole(store: Any) -> list[Any]:
        return sorted(
            (where, orjson.dumps(document), end, kept) for where, document, end, kept in store.contents.dump()
        )

    first = make_redis(history_events=5)
    for number in range(12):
        append(first, key(f"visitor {number % 3}"), *happened(number))
    put(first, key("pointer \ud800"), {"to": "visitor 1", "nonce": 1})
    disk, back = make_disk(tmp_path / "moved", history_events=5), make_redis(tmp_path, history_events=5)
    put(disk, key("visitor 0"), {"old": True}, happened(*range(100, 110)))
    disk.contents.load(list(first.contents.dump()))
    disk.contents.load(list(first.contents.dump()))
    back.contents.load(list(disk.contents.dump()))
    assert whole(first) == whole(disk) == whole(back)
    for where, *_ in first.contents.dump():
        assert first.read(where).history() == disk.read(where).history() == back.read(where).history()
    append(back, key("visitor 1"), *happened(99))
    assert [ordinal for ordinal, _, _ in back.read(key("visitor 1")).history()] == [0, 1, 2, 3, 4]
