"""Speaks to Redis or Valkey: one server, one behind Sentinels, or a Cluster; commands go out together and waits end.

Every command here may be sent twice: a read by nature, a script because it is told so (`commands.Script`). So one whose
answer was lost with its connection is sent again, once, on a new one.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.store.protocol import KEY_BYTES
from ninetailed_wsgi.store.redis.commands import Command

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.cluster import ClusterNode, RedisCluster
    from redis.exceptions import (
        AskError,
        ClusterDownError,
        MovedError,
        NoScriptError,
        ReadOnlyError,
        RedisClusterException,
        RedisError,
        TryAgainError,
    )
    from redis.retry import Retry
    from redis.sentinel import Sentinel
except ImportError as error:
    raise SettingsError(["store: Redis needs a package more: pip install 'ninetailed-wsgi[redis]'"]) from error

FORMAT = 2
"""1 had no key of ids; `upgrade` makes it."""

MARKER = "nt:store"
ID_KEY = "nt:ids"
_FROM = b"%d, being filled from " % FORMAT
OLDEST = (7, 0)
_FAILURES = (RedisError, RedisClusterException, OSError)
_ELSEWHERE = (MovedError, ReadOnlyError, ClusterDownError, redis.ConnectionError)
"""What another try may find mended: the master is another one by now, or the connection was an old one."""

_log = logging.getLogger("ninetailed_wsgi")


class Condition(NamedTuple):
    """What a start wants to know of the servers: their version, and how they keep what they are given."""

    version: str
    persistence: str
    warnings: tuple[str, ...]


@dataclass(slots=True)
class _Connected:
    """What one process knows of the servers: the client, how often it looked around, whether they are fit."""

    client: Any = None
    refreshing: threading.Lock = field(default_factory=threading.Lock)
    looked: int = 0
    admitted: bool = False


class RedisServer:
    """The connections of this process.

    Args:
        url: where the servers are.
        timeout: seconds that a request waits at most; an answer of a server half, a new connection a quarter of them.
        wait_replicas: replicas that have to have a write before it is acknowledged.
        filling: whether a migration may go on here that has not ended; everybody else is refused meanwhile.
    """

    def __init__(self, url: RedisUrl, *, timeout: float = 5.0, wait_replicas: int = 0, filling: bool = False) -> None:
        self.url = url
        self._filling = filling
        self._timeout = timeout
        self.wait_replicas = wait_replicas
        self._here = PerProcess(_Connected)
        self._local = threading.local()

    def start(self) -> None:
        """Look at the servers before they are used; SettingsError when they cannot be a store.

        Ones that cannot be reached are no error yet, as a worker may start in an outage: they are looked at before the
        first command that reaches them.
        """
        try:
            for warning in self.condition().warnings:
                _log.warning("store: %s", warning)
        except StoreUnavailable as error:
            _log.warning("%s; requests are answered 503 until it does", error)

    def ask(self, command: Command) -> Any:
        """The answer to one command."""
        return self.run([command])[0]

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands that are sent together; StoreUnavailable when any of them has none."""
        if not commands:
            return []
        if not self._here().admitted:
            self.admit(partly=True)
        end = time.monotonic() + self._timeout / 2
        waiting = dict(enumerate(commands))
        answers: dict[int, Any] = {}
        while waiting:
            answered = dict(zip(waiting, self._exchange(list(waiting.values())), strict=True))
            answers.update(answered)
            repeated, waiting = waiting, {}
            for number, answer in answered.items():
                if isinstance(answer, NoScriptError):
                    waiting[number] = repeated[number].whole()
                elif isinstance(answer, (*_ELSEWHERE, AskError, TryAgainError)) and time.monotonic() < end:
                    waiting[number] = repeated[number].again()
            # A server that says nothing is not asked again, but may have a successor by now.
            if any(isinstance(answer, (*_ELSEWHERE, redis.TimeoutError)) for answer in answered.values()):
                self._look_around()
                end = 0.0  # once
        for answer in answers.values():
            if isinstance(answer, BaseException):
                raise self._unavailable(answer)
        return [answers[number] for number in range(len(commands))]

    @contextmanager
    def updates_until(self, end: float) -> Iterator[None]:
        """In this block, this thread begins no update that may not be over by then (`time.monotonic`)."""
        self._local.end = end - self._timeout
        try:
            yield
        finally:
            del self._local.end

    def check_end(self) -> None:
        """Raise StoreUnavailable when it is too late for another update of this thread."""
        if time.monotonic() > getattr(self._local, "end", float("inf")):
            raise StoreUnavailable("a batch took so long that others may have taken over; what is left follows")

    def pages(self, pattern: str) -> Iterator[list[str]]:
        """The names of all keys of a pattern, some hundred at a time. One may come twice while the servers shrink."""
        try:
            for node in self._primaries():
                cursor = 0
                while True:
                    cursor, names = node.scan(cursor, match=pattern, count=500)
                    yield [name.decode() for name in names]
                    if not cursor:
                        break
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def memory(self) -> int:
        """Bytes that the servers use."""
        try:
            return sum(node.info("memory")["used_memory"] for node in self._primaries())
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def admit(self, *, partly: bool = False) -> None:
        """Raise StoreUnavailable when the servers cannot serve as a store; ``partly``: when none of a Cluster can."""
        try:
            self.condition(partly=partly)
        except SettingsError as error:
            raise StoreUnavailable(str(error)) from error

    def condition(self, *, look_only: bool = False, partly: bool = False) -> Condition:
        """Look whether the servers are fit for a store, and mark them as one unless ``look_only``.

        Raises:
            SettingsError: they are not, in a way that only their operator can change.
            StoreUnavailable: they cannot be asked now; with ``partly`` none of them.
        """
        try:
            found = self._found(partly)
            for _, info in found:
                self._refuse_unfit(info)
            self._check_marker(look_only, partly)
            saves = [_saves(node, info) for node, info in found]
        except _FAILURES as error:
            raise self._unavailable(error) from error
        if any(info["role"] != "master" for _, info in found):
            self._look_around()
            raise StoreUnavailable(f"the store {self.url} cannot be written: it is a replica, not the master")
        self._here().admitted = True
        kept = next((name for name in saves if name.startswith("nothing")), saves[0])
        warnings = ("Redis keeps nothing on its disk (appendonly no, save ''): a restart loses every profile",)
        info = found[0][1]
        version = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
        return Condition(version, kept, warnings if kept.startswith("nothing") else ())

    def close(self) -> None:
        """Give back the connections."""
        here = self._here()
        opened, here.client = here.client, None
        if opened is not None:
            with suppress(*_FAILURES):
                opened.close()

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

    def _found(self, partly: bool) -> list[tuple[Any, dict[str, Any]]]:
        """What each server says of itself; without those that are gone if ``partly``."""
        found, missing = [], None
        for node in self._primaries():
            try:
                found.append((node, node.info()))
            except _FAILURES as error:
                missing = error
        if missing and not (partly and found):
            raise missing
        return found

    def _check_marker(self, look_only: bool, partly: bool) -> None:
        """What ``store.json`` is to a folder."""
        client = self._client()
        try:
            marked = client.get(MARKER)
            if marked is None and not look_only:
                self._make_id_key(client)
                client.set(MARKER, b"%d" % FORMAT, nx=True)
                marked = client.get(MARKER)
        except _FAILURES:
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
        """Bring the store to the format of this software; whether it had an older one.

        Raises:
            SettingsError: there is no store, or its format cannot be upgraded.
            StoreUnavailable: the servers cannot be asked now.
        """
        try:
            client = self._client()
            marked = client.get(MARKER)
            if marked is None:
                raise SettingsError([f"store: no profiles are stored in {self.url}"])
            if marked != b"1":
                self._check_marker(look_only=True, partly=False)
                return False
            self._make_id_key(client)
            client.set(MARKER, b"%d" % FORMAT)
        except _FAILURES as error:
            raise self._unavailable(error) from error
        return True

    def id_key(self) -> bytes:
        """Return the key that profile ids are certified with; it was made with the store."""
        key: bytes | None = self.ask(Command(ID_KEY, ("GET", ID_KEY)))
        if key is None or len(key) != 2 * KEY_BYTES:
            raise StoreUnavailable(f"{ID_KEY} of {self.url}, the key of all profile ids, is gone: restore it")
        return bytes.fromhex(key.decode())

    def take_id_key(self, key: bytes) -> None:
        """Certify ids with the key of the store that this one is filled from."""
        self.ask(Command(ID_KEY, ("SET", ID_KEY, key.hex())))

    def _make_id_key(self, client: Any) -> None:
        client.set(ID_KEY, secrets.token_bytes(KEY_BYTES).hex(), nx=True)

    def filled_from(self) -> str | None:
        """Where a migration into this store comes from that has not ended; None: there is none."""
        marked: bytes = self.ask(Command(MARKER, ("GET", MARKER))) or b""
        return marked.removeprefix(_FROM).decode(errors="surrogateescape") if marked.startswith(_FROM) else None

    def fill_from(self, source: str | None) -> None:
        """Mark this store as one that a migration fills; None: it is whole."""
        mark = b"%d" % FORMAT if source is None else _FROM + source.encode(errors="surrogateescape")
        self.ask(Command(MARKER, ("SET", MARKER, mark)))

    # Connections

    def _client(self) -> Any:
        here = self._here()
        if here.client is None:
            # Several threads may do this at the same time: waiting for one that waits for a dead server is worse.
            here.client = self._open()
        return here.client

    def _open(self) -> Any:
        options: dict[str, Any] = {
            "username": self.url.username,
            "password": self.url.password,
            "socket_timeout": self._timeout / 2,
            "socket_connect_timeout": self._timeout / 4,
            "socket_keepalive": True,
            "client_name": "ninetailed-wsgi",
            "retry": Retry(NoBackoff(), 0),  # it is for `run` to try again
            "protocol": 2,
            "ssl": self.url.tls,
        }
        if self.url.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in self.url.hosts]
            return RedisCluster(startup_nodes=nodes, **options)
        options["db"] = self.url.database
        if self.url.kind == "sentinel":
            bounds = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout", "retry", "protocol")}
            return Sentinel(list(self.url.hosts), sentinel_kwargs=bounds).master_for(self.url.service, **options)
        ((host, port),) = self.url.hosts
        return redis.Redis(host=host, port=port, **options)

    def _primaries(self) -> list[Any]:
        client = self._client()
        if self.url.kind != "cluster":
            return [client]
        return [client.get_redis_connection(node) for node in client.get_primaries()]

    def _node(self, client: Any, key: str) -> Any:
        if self.url.kind != "cluster":
            return client
        return client.get_redis_connection(client.get_node_from_key(key))

    def _look_around(self) -> None:
        """Ask a Cluster who is responsible for what by now; one thread does, others wait for it, but not for long."""
        if self.url.kind != "cluster" or self._here().client is None:
            return
        looked = self._here().looked
        if self._here().refreshing.acquire(timeout=self._timeout / 4):
            try:
                if self._here().looked == looked:
                    self._here().client.nodes_manager.initialize()
            except _FAILURES:
                pass  # the next command says what is wrong
            finally:
                self._here().looked += 1
                self._here().refreshing.release()

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send all, then read all, so that servers work at the same time; an error stands where the answer would."""
        answers: list[Any] = [None] * len(commands)
        by_pool: dict[Any, list[int]] = {}
        try:
            client = self._client()
            for number, command in enumerate(commands):
                by_pool.setdefault(self._node(client, command.key).connection_pool, []).append(number)
        except _FAILURES as error:
            return [error] * len(commands)
        talks = [_Talk(pool, [commands[number] for number in numbers], self._wait) for pool, numbers in by_pool.items()]
        try:
            for talk in talks:
                talk.send()
            for talk, numbers in zip(talks, by_pool.values(), strict=True):
                for number, answer in zip(numbers, talk.answers(), strict=True):
                    answers[number] = answer
        finally:
            for talk in talks:
                talk.end()
        return [self._redirected(*pair) for pair in zip(commands, answers, strict=True)]

    def _redirected(self, command: Command, answer: Any) -> Any:
        """A slot that is just moving to another server is redis-py's to follow."""
        if type(answer) not in (AskError, TryAgainError):
            return answer
        if self.wait_replicas and command.script and command.script.writes:
            return StoreUnavailable("the profile is moving to another server, whose replicas cannot be waited for")
        try:
            return self._client().execute_command(*command.words)
        except _FAILURES as error:
            return error

    @property
    def _wait(self) -> tuple[int, int]:
        return self.wait_replicas, int(self._timeout * 250)

    def _unavailable(self, error: BaseException) -> StoreUnavailable:
        if isinstance(error, StoreUnavailable):
            return error
        return StoreUnavailable(f"the store {self.url} cannot serve now: {error or type(error).__name__}")


class _Talk:
    """Commands to one server and what it answers, on a connection that nobody else uses meanwhile."""

    def __init__(self, pool: Any, commands: Sequence[Command], wait: tuple[int, int]) -> None:
        self._pool, self._commands = pool, commands
        # WAIT is about the writes of its own connection.
        self._wait = wait if wait[0] and any(command.script and command.script.writes for command in commands) else None
        self._connection: Any = None
        self._failed: Exception | None = None
        self._unread = False

    def send(self) -> None:
        words = [command.words for command in self._commands]
        if self._wait:
            words.append(("WAIT", *self._wait))
        try:
            self._connection = self._pool.get_connection()
            self._unread = True
            self._connection.send_packed_command(self._connection.pack_commands(words))
        except _FAILURES as error:
            self._failed = error

    def answers(self) -> list[Any]:
        answers = [self._answer() for _ in self._commands]
        if self._wait:
            reached = self._answer()
            if isinstance(reached, int) and reached < self._wait[0]:
                reached = StoreUnavailable(f"a write reached {reached} of {self._wait[0]} replicas in time")
            if isinstance(reached, Exception):
                answers = [answer if isinstance(answer, Exception) else reached for answer in answers]
        # A server that has become a replica is asked for no more on this connection.
        self._unread = self._failed is not None or any(isinstance(answer, ReadOnlyError) for answer in answers)
        return answers

    def _answer(self) -> Any:
        if self._failed is not None:
            return self._failed
        try:
            return self._connection.read_response()
        except redis.ResponseError as error:
            return error
        except _FAILURES as error:
            self._failed = error
            return error

    def end(self) -> None:
        if self._connection is not None:
            if self._unread:
                self._connection.disconnect()  # else the next one would read what is still to come
            self._pool.release(self._connection)


def _saves(node: Any, info: dict[str, Any]) -> str:
    """How a server keeps what it is given, in a few words."""
    try:
        settings = node.config_get("appendfsync", "save")
    except RedisError:  # managed services forbid it
        settings = {}
    if info.get("aof_enabled"):
        return f"append-only file, fsync {settings.get('appendfsync', '?')}"
    if "save" not in settings:
        return "kept as its operator says"
    return "snapshots only" if settings["save"] else "nothing on disk"
