"""Redis or Valkey as the server of a store: whether it is fit for one, how it is marked, and the key of profile ids."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.store.protocol import KEY_BYTES
from ninetailed_wsgi.store.redis.commands import RedisCommand
from ninetailed_wsgi.store.redis.connections import FAILURES, Connections

FORMAT = 2
"""1 had no key of ids; `upgrade` makes it."""

MARKER = "nt:store"
ID_KEY = "nt:ids"
_FROM = b"%d, being filled from " % FORMAT
OLDEST = (7, 0)
_log = logging.getLogger("ninetailed_wsgi")


class Condition(NamedTuple):
    """What a startup reports of the servers: their version, and whether they keep data on disk."""

    version: str
    persistence: str
    warnings: tuple[str, ...]


class RedisServer:
    """The servers of one store, as this process sees them.

    Args:
        url: where the servers are.
        timeout: seconds that a request waits at most; an answer of a server half, a new connection a quarter of them.
        wait_replicas: how many replicas must have a write before it is acknowledged.
        filling: allow a store that an unfinished migration is filling; otherwise such a store is refused.
    """

    def __init__(self, url: RedisUrl, *, timeout: float = 5.0, wait_replicas: int = 0, filling: bool = False) -> None:
        self.url = url
        self.wait_replicas = wait_replicas
        self._connections = Connections(url, timeout, wait_replicas)
        self._filling = filling
        self._timeout = timeout
        self._admitted = PerProcess(threading.Event)
        self._local = threading.local()

    def start(self) -> None:
        """Check the servers at startup; SettingsError if they cannot be a store.

        Servers that cannot be reached are not an error yet, as a worker may start in an outage: the first command that
        reaches them checks them.
        """
        try:
            for warning in self.condition().warnings:
                _log.warning("store: %s", warning)
        except StoreUnavailable as error:
            _log.warning("%s; requests are answered 503 until it does", error)

    def ask(self, command: RedisCommand) -> Any:
        """Return the answer to one command."""
        return self.run([command])[0]

    def run(self, commands: Sequence[RedisCommand]) -> list[Any]:
        """Return the answers to commands that are sent together; StoreUnavailable if one of them has none."""
        if not commands:
            return []
        if not self._admitted().is_set():
            self.admit(partly=True)
        return self._connections.run(commands)

    @contextmanager
    def updates_until(self, end: float) -> Iterator[None]:
        """Begin no update in this block, on this thread, that may end after this time (`time.monotonic`)."""
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
        """Yield the names of all keys of a pattern, some hundred at a time; one may come twice."""
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

    def memory(self) -> int:
        """Return how many bytes of memory the servers use."""
        try:
            return sum(node.info("memory")["used_memory"] for node in self._connections.primaries())
        except FAILURES as error:
            raise self._connections.unavailable(error) from error

    def admit(self, *, partly: bool = False) -> None:
        """Raise StoreUnavailable if the servers cannot serve as a store; with ``partly`` if none of a Cluster can."""
        try:
            self.condition(partly=partly)
        except SettingsError as error:
            raise StoreUnavailable(str(error)) from error

    def condition(self, *, look_only: bool = False, partly: bool = False) -> Condition:
        """Check that the servers can be a store, and mark them as one unless ``look_only``.

        Raises:
            SettingsError: they cannot, and only their operator can change that.
            StoreUnavailable: one of them does not answer; with ``partly`` none does.
        """
        try:
            servers = self._servers(partly)
            for _, info in servers:
                self._refuse_unfit(info)
            self._check_marker(look_only, partly)
            saves = [_saves(node, info) for node, info in servers]
        except FAILURES as error:
            raise self._connections.unavailable(error) from error
        if any(info["role"] != "master" for _, info in servers):
            self._connections.refresh()
            raise StoreUnavailable(f"the store {self.url} cannot be written: it is a replica, not the master")
        self._admitted().set()
        kept = next((name for name in saves if name.startswith("nothing")), saves[0])
        warnings = ("Redis keeps nothing on its disk (appendonly no, save ''): a restart loses every profile",)
        info = servers[0][1]
        version = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
        return Condition(version, kept, warnings if kept.startswith("nothing") else ())

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    # Fitness

    def _refuse_unfit(self, info: dict[str, Any]) -> None:
        version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
        if version < OLDEST:
            raise SettingsError([f"store: {self.url} is Redis {info['redis_version']}, expected 7.0 or newer"])
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise SettingsError(
                [
                    f"store: {self.url} has maxmemory-policy {policy}, which deletes profiles when memory is short; "
                    "expected noeviction (CONFIG SET maxmemory-policy noeviction, and the same in its configuration)"
                ]
            )
        if info.get("cluster_enabled") and self.url.kind != "cluster":
            raise SettingsError([f"store: {self.url} is a server of a Cluster, expected redis+cluster://..."])

    def _servers(self, partly: bool) -> list[tuple[Any, dict[str, Any]]]:
        """Return a client and the INFO of each server; with ``partly`` without those that do not answer."""
        servers, failure = [], None
        for node in self._connections.primaries():
            try:
                servers.append((node, node.info()))
            except FAILURES as error:
                failure = error
        if failure and not (partly and servers):
            raise failure
        return servers

    def _check_marker(self, look_only: bool, partly: bool) -> None:
        """Check the key that marks a store, as ``store.json`` marks a folder, and make it unless ``look_only``."""
        client = self._connections.client()
        try:
            marked = client.get(MARKER)
            if marked is None and not look_only:
                self._make_id_key(client)
                client.set(MARKER, b"%d" % FORMAT, nx=True)
                marked = client.get(MARKER)
        except FAILURES:
            if partly and self.url.kind == "cluster":
                return
            raise
        if marked is not None and marked.startswith(_FROM):
            if self._filling:
                return
            source = marked.removeprefix(_FROM).decode(errors="replace")
            raise SettingsError([f"store: {self.url} is being filled from {source}, see `ninetailed-wsgi migrate`"])
        if marked not in (None, b"%d" % FORMAT):
            shown = marked[:20].decode(errors="replace")
            remedy = "; stop every server that uses it and run `ninetailed-wsgi upgrade`" if marked == b"1" else ""
            raise SettingsError(
                [
                    f"store: {self.url} has store format {shown!r}, this software reads format {FORMAT} "
                    f"(key {MARKER}){remedy}"
                ]
            )

    def upgrade(self) -> bool:
        """Upgrade the store to the format of this software; return whether it had an older one.

        Raises:
            SettingsError: there is no store, or its format cannot be upgraded.
            StoreUnavailable: the servers do not answer.
        """
        try:
            client = self._connections.client()
            marked = client.get(MARKER)
            if marked is None:
                raise SettingsError([f"store: no profiles are stored in {self.url}"])
            if marked != b"1":
                self._check_marker(look_only=True, partly=False)
                return False
            self._make_id_key(client)
            client.set(MARKER, b"%d" % FORMAT)
        except FAILURES as error:
            raise self._connections.unavailable(error) from error
        return True

    def id_key(self) -> bytes:
        """Return the key that profile ids are certified with; it was made with the store."""
        key: bytes | None = self.ask(RedisCommand(ID_KEY, ("GET", ID_KEY)))
        if key is None or len(key) != 2 * KEY_BYTES:
            raise StoreUnavailable(f"{ID_KEY} of {self.url}, the key of all profile ids, is gone: restore it")
        return bytes.fromhex(key.decode())

    def take_id_key(self, key: bytes) -> None:
        """Certify ids with the key of the store that this one is filled from."""
        self.ask(RedisCommand(ID_KEY, ("SET", ID_KEY, key.hex())))

    def _make_id_key(self, client: Any) -> None:
        client.set(ID_KEY, secrets.token_bytes(KEY_BYTES).hex(), nx=True)

    def filled_from(self) -> str | None:
        """Return the source of the unfinished migration into this store, or None."""
        marked: bytes = self.ask(RedisCommand(MARKER, ("GET", MARKER))) or b""
        return marked.removeprefix(_FROM).decode(errors="surrogateescape") if marked.startswith(_FROM) else None

    def fill_from(self, source: str | None) -> None:
        """Mark this store as one that a migration from ``source`` fills; None: the migration is complete."""
        mark = b"%d" % FORMAT if source is None else _FROM + source.encode(errors="surrogateescape")
        self.ask(RedisCommand(MARKER, ("SET", MARKER, mark)))


def _saves(node: Any, info: dict[str, Any]) -> str:
    """Return how a server keeps data on disk, in a few words."""
    try:
        settings = node.config_get("appendfsync", "save")
    except FAILURES:  # managed services forbid it
        settings = {}
    if info.get("aof_enabled"):
        return f"append-only file, fsync {settings.get('appendfsync', '?')}"
    if "save" not in settings:
        return "persistence unknown: it does not allow CONFIG GET"
    return "snapshots only" if settings["save"] else "nothing on disk"
