"""Servers as child processes, and what they use of the processor and of memory."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "fixtures"


class Server(NamedTuple):
    """A server that listens on 127.0.0.1.

    Attributes:
        pids: of the processes that were started; what they start in turn counts as theirs.
    """

    port: int
    pids: tuple[int, ...]

    def cpu(self) -> float:
        """Seconds of processor time that all its processes have used so far."""
        return sum(map(_cpu, self.processes()))

    def processes(self) -> Iterator[int]:
        for pid in self.pids:
            yield from _family(pid)

    def connections(self) -> list[int]:
        """The number of open connections of each worker."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        mine = f":{self.port:04X}"
        opened = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(mine) and line[3] == "01"}  # established
        return [len(opened.intersection(_files(worker))) for worker in self.workers()]

    def workers(self) -> list[int]:
        """The processes that its first process has started, as gunicorn does its workers."""
        return list(_children(self.pids[0]))


def service(data: Path, content: Path, *, workers: int, store: str = "", server: str = "gunicorn") -> list[str]:
    """The command that serves the API, as an operator would start it; ``store``: address of a Redis."""
    options = ["--data-dir", data, "--content", content, "--geoip-database", FIXTURES / "geo" / "demo.mmdb"]
    command = [sys.executable, "-m", "ninetailed_wsgi", "serve", "--bind", "127.0.0.1:0", "--workers", workers]
    command += ["--server", server] if server != "gunicorn" else []  # which older versions know as the only one
    return [*map(str, [*command, *options, *(["--store", store] if store else [])])]


@contextlib.contextmanager
def serving(
    command: Sequence[str], variables: Mapping[str, str] = MappingProxyType({}), code: Path = HERE.parent
) -> Iterator[Server]:
    """Run a command that says ``http://127.0.0.1:PORT`` when it listens; SIGTERM ends it.

    ``code``: the folder that the package is taken from.
    """
    environment = {**os.environ, "PYTHONPATH": str(code), **variables}
    with subprocess.Popen(command, env=environment, cwd=code, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    yield Server(int(found[1]), (process.pid,))
                    return
            raise SystemExit(f"this did not start: {' '.join(command)}")
        finally:
            process.terminate()
            process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory(pid: int) -> tuple[int, int]:
    """Bytes of a process in memory: all of them (RSS), and with pages that others share in equal parts (PSS)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = dict(re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.MULTILINE))
    return int(found["Rss"]) * 1024, int(found["Pss"]) * 1024


def _files(pid: int) -> Iterator[str]:
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed just now
            yield os.readlink(file)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _family(child)


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            yield from map(int, task.read_text().split())


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
