"""Measures a stored page event with location over HTTP, beside a bare Falcon app under the same gunicorn settings.

``python benchmarks/over_http.py`` (part of ``make bench``) lets all contenders take turns in every round, so that a
busy machine slows all of them; the table shows the medians of the rounds. With ``--worker-classes`` it compares
gunicorn's worker classes and threads for the service instead, which is how the default was chosen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from load import CONNECTIONS_PER_PROCESS, run

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"
PATH = "/v2/organizations/bench/environments/main/profiles/visitor-%03d"
VISITORS = 200
WORKERS = 2
PLACE = uuid.UUID(int=0).bytes.hex()  # where a message id goes: an id is not applied twice


class Measured(NamedTuple):
    """One run of one contender.

    Attributes:
        rate: requests per second.
        p50, p99: milliseconds from sending a request to its whole answer.
        cpu: microseconds of processor time that the workers spent on a request; unlike the rate, it hardly changes
            when other programs keep the machine busy. 0 where there is no /proc.
        busiest: the busiest worker's share of that: a connection stays with the worker that accepted it.
        client: share of one core that the busiest client process used.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    busiest: float
    client: float


@dataclass
class Contender:
    """One server, and what was measured of it by number of connections."""

    label: str
    arguments: list[str]
    port: int = 0
    pid: int = 0
    measured: dict[int, list[Measured]] = field(default_factory=dict)

    def median(self, connections: int) -> Measured:
        return Measured(*(statistics.median(values) for values in zip(*self.measured[connections], strict=True)))

    def measure(self, connections: int, seconds: float, requests: Callable[[int], Iterator[bytes]]) -> Measured:
        before = worker_seconds(self.pid)
        load = run(self.port, connections, seconds, requests)
        spent = [after - before.get(worker, 0) for worker, after in worker_seconds(self.pid).items()]
        total = sum(spent) or 1e-9
        cpu = sum(spent) * 1e6 / (load.rate * seconds)
        return Measured(load.rate, load.p50, load.p99, cpu, max(spent, default=0) / total, load.client)


def worker_seconds(pid: int) -> dict[int, float]:
    """The processor time that each of gunicorn's workers has used so far."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    workers = children.read_text().split() if children.exists() else []
    ticks = {int(worker): Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split() for worker in workers}
    return {worker: (int(each[11]) + int(each[12])) / os.sysconf("SC_CLK_TCK") for worker, each in ticks.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement [1.5]")
    parser.add_argument("--rounds", type=int, default=7, help="in which every contender is measured once [7]")
    parser.add_argument("--worker-classes", action="store_true", help="compare gunicorn's worker classes and threads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there too")
    given = parser.parse_args()
    connections = (1, 8, 32) if given.worker_classes else (1, 8)
    with tempfile.TemporaryDirectory() as folder:
        contenders = worker_classes(Path(folder)) if given.worker_classes else beside_echo(Path(folder))
        with contextlib.ExitStack() as stack:
            for contender in contenders:
                contender.port, contender.pid = stack.enter_context(serving(contender.arguments, Path(folder)))
            measure(contenders, connections, given.rounds, given.seconds)
    print(report(contenders, connections, given))
    if given.json:
        given.json.write_text(json.dumps(as_json(contenders, given), indent=1) + "\n")


def beside_echo(folder: Path) -> list[Contender]:
    """The service beside the bare app; and once more with the demo's audiences and experiences."""
    threads = ["--workers", str(WORKERS)]
    content = ["--content", str(FIXTURES / "spaces" / "shop.json")]
    return [
        Contender("bare Falcon echo", ["echo", *threads]),
        Contender("ninetailed-wsgi", [*service(folder / "plain"), *threads]),
        Contender("the same, demo content", [*service(folder / "shop"), *threads, *content]),
    ]


def worker_classes(folder: Path) -> list[Contender]:
    kinds = [("gthread", 1), ("gthread", 2), ("gthread", 4), ("gthread", 8), ("sync", 1)]
    return [
        Contender(
            f"{kind}, {threads} thread{'s' * (threads > 1)}" if kind == "gthread" else kind,
            [*service(folder / f"{kind}{threads}"), "--workers", str(WORKERS), *class_and_threads(kind, threads)],
        )
        for kind, threads in kinds
    ]


def class_and_threads(kind: str, threads: int) -> list[str]:
    return ["--worker-class", kind, "--threads", str(threads)]


def service(data: Path) -> list[str]:
    return ["service", "--data-dir", str(data), "--geoip-database", str(FIXTURES / "geo" / "demo.mmdb")]


@contextlib.contextmanager
def serving(arguments: Sequence[str], folder: Path) -> Iterator[tuple[int, int]]:
    """Run a contender; the port that it listens on, and its process id."""
    command = [sys.executable, str(HERE / "contender.py"), *arguments]
    log = (folder / "log.txt").open("ab")
    with log, subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not (found := re.search(r":(\d+)$", line.strip())):
                raise SystemExit(f"{command} did not start: {(folder / 'log.txt').read_text()}")
            yield int(found[1]), process.pid
        finally:
            process.terminate()
            process.wait(30)


def measure(contenders: Sequence[Contender], connections: Sequence[int], rounds: int, seconds: float) -> None:
    requests = page_events()
    for contender in contenders:  # every worker warm, every profile there
        run(contender.port, 8, 1, requests)
    for number in range(rounds):
        for open_connections in connections:
            # Whoever came first in one round comes last in the next.
            for contender in contenders if number % 2 else reversed(contenders):
                measured = contender.measure(open_connections, seconds, requests)
                contender.measured.setdefault(open_connections, []).append(measured)


def page_events() -> Callable[[int], Iterator[bytes]]:
    """Requests with one page event as the SDK sends it, of 200 visitors in rotation, no message id twice."""
    event = orjson.loads((FIXTURES / "events" / "page-js-sdk.json").read_bytes())
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event.update(messageId=PLACE, timestamp=now, originalTimestamp=now, sentAt=now)
    body = orjson.dumps({"events": [event], "options": {"features": ["location"]}})
    before, after = body.split(PLACE.encode())
    heads = [
        f"POST {PATH % visitor} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + before
        for visitor in range(VISITORS)
    ]

    def requests(process: int) -> Iterator[bytes]:
        prefix = f"{process:08x}".encode()
        for number in count():
            # Half way round for every second process, so that two of them seldom write the same profile.
            visitor = (number + process * VISITORS // 2) % VISITORS
            yield heads[visitor] + prefix + b"%024x" % number + after

    return requests


def report(contenders: Sequence[Contender], connections: Sequence[int], given: argparse.Namespace) -> str:
    baseline = contenders[0]
    against = "of echo's rate" if baseline.label.startswith("bare") else "of the first's"
    body_bytes = len(next(page_events()(0)).split(b"\r\n\r\n", 1)[1])
    busiest = max(each.client for contender in contenders for runs in contender.measured.values() for each in runs)
    lines = [
        "A stored page event with location over HTTP",
        f"  request    one page event of the SDK ({body_bytes} bytes), {VISITORS} visitors in rotation, keep-alive",
        f"  servers    gunicorn, {WORKERS} workers, settings of ninetailed_wsgi/server.py; Python "
        f"{platform.python_version()}, {os.cpu_count()} cores, shared with the client",
        f"  client     bare sockets, one process for each {CONNECTIONS_PER_PROCESS} connections; the busiest used "
        f"{busiest:.0%} of a core",
        f"  measured   {given.rounds} rounds, in each every contender for {given.seconds:g} s in turn; medians, "
        "p50 and p99 in ms",
        "",
        f"{'connections':>11}  {'':<24}{'requests/s':>10}{'p50':>9}{'p99':>9}{against:>17}"
        f"{'CPU us/request':>17}{'busiest worker':>17}",
    ]
    for open_connections in connections:
        first = baseline.median(open_connections)
        for contender in contenders:
            each = contender.median(open_connections)
            lines.append(
                f"{open_connections:>11}  {contender.label:<24}{each.rate:>10.0f}{each.p50:>9.2f}{each.p99:>9.2f}"
                f"{each.rate / first.rate:>17.2f}{each.cpu:>17.0f}{each.busiest:>17.0%}"
            )
        lines.append("")
    return "\n".join(lines)


def as_json(contenders: Sequence[Contender], given: argparse.Namespace) -> dict[str, Any]:
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "seconds": given.seconds,
        "measured": [
            {"label": contender.label, "connections": open_connections, "rounds": [each._asdict() for each in runs]}
            for contender in contenders
            for open_connections, runs in contender.measured.items()
        ],
    }


if __name__ == "__main__":
    main()
