"""Measures a stored page event with location over HTTP, beside a bare Falcon app under the same server, and Unleash.

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
from report import Part, Target, table
from scenario import AUDIENCES, ENVIRONMENT, EXPERIENCES, page_event, past, write_content
from servers import FIXTURES, HERE, Server, service, serving

VISITORS = [f"visitor-{number:04d}" for number in range(1000)]
WORKERS = 2
CONNECTIONS, ROUNDS, SECONDS = (1, 8, 32), 5, 2
PLAIN_ECHO = "bare Falcon echo, gunicorn's own worker"
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
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"of each measurement [{SECONDS}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"in which each is measured once [{ROUNDS}]")
    parser.add_argument("--worker-classes", action="store_true", help="compare gunicorn's worker classes and threads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there too")
    given = parser.parse_args()
    if given.worker_classes:
        contenders = run(worker_classes, (1, 8, 32), given.rounds, given.seconds)
        print(shown(contenders, (1, 8, 32), given.rounds, given.seconds))
    else:
        contenders = run(side_by_side, CONNECTIONS, given.rounds, given.seconds)
        print(report(contenders, given.rounds, given.seconds))
    if given.json:
        measured = [{"label": each.label, "measured": each.measured} for each in contenders]
        given.json.write_text(json.dumps(measured, indent=1) + "\n")


def part() -> Part:
    """Measure as without options."""
    return report(run(side_by_side, CONNECTIONS, ROUNDS, SECONDS), ROUNDS, SECONDS)


def run(
    make: Callable[[Path], list[Contender]], connections: Sequence[int], rounds: int, seconds: int
) -> list[Contender]:
    with tempfile.TemporaryDirectory() as name:
        contenders = make(Path(name))
        measure(contenders, connections, rounds, seconds)
    return contenders


def side_by_side(folder: Path) -> list[Contender]:
    """The bare app, the service, and Unleash where it is installed."""
    events, content = page_events(folder), write_content(folder / "content.json", audiences=AUDIENCES)
    contenders = []
    for server in ("gunicorn", "granian"):
        ours = service(folder / f"data-{server}", content, workers=WORKERS, server=server)
        contenders += [
            Contender(f"bare Falcon echo, {server}", partial(serving, echo(server)), events),
            Contender(f"ninetailed-wsgi, {server}", partial(serving, ours), events, prepare),
        ]
    plain = [*echo("gunicorn"), "--worker-class", "gthread"]
    contenders.append(Contender(PLAIN_ECHO, partial(serving, plain), events))
    if reason := unleash.missing():
        print(f"Unleash is left out: {reason}", file=sys.stderr)
        return contenders
    asked = load.write(folder / "contexts", (unleash.request(visitor, EXPERIENCES) for visitor in VISITORS))
    start = partial(unleash.running, EXPERIENCES)
    return [*contenders, Contender(f"Unleash {unleash.version()}", start, asked, partial(check_unleash, asked))]


def echo(server: str) -> list[str]:
    """The command that serves the bare app under this server."""
    return [sys.executable, str(HERE / "contender.py"), "echo", "--workers", str(WORKERS), "--server", server]


def worker_classes(folder: Path) -> list[Contender]:
    """The service as it is, and with gunicorn's own classes."""
    events, content = page_events(folder), write_content(folder / "content.json", audiences=AUDIENCES)
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
    if (found := len(answer["data"]["experiences"])) != EXPERIENCES:
        raise SystemExit(f"the visitor should be in {EXPERIENCES} experiences, not {found}: {answer}")


def check_unleash(asked: Path, port: int) -> None:
    """See that Unleash answers a variant of every feature."""
    head, body = asked.read_bytes().split(b"\0")[0].split(b"\r\n\r\n")
    answer = call(port, head.split()[1].decode(), json.loads(body), {"Authorization": unleash.TOKEN})
    variants = {toggle["variant"]["name"] for toggle in answer["toggles"]}
    if len(variants) != EXPERIENCES or "disabled" in variants:
        raise SystemExit(f"Unleash should answer {EXPERIENCES} variants: {answer}")


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


def shown(contenders: Sequence[Contender], connections: Sequence[int], rounds: int, seconds: int) -> str:
    """A table of all figures; ratios are against the echo under the same server, or the first contender."""
    rows = []
    for open_connections in connections:
        for each in contenders:
            figures = each.median(open_connections)
            base = beside(contenders, each)
            rows.append(
                (
                    open_connections,
                    each.label,
                    f"{figures.rate:,.0f}",
                    f"{figures.p50:.2f}",
                    f"{figures.p99:.2f}",
                    f"{figures.cpu:.0f}",
                    f"{each.against(base, open_connections, 'cpu'):.2f}",
                    f"{figures.client:.0f}",
                )
            )
    head = ("connections", "", "requests/s", "p50 ms", "p99 ms", "server CPU µs/request", "of the echo's", "client's")
    return "\n".join(
        [
            f"A stored page event with location over HTTP: {len(VISITORS):,} visitors in rotation, all of them in "
            f"{AUDIENCES} audiences and {EXPERIENCES} experiences. {WORKERS} workers, kept-alive connections, wrk on "
            f"the same cores; {rounds} rounds, in each every server for {seconds} s in turn; medians.",
            "",
            table(head, rows),
        ]
    )


def beside(contenders: Sequence[Contender], contender: Contender) -> Contender:
    """The echo under the same server."""
    server = contender.label.rpartition(", ")[2]
    return next((each for each in contenders if each.label == f"bare Falcon echo, {server}"), contenders[0])


def report(contenders: Sequence[Contender], rounds: int, seconds: int) -> Part:
    named = {each.label: each for each in contenders}
    bare, ours = named["bare Falcon echo, gunicorn"], named["ninetailed-wsgi, gunicorn"]
    echoes = {"the echo's": bare, "the echo's under gunicorn's own worker": named[PLAIN_ECHO]}
    other = next((each for each in contenders if each.label.startswith("Unleash")), None)
    wanted = [
        *(Target(f"{n} connection{'s' * (n > 1)}: server CPU of {whose}", False, 1.5, ours.against(each, n, "cpu"))
          for whose, each in echoes.items() for n in (1, 8)),
        *(Target(f"{n} connections: p99 of {whose}", False, 2, ours.against(each, n, "p99"))
          for whose, each in echoes.items() for n in (8, 32)),
        *(Target(f"{n} connection{'s' * (n > 1)}: of Unleash's rate", True, 1,
                 ours.against(other, n, "rate") if other else None) for n in (1, 8)),
    ]  # fmt: skip
    figures = {f"{each.label} {figure}": getattr(each.median(8), figure)
               for each in contenders for figure in ("cpu", "rate")}  # fmt: skip
    return Part(shown(contenders, CONNECTIONS, rounds, seconds), wanted, figures)


if __name__ == "__main__":
    main()
