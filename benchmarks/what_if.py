"""How long what-if takes, and how much memory: `make bench-what-if`.

    python benchmarks/what_if.py [--visitors 100000] [--events 50]

Stores made-up visitors with a history each, then asks what three changed audiences and two new ones would do.
Measured: the CPU time of this process while it replays, and by how much its memory grew. The target is 60 s of CPU for
100,000 visitors with 50 events.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from ninetailed_wsgi.content import compile_content
from ninetailed_wsgi.content.formats.generic import read_generic
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.insights.replay import what_if
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.opening import open_store
from ninetailed_wsgi.store.protocol import StoredRecord

WHERE = Environment("bench", "main")
START = 1_780_000_000_000
AUDIENCES = 20
PATHS = [f"/page-{n}" for n in range(40)]


def catalog(least: int, more: int = 0) -> Any:
    """Return content with 20 audiences about pages; the first three ask for `least` views."""
    audiences = []
    for number in range(AUDIENCES + more):
        key = {"id": "context_page_path", "key": "context_page_path", "value": ""}
        path = {"key": key, "operator": "equal", "value": PATHS[number]}
        count = str(least if number < 3 else 1)
        rule = {"type": "page", "operator": "greaterThanInclusive", "count": count, "conditions": [path]}
        audiences.append({"id": f"a{number}", "rules": {"any": [{"all": [rule]}]}})
    component = {"type": "InlineVariable", "key": "flag", "baseline": {"value": 0}, "variants": [{"value": 1}]}
    config = {"traffic": 1, "distribution": [0.5, 0.5], "components": [component]}
    experiences = [
        {"id": f"e{n}", "type": "nt_experiment", "audience": f"a{n}", "config": config} for n in range(AUDIENCES)
    ]
    return compile_content(read_generic({"audiences": audiences, "experiences": experiences}, "bench"))


def visitors(number: int, events: int, content: Any) -> Iterator[StoredRecord]:
    draw = random.Random(1)
    library = {"name": "Ninetailed React Analytics SDK", "version": "7.26.0"}
    for _ in range(number):
        record = profile.new_record(f"{draw.getrandbits(256):064x}")
        history = []
        for ordinal in range(events):
            page = {
                "path": draw.choice(PATHS),
                "query": {},
                "referrer": "",
                "search": "",
                "url": "https://shop.example/",
            }
            event = {
                "type": "page",
                "channel": "web",
                "messageId": f"{draw.getrandbits(128):032x}",
                "context": {"library": library, "locale": "en", "page": page, "userAgent": "Mozilla/5.0"},
                "properties": page,
            }
            history.append((START + ordinal * 60_000, event))
        content.audiences.recount(record["counts"], [(n, at, event) for n, (at, event) in enumerate(history)])
        yield StoredRecord(
            WHERE.key(record["id"]), record, events, [(at, orjson.dumps(event)) for at, event in history]
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--visitors", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=50)
    arguments = parser.parse_args()
    before, after = catalog(2), catalog(4, more=2)
    with tempfile.TemporaryDirectory() as folder:
        store, _ = open_store(Settings(data_dir=Path(folder) / "data"))
        batch: list[StoredRecord] = []
        for stored in visitors(arguments.visitors, arguments.events, before):
            batch.append(stored)
            if len(batch) == 1000:
                store.contents.load(batch)
                batch = []
        store.contents.load(batch)
        began, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found, _ = what_if(store, WHERE, before, after, START + 10**8)
        seconds = time.process_time() - began
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
        counted = found["visitors"]["evaluated"]
        print(
            f"{counted:,} visitors with {arguments.events} events: {seconds:.1f} s of CPU, "
            f"{seconds / counted * 1e6:.0f} us each, {grown:.0f} MiB more memory; "
            f"{found['visitorsChanged']['any']:,} would get something else"
        )


if __name__ == "__main__":
    main()
