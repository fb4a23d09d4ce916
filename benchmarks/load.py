"""A load generator without dependencies: prepared requests over bare sockets, each client process with its own.

A client of the standard library would spend as long on a request as the server does; this one about a tenth of that.
"""

from __future__ import annotations

import multiprocessing
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

CONNECTIONS_PER_PROCESS = 4


class Load(NamedTuple):
    """What one run came to.

    Attributes:
        rate: requests per second.
        p50, p99: milliseconds from sending a request to its whole answer.
        client: share of one core that the busiest client process used.
    """

    rate: float
    p50: float
    p99: float
    client: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What one client process does.

    Attributes:
        requests: makes the process's requests, given a number that no other process has.
        number: that number.
    """

    port: int
    connections: int
    seconds: float
    requests: Callable[[int], Iterator[bytes]]
    number: int


_runs = count()


def run(port: int, connections: int, seconds: float, requests: Callable[[int], Iterator[bytes]]) -> Load:
    """Send requests over so many connections for so long, each waiting for its answer before the next.

    Raises:
        RuntimeError: an answer is not 200.
    """
    processes = -(-connections // CONNECTIONS_PER_PROCESS)
    each = [connections // processes + (index < connections % processes) for index in range(processes)]
    plans = [Plan(port, number, seconds, requests, next(_runs)) for number in each]
    context = multiprocessing.get_context("fork")
    results: Any = context.SimpleQueue()
    clients = [context.Process(target=_work, args=(plan, results)) for plan in plans]
    for client in clients:
        client.start()
    found = [results.get() for _ in clients]
    for client in clients:
        client.join()
    if problems := [problem for problem in found if isinstance(problem, str)]:
        raise RuntimeError(problems[0])
    times = sorted(time for result in found for time in result[0])
    return Load(
        rate=sum(len(result[0]) / result[1] for result in found),
        p50=times[len(times) // 2] / 1e6,
        p99=times[len(times) * 99 // 100] / 1e6,
        client=max(result[2] / result[1] for result in found),
    )


def _work(plan: Plan, results: Any) -> None:
    try:
        results.put(_drive(plan))
    except (OSError, ValueError) as error:
        results.put(f"port {plan.port}: {error!r}")


def _drive(plan: Plan) -> tuple[list[int], float, float]:
    """The time of each answer in nanoseconds, the seconds that all took, the processor's seconds of this process."""
    requests = plan.requests(plan.number)
    selector = selectors.DefaultSelector()
    times: list[int] = []
    clock = time.perf_counter_ns
    began, cpu = clock(), time.process_time()
    end = began + int(plan.seconds * 1e9)
    for _ in range(plan.connections):
        client = _connect(plan.port)
        client.sendall(next(requests))
        selector.register(client, selectors.EVENT_READ, clock())
    while (now := clock()) < end:
        for key, _ in selector.select(10):
            kept = _read_answer(key.fileobj)  # type: ignore[arg-type]
            times.append(clock() - key.data)
            client = key.fileobj  # type: ignore[assignment]
            if not kept:
                selector.unregister(client)
                client.close()
                client = _connect(plan.port)
            sent = clock()
            client.sendall(next(requests))
            (selector.modify if kept else selector.register)(client, selectors.EVENT_READ, sent)
    return times, (now - began) / 1e9, time.process_time() - cpu


def _connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _read_answer(client: socket.socket) -> bool:
    """Read one answer to its end; whether the connection is kept."""
    answer = client.recv(65536)
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += _more(client, answer)
    head = answer[:end].lower()
    if not head.startswith(b"http/1.1 200"):
        raise ValueError(f"answered {answer[:300]!r}")
    start = head.index(b"content-length:") + 15
    length = int(head[start : head.find(b"\r", start) if b"\r" in head[start:] else None])
    while len(answer) < end + 4 + length:
        answer += _more(client, answer)
    return b"connection: close" not in head


def _more(client: socket.socket, before: bytes) -> bytes:
    part = client.recv(65536)
    if not part:
        raise ValueError(f"the connection ended after {before[:300]!r}")
    return part
