"""The right to work on an import queue, one place: a consumer takes it for a lease, or a deletion for its turn."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.store.protocol import CONSUMER_WAITS
from ninetailed_wsgi.store.redis.queue_keys import CHANGES, NEXT, QUEUE, TURN
from ninetailed_wsgi.store.redis.queue_scripts import CHANGE, LEAVE, TAKE, TAKE_TURN
from ninetailed_wsgi.store.redis.server import RedisServer

_LOOK_AGAIN = 0.01  # seconds
_NEXT_FOR = 250  # milliseconds for which deletions leave the place to a consumer that waited and went silent
_DELETING = -1  # what `TAKE` answers during a deletion


class ConsumerPlace:
    """The place of the consumer or deletion that works on the queue.

    Args:
        server: where the queue is.
        timeout: seconds that a deletion waits for the consumer.
        lease: seconds after which a silent consumer or deletion counts as dead.
    """

    def __init__(self, server: RedisServer, *, timeout: float, lease: float) -> None:
        self._server = server
        self._timeout = timeout
        self._lease = int(lease * 1000)
        self._names = PerProcess(lambda: f"{os.getpid()}-{secrets.token_hex(8)}")
        self._turn = threading.local()

    @property
    def consumer(self) -> str:
        """The name of this process in the group of consumers."""
        return self._names()

    @property
    def turn(self) -> str:
        """The name of the deletion that this thread is; empty outside of one."""
        return getattr(self._turn, "name", "")

    @contextlib.contextmanager
    def alone(self, *, wait: bool) -> Iterator[bool]:
        """Yield whether nobody else is in such a block; ``wait``: as a deletion, after waiting for the consumer."""
        with self._as_deletion() if wait else self._as_consumer() as alone:
            yield alone

    def keep(self, *changed: Any) -> None:
        """Keep the place of the consumer for another lease, and remember what will be changed."""
        self._server.ask(CHANGE.call([TURN, CHANGES], self.turn, self._lease, *changed))
        self._turn.since = time.monotonic()

    def keep_if_due(self) -> None:
        """Let a deletion keep its place if a quarter of its lease is over."""
        if self.turn and time.monotonic() > self._turn.since + self._lease / 4000:
            self.keep()

    @contextlib.contextmanager
    def _as_consumer(self) -> Iterator[bool]:
        name, end = self.consumer, time.monotonic() + CONSUMER_WAITS
        while True:
            start = time.monotonic()
            answer = self._server.ask(TAKE.call([QUEUE, TURN, NEXT], name, self._lease, _NEXT_FOR))
            if answer != _DELETING or start >= end:
                break
            time.sleep(_LOOK_AGAIN)
        alone = answer > 0
        try:
            with self._server.updates_until(start + self._lease / 1000):
                yield alone
        finally:
            if alone:
                self._leave(name)

    @contextlib.contextmanager
    def _as_deletion(self) -> Iterator[bool]:
        name, start = f"{self.consumer}-{secrets.token_hex(8)}", time.monotonic()
        try:
            alone = self._take_turn(name)
            self._turn.name, self._turn.since = name, start
            yield alone
        finally:
            self._turn.name = ""
            self._leave(name)

    def _take_turn(self, name: str) -> bool:
        end = time.monotonic() + self._timeout
        while not self._server.ask(TAKE_TURN.call([QUEUE, TURN, NEXT], name, self._lease)):
            if time.monotonic() >= end:
                return False
            time.sleep(_LOOK_AGAIN)
        return True

    def _leave(self, name: str) -> None:
        # In a forked child, the place still belongs to the parent. After an outage, the lease ends by itself.
        if name.startswith(self.consumer):
            with contextlib.suppress(StoreUnavailable):
                self._server.ask(LEAVE.call([QUEUE, TURN], name, self._lease))
