"""Measures whether a server of several workers is equally fast in 20 loads of 8, 16 and 32 connections.

``python benchmarks/spread.py`` (part of ``make bench``). Clients keep their connections; where one worker accepts all
of them, the other one has nothing to do. It also measures what threads of one process cost each other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import load
from over_http import WORKERS, page_events, prepare
from report import Part, Target, table
from scenario import AUDIENCES, write_content
from servers import Server, service, serving

CONNECTIONS, LOADS, STARTS = (8, 16, 32), 20, 5
SECONDS = 1


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
        rates: dict[int, list[float]] = {connections: [] for connections in CONNECTIONS}
        spread: dict[int, list[list[int]]] = {connections: [] for connections in CONNECTIONS}
        for _ in range(STARTS):
            with serving(service(folder / "data", content, workers=WORKERS)) as server:
                prepare(server.port)  # it also opens every shard
                for _ in range(-(-loads // STARTS)):
                    for connections in CONNECTIONS:
                        look = threading.Timer(SECONDS * 0.8, note, (server, spread[connections]))
                        look.start()
                        rates[connections].append(load.run(server.port, connections, SECONDS, events).rate)
                        look.join()
        one, four = costs_of_threads(folder, content, events)
    rows = [
        (
            connections,
            f"{statistics.median(map(max, spread[connections])):.0f}",
            max(map(max, spread[connections])),
            f"{statistics.median(values):,.0f}",
            f"{min(values):,.0f}",
            f"{min(values) / max(values):.2f}",
        )
        for connections, values in rates.items()
    ]
    head = (
        "connections",
        "of the worker with more, median",
        "at most",
        "requests/s, median",
        "slowest",
        "of the fastest",
    )
    wanted = [
        Target(f"{connections} connections: slowest of {len(values)} loads of the fastest", True, 0.8,
               min(values) / max(values))
        for connections, values in rates.items()
    ]  # fmt: skip
    ratio = statistics.median(many / single for many, single in zip(four, one, strict=True))
    wanted.append(Target("one process, 8 connections: CPU with 4 threads of that with 1", False, 1.15, ratio))
    text = (
        f"{sum(map(len, rates.values()))} loads of {SECONDS} s over {STARTS} starts of {WORKERS} workers.\n\n"
        f"{table(head, rows)}\n\n"
        f"One process under 8 connections: {statistics.median(one):.0f} µs of processor time for a request with one "
        f"thread, {statistics.median(four):.0f} µs with four."
    )
    return Part(text, wanted, {})


def note(server: Server, looks: list[list[int]]) -> None:
    """Note the connections of each worker, while they are under load."""
    looks.append(server.connections())


def costs_of_threads(
    folder: Path, content: Path, events: Path, rounds: int = 9
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
