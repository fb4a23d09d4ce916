"""Connects to Redis or Valkey: one server, one behind Sentinels, or a Cluster. Only this module here uses redis-py.

Commands are sent together, and every wait has a timeout. Each may be sent twice: a read in any case, a script because
it is told (`commands.Script`). A command whose answer was lost with its connection is sent again, once, on a new one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.settings.redis_url import RedisUrl
from ninetailed_wsgi.store.redis.commands import RedisCommand

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
    raise SettingsError(["store: Redis requires an extra: pip install 'ninetailed-wsgi[redis]'"]) from error

FAILURES = (RedisError, RedisClusterException, OSError)
_ELSEWHERE = (MovedError, ReadOnlyError, ClusterDownError, redis.ConnectionError)
"""Errors that a second attempt may avoid: there is a new master by now, or the connection was an old one."""


@dataclass(slots=True)
class _ProcessClient:
    """The client of one process, and how often it asked a Cluster for its topology."""

    client: Any = None
    refreshing: threading.Lock = field(default_factory=threading.Lock)
    refreshes: int = 0


class Connections:
    """The connections of this process to the servers of one store.

    Args:
        url: where the servers are.
        timeout: the most seconds that a request waits; half of it for an answer, a quarter for a new connection.
        wait_replicas: how many replicas must have a write before it is acknowledged.
    """

    def __init__(self, url: RedisUrl, timeout: float, wait_replicas: int) -> None:
        self._url = url
        self._timeout = timeout
        self._wait_replicas = wait_replicas
        self._here = PerProcess(_ProcessClient)

    def run(self, commands: Sequence[RedisCommand]) -> list[Any]:
        """Return the answers to commands that are sent together; raise StoreUnavailable if one has no answer."""
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
            # A server that does not answer is not asked again, but it may have a successor by now.
            if any(isinstance(answer, (*_ELSEWHERE, redis.TimeoutError)) for answer in answered.values()):
                self.refresh()
                end = 0.0  # once
        for answer in answers.values():
            if isinstance(answer, BaseException):
                raise self.unavailable(answer)
        return [answers[number] for number in range(len(commands))]

    def client(self) -> Any:
        """Return redis-py's client of this process; raise one of FAILURES if a Cluster cannot be reached."""
        here = self._here()
        if here.client is None:
            # Several threads may do this at the same time: it is worse to wait for one that waits for a dead server.
            here.client = self._open()
        return here.client

    @property
    def is_cluster(self) -> bool:
        """Whether the keys are spread over several servers."""
        return self._url.kind == "cluster"

    def primaries(self) -> list[Any]:
        """Return a client for each server that takes writes; raise one of FAILURES if a Cluster cannot be reached."""
        client = self.client()
        if not self.is_cluster:
            return [client]
        return [client.get_redis_connection(node) for node in client.get_primaries()]

    def refresh(self) -> None:
        """Ask a Cluster which server has which keys now; one thread does, the others wait for it a short time."""
        if not self.is_cluster or self._here().client is None:
            return
        refreshes = self._here().refreshes
        if self._here().refreshing.acquire(timeout=self._timeout / 4):
            try:
                if self._here().refreshes == refreshes:
                    self._here().client.nodes_manager.initialize()
            except FAILURES:
                pass  # the next command says what is wrong
            finally:
                self._here().refreshes += 1
                self._here().refreshing.release()

    def unavailable(self, error: BaseException) -> StoreUnavailable:
        """Return our own error for one of FAILURES."""
        if isinstance(error, StoreUnavailable):
            return error
        return StoreUnavailable(f"the store {self._url} is not available: {error or type(error).__name__}")

    def close(self) -> None:
        """Close the connections."""
        here = self._here()
        client, here.client = here.client, None
        if client is not None:
            with suppress(*FAILURES):
                client.close()

    def _open(self) -> Any:
        options: dict[str, Any] = {
            "username": self._url.username,
            "password": self._url.password,
            "socket_timeout": self._timeout / 2,
            "socket_connect_timeout": self._timeout / 4,
            "socket_keepalive": True,
            "client_name": "ninetailed-wsgi",
            "retry": Retry(NoBackoff(), 0),  # `run` itself retries
            "protocol": 2,
            "ssl": self._url.tls,
        }
        if self._url.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in self._url.hosts]
            return RedisCluster(startup_nodes=nodes, **options)
        options["db"] = self._url.database
        if self._url.kind == "sentinel":
            bounds = {name: options[name] for name in ("socket_timeout", "socket_connect_timeout", "retry", "protocol")}
            return Sentinel(list(self._url.hosts), sentinel_kwargs=bounds).master_for(self._url.service, **options)
        ((host, port),) = self._url.hosts
        return redis.Redis(host=host, port=port, **options)

    def _node(self, client: Any, key: str) -> Any:
        if self._url.kind != "cluster":
            return client
        return client.get_redis_connection(client.get_node_from_key(key))

    def _exchange(self, commands: Sequence[RedisCommand]) -> list[Any]:
        """Send all, then read all, so that servers work in parallel; an error takes the place of an answer."""
        answers: list[Any] = [None] * len(commands)
        by_pool: dict[Any, list[int]] = {}
        try:
            client = self.client()
            for number, command in enumerate(commands):
                by_pool.setdefault(self._node(client, command.key).connection_pool, []).append(number)
        except FAILURES as error:
            return [error] * len(commands)
        wait = self._wait_replicas, int(self._timeout * 250)
        exchanges = [
            _Exchange(pool, [commands[number] for number in numbers], wait) for pool, numbers in by_pool.items()
        ]
        try:
            for exchange in exchanges:
                exchange.send()
            for exchange, numbers in zip(exchanges, by_pool.values(), strict=True):
                for number, answer in zip(numbers, exchange.answers(), strict=True):
                    answers[number] = answer
        finally:
            for exchange in exchanges:
                exchange.end()
        return [self._redirect(*pair) for pair in zip(commands, answers, strict=True)]

    def _redirect(self, command: RedisCommand, answer: Any) -> Any:
        """Let redis-py follow a slot that is being moved to another server; return any other answer unchanged."""
        if type(answer) not in (AskError, TryAgainError):
            return answer
        if self._wait_replicas and command.script and command.script.writes:
            return StoreUnavailable("the profile is moving to another server, whose replicas cannot be waited for")
        try:
            return self.client().execute_command(*command.words)
        except FAILURES as error:
            return error


class _Exchange:
    """Commands to one server and its answers, on a connection that no other thread uses at that time."""

    def __init__(self, pool: Any, commands: Sequence[RedisCommand], wait: tuple[int, int]) -> None:
        self._pool, self._commands = pool, commands
        # WAIT covers only the writes of its own connection.
        self._wait = wait if wait[0] and any(command.script and command.script.writes for command in commands) else None
        self._connection: Any = None
        self._failure: Exception | None = None
        self._unread = False

    def send(self) -> None:
        words = [command.words for command in self._commands]
        if self._wait:
            words.append(("WAIT", *self._wait))
        try:
            self._connection = self._pool.get_connection()
            self._unread = True
            self._connection.send_packed_command(self._connection.pack_commands(words))
        except FAILURES as error:
            self._failure = error
        except ValueError as error:
            self._failure = _closed(error)
            if self._connection is None:
                # redis-py put back a connection without reading the answer to its greeting: its next user would get it.
                self._pool.disconnect(inuse_connections=False)

    def answers(self) -> list[Any]:
        answers = [self._answer() for _ in self._commands]
        if self._wait:
            replicas = self._answer()
            if isinstance(replicas, int) and replicas < self._wait[0]:
                replicas = StoreUnavailable(f"a write reached {replicas} of {self._wait[0]} replicas in time")
            if isinstance(replicas, Exception):
                answers = [answer if isinstance(answer, Exception) else replicas for answer in answers]
        # This connection is not used any more if its server has become a replica.
        self._unread = self._failure is not None or any(isinstance(answer, ReadOnlyError) for answer in answers)
        return answers

    def _answer(self) -> Any:
        if self._failure is not None:
            return self._failure
        try:
            return self._connection.read_response()
        except redis.ResponseError as error:
            return error
        except FAILURES as error:
            self._failure = error
            return error
        except ValueError as error:
            self._failure = _closed(error)
            return self._failure

    def end(self) -> None:
        if self._connection is not None:
            if self._unread:
                self._connection.disconnect()  # otherwise its next user would read pending answers
            self._pool.release(self._connection)


def _closed(error: ValueError) -> Exception:
    """Return the error to report if redis-py read a closed file: another thread closed the node's connections."""
    return redis.ConnectionError(f"the connection was closed while it was in use: {error}")
