"""Reckons how many servers and Redis masters 10,000 and 1,000,000 requests a second take, by simulation.

``python benchmarks/capacity.py`` takes what scaling.py has measured (scaling.json), shows how well simulation.py
predicts those measurements, and simulates what nobody has measured. ``--write`` puts the tables into docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from report import number, put, table
from scaling import COSTS, DOCUMENT
from simulation import THREADS, Costs, Model, Outcome, quantile

RATES = (10_000, 1_000_000)
CORES = 16  # of a server, each with one process
LOAD = 0.6  # of a core and of a master, at most
ROUND_TRIP = 0.3e-3  # seconds to a Redis in the same region
PROFILES, EXPONENT = 10_000_000, 0.5
REQUESTS = 150_000  # that are simulated
HOT_PROCESSES = 2 * CORES
POLLS = 2  # commands a second with which each process looks for imports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="of all chance [1]")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    given = parser.parse_args()
    found = json.loads(COSTS.read_text())
    for mark, text in (("checked", checked(found, given.seed)), ("simulated", simulated(found, given.seed))):
        print(text + "\n")
        if given.write:
            put(DOCUMENT, mark, text)


def costs_of(found: dict[str, Any], run: dict[str, Any]) -> Costs:
    """What a request costs by one run over Redis; a master's costs by what it needs under load, and idle."""
    read, write = found["direct"]["read"], found["direct"]["write"]
    alone = next(each for each in redis_runs(found) if each["connections"] == 1)
    wake = max(0.0, alone["redis"]["cpu"] - read - write) / 2
    micro = (run["cpu"], found["fold"], read, write, wake, run["client"])
    server, fold, read, write, wake, client = (value / 1e6 for value in micro)
    return Costs(server, found["shape"], fold, read, write, wake, client)


def redis_runs(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [run for run in found["runs"] if run["store"] == "redis"]


def reference(found: dict[str, Any]) -> dict[str, Any]:
    """The run whose costs are reckoned with: as many processes as the machine has cores, all of them busy."""
    return next(run for run in redis_runs(found) if (run["processes"], run["connections"]) == (2, 8))


# The check: the same machine, the same connections.


def checked(found: dict[str, Any], seed: int) -> str:
    head = ("connections", "processes", "requests/s", "simulated", "error", "with the costs of 2 processes", "error")
    head += ("p50 ms", "simulated", "commands", "simulated")
    base = costs_of(found, reference(found))
    rows, errors = [], []
    for run in redis_runs(found):
        own, other = costs_of(found, run), base
        rate, outcome = closed(run, own, found["cores"], seed)
        foreign, _ = closed(run, other, found["cores"], seed)
        off, far = rate / run["rate"] - 1, foreign / run["rate"] - 1
        errors.append(abs(off))
        name = run["processes"] if run["visitors"] > 1 else f"{run['processes']}, one visitor"
        row = (run["connections"], name, f"{run['rate']:,.0f}", f"{rate:,.0f}", f"{off:+.0%}")
        row += (f"{foreign:,.0f}", f"{far:+.0%}", f"{run['p50']:.2f}", f"{1000 * quantile(outcome.total, 0.5):.2f}")
        commands = (outcome.reads + outcome.writes) / (len(outcome.total) + outcome.refused)
        rows.append((*row, f"{run['redis']['commands']:.2f}", f"{commands:.2f}"))
    return "\n".join([table(head, rows), "", f"The largest error of the rate is {max(errors):.0%} (wanted: 20%)."])


def closed(run: dict[str, Any], costs: Costs, cores: int, seed: int) -> tuple[float, Outcome]:
    """Requests per second, when each connection waits for its answer before it sends the next request."""
    seconds = 8.0
    model = Model(costs, processes=run["processes"], masters=1, seed=seed, cores=cores)
    for connection in range(run["connections"]):
        model.start(model.connection(model.processes[connection % run["processes"]], run["visitors"]))
    if run["others"] > 0.01:
        model.start(model.others(run["others"]))
    model.run(seconds)
    return len(model.outcome.total) / seconds, model.outcome


# The answers.


@dataclass(frozen=True)
class Plan:
    """What a rate takes, so that no core and no master is busier than `LOAD`."""

    rate: int
    costs: Costs

    @property
    def cores(self) -> int:
        return math.ceil(self.rate * self.costs.server / LOAD)

    @property
    def servers(self) -> int:
        return math.ceil(self.cores / CORES)

    @property
    def masters(self) -> int:
        costs = self.costs
        waking = 2 * costs.wake * (1 - LOAD)  # as many commands find a master idle as it is idle
        return math.ceil(self.rate * (costs.read + costs.write + waking) / LOAD)

    def simulate(self, seed: int, *, replicas: bool = False) -> Model:
        processes = self.servers * CORES
        model = Model(
            self.costs,
            processes=processes,
            masters=self.masters,
            seed=seed,
            round_trip=ROUND_TRIP,
            replicas=replicas,
        )
        seconds = REQUESTS / self.rate
        warm = seconds / 5
        model.start(model.arrivals(self.rate, (PROFILES, EXPONENT), warm + seconds))
        model.run(warm)
        model.outcome = Outcome()
        for station in (*(process.interpreter for process in model.processes), *model.masters):
            station.busy = 0.0
        model.run(warm + seconds)
        return model


def simulated(found: dict[str, Any], seed: int) -> str:
    costs = costs_of(found, reference(found))
    plans = [Plan(rate, costs) for rate in RATES]
    assumed = (
        f"Assumed: servers with {CORES} cores as fast as the measured ones, a process on each; no core and no master "
        f"busier than {LOAD:.0%}; {ROUND_TRIP * 1000:g} ms to Redis and back; arrivals by chance, at processes by "
        f"chance; {PROFILES:,} profiles drawn by Zipf's law with exponent {EXPONENT}. A request costs "
        f"{costs.server * 1e6:.0f} µs of a server and {(costs.read + costs.write) * 1e6:.0f} µs of a master that "
        f"always has work, {costs.wake * 1e6:.0f} µs more for each command that finds it idle."
    )
    return "\n\n".join(
        [
            assumed,
            sizes(plans, seed),
            "Waiting and being served, in ms, p50 / p99:",
            parts(plans, seed),
            flows(found, plans),
            "Memory of Redis by events in each visitor's history (`--history-events` bounds it, 500 by default), "
            "without replicas:",
            memory(found),
            f"One profile that many write, over {HOT_PROCESSES} processes that have nothing else to do:",
            hot(costs, seed),
        ]
    )


def sizes(plans: Sequence[Plan], seed: int) -> str:
    head = ("requests/s", f"servers of {CORES} cores", "Redis masters", "a server core is busy", "masters, on average")
    head += ("the busiest master", "writes sent for a request", "429")
    rows = []
    for plan in plans:
        model = plan.simulate(seed)
        seconds, outcome = REQUESTS / plan.rate, model.outcome
        answered = len(outcome.total)
        masters = [station.busy / seconds for station in model.masters]
        cores = sum(process.interpreter.busy for process in model.processes) / seconds / len(model.processes)
        row = (f"{plan.rate:,}", plan.servers, plan.masters, f"{cores:.0%}", f"{sum(masters) / len(masters):.0%}")
        rows.append((*row, f"{max(masters):.0%}", f"{outcome.writes / answered:.3f}", outcome.refused))
    return table(head, rows)


def parts(plans: Sequence[Plan], seed: int) -> str:
    head = ("requests/s", "", "whole request", "server process", "Redis and the way to it")
    rows = []
    for plan in plans:
        for replicas in (False, True):
            outcome = plan.simulate(seed, replicas=replicas).outcome
            cells = (both(part) for part in (outcome.total, outcome.server, outcome.redis))
            name = "`--store-wait-replicas 1`" if replicas else ""
            rows.append((f"{plan.rate:,}", name, *cells))
    return table(head, rows)


def both(seconds: Sequence[float]) -> str:
    return f"{1000 * quantile(seconds, 0.5):.2f} / {1000 * quantile(seconds, 0.99):.2f}"


def flows(found: dict[str, Any], plans: Sequence[Plan]) -> str:
    """Bytes, and what grows with the number of processes and not with the load."""
    redis, (request, answer) = reference(found)["redis"], found["http"]
    stored = redis["received"] + redis["sent"]
    head = ("requests/s", "HTTP, all", "HTTP, a server", "Redis, all", "Redis, a master", "connections of a master")
    head += ("looks for imports a second", "requests for content a second")
    rows = []
    for plan in plans:
        processes = plan.servers * CORES
        row = (
            f"{plan.rate:,}",
            bits((request + answer) * plan.rate),
            bits((request + answer) * plan.rate / plan.servers),
        )
        row += (bits(stored * plan.rate), bits(stored * plan.rate / plan.masters))
        rows.append((*row, f"{processes * (THREADS + 1):,}", f"{processes * POLLS:,}", f"{processes:,}"))
    return table(head, rows)


def bits(bytes_a_second: float) -> str:
    value = bytes_a_second * 8
    return f"{number(value / 1e9)} Gbit/s" if value >= 1e9 else f"{number(value / 1e6)} Mbit/s"


def memory(found: dict[str, Any]) -> str:
    profile, event = found["memory"]["profile"], found["memory"]["event"]
    events = (4, 20, 100, 500)
    rows = [
        (f"{profiles:,}", *(f"{number(profiles * (profile + (each - 4) * event) / 1e9)} GB" for each in events))
        for profiles in (10_000_000, 100_000_000)
    ]
    return table(("profiles", *(f"{each} events" for each in events)), rows)


def hot(costs: Costs, seed: int) -> str:
    rows, seconds = [], 10.0
    for rate in (30, 100, 300, 1000, 2000, 3000):
        model = Model(costs, processes=HOT_PROCESSES, masters=1, seed=seed, round_trip=ROUND_TRIP)
        model.start(model.arrivals(rate, (1, 0.0), seconds))
        model.run(seconds)
        outcome = model.outcome
        answered, refused = len(outcome.total), outcome.refused
        done = answered + refused
        row = (f"{rate:,}", f"{answered / seconds:,.0f}", f"{refused / done:.1%}", f"{outcome.writes / done:.2f}")
        rows.append((*row, both(outcome.total)))
    return table(("requests/s", "answered/s", "429", "writes sent for a request", "p50 / p99 ms"), rows)


if __name__ == "__main__":
    main()
