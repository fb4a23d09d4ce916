"""Redis servers for tests: child processes on free ports of the loopback address, ended by their process id."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from serving import free_port, wait_until

from ninetailed_wsgi.settings.redis_url import RedisUrl

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
LEFT_OUT = "the Redis store is not tested: no redis-server on this machine (Debian: apt install redis-server)"
DATABASES = 1000
"""Each test store is a database of its own."""


class Redis:
    """A server, which can be killed, stopped and started again on the same port and folder.

    Args:
        folder: for what it keeps.
        options: of its command line; by default it keeps nothing.
        configuration: of a Sentinel, which it is then.
    """

    def __init__(self, folder: Path, *options: str, configuration: Path | None = None) -> None:
        self.folder, self.options, self.port = folder, options, free_port()
        self._configuration = configuration
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert PROGRAM is not None
        command = [PROGRAM, *([str(self._configuration)] if self._configuration else [])]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        if self._configuration:
            command += ["--sentinel"]
        else:
            command += ["--databases", str(DATABASES), "--loglevel", "warning", "--save", "", "--appendonly", "no"]
        log = (self.folder / "redis.log").open("ab")
        with log:
            self._process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log)
        wait_until(self._answers, "the Redis server answers")

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=60, retry=Retry(NoBackoff(), 0), protocol=2)

    def url(self, database: int = 0) -> RedisUrl:
        return RedisUrl.parse(f"redis://127.0.0.1:{self.port}/{database}")

    def pause(self) -> None:
        """It is there and says nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(60)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "redis.log").read_text()
        try:
            return bool(self.client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


class Cluster:
    """Some masters that share the slots, each with a replica if asked for; more ``options`` are for all of them."""

    def __init__(self, folder: Path, *options: str, masters: int = 3, replicas: bool = False) -> None:
        self.servers: list[Redis] = []
        self.replicas: list[Redis] = []
        try:
            for number in range(masters):
                self.servers.append(self._node(folder / f"master-{number}", options))
                if replicas:
                    self.replicas.append(self._node(folder / f"replica-{number}", options))
            self._meet()
        except BaseException:
            self.end()
            raise

    def _node(self, folder: Path, options: tuple[str, ...]) -> Redis:
        folder.mkdir()
        own = ("--cluster-enabled", "yes", "--cluster-node-timeout", "4000", "--databases", "1")
        bus = ("--cluster-port", str(free_port()))
        return Redis(folder, *own, *bus, "--cluster-require-full-coverage", "no", *options)

    @property
    def url(self) -> RedisUrl:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return RedisUrl.parse(f"redis+cluster://{hosts}")

    def end(self) -> None:
        for server in (*self.servers, *self.replicas):
            server.end()

    def flush(self) -> None:
        for server in self.servers:
            server.client.flushall()

    def _meet(self) -> None:
        bounds = [16384 * number // len(self.servers) for number in range(len(self.servers) + 1)]
        first = self.servers[0]
        for server, low, high in zip(self.servers, bounds, bounds[1:], strict=False):
            server.client.execute_command("CLUSTER ADDSLOTSRANGE", low, high - 1)
        for server in (*self.servers, *self.replicas):
            bus = int(server.options[server.options.index("--cluster-port") + 1])
            first.client.execute_command("CLUSTER MEET", "127.0.0.1", server.port, bus)
        for server in (*self.servers, *self.replicas):
            wait_until(lambda server=server: self._is_whole(server), "the Cluster is whole")  # type: ignore[misc]
        for master, replica in zip(self.servers, self.replicas, strict=False):
            name = master.client.execute_command("CLUSTER MYID")
            wait_until(lambda replica=replica, name=name: _replicates(replica, name), "it is a replica")  # type: ignore[misc]
            wait_until(lambda master=master: _has_replica(master), "it has its replica")  # type: ignore[misc]

    def _is_whole(self, server: Redis) -> bool:
        info: Any = server.client.execute_command("CLUSTER INFO")
        text = info.decode() if isinstance(info, bytes) else str(info)
        return "cluster_state:ok" in text.replace("': '", ":") and "16384" in text and _knows(server, len(self.servers))


def _knows(server: Redis, nodes: int) -> bool:
    slots: Any = server.client.execute_command("CLUSTER SLOTS")
    return len(slots) == nodes


def _replicates(server: Redis, master: Any) -> bool:
    try:
        server.client.execute_command("CLUSTER REPLICATE", master)
    except redis.ResponseError:  # it does not know the master yet
        return False
    return True


def _has_replica(master: Redis) -> bool:
    return bool(master.client.info("replication")["connected_slaves"] == 1)


@contextlib.contextmanager
def running(*options: str) -> Iterator[Redis]:
    """A server of its own, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = Redis(Path(folder), *options)
        try:
            yield server
        finally:
            server.end()
