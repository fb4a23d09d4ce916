"""Measures batches of 200 events over 50 profiles, applied at once and imported, over HTTP by one worker.

``python benchmarks/batches.py`` (part of ``make bench``). One client posts prepared batches one after the other, and
takes a few percent of the time. Batches that are imported are applied by a thread of the same worker meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import earlier
from report import Part, Target, table
from scenario import ENVIRONMENT, page_event, write_content
from servers import HERE, Server, service, serving

from ninetailed_wsgi.store.disk.queue import ImportQueue

EVENTS, PROFILES, VISITORS = 200, 50, 1000


class Measured(NamedTuple):
    """One round; events per second, and microseconds of the server's processor time for an event.

    Attributes:
        applied: of `POST /events`.
        accepted: of `POST /import/events`, while those before are being applied.
        drained: of imported events, from the first that is accepted to the last that is applied.
    """

    applied: float
    applied_cpu: float
    accepted: float
    drained: float
    drained_cpu: float


_numbers = itertools.count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="[5]")
    parser.add_argument("--batches", type=int, default=50, help="of each kind in a round [50]")
    given = parser.parse_args()
    print(part(given.rounds, given.batches))


def part(rounds: int = 5, batches: int = 50) -> Part:
    """Measure today's code and that of before in turn, each with one worker."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        content = write_content(folder / "content.json")
        codes = {"now": HERE.parent}
        if (old := earlier.code(folder / "code")) is not None:
            codes["before"] = old
        running = {}
        for label, code in codes.items():
            data = folder / label
            server = stack.enter_context(serving(service(data, content, workers=1), code=code))
            running[label] = server, ImportQueue(data)
            measure(*running[label], VISITORS // PROFILES)  # warm, and every profile there
        turns: dict[str, list[Measured]] = {label: [] for label in running}
        for turn in range(rounds):
            for label in list(running)[:: 1 if turn % 2 else -1]:
                turns[label].append(measure(*running[label], batches))
    return report(turns, rounds, batches)


def measure(server: Server, queue: ImportQueue, batches: int) -> Measured:
    events = batches * EVENTS
    cpu = server.cpu()
    applied = events / post(server.port, "/events", bodies(batches))
    applied_cpu = (server.cpu() - cpu) * 1e6 / events
    imported, cpu = bodies(batches), server.cpu()
    began = time.perf_counter()
    accepted = events / post(server.port, "/import/events", imported)
    while queue.state().waiting:
        time.sleep(0.01)
    drained = events / (time.perf_counter() - began)
    return Measured(applied, applied_cpu, accepted, drained, (server.cpu() - cpu) * 1e6 / events)


def bodies(batches: int) -> list[bytes]:
    """Each about the next 50 of the visitors in rotation, whose events are mixed."""
    now = datetime.now(UTC)
    found = []
    for batch in itertools.islice(_numbers, batches):
        visitors = [f"visitor-{(batch * PROFILES + n) % VISITORS}" for n in range(PROFILES)]
        events = [page_event(f"message-{batch}-{n}", now) for n in range(EVENTS)]
        named = [{**event, "anonymousId": visitors[n % PROFILES]} for n, event in enumerate(events)]
        found.append(json.dumps({"events": named}).encode())
    return found


def post(port: int, path: str, batches: Sequence[bytes]) -> float:
    """Post all of them on one connection; the seconds that it took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.perf_counter()
    for body in batches:
        connection.request("POST", ENVIRONMENT + path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise SystemExit(f"answered {answer.status}: {text[:300]!r}")
    took = time.perf_counter() - began
    connection.close()
    return took


def report(turns: Mapping[str, Sequence[Measured]], rounds: int, batches: int) -> Part:
    now = Measured(*(statistics.median(values) for values in zip(*turns["now"], strict=True)))
    rows = [
        ("applied at once, `POST /events`", f"{now.applied:,.0f}", f"{now.applied_cpu:.0f}"),
        ("accepted to be imported, `POST /import/events`", f"{now.accepted:,.0f}", ""),
        ("the same, accepted and applied", f"{now.drained:,.0f}", f"{now.drained_cpu:.0f}"),
    ]
    ratio = None
    if "before" in turns:
        pairs = list(zip(turns["now"], turns["before"], strict=True))
        ratio = statistics.median(new.applied_cpu / old.applied_cpu for new, old in pairs)
        old_cpu = statistics.median(old.applied_cpu for _, old in pairs)
        old_rate = statistics.median(old.applied for _, old in pairs)
        rows.insert(1, (f"the same by the code of {earlier.COMMIT}", f"{old_rate:,.0f}", f"{old_cpu:.0f}"))
    text = (
        f"Batches of {EVENTS} page events over {PROFILES} of {VISITORS:,} profiles, 10 audiences, over HTTP: one "
        f"worker, one client; {rounds} rounds of {batches} batches of each kind, medians."
    )
    wanted = [Target(f"batch: CPU of an event, of that by {earlier.COMMIT}", False, 0.5, ratio)]
    figures = {"batch event": now.applied_cpu, "batch rate": now.applied}
    return Part(f"{text}\n\n{table(('', 'events/s', 'server CPU µs/event'), rows)}", wanted, figures)


if __name__ == "__main__":
    main()
