"""Measures a stored page event with location over HTTP, beside a bare Falcon app and beside Unleash.

``python benchmarks/over_http.py`` (part of ``make bench``) lets all contenders take turns in every round, so that a
busy machine slows all of them; ratios are medians of the rounds' ratios. With ``--worker-classes`` it compares
gunicorn's worker classes and threads for the service instead, which is how the default was chosen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import load
import unleash
from report import Target, table, targets
from scenario import ENVIRONMENT, page_event, past, write_content
from servers import FIXTURES, HERE, Server, service, serving

VISITORS = [f"visitor-{number:04d}" for number in range(1000)]
AUDIENCES = 10
WORKERS = 2
BATCH = 50  # visitors whose past is posted at once


class Measured(NamedTuple):
    """One run of one contender.

    Attributes:
        rate: requests per second.
        p50, p99: milliseconds from sending a request to its whole answer.
        cpu: microseconds of processor time that the server's processes spent on a request; unlike the rate, it hardly
            changes when other programs keep the machine busy.
        client: the same of the client.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    client: float


@dataclass
class Contender:
    """One server, and what was measured of it by number of connections.

    Attributes:
        start: runs it.
        requests: the file of what it is sent.
        prepare: called with its port before the first request.
    """

    label: str
    start: Callable[[], AbstractContextManager[Server]]
    requests: Path
    prepare: Callable[[int], None] = lambda port: None
    measured: dict[int, list[Measured]] = field(default_factory=dict)

    def measure(self, server: Server, connections: int, seconds: int) -> load.Load:
        before = server.cpu()
        found = load.run(server.port, connections, seconds, self.requests)
        cpu = (server.cpu() - before) * 1e6 / found.requests
        measured = Measured(found.rate, found.p50, found.p99, cpu, found.client)
        self.measured.setdefault(connections, []).append(measured)
        return found

    def median(self, connections: int) -> Measured:
        return Measured(*(statistics.median(values) for values in zip(*self.measured[connections], strict=True)))

    def against(self, other: Contender, connections: int, figure: str) -> float:
        """The median of the rounds' ratios."""
        pairs = zip(self.measured[connections], other.measured[connections], strict=True)
        return statistics.median(getattr(ours, figure) / getattr(theirs, figure) for ours, theirs in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement [2]")
    parser.add_argument("--rounds", type=int, default=7, help="in which every contender is measured once [7]")
    parser.add_argument("--worker-classes", action="store_true", help="compare gunicorn's worker classes and threads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contenders = worker_classes(folder) if given.worker_classes else side_by_side(folder)
        connections = (1, 8, 32) if given.worker_classes else (1, 8)
        measure(contenders, connections, given.rounds, given.seconds)
    print(report(contenders, connections, given))
    if given.json:
        measured = [{"label": each.label, "measured": each.measured} for each in contenders]
        given.json.write_text(json.dumps(measured, indent=1) + "\n")


def side_by_side(folder: Path) -> list[Contender]:
    """The bare app, the service, and Unleash where it is installed."""
    events, content = page_events(folder), write_content(folder / "content.json", AUDIENCES)
    echo = [sys.executable, str(HERE / "contender.py"), "echo", "--workers", str(WORKERS)]
    ours = service(folder / "data", content, workers=WORKERS)
    contenders = [
        Contender("bare Falcon echo", partial(serving, echo), events),
        Contender("ninetailed-wsgi", partial(serving, ours), events, prepare),
    ]
    if reason := unleash.missing():
        print(f"Unleash is left out: {reason}", file=sys.stderr)
        return contenders
    asked = load.write(folder / "contexts", (unleash.request(visitor, AUDIENCES) for visitor in VISITORS))
    start = partial(unleash.running, AUDIENCES)
    return [*contenders, Contender(f"Unleash {unleash.version()}", start, asked, partial(check_unleash, asked))]


def worker_classes(folder: Path) -> list[Contender]:
    """The service as it is, and with gunicorn's own classes."""
    events, content = page_events(folder), write_content(folder / "content.json", AUDIENCES)
    options = ["--workers", str(WORKERS), "--geoip-database", str(FIXTURES / "geo" / "demo.mmdb")]
    kinds = [("", 1), ("", 2), ("", 4), ("", 8), ("gthread", 4), ("sync", 1)]
    contenders = []
    for kind, threads in kinds:
        label = f"{kind or 'server.Worker'}, {threads} thread{'s' * (threads > 1)}"
        command = [sys.executable, str(HERE / "contender.py"), "service", *options, "--content", str(content)]
        command += ["--data-dir", str(folder / label), "--threads", str(threads)]
        command += ["--worker-class", kind] if kind else []
        contenders.append(Contender(label, partial(serving, command), events, prepare))
    return contenders


def page_events(folder: Path) -> Path:
    """Requests with one page event each, of the visitors in rotation."""
    event = page_event(load.NUMBER, datetime.now(UTC))
    body = json.dumps({"events": [event], "options": {"features": ["location"]}}, separators=(",", ":")).encode()
    headers = "Content-Type: text/plain\r\n"  # as browsers send it, to do without a preflight of CORS
    posts = (load.post(f"{ENVIRONMENT}/profiles/{visitor}", body, headers) for visitor in VISITORS)
    return load.write(folder / "page-events", posts)


def prepare(port: int) -> None:
    """Give every visitor a past that makes them a member of all audiences, and see that one is."""
    for first in range(0, len(VISITORS), BATCH):
        events = [
            {**event, "anonymousId": visitor} for visitor in VISITORS[first : first + BATCH] for event in past(visitor)
        ]
        call(port, f"{ENVIRONMENT}/events", {"events": events})
    event = page_event("first", datetime.now(UTC))
    body = {"events": [event], "options": {"features": ["location"]}}
    answer = call(port, f"{ENVIRONMENT}/profiles/{VISITORS[0]}", body)
    if (found := len(answer["data"]["experiences"])) != AUDIENCES:
        raise SystemExit(f"the visitor should be in {AUDIENCES} experiences, not {found}: {answer}")


def check_unleash(asked: Path, port: int) -> None:
    """See that Unleash answers a variant of every feature."""
    head, body = asked.read_bytes().split(b"\0")[0].split(b"\r\n\r\n")
    answer = call(port, head.split()[1].decode(), json.loads(body), {"Authorization": unleash.TOKEN})
    variants = {toggle["variant"]["name"] for toggle in answer["toggles"]}
    if len(variants) != AUDIENCES or "disabled" in variants:
        raise SystemExit(f"Unleash should answer {AUDIENCES} variants: {answer}")


def call(port: int, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def measure(contenders: Sequence[Contender], connections: Sequence[int], rounds: int, seconds: int) -> None:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(contender.start()) for contender in contenders]
        running = list(zip(contenders, servers, strict=True))
        for contender, server in running:
            contender.prepare(server.port)
            load.run(server.port, 8, 2, contender.requests)  # every worker warm
        for turn in range(rounds):
            for open_connections in connections:
                # Whoever came first in one round comes last in the next.
                for contender, server in running if turn % 2 else reversed(running):
                    contender.measure(server, open_connections, seconds)


def report(contenders: Sequence[Contender], connections: Sequence[int], given: argparse.Namespace) -> str:
    first = contenders[0]
    against = "of the echo's rate" if first.label.startswith("bare") else "of the first's rate"
    rows = [
        (
            open_connections,
            contender.label,
            f"{each.rate:,.0f}",
            f"{contender.against(first, open_connections, 'rate'):.2f}",
            f"{each.p50:.2f}",
            f"{each.p99:.2f}",
            f"{each.cpu:.0f}",
            f"{each.client:.0f}",
        )
        for open_connections in connections
        for contender in contenders
        for each in [contender.median(open_connections)]
    ]
    head = ("connections", "", "requests/s", against, "p50 ms", "p99 ms", "server CPU µs/request", "client's")
    lines = [
        f"A stored page event with location over HTTP: {len(VISITORS):,} visitors in rotation, all of them in "
        f"{AUDIENCES} audiences and {AUDIENCES} experiences. {WORKERS} workers, kept-alive connections, wrk on the "
        f"same cores; {given.rounds} rounds, in each every server for {given.seconds} s in turn; medians.",
        "",
        table(head, rows),
    ]
    if not given.worker_classes:
        lines += ["", targets(wanted(*contenders))]
    return "\n".join(lines)


def wanted(echo: Contender, ours: Contender, other: Contender | None = None) -> list[Target]:
    return [
        Target("1 connection: of the echo's rate", True, 0.7, ours.against(echo, 1, "rate")),
        Target("8 connections: of the echo's rate", True, 0.5, ours.against(echo, 8, "rate")),
        Target("8 connections: times the echo's p99", False, 5, ours.against(echo, 8, "p99")),
        Target("1 connection: of Unleash's rate", True, 1, ours.against(other, 1, "rate") if other else None),
        Target("8 connections: of Unleash's rate", True, 1, ours.against(other, 8, "rate") if other else None),
    ]


if __name__ == "__main__":
    main()
