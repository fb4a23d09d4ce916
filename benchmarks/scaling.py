"""Measures a stored page event over HTTP with 1, 2 and 4 server processes on one Redis, and the same on disk.

``python benchmarks/scaling.py`` starts a Redis of its own (append-only file, fsync every second) on a free port and
ends it. A server process is a worker of one ``serve``: processes share the port they listen on and nothing else but the
store, so it makes no difference to Redis whether they are on one machine. All take turns in every round, each on Redis
with a database of its own; one more is sent the events of one visitor only, so that its processes are in conflict.
``--write`` keeps the figures in scaling.json, from which capacity.py reckons, and puts the tables into docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import load
import orjson
from over_http import VISITORS, Contender, measure, page_events, prepare
from redis_update import traffic
from report import machine, put, table
from scenario import EXPERIENCES, page_event, past, write_content
from servers import FIXTURES, HERE, Server, service, serving

from ninetailed_wsgi import Settings
from ninetailed_wsgi.content import content_source
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.enrichment.geoip import LocationDatabase
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store.protocol import Fold, OutcomeT, StoreEntry
from ninetailed_wsgi.store.redis.documents import WRITE
from ninetailed_wsgi.store.redis.server import RedisServer
from ninetailed_wsgi.store.redis.store import RedisStore

sys.path.append(str(HERE.parent / "tests"))

from redis_servers import DATABASES, Redis, running

COSTS = HERE / "scaling.json"
DOCUMENT = HERE.parent / "docs" / "scale.md"
PROCESSES, CONNECTIONS = (1, 2, 4), (1, 8)
DURABLE = ("--appendonly", "yes", "--appendfsync", "everysec")
SAMPLES = 2000  # of single requests in this process
INSIDE = len(PROCESSES)  # the database of what is done in this process
DIRECT = 50_000  # commands that redis-benchmark sends
BATCH, TOGETHER = 200, 50  # events and visitors of an import: the most that one may have
ENVIRONMENT = Environment("bench", "inside")


class Reading(NamedTuple):
    """What Redis and the machine have used so far.

    Attributes:
        cpu: microseconds of Redis' processor time.
        commands: that came over the network; scripts call others.
        received, sent: bytes.
        read, write: microseconds that Redis was executing reads and scripts.
        others: microseconds that all processors were busy with whatever it was, or taken away by a hypervisor.
    """

    cpu: float
    commands: float
    received: float
    sent: float
    read: float
    write: float
    others: float


@dataclass
class OnDisk(Contender):
    """Some server processes on one data folder.

    Attributes:
        visitors: whose events are sent.
        others: cores that other programs used meanwhile, by number of connections.
    """

    processes: int = 0
    visitors: int = len(VISITORS)
    others: dict[int, list[float]] = field(default_factory=dict)

    def measure(self, server: Server, connections: int, seconds: int) -> load.Load:
        before, began = self.reading(), time.perf_counter()
        found = super().measure(server, connections, seconds)
        after, elapsed = self.reading(), time.perf_counter() - began
        spent = Reading(*(late - early for early, late in zip(before, after, strict=True)))
        used = self.measured[connections][-1]
        ours = (used.cpu + used.client) * found.requests + spent.cpu
        self.others.setdefault(connections, []).append(max(0.0, (spent.others - ours) / 1e6 / elapsed))
        self.note(connections, found.requests, spent)
        return found

    def reading(self) -> Reading:
        return Reading(0, 0, 0, 0, 0, 0, busy())

    def note(self, connections: int, requests: int, spent: Reading) -> None:
        """Keep what Redis spent."""

    def run(self, connections: int) -> dict[str, Any]:
        """The medians, as scaling.json has them."""
        each = self.median(connections)
        return {
            "store": "disk",
            "processes": self.processes,
            "visitors": self.visitors,
            "connections": connections,
            **{name: round(value, 3) for name, value in each._asdict().items()},
            "others": round(statistics.median(self.others[connections]), 3),
        }


@dataclass
class OnRedis(OnDisk):
    """Some server processes on a database of a Redis.

    Attributes:
        spent: what Redis spent on a request.
    """

    redis: Redis = None  # type: ignore[assignment]  # after fields with defaults
    spent: dict[int, list[Reading]] = field(default_factory=dict)

    def reading(self) -> Reading:
        return reading(self.redis)

    def note(self, connections: int, requests: int, spent: Reading) -> None:
        self.spent.setdefault(connections, []).append(Reading(*(value / requests for value in spent)))

    def run(self, connections: int) -> dict[str, Any]:
        figures = zip(Reading._fields, zip(*self.spent[connections], strict=True), strict=True)
        medians = {name: round(statistics.median(values), 3) for name, values in figures if name != "others"}
        return {**super().run(connections), "store": "redis", "redis": medians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement [2]")
    parser.add_argument("--rounds", type=int, default=7, help="in which everything is measured once [7]")
    parser.add_argument("--write", action="store_true", help="keep what is found in scaling.json and docs/scale.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running(*DURABLE) as redis:
        folder = Path(name)
        contenders = list(side_by_side(folder, redis))
        measure(contenders, CONNECTIONS, given.rounds, given.seconds)
        request = (folder / "page-events").stat().st_size // len(VISITORS)
        runs = [contender.run(connections) for connections in CONNECTIONS for contender in contenders]
        inside = in_process(folder, redis)
        direct = {name: round(value, 1) for name, value in under_load(redis)}
    found = {
        "machine": machine(),
        "cores": os.cpu_count(),
        "rounds": given.rounds,
        "seconds": given.seconds,
        "runs": runs,
        **inside,
    }
    found |= {"direct": direct, "http": [request, found.pop("answer")]}
    print(report(found))
    if given.write:
        COSTS.write_text(json.dumps(found, indent=1) + "\n")
        put(DOCUMENT, "measured", report(found))


def side_by_side(folder: Path, redis: Redis) -> Iterator[OnDisk]:
    events, content = page_events(folder), write_content(folder / "content.json", EXPERIENCES)
    for database, processes in enumerate(PROCESSES):
        data = folder / str(processes)

        def start(data: Path = data, processes: int = processes, store: str = "") -> AbstractContextManager[Server]:
            return serving(service(data, content, workers=processes, store=store))

        url = f"redis://127.0.0.1:{redis.port}/{database}"
        yield OnDisk(f"disk, {processes}", start, events, prepare, processes=processes)
        on_redis = partial(start, store=url)
        yield OnRedis(f"Redis, {processes}", on_redis, events, prepare, processes=processes, redis=redis)
    one = load.write(folder / "one-visitor", [events.read_bytes().split(b"\0")[0]])
    yield OnRedis("one visitor", on_redis, one, prepare, processes=processes, visitors=1, redis=redis)


def reading(redis: Redis) -> Reading:
    info: Any = redis.client.info("everything")
    executing = [info.get(f"cmdstat_{name}", {"usec": 0})["usec"] for name in ("get", "evalsha")]
    cpu = Server(redis.port, (info["process_id"],)).cpu() * 1e6
    return Reading(cpu, *traffic(redis), *executing, busy())


def busy() -> float:
    """Microseconds that all processors together were busy so far, or not to be had."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) * 1e4  # in hundredths of a second


def under_load(redis: Redis) -> Iterator[tuple[str, float]]:
    """Microseconds of Redis' processor time for each command of an event when it always has work: 50 connections.

    It then reads many commands and writes the file once for all of them. redis-benchmark comes with Debian's Redis.
    """
    program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    assert program is not None, "redis-benchmark is needed"
    client = redis.client
    client.select(INSIDE)
    name = next(client.scan_iter("nt:{*}", count=1000)).decode()
    document, event = client.get(name), client.lindex(name + ":h", -1)
    client.select(DATABASES - 1)
    client.mset({f"some:{number:012d}": document for number in range(len(VISITORS))})
    keys = ["2", "nt:{__rand_int__}", "nt:{__rand_int__}:h"]
    commands = {"read": ["GET", "some:__rand_int__"]}
    commands["write"] = [
        "EVALSHA",
        client.script_load(WRITE.text),
        *keys,
        "",
        "*",
        document,
        "",
        "500",
        "0",
        "0",
        event,
    ]
    for name, words in commands.items():
        before = reading(redis).cpu
        settings = ["-p", redis.port, "--dbnum", DATABASES - 1, "-c", 50, "-n", DIRECT, "-r", len(VISITORS)]
        subprocess.run([program, *map(str, settings), *words], capture_output=True, check=True)
        yield name, (reading(redis).cpu - before) / DIRECT


# In this process, without HTTP: how the processor time of single requests is spread, what of it a conflict repeats,
# what a profile takes in memory, and how fast one consumer of imports is.


class Observed(RedisStore):
    """The store, which notes the nanoseconds of what a conflict repeats."""

    folding = 0

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        def timed(key: Key, entry: StoreEntry) -> OutcomeT:
            began = time.thread_time_ns()
            try:
                return fold(key, entry)
            finally:
                self.folding += time.thread_time_ns() - began

        return super().update(keys, timed)


def in_process(folder: Path, redis: Redis) -> dict[str, Any]:
    store = Observed(RedisServer(redis.url(INSIDE)))
    content = content_source(Settings(content=folder / "content.json"))
    content.load()
    location = LocationDatabase(FIXTURES / "geo" / "demo.mmdb")
    inside = ExperienceService(store=store, content=content, location=location)
    before = redis.client.info("memory")["used_memory"]
    for visitor in VISITORS:
        inside.upsert(ENVIRONMENT, visitor, {"events": list(past(visitor))})
    past_only = redis.client.info("memory")["used_memory"]
    store.folding = 0
    times = list(single_requests(inside))
    folding = store.folding / SAMPLES / 1000
    grown = redis.client.info("memory")["used_memory"]
    mean = statistics.mean(times)
    spread = sorted(times)
    return {
        "shape": [round(spread[int((place + 0.5) / 100 * SAMPLES)] / mean, 3) for place in range(100)],
        "fold": round(folding, 1),
        "memory": {
            "profile": round((past_only - before) / len(VISITORS)),
            "event": round((grown - past_only) / SAMPLES),
        },
        "imported": round(imported(inside)),
        "answer": len(orjson.dumps(inside.get(ENVIRONMENT, VISITORS[0]))),
    }


def single_requests(inside: ExperienceService) -> Iterator[int]:
    """Nanoseconds of processor time of each of a number of page events of known visitors."""
    now, options = datetime.now(UTC), {"features": ["location"]}
    for number in range(SAMPLES):
        body = {"events": [page_event(f"inside-{number}", now)], "options": options}
        began = time.thread_time_ns()
        inside.upsert(ENVIRONMENT, VISITORS[number % len(VISITORS)], body, address="127.0.0.1")
        yield time.thread_time_ns() - began


def imported(inside: ExperienceService) -> float:
    """Events per second of the largest batches, applied one after the other."""
    now, batches = datetime.now(UTC), 10
    began = time.perf_counter()
    for number in range(batches):
        visitors = [VISITORS[number * TOGETHER + place % TOGETHER] for place in range(BATCH)]
        events = [
            {**page_event(f"batch-{number}-{place}", now), "anonymousId": visitor}
            for place, visitor in enumerate(visitors)
        ]
        inside.upsert_many(ENVIRONMENT, {"events": events})
    return batches * BATCH / (time.perf_counter() - began)


def report(found: dict[str, Any]) -> str:
    head = ("connections", "store, processes", "requests/s", "p50 ms", "p99 ms", "CPU µs/request: servers", "Redis")
    head += ("wrk", "commands", "bytes to Redis", "from it", "cores others used")
    memory = found["memory"]
    return "\n".join(
        [
            f"{found['machine']}. {len(VISITORS):,} visitors in rotation, {EXPERIENCES} audiences and experiences; "
            f"{found['rounds']} rounds, in each everything for {found['seconds']} s in turn; medians.",
            "",
            table(head, map(_row, found["runs"])),
            "",
            f"In one process without HTTP: a conflict repeats {found['fold']:.0f} µs of a request's processor time; a "
            f"profile with 4 events takes {memory['profile']:,} bytes of Redis' memory and each further page event "
            f"{memory['event']:,} in its history; batches of {BATCH} events of {TOGETHER} visitors are applied at "
            f"{found['imported']:,} events/s. With 50 connections that always have a next command, a read costs Redis "
            f"{found['direct']['read']:.1f} µs and the script {found['direct']['write']:.1f} µs. A request's body and "
            f"head have {found['http'][0]:,} bytes, its answer's body {found['http'][1]:,}.",
        ]
    )


def _row(run: dict[str, Any]) -> Sequence[object]:
    redis = run.get("redis")
    figures = (
        (f"{redis['cpu']:.0f}", f"{redis['commands']:.2f}", f"{redis['received']:,.0f}", f"{redis['sent']:,.0f}")
        if redis
        else ("",) * 4
    )
    name = f"{'Redis' if redis else 'disk'}, {run['processes']}"
    return (
        run["connections"],
        name if run["visitors"] > 1 else name + ", one visitor",
        f"{run['rate']:,.0f}",
        f"{run['p50']:.2f}",
        f"{run['p99']:.2f}",
        f"{run['cpu']:.0f}",
        figures[0],
        f"{run['client']:.0f}",
        *figures[1:],
        f"{run['others']:.2f}",
    )


if __name__ == "__main__":
    main()
