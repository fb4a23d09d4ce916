"""The Redis store on a Cluster, behind Sentinels, and with replicas that have to have each write; `make redis`."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parties import append, contents, happened, key, numbers, put
from redis.exceptions import ConnectionError as Disconnected
from redis_servers import Cluster, Redis, running
from serving import free_port, wait_until
from support import Clock, identify, of, page, track
from test_redis import opened, unavailable

from ninetailed_wsgi.commands import migrate
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import StoreEntry, Write
from ninetailed_wsgi.store.redis.queue import RedisQueue
from ninetailed_wsgi.store.redis.server import RedisServer
from ninetailed_wsgi.store.redis.store import RedisStore

pytestmark = pytest.mark.redis
WHERE = Environment("org", "main")


@pytest.fixture(scope="module")
def running_cluster(redis_program: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.end()


@pytest.fixture
def cluster(running_cluster: Cluster) -> Cluster:
    """Three masters, and nothing stored on them."""
    running_cluster.flush()
    return running_cluster


@pytest.fixture
def on_cluster(cluster: Cluster) -> Iterator[RedisStore]:
    with opened(cluster.url, timeout=20.0) as store:
        yield store


def serving(store: RedisStore) -> ExperienceService:
    return ExperienceService(
        store=store,
        content=ContentFolder(None),
        queue=RedisQueue(store.server, lease=60.0),
        clock=Clock(),
        new_session_id=lambda: str(uuid.uuid4()),
    )


# Cluster


def test_profiles_lie_on_every_master_each_with_its_history_beside_it(cluster: Cluster, on_cluster: RedisStore) -> None:
    keys = [key(f"visitor {number}") for number in range(300)]
    on_cluster.update(keys, lambda where, _: Write({"name": where.name}, happened(1, 2)))
    held = [{name.decode() for name in server.client.keys("nt:{*}*")} for server in cluster.servers]
    for names in held:
        documents = {name for name in names if not name.endswith(":h")}
        assert len(documents) > 50
        assert names - documents == {name + ":h" for name in documents}
    assert dict(on_cluster.documents()) == {where: {"name": where.name} for where in keys}
    assert on_cluster.contents.count() == 300
    assert sum(events for _, _, events, _ in on_cluster.contents.sizes()) == 600
    assert len(list(on_cluster.contents.dump())) == 300
    on_cluster.update(keys, lambda where, entry: Write(None))
    assert on_cluster.contents.count() == 0


def test_everything_moves_to_a_cluster_and_back_to_a_folder(cluster: Cluster, tmp_path: Path) -> None:
    def place(where: Any) -> migrate.Place:
        stated: dict[str, Any] = {"store": where} if isinstance(where, RedisUrl) else {"data_dir": where}
        return migrate.open_place(Settings(store_shards=2, **stated), filling=True)

    def whole(where: Any) -> list[Any]:
        moved = place(where)
        return [
            sorted((each.key, each) for each in moved.store.contents.dump()),
            list(moved.queue.contents.dump()),
            moved.queue.contents.last(),
        ]

    source = place(tmp_path / "source")
    keys = [key(f"visitor {number}") for number in range(300)]
    source.store.update(keys, lambda where, _: Write({"name": where.name, "aliases": []}, happened(1, 2)))
    for batch in (b"1", b"2"):
        source.queue.put(batch)
    head = source.queue.head()
    assert head is not None
    source.queue.set_aside(head, "no good")
    places = [tmp_path / "source", cluster.url, tmp_path / "back"]
    for one, other in itertools.pairwise(places):
        assert main(["migrate", "--from", str(one), "--to", str(other), "--final"]) == 0
        assert whole(other) == whole(tmp_path / "source")
    assert len(whole(cluster.url)[1]) == 2


def test_threads_on_hot_and_cold_keys_of_a_cluster_lose_nothing(on_cluster: RedisStore) -> None:
    keys = [key(f"visitor {number}") for number in range(30)]

    def count(_: Key, entry: StoreEntry) -> Write:
        return Write({"count": (entry.document or {"count": 0})["count"] + 1}, happened(0))

    threads = [threading.Thread(target=lambda: [on_cluster.update(keys, count) for _ in range(10)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {document["count"] for _, document in on_cluster.documents()} == {80}
    assert {len(on_cluster.read(where).history()) for where in keys} == {80}


def test_merges_and_batches_that_span_slots_make_one_visitor(on_cluster: RedisStore) -> None:
    service, sent = serving(on_cluster), []
    for number in range(20):
        events = [of(f"{number}-{name}", page()) for name in "abc"]
        events += [of(f"{number}-{name}", identify(f"user-{number}")) for name in "abc"]
        events += [of(f"{number}-{name}", track()) for name in "abc"]
        service.import_many(WHERE, {"events": events}) if number % 2 else service.upsert_many(WHERE, {"events": events})
        sent.append(events)
    assert service.consumer is not None
    wait_until(lambda: service.imports().waiting == 0 and bool(service.consumer.drain()), "the imports are applied")  # type: ignore[union-attr]
    for number, events in enumerate(sent):
        (home,) = {identity.resolve(on_cluster, WHERE.key(f"{number}-{name}")).key for name in "abc"}
        kept = Counter(event["messageId"] for _, _, event in on_cluster.read(home).history())
        assert kept == Counter(event["messageId"] for event in events)
        service.delete(WHERE, f"user-{number}")
    assert contents(on_cluster) == {}


def test_a_slot_that_moves_to_another_master_is_followed(cluster: Cluster, on_cluster: RedisStore) -> None:
    append(on_cluster, key(), *happened(1))
    (name,) = {name for server in cluster.servers for name in server.client.keys("nt:{*}")}
    slot = cluster.servers[0].client.execute_command("CLUSTER KEYSLOT", name)
    (source,) = [server for server in cluster.servers if server.client.keys("nt:{*}")]
    target = next(server for server in cluster.servers if server is not source)
    ids = {server: server.client.execute_command("CLUSTER MYID").decode() for server in (source, target)}
    target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    append(on_cluster, key(), *happened(2))  # half of it may be there, half here
    for moved in source.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 10):
        source.client.execute_command("MIGRATE", "127.0.0.1", target.port, moved, 0, 5000)
    append(on_cluster, key(), *happened(3))
    for server in (target, source):
        server.client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    append(on_cluster, key(), *happened(4))
    assert numbers(on_cluster, key()) == [1, 2, 3, 4]


def test_while_a_master_is_gone_the_others_serve_and_it_is_served_again_when_it_is_back(
    redis_program: None, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path)
    try:
        for server in cluster.servers:
            server.options += ("--appendonly", "yes")  # of which the next start is to know
            server.client.config_set("appendonly", "yes")
        keys = [key(f"visitor {number}") for number in range(30)]
        with opened(cluster.url, timeout=6.0) as store:
            store.update(keys, lambda where, _: Write({"n": 1}))
            cluster.servers[1].kill()
            lost = 0
            for where in keys:
                try:
                    put(store, where, {"n": 2})
                except StoreUnavailable:
                    lost += 1
            assert 0 < lost < 30
            with opened(cluster.url, timeout=6.0) as late:  # a process that starts now
                assert sum(_reads(late, where) for where in keys) == 30 - lost
                unavailable(late.check)
            cluster.servers[1].start()
            wait_until(lambda: b"cluster_state:ok" in _cluster_info(cluster.servers[1]), "the Cluster is whole")
            store.update(keys, lambda where, _: Write({"n": 3}))
            assert {document["n"] for _, document in store.documents()} == {3}
    finally:
        cluster.end()


def test_a_master_that_says_nothing_keeps_no_thread_long_and_the_others_serve(
    cluster: Cluster, on_cluster: RedisStore
) -> None:
    keys = [key(f"visitor {number}") for number in range(30)]
    on_cluster.update(keys, lambda where, _: Write({"n": 1}))
    with opened(cluster.url, timeout=1.0) as store:
        wait_until(lambda: _serves(store), "the store serves")
        cluster.servers[1].pause()
        try:
            begun, waited = time.monotonic(), []

            def work(wheres: list[Key]) -> None:
                for where in wheres:
                    started = time.monotonic()
                    with contextlib.suppress(StoreUnavailable):
                        store.read(where)
                    waited.append(time.monotonic() - started)

            threads = [threading.Thread(target=work, args=(keys[number::8],)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert max(waited) < 20, "1 second, and what a busy machine adds"
            assert time.monotonic() - begun < 60, "not each of the ten that ask for it waits a second in turn"
        finally:
            cluster.servers[1].resume()
        wait_until(lambda: _serves(store), "the store serves again")
        assert {document["n"] for _, document in on_cluster.documents()} == {1}


def test_a_server_of_a_cluster_is_refused_as_a_single_one(cluster: Cluster) -> None:
    with pytest.raises(SettingsError, match=r"expected redis\+cluster://"):
        RedisServer(cluster.servers[0].url()).start()


def _cluster_info(server: Redis) -> bytes:
    raw: Any = server.client.execute_command("CLUSTER INFO")
    if isinstance(raw, bytes):
        return raw
    return "\n".join(f"{name}:{value}" for name, value in raw.items()).encode()


# TLS


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_a_server_is_spoken_to_through_tls_and_its_certificate_is_checked(
    redis_program: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_file, certificate, port = tmp_path / "key.pem", tmp_path / "certificate.pem", free_port()
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key_file), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    tls = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key_file))
    with running(*tls, "--tls-auth-clients", "no"):
        url = RedisUrl.parse(f"rediss://127.0.0.1:{port}/0")
        with opened(url) as store:
            assert "certificate verify failed" in unavailable(lambda: put(store, key(), {}))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with opened(url) as store:
            put(store, key(), {"a": 1})
            assert store.read(key()).document == {"a": 1}


# Replicas and Sentinels


@pytest.fixture
def pair(redis_program: None) -> Iterator[tuple[Redis, Redis]]:
    """A master and its replica."""
    options = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
    with running(*options) as master, running(*options, "--replicaof", "127.0.0.1", str(master.port)) as replica:
        wait_until(lambda: _follows(master), "the replica follows its master")
        yield master, replica


def _follows(master: Redis) -> bool:
    """Whether the replica has everything, and says so."""
    state = master.client.info("replication").get("slave0", {})
    return state.get("state") == "online" and master.client.execute_command("WAIT", 1, 100) == 1


def test_a_write_that_too_few_replicas_have_is_not_acknowledged(pair: tuple[Redis, Redis]) -> None:
    master, replica = pair
    with opened(master.url(), timeout=6.0, wait_replicas=1) as store:
        append(store, key(), *happened(1))
        with opened(replica.url()) as at_replica:  # which was asked before it had to be ready
            assert replica.client.keys("nt:{*}")
            assert "not the master" in unavailable(lambda: at_replica.read(key()))
        replica.pause()
        assert "0 of 1 replicas" in unavailable(lambda: append(store, key(), *happened(2)))
        # A request that is sent again changes nothing more, and is acknowledged only when it has arrived.
        assert "0 of 1 replicas" in unavailable(lambda: store.update([key()], lambda _, __: None))
        queue = RedisQueue(store.server)
        assert "0 of 1 replicas" in unavailable(lambda: queue.put(b"1"))
        replica.resume()
        wait_until(lambda: _follows(master), "the replica follows its master")
        store.update([key()], lambda _, __: None)
        assert numbers(store, key()) == [1, 2]


def test_sentinels_lead_to_the_master_also_when_it_is_another_one(pair: tuple[Redis, Redis], tmp_path: Path) -> None:
    master, replica = pair
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"sentinel monitor profiles 127.0.0.1 {master.port} 1\nsentinel down-after-milliseconds profiles 3000\n"
        "sentinel failover-timeout profiles 10000\n"
    )
    sentinel = Redis(tmp_path, configuration=configuration)
    try:
        with opened(RedisUrl.parse(f"redis+sentinel://127.0.0.1:{sentinel.port}/profiles"), timeout=6.0) as store:
            append(store, key(), *happened(1))
            wait_until(
                lambda: sentinel.client.execute_command("SENTINEL REPLICAS", "profiles") != [],
                "the Sentinel knows the replica",
            )
            wait_until(lambda: replica.client.dbsize() == master.client.dbsize(), "the replica has all of it")
            master.kill()
            unavailable(lambda: append(store, key(), *happened(2)))
            wait_until(lambda: _is_master(replica), "the replica is the master")
            wait_until(lambda: _serves(store), "the store serves again")
            append(store, key(), *happened(3))
            assert numbers(store, key()) == [1, 3]
    finally:
        sentinel.end()


def _is_master(server: Redis) -> bool:
    with contextlib.suppress(Disconnected):  # a new role ends the connections of clients
        return bool(server.client.info("replication")["role"] == "master")
    return False


def _reads(store: RedisStore, where: Key) -> bool:
    try:
        return store.read(where).document == {"n": 2}
    except StoreUnavailable:
        return False


def _serves(store: RedisStore) -> bool:
    try:
        store.check()
    except StoreUnavailable:
        return False
    return True
