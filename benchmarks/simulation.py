"""A discrete-event simulation of server processes and Redis masters; capacity.py gives it what scaling.py measured.

A task is a generator. It yields a `Station` to get one of its servers, when one is free, and a number of seconds to let
pass; `Simulation.give` returns the server. Everything is decided by the seed.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from itertools import count

THREADS = 4  # of a process
PROFILE_CONCURRENCY = 6  # requests at one profile in one process, before 429
MAX_TRIES = 100  # of a write, before 429
TIMEOUT = 5.0  # seconds
SLICE = 0.003  # seconds that Linux lets a program have a core


class Station:
    """Equal servers with one queue, first come first served.

    Attributes:
        busy: seconds that its servers have worked, all together.
    """

    __slots__ = ("busy", "free", "waiting")

    def __init__(self, servers: int = 1) -> None:
        self.free = servers
        self.waiting: deque[Task] = deque()
        self.busy = 0.0


Task = Generator[Station | float, None, None]


class Simulation:
    """The clock, and what happens next."""

    def __init__(self) -> None:
        self.now = 0.0
        self._next: list[tuple[float, int, Task]] = []
        self._order = count()

    def start(self, task: Task, after: float = 0.0) -> None:
        heapq.heappush(self._next, (self.now + after, next(self._order), task))

    def run(self, until: float) -> None:
        while self._next and self._next[0][0] <= until:
            self.now, _, task = heapq.heappop(self._next)
            self._go_on(task)
        self.now = until

    def give(self, station: Station) -> None:
        if station.waiting:
            self.start(station.waiting.popleft())
        else:
            station.free += 1

    def use(self, *stations: Station, seconds: float) -> Task:
        """Take these one after the other, keep them so long, and give them back."""
        for station in stations:
            yield station
        yield seconds
        for station in stations:
            station.busy += seconds
            self.give(station)

    def _go_on(self, task: Task) -> None:
        for step in task:
            if isinstance(step, float):
                self.start(task, step)
                return
            if not step.free:
                step.waiting.append(task)
                return
            step.free -= 1


@dataclass(frozen=True)
class Costs:
    """Processor time of a request, in seconds.

    Attributes:
        server: of a server process, on average.
        shape: multiples of it, equally likely.
        fold: the part of it that a conflict repeats.
        read, write: of a Redis master that always has work, for the read and for the script that compares and sets.
        wake: of a master for each command that finds it idle, besides.
        client: of the client, where it shares the cores.
    """

    server: float
    shape: Sequence[float]
    fold: float
    read: float
    write: float
    wake: float = 0.0
    client: float = 0.0


@dataclass
class Process:
    """A server process: its threads share one interpreter, which runs one of them at a time."""

    interpreter: Station = field(default_factory=Station)
    threads: Station = field(default_factory=lambda: Station(THREADS))
    turns: dict[int, Station] = field(default_factory=dict)


@dataclass
class Outcome:
    """What became of requests; all in seconds.

    Attributes:
        total, server, redis: of each answered request: from its arrival to its answer, of that waiting for the server
            process and computing there, and waiting for Redis and being served there, with the way there and back.
        reads, writes: that were sent.
        refused: requests answered 429.
    """

    total: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    redis: list[float] = field(default_factory=list)
    reads: int = 0
    writes: int = 0
    refused: int = 0


class Model(Simulation):
    """Server processes on some Redis masters, among which the profiles are spread.

    Args:
        cores: of the one machine on which everything runs; None: each process and each master has a core of its own.
        round_trip: seconds to a master and back.
        replicas: whether a write waits until a replica has it.
    """

    def __init__(
        self,
        costs: Costs,
        *,
        processes: int,
        masters: int,
        seed: int,
        cores: int | None = None,
        round_trip: float = 0.0,
        replicas: bool = False,
    ) -> None:
        super().__init__()
        self.costs = costs
        self.processes = [Process() for _ in range(processes)]
        self.masters = [Station() for _ in range(masters)]
        self.replicas = [Station() for _ in range(masters)] if replicas else []
        self.chance = random.Random(seed)
        self.versions: dict[int, int] = {}
        self.outcome = Outcome()
        self._cores = (Station(cores),) if cores else ()
        self._client = Station()
        self._one_way = round_trip / 2

    def arrivals(self, rate: float, profiles: Sequence[float], until: float) -> Task:
        """Requests that arrive by chance, each at a process by chance.

        Args:
            rate: of them per second.
            profiles: how many there are, and the exponent of Zipf's law by which they are drawn; 0: all alike.
        """
        while self.now < until:
            yield self.chance.expovariate(rate)
            self.start(self.request(self.chance.choice(self.processes), zipf(self.chance.random(), *profiles)))

    def connection(self, process: Process, profiles: int) -> Task:
        """A client that sends its next request when it has the answer to the one before."""
        while True:
            yield from self.use(self._client, *self._cores, seconds=self.costs.client)
            yield from self.request(process, self.chance.randrange(profiles))

    def others(self, cores: float) -> Task:
        """Programs that keep so many of the machine's cores busy, for some milliseconds at a time."""
        while True:
            yield self.chance.expovariate(cores / SLICE)
            self.start(self.use(*self._cores, seconds=SLICE))

    def request(self, process: Process, profile: int) -> Task:
        """A stored event: half of the computing, the update when it is this request's turn, and the other half."""
        costs, outcome, began = self.costs, self.outcome, self.now
        scale = self.chance.choice(costs.shape)
        around = (costs.server - costs.fold) * scale / 2
        written, in_redis = False, 0.0
        yield process.threads
        yield from self.use(process.interpreter, *self._cores, seconds=around)
        turn = process.turns.setdefault(profile, Station())
        if turn.free or len(turn.waiting) + 2 <= PROFILE_CONCURRENCY:
            yield turn
            written, in_redis = yield from self._update(process, profile, costs.fold * scale, began + TIMEOUT)
            if not turn.waiting:
                process.turns.pop(profile, None)
            self.give(turn)
        yield from self.use(process.interpreter, *self._cores, seconds=around)
        self.give(process.threads)
        if written:
            outcome.total.append(self.now - began)
            outcome.redis.append(in_redis)
            outcome.server.append(self.now - began - in_redis)
        else:
            outcome.refused += 1

    def _update(
        self, process: Process, profile: int, fold: float, end: float
    ) -> Generator[Station | float, None, tuple[bool, float]]:
        """Read, fold, compare and set, as store/redis.py does; whether it was written, and the seconds for Redis."""
        outcome, in_redis = self.outcome, 0.0
        written, tries, found = False, 0, 0
        while not written and tries < MAX_TRIES and self.now < end:
            if tries > 1:
                yield self.chance.random() * min(tries, 10) / 1000
            if tries != 1:  # the second try begins with what the first one was answered
                asked = self.now
                outcome.reads += 1
                yield self._one_way
                yield from self._serve(profile, self.costs.read)
                found = self.versions.get(profile, 0)
                yield self._one_way
                in_redis += self.now - asked
            yield from self.use(process.interpreter, *self._cores, seconds=fold)
            asked = self.now
            tries += 1
            outcome.writes += 1
            yield self._one_way
            yield from self._serve(profile, self.costs.write)
            current = self.versions.get(profile, 0)
            written = current == found
            found = self.versions[profile] = current + written
            if written and self.replicas:
                yield from self._replicate(profile)
            yield self._one_way
            in_redis += self.now - asked
        return written, in_redis

    def _serve(self, profile: int, seconds: float) -> Task:
        master = self.masters[profile % len(self.masters)]
        return self.use(master, *self._cores, seconds=seconds + (self.costs.wake if master.free else 0.0))

    def _replicate(self, profile: int) -> Task:
        yield self._one_way
        replica = self.replicas[profile % len(self.replicas)]
        yield from self.use(replica, *self._cores, seconds=self.costs.write)
        yield self._one_way


def zipf(chance: float, profiles: float, exponent: float) -> int:
    """The number of a profile, drawn by Zipf's law in its continuous form (exponent below 1)."""
    power = 1 - exponent
    return int((1 + chance * ((profiles + 1) ** power - 1)) ** (1 / power)) - 1


def quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]
