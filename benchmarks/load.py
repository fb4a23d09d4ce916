"""Load over HTTP by wrk, which spends a few microseconds on a request; a client in Python would take the servers' time.

Debian: ``apt install wrk``. What it sends is prepared in a file; see rotation.lua.
"""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
NUMBER = "0" * 32
"""Stands in a request where the number goes that no other request has."""


class Load(NamedTuple):
    """What one run came to.

    Attributes:
        requests: answered ones.
        rate: of them per second.
        p50, p99: milliseconds from sending a request to its whole answer.
        client: microseconds of processor time that wrk spent on a request.
    """

    requests: int
    rate: float
    p50: float
    p99: float
    client: float


_runs = count(1)


def post(path: str, body: bytes, headers: str = "") -> bytes:
    """A request as rotation.lua sends it."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def write(file: Path, requests: Iterable[bytes]) -> Path:
    """Prepare a file of requests."""
    file.write_bytes(b"".join(request + b"\0" for request in requests))
    return file


def run(port: int, connections: int, seconds: int, requests: Path) -> Load:
    """Send the requests of a file over so many connections for so long, each waiting for its answer before the next.

    Raises:
        RuntimeError: an answer is an error, or wrk ended with one.
    """
    command = [
        "wrk",
        "--threads",
        "1",
        "--connections",
        str(connections),
        "--duration",
        f"{seconds}s",
        "--timeout",
        "30s",
    ]
    command += ["--script", str(HERE / "rotation.lua"), f"http://127.0.0.1:{port}", "--", str(requests)]
    before = _children()
    done = subprocess.run([*command, f"{next(_runs):08x}"], capture_output=True, text=True, check=False)
    spent = _children() - before
    if done.returncode:
        raise RuntimeError(f"wrk: {done.stderr or done.stdout}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise RuntimeError(f"port {port}: {found['failed']} of {found['requests']} requests failed")
    answered = found["requests"]
    return Load(answered, answered / found["seconds"], found["p50"], found["p99"], spent * 1e6 / answered)


def _children() -> float:
    """Processor time of the children that have ended: wrk, as the servers still run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
