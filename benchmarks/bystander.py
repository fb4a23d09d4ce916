"""Measures a visitor's page events beside clients that let large profiles merge, over HTTP by two workers.

``python benchmarks/bystander.py`` lets 16 connections merge profiles of 1 MB of history without a pause, or preflight
the same, in turns with nobody but the visitor; so a busy machine slows both. A client that is answered 429 waits as
long as the answer says, with ``--rude`` not at all, and with ``--reconnect`` it opens a connection for each request.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from report import Target, table, targets
from scenario import ENVIRONMENT, page_event, write_content
from servers import service, serving

CLIENTS = 16
HISTORY = 950_000  # bytes of events, of each large profile
PAUSE = 0.01  # seconds between two events of the visitor
KINDS = ("merge", "preflight", "page")  # the last one: page events of their own, as any flood has


class Beside(NamedTuple):
    """What the visitor waited for (ms, each event) and what the clients were answered (status, how often)."""

    alone: list[float]
    beside: list[float]
    answers: Counter[int]
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="of requests [all]")
    parser.add_argument("--rounds", type=int, default=4, help="[4]")
    parser.add_argument("--seconds", type=float, default=3, help="of each half of a round [3]")
    parser.add_argument("--rude", action="store_true", help="come back at once after a 429")
    parser.add_argument("--reconnect", action="store_true", help="open a connection for each request of a client")
    options = parser.parse_args()
    rows, wanted = [], []
    for kind in options.kinds or KINDS:
        found = measure(kind, options)
        alone, beside = statistics.median(found.alone), statistics.median(found.beside)
        late = [statistics.quantiles(times, n=100)[94] for times in (found.alone, found.beside)]
        rates = ", ".join(f"{status}: {count / found.seconds:.0f}/s" for status, count in sorted(found.answers.items()))
        rows.append(
            (kind, f"{alone:.1f}", f"{beside:.1f}", f"{beside / alone:.1f}", "{:.1f} / {:.1f}".format(*late), rates)
        )
        if kind != "page":
            wanted.append(Target(f"median beside {kind} against alone", False, 2, round(beside / alone, 1)))
    print(table(("16 clients", "alone, ms", "beside them, ms", "ratio", "95th, ms", "what they were answered"), rows))
    print(targets(wanted))


def measure(kind: str, options: argparse.Namespace) -> Beside:
    """Let the visitor be alone and beside the clients in turns."""
    with tempfile.TemporaryDirectory() as name:
        data, content = Path(name, "data"), write_content(Path(name, "content.json"))
        with serving(service(data, content, workers=2)) as server:
            prepare(server.port)
            found = Beside([], [], Counter(), options.rounds * options.seconds)
            events(server.port, 1)
            with clients(server.port, kind, options.rude, options.reconnect) as (at_work, answers):
                for _ in range(options.rounds):
                    found.alone.extend(events(server.port, options.seconds))
                    at_work.set()
                    time.sleep(0.5)
                    found.beside.extend(events(server.port, options.seconds))
                    at_work.clear()
                    time.sleep(1.5)
            found.answers.update(answers)
            return found


def prepare(port: int) -> None:
    """Make two large profiles for each client, one of a user."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for number in range(CLIENTS):
        for name in ("user", "device"):
            body = [event() for _ in range(HISTORY // 5000)]
            for each in body:
                each["properties"]["article"] = "x" * max(0, 5000 - len(json.dumps(each)))
            if name == "user":
                body.append(identify(number))
            status, answer = post(connection, f"/profiles/{name}-{number}", body)
            assert status == 200, answer


def events(port: int, seconds: float) -> Iterator[float]:
    """Post page events of one visitor one after the other; yield the milliseconds of each."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        body = [event()]
        began = time.perf_counter()
        status, answer = post(connection, "/profiles/visitor", body)
        yield (time.perf_counter() - began) * 1000
        assert status == 200, answer
        time.sleep(PAUSE)


def event() -> dict[str, Any]:
    return page_event(uuid4().hex, datetime.now(UTC))


def identify(number: int) -> dict[str, Any]:
    sent = event()
    return {**sent, "type": "identify", "userId": f"the user {number}", "traits": {}}


def post(connection: http.client.HTTPConnection, path: str, body: list[dict[str, Any]]) -> tuple[int, Any]:
    """Return the status and what follows from it: the seconds to wait, or the answer."""
    try:
        connection.request(
            "POST", ENVIRONMENT + path, json.dumps({"events": body}), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, float(answer.headers.get("Retry-After", 1)) if answer.status == 429 else text
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return 0, str(error)


@contextmanager
def clients(port: int, kind: str, rude: bool, reconnect: bool) -> Iterator[tuple[Event, Counter[int]]]:
    """Run the clients in another process; they are at work while the event is set."""
    at_work, end, counts = multiprocessing.Event(), multiprocessing.Event(), multiprocessing.Queue()
    process = multiprocessing.Process(target=_clients, args=(port, kind, rude, reconnect, at_work, end, counts))
    process.start()
    answers: Counter[int] = Counter()
    try:
        yield at_work, answers
    finally:
        end.set()
        with suppress(Exception):
            answers.update(counts.get(timeout=20))
        process.join(20)
        process.kill()


def _clients(port: int, kind: str, rude: bool, reconnect: bool, at_work: Event, end: Event, counts: Any) -> None:
    answers: Counter[int] = Counter()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while not end.is_set():
            if not at_work.wait(0.1):
                continue
            name = f"device-{number}?type=preflight" if kind == "preflight" else uuid4().hex
            body = [event()] if kind == "page" else [event(), identify(number)]
            status, rest = post(connection, f"/profiles/{name}", body)
            answers[status] += 1
            if reconnect:
                connection.close()
            if status == 429 and not rude:
                time.sleep(rest)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.put(answers)


if __name__ == "__main__":
    main()
