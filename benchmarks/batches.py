"""Measures batches of 200 events over 50 profiles, applied at once and imported, over HTTP by one worker.

``python benchmarks/batches.py`` (part of ``make bench``). One client posts prepared batches one after the other, and
takes a few percent of the time. Batches that are imported are applied by a thread of the same worker meanwhile.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from report import Target, table, targets
from scenario import ENVIRONMENT, page_event, write_content
from servers import Server, service, serving

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
    with tempfile.TemporaryDirectory() as name:
        data, content = Path(name, "data"), write_content(Path(name, "content.json"))
        with serving(service(data, content, workers=1)) as server:
            queue = ImportQueue(data)
            measure(server, queue, VISITORS // PROFILES)  # warm, and every profile there
            rounds = [measure(server, queue, given.batches) for _ in range(given.rounds)]
    print(report(Measured(*(statistics.median(values) for values in zip(*rounds, strict=True))), given))


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


def report(found: Measured, given: argparse.Namespace) -> str:
    rows = [
        ("applied at once, `POST /events`", f"{found.applied:,.0f}", f"{found.applied_cpu:.0f}"),
        ("accepted to be imported, `POST /import/events`", f"{found.accepted:,.0f}", ""),
        ("the same, accepted and applied", f"{found.drained:,.0f}", f"{found.drained_cpu:.0f}"),
    ]
    wanted = [
        Target("batches: events/s applied at once by one worker", True, 12_000, found.applied),
        Target("batches: events/s accepted to be imported", True, 36_000, found.accepted),
        Target("batches: accepted to be imported, against applied at once", True, 3, found.accepted / found.applied),
    ]
    return "\n".join(
        [
            f"Batches of {EVENTS} page events over {PROFILES} of {VISITORS:,} profiles, 10 audiences, over HTTP: one "
            f"worker, one client; {given.rounds} rounds of {given.batches} batches of each kind, medians.",
            "",
            table(("", "events/s", "server CPU µs/event"), rows),
            "",
            targets(wanted),
        ]
    )


if __name__ == "__main__":
    main()
