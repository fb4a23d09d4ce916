"""Serves mixed load for minutes and says whether the memory and the open files of each worker stay flat: `make soak`.

The load is bounded: so many requests a second, from a few connections, over a few hundred visitors whose history is
short, so that what is stored stops growing too. The first third of the time is for warming up. Of the other two thirds
the medians are compared, for each worker: memory may have grown by 5 % or 4 MiB, open files by 3, open connections
not past those that the load holds. A replaced worker, an answer that was not expected or an error in the log fails.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.serving import GEO, PREFIX, PROFILES, ROOT, Server, call, page, serving, track, wait_until

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
RATE = float(os.environ.get("SOAK_RATE", "120"))  # requests a second, of all clients together
CLIENTS, VISITORS, IDLE, STALLED = 4, 300, 12, 2
EVERY = {"content": 3.0, "location": 5.0, "sockets": 2.0}  # seconds between two replacements
MORE_MEMORY, MORE_MEMORY_SHARE, MORE_FILES = 4 << 20, 0.05, 3
SHOP = ROOT / "fixtures" / "spaces" / "shop.json"


class Sample(NamedTuple):
    """What a process held at one time: bytes of memory, open files, open sockets."""

    memory: float
    files: float
    sockets: float


def sample(pid: int) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    memory = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))
    opened = []
    for handle in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            opened.append(os.readlink(f"/proc/{pid}/fd/{handle}"))
    sockets = sum(name.startswith("socket:") for name in opened)
    return Sample(memory, len(opened) - sockets, sockets)


class Load:
    """The clients, and what they were answered that was not expected."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.enough = threading.Event()
        self.answers: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self._numbers = itertools.count()
        self._seed = seed

    def threads(self) -> list[threading.Thread]:
        return [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]

    def _client(self, number: int) -> None:
        chance = random.Random(f"{self._seed}-{number}")
        names, weights = list(STEPS), [weight for weight, *_ in STEPS.values()]
        due = time.monotonic()
        while not self.enough.is_set():
            try:
                with self.server.connection() as connection:
                    for _ in range(chance.randrange(1, 200)):  # then on a new connection
                        due = max(due + CLIENTS / RATE, time.monotonic() - 1)
                        if self.enough.wait(max(0.0, due - time.monotonic())):
                            return
                        [name] = chance.choices(names, weights)
                        self._step(name, connection, chance)
            except (OSError, http.client.HTTPException) as error:
                self.wrong[f"connection: {error!r}"] += 1

    def _step(self, name: str, connection: http.client.HTTPConnection, chance: random.Random) -> None:
        _, expected, request = STEPS[name]
        answer = call(connection, *request(f"{self._seed}-{next(self._numbers)}", chance))
        self.answers[name] += 1
        if answer.status == 413:
            connection.close()  # the rest of the body is not sent
        if answer.status not in expected:
            self.wrong[f"{name}: {answer.status} {answer.body[:200]!r}"] += 1


Request = tuple[Any, ...]


def visitor(chance: random.Random) -> str:
    return f"visitor-{chance.randrange(VISITORS)}"


def batch(id: str, chance: random.Random) -> dict[str, Any]:
    return {"events": [{**track(f"{id}-{n}"), "anonymousId": visitor(chance)} for n in range(chance.randrange(1, 30))]}


def create(id: str, chance: random.Random) -> Request:
    # Under a name that comes again: what is stored must not grow for ever.
    body = {"events": [page(id, "/pricing")], "options": {"features": ["location", "ip-enrichment"]}}
    return "POST", f"{PROFILES}/new-{chance.randrange(VISITORS)}", body


def anonymous(id: str, chance: random.Random) -> Request:
    return "POST", f"{PROFILES}?type=preflight", {"events": [page(id)], "options": {"features": ["location"]}}


def update(id: str, chance: random.Random) -> Request:
    body = {"events": [page(id, "/pricing"), track(id + "t")], "options": {"features": ["location"]}}
    return "POST", f"{PROFILES}/{visitor(chance)}", body


def identify(id: str, chance: random.Random) -> Request:
    user = f"user-{chance.randrange(VISITORS // 10)}"
    traits = {"plan": chance.choice(["free", "pro"]), "text": "x" * 200}
    event = {**track(id), "type": "identify", "userId": user, "traits": traits}
    del event["event"], event["properties"]
    return "POST", f"{PROFILES}/{visitor(chance)}", {"events": [event]}


def bad(id: str, chance: random.Random) -> Request:
    nested = b'{"events": [' + b"[" * 5000
    bodies = [b"{", b"", b"[]", b'{"events": 5}', b"\xff\xfe", nested, {"events": [{"type": id}]}]
    return "POST", f"{PROFILES}/{visitor(chance)}", chance.choice(bodies)


STEPS: dict[str, tuple[int, set[int], Callable[[str, random.Random], Request]]] = {
    "update": (40, {200}, update),
    "create": (8, {200}, create),
    "preflight": (8, {200}, anonymous),
    "identify": (5, {200}, identify),
    "get": (10, {200, 404}, lambda id, chance: ("GET", f"{PROFILES}/{visitor(chance)}")),
    "explain": (2, {200, 404}, lambda id, chance: ("GET", f"{PROFILES}/{visitor(chance)}/explain")),
    "delete": (6, {200, 404}, lambda id, chance: ("DELETE", f"{PROFILES}/{visitor(chance)}")),
    "batch": (3, {200}, lambda id, chance: ("POST", PREFIX + "/events", batch(id, chance))),
    "import": (3, {200}, lambda id, chance: ("POST", PREFIX + "/import/events", batch(id, chance))),
    "options": (3, {204}, lambda id, chance: ("OPTIONS", PROFILES)),
    "ready": (1, {200}, lambda id, chance: ("GET", "/health/ready")),
    "live": (1, {200}, lambda id, chance: ("GET", "/health/live")),
    "document": (1, {200}, lambda id, chance: ("GET", "/openapi.json")),
    "bad": (6, {400}, bad),
    "too large": (1, {413}, lambda id, chance: ("POST", PROFILES, b"", {"Content-Length": "9999999"})),
    "nowhere": (2, {404}, lambda id, chance: ("GET", f"/v2/{id}")),
    "method": (1, {405}, lambda id, chance: ("PUT", PROFILES, {})),
}


def replace(source: Path, target: Path) -> None:
    new = target.with_suffix(".new")
    shutil.copy(source, new)
    os.replace(new, target)


def versions(folder: Path) -> Iterator[Path]:
    """Content files in turn: two that differ, and one that is broken."""
    other = json.loads(SHOP.read_text())
    other["made-for-the-soak"] = True
    (folder / "other.json").write_text(json.dumps(other))
    (folder / "broken.json").write_text("{")
    return itertools.cycle([folder / "other.json", SHOP, folder / "broken.json", SHOP])


class Sockets:
    """Connections that say nothing, and some that stop in the middle of a request; renewed, the oldest first."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._open: list[socket.socket] = []

    def renew(self) -> None:
        while len(self._open) > IDLE + STALLED - 4:
            self._open.pop(0).close()
        for number in range(4):
            self._open.append(self._server.socket())
            if number < STALLED:
                head = f"POST {PROFILES} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{{"
                self._open[-1].sendall(head.encode()[: random.randrange(10, len(head))])

    def close(self) -> None:
        for connection in self._open:
            connection.close()


def open_all(server: Server) -> None:
    """Let each thread of each worker open each file of the store, which it does when it first needs it."""

    def ask() -> None:
        for _ in range(50):
            assert server.call("GET", "/health/ready").status == 200

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()


def soak(folder: Path, seed: int) -> list[str]:
    """Run it; what is wrong, a line each."""
    content, geo = folder / "content.json", folder / "geo.mmdb"
    replace(SHOP, content)
    replace(GEO, geo)
    options = ["--workers", "2", "--history-events", "30", "--explain", "--trusted-proxies", "127.0.0.1"]
    samples: dict[int, list[Sample]] = {}
    with serving(folder, *options, "--content", str(content), "--geoip-database", str(geo)) as server:
        wait_until(lambda: len(server.workers()) == 2, "both workers run")
        workers, load, sockets = server.workers(), Load(server, seed), Sockets(server)
        clients, contents, renewed = load.threads(), versions(folder), dict.fromkeys(EVERY, 0.0)
        renewals = {
            "content": lambda: replace(next(contents), content),
            "location": lambda: replace(GEO, geo),
            "sockets": sockets.renew,
        }
        open_all(server)
        for client in clients:
            client.start()
        started = time.monotonic()
        try:
            while (passed := time.monotonic() - started) < SECONDS and server.workers() == workers:
                for name, renew in renewals.items():
                    if passed - renewed[name] >= EVERY[name]:
                        renewed[name] = passed
                        renew()
                for pid in workers:
                    samples.setdefault(pid, []).append(sample(pid))
                time.sleep(min(1.0, SECONDS / 60))
        finally:
            load.enough.set()
            for client in clients:
                client.join()
            sockets.close()
        wrong = [f"{count} times {what}" for what, count in load.wrong.items()]
        if server.workers() != workers:
            wrong.append(f"workers were replaced: {workers} by {server.workers()}")
        print(f"{sum(load.answers.values())} requests: {dict(load.answers)}")
    log = [line for line in server.printed.read_text().splitlines() if "Traceback" in line or "[ERROR]" in line]
    wrong += [f"in the log: {line}" for line in log if "content" not in line][:10]  # broken content is reported
    return wrong + [line for pid, seen in samples.items() for line in judged(pid, seen)]


def judged(pid: int, seen: list[Sample]) -> list[str]:
    """Print what a worker held, and return what of it grew."""
    third = len(seen) // 3
    middle, last = (
        Sample(*map(median, zip(*part, strict=True))) for part in (seen[third : 2 * third], seen[2 * third :])
    )
    first, most = seen[0], Sample(*map(max, zip(*seen, strict=True)))
    for what, unit in (("memory", 1 << 20), ("files", 1), ("sockets", 1)):
        values = " ".join(f"{getattr(each, what) / unit:8.1f}" for each in (first, middle, last, most))
        print(f"worker {pid}: {what:<8} start, middle third, last third, most: {values}{' MiB' if unit > 1 else ''}")
    wrong = []
    if last.memory - middle.memory > max(MORE_MEMORY, MORE_MEMORY_SHARE * middle.memory):
        wrong.append(f"worker {pid}: memory grew from {middle.memory / 1e6:.1f} to {last.memory / 1e6:.1f} MB")
    if last.files - middle.files > MORE_FILES:
        wrong.append(f"worker {pid}: open files grew from {middle.files:.0f} to {last.files:.0f}")
    if last.sockets > CLIENTS + IDLE + STALLED + 5:
        wrong.append(f"worker {pid}: {last.sockets:.0f} connections are open")
    return wrong


def main() -> int:
    seed = int(os.environ.get("SEED") or 0) or random.SystemRandom().randrange(1, 1 << 30)
    print(f"soak: {SECONDS:.0f} s, {RATE:.0f} requests/s, SEED={seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        wrong = soak(Path(folder), seed)
    print("\n".join(["soak: not flat, or not well:", *wrong]) if wrong else "soak: memory and open files are flat")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
