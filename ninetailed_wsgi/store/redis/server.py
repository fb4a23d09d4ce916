"""Redis or Valkey as the server of a store: its answers, and whether it is fit for that."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.store.redis.commands import RedisCommand
from ninetailed_wsgi.store.redis.connections import FAILURES, Connections
from ninetailed_wsgi.store.redis.marker import Marker

OLDEST = (7, 0)
_log = logging.getLogger("ninetailed_wsgi")


class Fitness(NamedTuple):
    """What is reported about the servers at startup: their version, and whether they keep data on disk."""

    version: str
    persistence: str
    warnings: tuple[str, ...]


class RedisServer:
    """The servers of one store, as this process sees them.

    Args:
        url: where the servers are.
        timeout: the most seconds that a request waits; half of it for an answer, a quarter for a new connection.
        wait_replicas: how many replicas must have a write before it is acknowledged.
        filling: whether to allow a store that an unfinished migration is filling.

    Attributes:
        url, wait_replicas: as above.
        marker: the keys that make the servers a store.
    """

    def __init__(self, url: RedisUrl, *, timeout: float = 5.0, wait_replicas: int = 0, filling: bool = False) -> None:
        self.url = url
        self.wait_replicas = wait_replicas
        self._connections = Connections(url, timeout, wait_replicas)
        self._timeout = timeout
        self._admitted = PerProcess(threading.Event)
        self._local = threading.local()
        self.marker = Marker(url, self._connections, self.ask, filling=filling)

    def start(self) -> None:
        """Check the servers at startup; raise SettingsError if they cannot be a store.

        Servers that cannot be reached are no error yet, because a worker may start in an outage: the first command that
        reaches them checks them.
        """
        try:
            for warning in self.fitness().warnings:
                _log.warning("store: %s", warning)
        except StoreUnavailable as error:
            _log.warning("%s; requests are answered 503 until it is available again", error)

    def ask(self, command: RedisCommand) -> Any:
        """Return the answer to one command."""
        return self.run([command])[0]

    def run(self, commands: Sequence[RedisCommand]) -> list[Any]:
        """Return the answers to commands that are sent together; raise StoreUnavailable if one has no answer."""
        if not commands:
            return []
        if not self._admitted().is_set():
            self.admit(partly=True)
        return self._connections.run(commands)

    @contextmanager
    def updates_until(self, end: float) -> Iterator[None]:
        """Keep this thread, inside the block, from updates that may end after this time (`time.monotonic`)."""
        self._local.end = end - self._timeout
        try:
            yield
        finally:
            del self._local.end

    def check_end(self) -> None:
        """Raise StoreUnavailable if it is too late for another update of this thread."""
        if time.monotonic() > getattr(self._local, "end", float("inf")):
            raise StoreUnavailable(
                "a batch took too long, so another process may have taken over; the rest is applied later"
            )

    def pages(self, pattern: str) -> Iterator[list[str]]:
        """Yield the names of all keys that match a pattern, some hundred at a time; one may come twice."""
        try:
            for node in self._connections.primaries():
                cursor = 0
                while True:
                    cursor, names = node.scan(cursor, match=pattern, count=500)
                    yield [name.decode() for name in names]
                    if not cursor:
                        break
        except FAILURES as error:
            raise self._connections.unavailable(error) from error

    @property
    def is_cluster(self) -> bool:
        """Whether the keys are spread over several servers."""
        return self._connections.is_cluster

    def memory(self) -> int:
        """Return how many bytes of memory the servers use."""
        try:
            return sum(node.info("memory")["used_memory"] for node in self._connections.primaries())
        except FAILURES as error:
            raise self._connections.unavailable(error) from error

    def admit(self, *, partly: bool = False) -> None:
        """Raise StoreUnavailable if the servers cannot serve as a store; with ``partly``, if none of a Cluster can."""
        try:
            self.fitness(partly=partly)
        except SettingsError as error:
            raise StoreUnavailable(str(error)) from error

    def fitness(self, *, look_only: bool = False, partly: bool = False) -> Fitness:
        """Check that the servers can be a store, and mark them as one unless ``look_only``.

        Raises:
            SettingsError: they cannot be a store, and only their operator can change that.
            StoreUnavailable: one of them does not answer; with ``partly``, none answers.
        """
        try:
            servers = self._servers(partly)
            for _, info in servers:
                _refuse_unfit(self.url, info)
            self.marker.check(look_only=look_only, partly=partly)
            saves = [_saves(node, info) for node, info in servers]
        except FAILURES as error:
            raise self._connections.unavailable(error) from error
        if any(info["role"] != "master" for _, info in servers):
            self._connections.refresh()
            raise StoreUnavailable(f"the store {self.url} cannot be written: it is a replica, not the master")
        self._admitted().set()
        persistence = next((name for name in saves if name.startswith("nothing")), saves[0])
        warnings = ("Redis stores nothing on disk (appendonly no, save ''): a restart loses every profile",)
        info = servers[0][1]
        version = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
        return Fitness(version, persistence, warnings if persistence.startswith("nothing") else ())

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def _servers(self, partly: bool) -> list[tuple[Any, dict[str, Any]]]:
        """Return a client and the INFO of each server; with ``partly``, leave out those that do not answer."""
        servers, failure = [], None
        for node in self._connections.primaries():
            try:
                servers.append((node, node.info()))
            except FAILURES as error:
                failure = error
        if failure and not (partly and servers):
            raise failure
        return servers


def _refuse_unfit(url: RedisUrl, info: dict[str, Any]) -> None:
    """Raise SettingsError if the configuration of a server does not fit a store."""
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < OLDEST:
        raise SettingsError([f"store: {url} is Redis {info['redis_version']}, expected 7.0 or newer"])
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise SettingsError(
            [
                f"store: {url} has maxmemory-policy {policy}, which deletes profiles when memory is short; "
                "expected noeviction (CONFIG SET maxmemory-policy noeviction, and the same in its configuration)"
            ]
        )
    if info.get("cluster_enabled") and url.kind != "cluster":
        raise SettingsError([f"store: {url} is a server of a Cluster, expected redis+cluster://..."])


def _saves(node: Any, info: dict[str, Any]) -> str:
    """Return how a server keeps data on disk, in a few words."""
    try:
        settings = node.config_get("appendfsync", "save")
    except FAILURES:  # managed services forbid this command
        settings = {}
    if info.get("aof_enabled"):
        return f"append-only file, fsync {settings.get('appendfsync', '?')}"
    if "save" not in settings:
        return "persistence unknown: CONFIG GET is not allowed"
    return "snapshots only" if settings["save"] else "nothing on disk"
