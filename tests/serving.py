"""Runs servers for tests: child processes on free ports of the loopback address, ended by their process id."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

ROOT = Path(__file__).parent.parent
GEO = ROOT / "fixtures" / "geo" / "demo.mmdb"
MODULES = os.pathsep.join([str(ROOT / "tests" / "without"), str(ROOT)])
"""The PYTHONPATH of a server that a test starts."""
SERVERS = ("gunicorn", "granian")
"""What `serve` can run the app under."""

_RESERVED: list[IO[str]] = []
"""The locks of this process's ports, which end with it."""

PREFIX = "/v2/organizations/acme/environments/main"
PROFILES = PREFIX + "/profiles"


class Answer(NamedTuple):
    """What a server answered: status, headers with names in lower case, and the body as bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        process: what was started; under gunicorn the one that starts the workers.
        port: where it listens on 127.0.0.1.
        printed: the file that gets what it prints.
    """

    process: subprocess.Popen[bytes]
    port: int
    printed: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own."""
        with self.connection() as connection:
            return call(connection, method, path, body, headers)

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        """A connection that is kept between requests."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            yield connection

    def socket(self) -> socket.socket:
        """A bare connection, for what no HTTP client would send."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def workers(self) -> set[int]:
        """The process ids of the server's workers, without those that ended and whose end it has not noticed yet."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {int(child) for child in children if not _has_ended(child)}


def _has_ended(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def call(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request; ``body`` is bytes as they are sent, or anything else as JSON."""
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, sent, {"Content-Type": "application/json", **(headers or {})})
    response = connection.getresponse()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    """``ninetailed-wsgi serve``, under gunicorn unless an option says otherwise, with its data in ``folder``."""
    command = [sys.executable, "-m", "ninetailed_wsgi", "serve", "--bind", "127.0.0.1:0"]
    with running([*command, "--data-dir", str(folder / "data"), *options], folder) as server:
        yield server


@contextlib.contextmanager
def running(command: list[str], folder: Path) -> Iterator[Server]:
    """Any server that prints ``http://127.0.0.1:PORT`` when it listens, until the block ends."""
    printed = folder / "printed.txt"
    ours = ("NINETAILED_", "GUNICORN_", "LISTEN_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    with printed.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "PYTHONPATH": MODULES, "PYTHONFAULTHANDLER": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(process, _port(process, printed), printed)
    finally:
        _end(process)


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Look again and again, for a bounded time, until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} seconds: {what}"
        time.sleep(0.01)


def free_port() -> int:
    """A port for a server that is started later, or again, or never: no other process of the tests gets it.

    The system draws the ports of connections, and of servers that ask for any, from a range of its own; one of those
    may be taken by the time that the server binds it.
    """
    bounds = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    system = range(int(bounds[0]), int(bounds[1]) + 1)
    ports = [port for port in range(10_000, 65_536) if port not in system] or [*system]
    folder = Path(tempfile.gettempdir()) / "ninetailed-wsgi-ports"
    folder.mkdir(exist_ok=True)
    for port in random.SystemRandom().sample(ports, min(1_000, len(ports))):
        reserved = (folder / str(port)).open("a")
        try:
            fcntl.flock(reserved, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reserved.close()
            continue
        _RESERVED.append(reserved)
        return port
    raise AssertionError("no port is free")


def track(message_id: str, name: str = "clicked", **properties: Any) -> dict[str, Any]:
    """A track event."""
    return {
        "type": "track",
        "event": name,
        "channel": "server",
        "messageId": message_id,
        "context": {"library": {"name": "tests", "version": "4.0.0"}},
        "properties": properties,
    }


def page(message_id: str, path: str = "/") -> dict[str, Any]:
    """A page event."""
    url = "https://shop.example" + path
    return {
        "type": "page",
        "channel": "server",
        "messageId": message_id,
        "context": {"library": {"name": "tests", "version": "4.0.0"}},
        "properties": {"path": path, "query": {}, "referrer": "", "search": "", "url": url, "title": "Shop"},
    }


def _port(process: subprocess.Popen[bytes], printed: Path) -> int:
    found: list[str] = []

    def listens() -> bool:
        text = printed.read_text()
        assert process.poll() is None, f"the server ended: {text}"
        found[:] = re.findall(r"http://127\.0\.0\.1:(\d+)", text)
        return bool(found)

    try:
        wait_until(listens, "the server listens", 120)  # a start took 50 s on two cores that had 14 to run
    except AssertionError as error:
        process.send_signal(signal.SIGABRT)  # with faulthandler, each thread says where it is
        process.wait(60)
        raise AssertionError(f"{error}; it printed: {printed.read_text()}") from None
    return int(found[0])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
