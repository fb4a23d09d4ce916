"""Measures whether a server of several workers is equally fast in 20 loads of 8, 16 and 32 connections.

``python benchmarks/spread.py`` (part of ``make bench``). Clients keep their connections; where one worker accepts all
of them, the other one has nothing to do. A bare echo takes turns with the service: what its loads differ by is the
machine's. It also measures what threads of one process cost each other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import load
from over_http import WORKERS, echo, page_events, prepare
from report import Part, Target, table
from scenario import AUDIENCES, write_content
from servers import Server, service, serving

CONNECTIONS, LOADS, STARTS = (8, 16, 32), 20, 4
SECONDS = 1
ECHOED = 8  # connections with which the echo takes turns


class Observed(NamedTuple):
    """One load.

    Attributes:
        rate: requests per second.
        cpu: microseconds of the server's processor time for a request.
        connections: of the worker with more.
    """

    rate: float
    cpu: float
    connections: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=LOADS, help=f"with each number of connections [{LOADS}]")
    given = parser.parse_args()
    print(part(given.loads))


def part(loads: int = LOADS) -> Part:
    """Measure so many loads of each number of connections, a few with each start of the server."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events, content = page_events(folder), write_content(folder / "content.json", audiences=AUDIENCES)
        ours: dict[int, list[Observed]] = {connections: [] for connections in CONNECTIONS}
        echoed: list[Observed] = []
        for start in range(STARTS):
            # New visitors each time: with the events of those before, a request would take longer in a later load.
            command = service(folder / f"data-{start}", content, workers=WORKERS)
            with serving(command) as server, serving(echo("gunicorn")) as other:
                prepare(server.port)
                for each in (server, other):
                    load.run(each.port, 8, SECONDS, events)  # it also opens every shard
                for _ in range(-(-loads // STARTS)):
                    for connections in CONNECTIONS:
                        ours[connections].append(observed(server, connections, events))
                    echoed.append(observed(other, ECHOED, events))
        one, four = costs_of_threads(folder, content, events)
    head = (
        "connections",
        "of the worker with more, at most",
        "requests/s, median",
        "slowest of the fastest",
        "CPU of a request, least of most",
    )
    rows = [row(str(connections), values) for connections, values in ours.items()]
    rows.append(row(f"{ECHOED}, a bare echo", echoed))
    wanted = [
        Target(f"{connections} connections: slowest of {len(values)} loads of the fastest", True, 0.8,
               evenness([each.rate for each in values]))
        for connections, values in ours.items()
    ]  # fmt: skip
    ratio = statistics.median(many / single for many, single in zip(four, one, strict=True))
    wanted.append(Target("one process, 8 connections: CPU with 4 threads of that with 1", False, 1.15, ratio))
    text = (
        f"{len(echoed)} loads of {SECONDS} s of each kind, over {STARTS} starts of {WORKERS} workers.\n\n"
        f"{table(head, rows)}\n\n"
        f"One process under 8 connections: {statistics.median(one):.0f} µs of processor time for a request with one "
        f"thread, {statistics.median(four):.0f} µs with four."
    )
    return Part(text, wanted, {})


def row(label: str, loads: Sequence[Observed]) -> tuple[str, ...]:
    rates = [each.rate for each in loads]
    return (
        label,
        f"{max(each.connections for each in loads)}",
        f"{statistics.median(rates):,.0f}",
        f"{evenness(rates):.2f}",
        f"{evenness([each.cpu for each in loads]):.2f}",
    )


def evenness(values: Sequence[float]) -> float:
    """The least of the most."""
    return min(values) / max(values)


def observed(server: Server, connections: int, events: Path) -> Observed:
    """One load, in the midst of which the connections of each worker are counted."""
    looks: list[list[int]] = []
    look = threading.Timer(SECONDS * 0.8, lambda: looks.append(server.connections()))
    look.start()
    before = server.cpu()
    done = load.run(server.port, connections, SECONDS, events)
    cpu = (server.cpu() - before) * 1e6 / done.requests
    look.join()
    return Observed(done.rate, cpu, max(looks[0]))


def costs_of_threads(
    folder: Path, content: Path, events: Path, rounds: int = 7
) -> tuple[Sequence[float], Sequence[float]]:
    """Microseconds of a server's processor time for a request with one thread and with four, in turns."""
    found: dict[int, list[float]] = {1: [], 4: []}
    commands = {
        number: [*service(folder / f"threads-{number}", content, workers=1), "--threads", str(number)]
        for number in found
    }
    with serving(commands[1]) as single, serving(commands[4]) as many:
        for server in (single, many):
            prepare(server.port)
            load.run(server.port, 8, 1, events)
        for turn in range(rounds):
            for number, server in ((1, single), (4, many))[:: 1 if turn % 2 else -1]:
                before = server.cpu()
                requests = load.run(server.port, 8, SECONDS, events).requests
                found[number].append((server.cpu() - before) * 1e6 / requests)
    return found[1], found[4]


if __name__ == "__main__":
    main()
