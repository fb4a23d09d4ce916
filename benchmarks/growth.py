"""Measures one stored page event with 1,000, 100,000 and 1,000,000 stored profiles, and what these take on disk.

``make bench-growth`` or ``python benchmarks/growth.py --profiles 1000,100000``; a million take some minutes and some
gigabytes. In-process, as what grows is the store. The folders take turns in every round, each update of a profile
that is drawn by chance; what the operating system keeps of the files in memory stays as it is.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from report import Target, table, targets
from scenario import page_event, past, write_content
from servers import FIXTURES

from ninetailed_wsgi import Settings
from ninetailed_wsgi.core.events import event_time
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store.protocol import StoreEntry, Write

ENVIRONMENT = Environment("bench", "main")
AT_ONCE = 20_000  # profiles that are written in one transaction of each shard
UPDATES = 200  # of each folder in a round

_messages = count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", default="1000,100000,1000000", help="numbers of stored profiles [%(default)s]")
    parser.add_argument("--rounds", type=int, default=25, help="of 200 updates with each number [25]")
    parser.add_argument("--folder", type=Path, help="where the data folders are made [a temporary folder]")
    given = parser.parse_args()
    sizes = sorted(map(int, given.profiles.split(",")))
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        services = {size: filled(Path(name), size) for size in sizes}
        disk = {size: bytes_on_disk(Path(name, str(size))) / size for size in sizes}
        times: dict[int, list[int]] = {size: [] for size in sizes}
        chance = random.Random(1)
        for turn in range(-2, given.rounds):  # two to get warm
            for size in sizes if turn % 2 else reversed(sizes):
                measured = updates(services[size], size, chance)
                times[size] += measured if turn >= 0 else []
    print(report(times, disk))


def filled(folder: Path, size: int) -> ExperienceService:
    """A service with so many profiles, each as the service itself makes it of the same past."""
    began = time.monotonic()
    service = ExperienceService.from_settings(
        Settings(
            data_dir=folder / str(size),
            content=write_content(folder / "content.json"),
            geoip_database=FIXTURES / "geo" / "demo.mmdb",
        )
    )
    events = list(past("first"))
    service.upsert(ENVIRONMENT, profile(0), {"events": events}, address="127.0.0.1")
    fold = copies(service, events)
    for first in range(1, size, AT_ONCE):
        keys = [ENVIRONMENT.key(profile(number)) for number in range(first, min(first + AT_ONCE, size))]
        service.store.update(keys, fold)
    print(f"{size:,} profiles stored in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return service


def copies(service: ExperienceService, events: list[dict[str, Any]]) -> Callable[[Key, StoreEntry], Write]:
    """Writes the first profile under another name, with its history."""
    document = service.store.read(ENVIRONMENT.key(profile(0))).document
    assert document is not None
    now = time.time_ns() // 1_000_000
    history = [(event_time(event, now), orjson.dumps(event)) for event in events]

    def fold(key: Key, entry: StoreEntry) -> Write:
        record = copy.copy(document)
        record["id"] = record["stable_id"] = key.name
        return Write(record, history)

    return fold


def profile(number: int) -> str:
    """As long as the ids that the service makes."""
    return f"{number:064x}"


def updates(service: ExperienceService, size: int, chance: random.Random) -> list[int]:
    """The nanoseconds of one stored page event each, of profiles drawn by chance."""
    now, options = datetime.now(UTC), {"features": ["location"]}
    names = [profile(chance.randrange(size)) for _ in range(UPDATES)]
    bodies = [{"events": [page_event(f"message-{next(_messages)}", now)], "options": options} for _ in names]
    times = []
    for name, body in zip(names, bodies, strict=True):
        began = time.perf_counter_ns()
        service.upsert(ENVIRONMENT, name, body, address="127.0.0.1")
        times.append(time.perf_counter_ns() - began)
    return times


def bytes_on_disk(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*"))


def report(times: dict[int, list[int]], disk: dict[int, float]) -> str:
    medians = {size: statistics.median(values) / 1000 for size, values in times.items()}
    smallest, largest = min(medians), max(medians)
    rows = [
        (
            f"{size:,}",
            f"{median:.0f}",
            f"{median / medians[smallest]:.2f}",
            f"{sorted(times[size])[len(times[size]) * 99 // 100] / 1000:.0f}",
            f"{disk[size]:,.0f}",
        )
        for size, median in medians.items()
    ]
    head = ("stored profiles", "median update µs", f"against {smallest:,}", "p99 µs", "bytes on disk for a profile")
    ratio = medians[largest] / medians[smallest]
    return "\n".join(
        [
            "A stored page event with location, in-process, 10 audiences and 10 experiences; a profile has 4 events "
            f"and grows; {len(times[smallest]):,} updates with each number of profiles, in turn.",
            "",
            table(head, rows),
            "",
            targets([Target(f"growth: update with {largest:,} against {smallest:,}", False, 1.3, ratio)]),
        ]
    )


if __name__ == "__main__":
    main()
