"""How long a scan for results takes, and how much memory: `make bench-results`.

    python benchmarks/results_scan.py [--profiles 1000000] [--redis redis://127.0.0.1:6379/0]

Stores made-up profiles of 5 exposures and a conversion each, then computes the results of 5 experiments once. Measured:
the CPU time of this process during the scan, and by how much its memory grew.
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

from ninetailed_wsgi.content import compile_content
from ninetailed_wsgi.content.formats.generic import read_generic
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.insights.results import Period
from ninetailed_wsgi.insights.scan import experiments_of, results
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.opening import open_store
from ninetailed_wsgi.store.protocol import StoredRecord

WHERE = Environment("bench", "main")
START = 1_780_000_000_000
EXPERIENCES = 5


def catalog() -> Any:
    config = {"traffic": 1, "distribution": [0.5, 0.5], "components": []}
    experiences = [
        {"id": f"e{n}", "type": "nt_experiment", "config": {**config, "primaryMetric": "m"}} for n in range(EXPERIENCES)
    ]
    metrics = [{"id": "m", "type": "value", "event": "purchase", "property": "total"}]
    return compile_content(read_generic({"experiences": experiences, "metrics": metrics}, "bench"))


def profiles(number: int, content: Any) -> Iterator[StoredRecord]:
    draw = random.Random(1)
    phase = content.exposures.phases["e0"]
    for _ in range(number):
        id = f"{draw.getrandbits(256):064x}"
        record = profile.new_record(id)
        content.metrics.recount(record, ())
        record["exposures"] = {
            f"e{n}": {phase: {"first": START + n, "index": draw.randrange(2), "views": 2, "longest": 4000}}
            for n in range(EXPERIENCES)
        }
        record["reported"] = f"{draw.getrandbits(8 * 40):080x}"
        if draw.random() < 0.1:
            event = {"type": "track", "event": "purchase", "properties": {"total": draw.uniform(1, 50)}}
            content.metrics.count(record, START + 1000, event)
        yield StoredRecord(WHERE.key(id), record, 1, [(START, b'{"type":"page","properties":{"path":"/"}}')])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--profiles", type=int, default=1_000_000)
    parser.add_argument("--redis")
    arguments = parser.parse_args()
    content = catalog()
    with tempfile.TemporaryDirectory() as folder:
        store, _ = open_store(Settings(data_dir=Path(folder) / "data", store=arguments.redis))
        for batch in batched_profiles(arguments.profiles, content):
            store.contents.load(batch)
        before, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = results(store, WHERE, content, experiments_of(content), Period(0, START + 10**9))
        seconds = time.process_time() - before
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
        counted = sum(variant.visitors for variant in found[0].variants)
        print(
            f"{counted:,} profiles on {'Redis' if arguments.redis else 'disk'}: {seconds:.1f} s of CPU, "
            f"{seconds / counted * 1e6:.1f} us each, {grown:.0f} MiB more memory"
        )


def batched_profiles(number: int, content: Any) -> Iterator[list[StoredRecord]]:
    batch: list[StoredRecord] = []
    for stored in profiles(number, content):
        batch.append(stored)
        if len(batch) == 1000:
            yield batch
            batch = []
    if batch:
        yield batch


if __name__ == "__main__":
    main()
