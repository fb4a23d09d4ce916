"""Measures deletions of visitors while 3,000 imported batches of 80 kB wait, and how fast the importer still is.

``python benchmarks/deletion.py`` fills a queue in a temporary folder (270 MB), or in a Redis of its own with
``--redis``. It deletes visitors who have events in two of the batches, first while nobody applies them, then without a
pause beside a process that does: the two take turns, so a deletion waits for one batch, and a batch for one deletion.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import count
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from redis_servers import running  # noqa: E402
from report import Target, machine, table, targets  # noqa: E402
from scenario import page_event  # noqa: E402

from ninetailed_wsgi.content import ContentFolder  # noqa: E402
from ninetailed_wsgi.core.names import Environment  # noqa: E402
from ninetailed_wsgi.service.batches import Batch  # noqa: E402
from ninetailed_wsgi.service.service import ExperienceService  # noqa: E402
from ninetailed_wsgi.settings import Settings  # noqa: E402
from ninetailed_wsgi.store.opening import open_store  # noqa: E402

BATCHES, BYTES = 3000, 80_000
VISITORS = 25
"""Of a batch; each has events in the next batch as well."""

WHERE = Environment("bench", "main")
DELETION_MS, APPLIED = 100.0, 0.5  # the latter: batches for each deletion beside them


class Deletion(NamedTuple):
    """How long one took, in milliseconds, and what of it this process computed."""

    wall: float
    cpu: float


class Applied(NamedTuple):
    """Batches that were applied, and how many of them in a second."""

    batches: int
    rate: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=BATCHES, help=f"that wait [{BATCHES}]")
    parser.add_argument("--deletions", type=int, default=30, help="of each kind [30]")
    parser.add_argument("--seconds", type=float, default=5, help="of the importer alone and beside deletions [5]")
    parser.add_argument("--redis", action="store_true", help="instead of a folder")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        options: dict[str, Any] = {"data_dir": folder, "import_queue": given.batches + 1}
        if given.redis:
            options["store"] = stack.enter_context(running()).url()
        settings = Settings(**options)
        importing = stack.enter_context(importer(settings))
        service, state = opened(settings)
        fill(settings, given.batches)
        print(f"Measured on {machine()}.\n\n{state()} batches of {BYTES // 1000} kB wait.\n")
        report(service, state, importing, given)


def report(service: ExperienceService, state: Callable[[], int], importing: Event, given: argparse.Namespace) -> None:
    visitors = (f"visitor {number}" for number in count((given.batches - 2) * VISITORS, -7))  # those of the last ones
    quiet = [delete(service, next(visitors)) for _ in range(given.deletions)]
    importing.set()
    time.sleep(1)
    alone = applied(state, lambda: time.sleep(0.02), given.seconds).rate
    beside: list[Deletion] = []
    during = applied(state, lambda: beside.append(delete(service, next(visitors))), given.seconds)
    rows = [row("nobody applies them", quiet), row("a process applies them", beside)]
    print(table(("a deletion while", "best, ms", "median, ms", "slowest, ms", "CPU, median, ms"), rows))
    print(f"\nApplied by it in a second: {alone:.1f} batches, beside deletions without a pause {during.rate:.1f}.\n")
    best, cpu = min(each.wall for each in quiet), statistics.median(each.cpu for each in quiet)
    print(
        targets(
            [
                Target("a deletion while nobody applies them, best, ms", False, DELETION_MS, best),
                Target("its CPU, median, ms", False, DELETION_MS, cpu),
                Target("batches applied between two deletions", True, APPLIED, during.batches / len(beside)),
            ]
        )
    )


def row(name: str, deletions: list[Deletion]) -> tuple[str, ...]:
    walls, cpus = [each.wall for each in deletions], [each.cpu for each in deletions]
    values = min(walls), statistics.median(walls), max(walls), statistics.median(cpus)
    return (f"{name} ({len(deletions)} times)", *(f"{value:.1f}" for value in values))


def delete(service: ExperienceService, name: str) -> Deletion:
    wall, cpu = time.perf_counter(), time.process_time()
    service.delete(WHERE, name)
    return Deletion((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000)


def applied(state: Callable[[], int], work: Callable[[], object], seconds: float) -> Applied:
    """Return what is applied while some work is repeated."""
    before, began = state(), time.monotonic()
    while time.monotonic() - began < seconds:
        work()
    left = state()
    assert left, "too few batches for the time"
    return Applied(before - left, (before - left) / (time.monotonic() - began))


def opened(settings: Settings) -> tuple[ExperienceService, Callable[[], int]]:
    """A service whose process applies nothing by itself, and what says how many batches wait."""
    store, queue = open_store(settings)
    service = ExperienceService(store=store, content=ContentFolder(None), queue=queue)
    return service, lambda: queue.state().waiting


def fill(settings: Settings, batches: int) -> None:
    _, queue = open_store(settings)
    event = page_event("x", datetime.now(UTC))
    size = len(Batch(WHERE, 0, [event]).encode())
    texts = "x" * max(0, BYTES // (2 * VISITORS) - size)
    for number in range(batches):
        names = [f"visitor {(number + each % 2) * VISITORS + each // 2}" for each in range(2 * VISITORS)]
        events = [
            {**event, "messageId": f"{number}-{place}", "anonymousId": name, "note": texts}
            for place, name in enumerate(names)
        ]
        batch = Batch(WHERE, time.time_ns() // 1_000_000, events)
        queue.put(batch.encode(), batch.names)
    queue.close()


@contextmanager
def importer(settings: Settings) -> Iterator[Event]:
    """Run a process that applies batches once the event is set; it begins before anything is opened here."""
    context = multiprocessing.get_context("spawn")
    at_work = context.Event()
    process = context.Process(target=_import, args=(settings, at_work))
    process.start()
    try:
        yield at_work
    finally:
        process.kill()
        process.join()


def _import(settings: Settings, at_work: Event) -> None:
    at_work.wait()
    service, _ = opened(settings)
    assert service.consumer is not None
    service.consumer.wake()
    while True:  # until it is killed
        time.sleep(60)


if __name__ == "__main__":
    main()
