"""The simulation of benchmarks/capacity.py against what queueing theory knows, and against the store's own promise."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from simulation import Costs, Model, Simulation, Station, Task, zipf

COSTS = Costs(server=1e-3, shape=[0.5, 1.0, 1.5], fold=2e-4, read=1e-5, write=4e-5)


def mean_wait(service: Callable[[random.Random], float], load: float, servers: int = 1) -> float:
    """Seconds that customers wait on average for a server, who come by chance; a service takes a second on average."""
    simulation, chance, waited = Simulation(), random.Random(7), [0.0, 0]

    def customer() -> Task:
        began, seconds = simulation.now, service(chance)
        yield from simulation.use(station, seconds=seconds)
        waited[0] += simulation.now - began - seconds
        waited[1] += 1

    def arrivals() -> Task:
        while True:
            yield chance.expovariate(load * servers)
            simulation.start(customer())

    station = Station(servers)
    simulation.start(arrivals())
    simulation.run(60_000 / servers)
    return waited[0] / waited[1]


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_random_services_wait_as_theory_says(load: float) -> None:
    assert mean_wait(lambda chance: chance.expovariate(1), load) == pytest.approx(load / (1 - load), rel=0.06)


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_services_of_one_length_wait_half_as_long(load: float) -> None:
    assert mean_wait(lambda chance: 1.0, load) == pytest.approx(load / (1 - load) / 2, rel=0.06)


def test_two_servers_with_one_queue_wait_as_theory_says() -> None:
    load = 0.7
    assert mean_wait(lambda chance: chance.expovariate(1), load, 2) == pytest.approx(load**2 / (1 - load**2), rel=0.06)


def test_processes_serve_no_more_than_the_cores_that_they_share_let_them() -> None:
    model = Model(COSTS, processes=4, masters=1, seed=1, cores=2)
    for number in range(16):
        model.start(model.connection(model.processes[number % 4], 10_000))
    model.run(5.0)
    assert len(model.outcome.total) / 5.0 == pytest.approx(2 / (COSTS.server + COSTS.read + COSTS.write), rel=0.03)


def test_one_process_computes_one_request_at_a_time_however_many_cores_there_are() -> None:
    model = Model(COSTS, processes=1, masters=1, seed=1, cores=8)
    for _ in range(8):
        model.start(model.connection(model.processes[0], 10_000))
    model.run(5.0)
    assert len(model.outcome.total) / 5.0 == pytest.approx(1 / COSTS.server, rel=0.03)


def test_of_requests_in_conflict_each_is_written_once_or_refused() -> None:
    model = Model(COSTS, processes=16, masters=1, seed=1, round_trip=3e-4)
    model.start(model.arrivals(1500, (1, 0.0), 2.0))
    model.run(20.0)
    assert model.versions[0] == len(model.outcome.total)
    assert len(model.outcome.total) + model.outcome.refused == pytest.approx(3000, rel=0.1)
    assert model.outcome.writes > 1.5 * len(model.outcome.total)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seed_decides_everything(seed: int) -> None:
    first, second = (Model(COSTS, processes=4, masters=2, seed=seed) for _ in range(2))
    for model in (first, second):
        model.start(model.arrivals(1000, (100, 0.5), 1.0))
        model.run(1.0)
    assert first.outcome == second.outcome
    assert first.outcome.total


def test_profiles_are_drawn_by_zipfs_law() -> None:
    chance = random.Random(3)
    drawn = [zipf(chance.random(), 10_000, 0.5) for _ in range(50_000)]
    assert min(drawn) == 0
    assert max(drawn) < 10_000
    # With exponent one half, the first quarter of the profiles gets half of the draws.
    assert sum(profile < 2500 for profile in drawn) / len(drawn) == pytest.approx(0.5, abs=0.01)
