"""The import queue on Redis: a stream with a consumer group, in which one batch at a time is given to one consumer.

All keys are under ``nt:{imports}``, in one slot: ``queue`` is the stream, whose entries have the batches' numbers as
ids; ``batches`` holds what was put, by number; ``last`` the last number; ``tries`` those of the head; ``aside`` why a
batch could not be applied; ``turn`` the name of a deletion that keeps consumers out, ``changes`` what it is about to
replace; ``names`` and ``named`` whom each batch is about, by name and by batch. Entries of a stream cannot be changed,
and what is taken out of one stays in its memory for a while: so no event is in the stream.

The consumer that has the one pending entry of the group works; the others wait. A consumer that is silent for
``lease`` seconds counts as dead: the next one claims its entry. A consumer begins no update in the last part of its
lease. If it does, two consumers apply the same batch, or the slow one applies a batch that was done long ago. This
neither doubles nor loses an event: every write compares and sets, so each sees what the other has written. A profile
remembers which events of its last batch it has applied, and takes none of an earlier batch (``core/profile.py``), as a
batch starts only after the one before it is done or set aside. When the slow consumer at last reports its batch as done
or failed, nothing changes if another consumer has the batch by then or the stream no longer contains it.

A deletion takes the turn, so that no consumer begins, and waits for the one that is at work. Every change that it makes
here asks first whether the turn is still its own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.store.keys import digest_of
from ninetailed_wsgi.store.protocol import DEATHS_APART, Head, Queued, QueueState
from ninetailed_wsgi.store.redis.commands import RedisCommand
from ninetailed_wsgi.store.redis.queue_scripts import (
    CHANGE,
    CLEAR,
    COMMIT,
    COUNT,
    DONE,
    HEAD,
    INDEX,
    LEAVE,
    LOAD,
    PUT,
    STATE,
    TAKE,
    TAKE_TURN,
)
from ninetailed_wsgi.store.redis.server import RedisServer

_QUEUE, _BATCHES, _LAST, _TRIES, _ASIDE, _TURN, _CHANGES, _NAMES, _NAMED = (
    "nt:{imports}:" + name
    for name in ("queue", "batches", "last", "tries", "aside", "turn", "changes", "names", "named")
)
_DIGEST = 16  # bytes
_TOO_MUCH = -2  # what `PUT` answers when the batches take too many bytes
_AT_ONCE = 20  # batches that are read together: each may have some hundred kilobytes
_LOOK_AGAIN = 0.01  # seconds


class RedisQueue:
    """Batches on Redis, for any number of servers; see :class:`~ninetailed_wsgi.store.protocol.Queue`.

    Args:
        server: where they wait.
        limit: batches that may wait.
        most_bytes: of Redis' memory that they may take, as it estimates.
        timeout: seconds that a deletion waits for the consumer.
        lease: seconds after which a consumer or a deletion that says nothing counts as dead; more than an update takes.
        clock: now, in milliseconds since the epoch.
    """

    def __init__(
        self,
        server: RedisServer,
        *,
        limit: int = 10_000,
        most_bytes: int = 1 << 30,
        timeout: float = 5.0,
        lease: float = 10.0,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._server = server
        self._limit = limit
        self._most_bytes = most_bytes
        self._timeout = timeout
        self._lease = int(lease * 1000)
        self._clock = clock
        self._names = PerProcess(lambda: f"{os.getpid()}-{secrets.token_hex(8)}")
        self._turn = threading.local()
        self.locked: set[int] = set()

    def put(self, batch: bytes, names: Collection[Key] = ()) -> None:
        least = self._clock() * 1000
        keys = [_QUEUE, _BATCHES, _LAST, _NAMES, _NAMED]
        put = PUT.call(keys, self._limit, least, batch, self._most_bytes, *map(digest_of, names))
        waiting = self._server.ask(put)
        if waiting == _TOO_MUCH:
            raise StoreUnavailable(f"the import queue is full: what waits to be applied takes {self._most_bytes} bytes")
        if waiting >= 0:
            raise StoreUnavailable(f"the import queue is full: {waiting} batches wait to be applied")

    def empty(self) -> bool:
        return not self._server.ask(RedisCommand(_QUEUE, ("XLEN", _QUEUE)))

    def head(self) -> Head | None:
        found = self._server.ask(HEAD.call([_QUEUE, _BATCHES, _TRIES]))
        if not found:
            return None
        number, batch, counted = int(found[0]), found[1], found[2]
        of, tries, tried = orjson.loads(counted or b"[0,0,0]")
        return Head(number, batch or b"", *((tries, tried) if of == number else (0, 0)))

    def begin(self, head: Head) -> None:
        now = self._clock()
        if abs(now - head.tried) >= DEATHS_APART:
            self._count(head.number, head.tries + 1, now)

    def failed(self, head: Head) -> None:
        self._count(head.number, head.tries + 1, self._clock())

    def again(self, head: Head) -> None:
        self._count(head.number, head.tries, head.tried)

    def done(self, number: int) -> None:
        self._finish(number, b"")

    def set_aside(self, head: Head, reason: str) -> None:
        self._finish(head.number, orjson.dumps({"reason": reason, "tries": head.tries}))

    def aside(self) -> dict[int, dict[str, Any]]:
        found = iter(self._server.ask(RedisCommand(_ASIDE, ("HGETALL", _ASIDE))))
        kept = dict(sorted((int(number), orjson.loads(why)) for number, why in zip(found, found, strict=True)))
        return {number: {**kept[number], "batch": batch.decode()} for number, batch in self._read(list(kept))}

    def state(self) -> QueueState:
        waiting, first, aside = self._server.ask(STATE.call([_QUEUE, _ASIDE]))
        oldest = max(0.0, (self._clock() - _number(first) // 1000) / 1000) if first else 0.0
        return QueueState(waiting, oldest, aside)

    def index(self, names: Callable[[bytes], Collection[Key]]) -> None:
        there, indexed = (
            {*map(int, self._server.ask(RedisCommand(key, ("HKEYS", key))))} for key in (_BATCHES, _NAMED)
        )
        keys = [_BATCHES, _NAMES, _NAMED]
        for number, batch in self._read(sorted(there - indexed)):
            self._server.ask(INDEX.call(keys, number, *map(digest_of, names(batch))))
        # An older version takes a batch out without a look at its names.
        self._server.run([INDEX.call(keys, number) for number in indexed - there])

    def batches(self, names: Collection[Key] | None = None, *, aside: bool = False) -> Iterator[bytes]:
        for _, batch in self._read(self._numbers(names, aside=aside)):
            yield batch

    def rewrite(self, change: Callable[[bytes], bytes | None], names: Collection[Key] | None = None) -> None:
        self._server.ask(RedisCommand(_CHANGES, ("DEL", _CHANGES)))  # of a deletion that died
        changes = 0
        for number, batch in self._read(self._numbers(names, aside=True)):
            if (new := change(batch)) != batch:
                self._keep_turn(number, new or b"")
                changes += 1
        if changes:  # all of them, or none
            keys = [_TURN, _CHANGES, _QUEUE, _BATCHES, _ASIDE, _NAMES, _NAMED]
            self._server.ask(COMMIT.call(keys, self._turn.name, changes))

    @contextlib.contextmanager
    def alone(self, *, wait: bool = False) -> Iterator[bool]:
        if wait:
            name, begun = f"{self._consumer()}-{secrets.token_hex(8)}", time.monotonic()
            alone = False
            try:
                alone = self._take_turn(name)
                self._turn.name, self._turn.kept = name, begun
                yield alone
            finally:
                self._turn.name = ""
                self._leave(name)
            return
        name, end = self._consumer(), time.monotonic() + self._lease / 1000
        alone = bool(self._server.ask(TAKE.call([_QUEUE, _TURN], name, self._lease)))
        try:
            with self._server.updates_until(end):
                yield alone
        finally:
            if alone:
                self._leave(name)

    def last(self) -> int:
        return int(self._server.ask(RedisCommand(_LAST, ("GET", _LAST))) or 0)

    def dump(self) -> Iterator[Queued]:
        for number, batch in self._read(self._numbers(aside=False)):
            yield Queued(number, batch, False)
        for number, kept in self.aside().items():
            yield Queued(number, orjson.dumps(kept, option=orjson.OPT_SORT_KEYS), True)

    def load(self, queued: Sequence[Queued], last: int) -> None:
        parts: list[Any] = []
        for number, value, aside in queued:
            why = orjson.loads(value) if aside else {}
            batch = why.pop("batch", value)
            parts += number, batch, orjson.dumps(why) if aside else b""
        self._server.ask(LOAD.call([_QUEUE, _BATCHES, _LAST, _ASIDE], last, *parts))

    def clear(self, *, aside: bool) -> None:
        self._server.ask(CLEAR.call([_QUEUE, _BATCHES, _TRIES, _ASIDE, _NAMES, _NAMED], int(aside)))

    def close(self) -> None:
        """The connections are the store's."""

    def _take_turn(self, name: str) -> bool:
        end = time.monotonic() + self._timeout
        while not self._server.ask(TAKE_TURN.call([_QUEUE, _TURN], name, self._lease)):
            if time.monotonic() >= end:
                return False
            time.sleep(_LOOK_AGAIN)
        return True

    def _leave(self, name: str) -> None:
        # In a child of a fork the place is still the parent's. An outage leaves it to the end of the lease.
        if name.startswith(self._consumer()):
            with contextlib.suppress(StoreUnavailable):
                self._server.ask(LEAVE.call([_QUEUE, _TURN], name, self._lease))

    def _keep_turn(self, *changed: Any) -> None:
        """Stay in the place of the consumer for another lease, and remember what is to be changed."""
        self._server.ask(CHANGE.call([_TURN, _CHANGES], getattr(self._turn, "name", ""), self._lease, *changed))
        self._turn.kept = time.monotonic()

    def _numbers(self, about: Collection[Key] | None = None, *, aside: bool) -> list[int]:
        if about is not None:
            return self._numbers_about(about, aside=aside)
        numbers: list[int] = []
        first = b"-"
        while entries := self._server.ask(RedisCommand(_QUEUE, ("XRANGE", _QUEUE, first, "+", "COUNT", 1000))):
            numbers += [_number(entry_id) for entry_id, _ in entries]
            first = b"(" + entries[-1][0]
        if aside:
            numbers += sorted(map(int, self._server.ask(RedisCommand(_ASIDE, ("HKEYS", _ASIDE)))))
        return numbers

    def _numbers_about(self, names: Collection[Key], *, aside: bool) -> list[int]:
        digests = [digest_of(name) for name in names]
        # What follows a digest are digits, before a colon.
        ranges = [("ZRANGEBYLEX", _NAMES, b"[" + digest, b"(" + digest + b":") for digest in digests]
        members = self._server.run([RedisCommand(_NAMES, words) for words in ranges])
        numbers = {int(member[_DIGEST:]) for some in members for member in some}
        if not aside:
            numbers -= {*map(int, self._server.ask(RedisCommand(_ASIDE, ("HKEYS", _ASIDE))))}
        return sorted(numbers)

    def _read(self, numbers: list[int]) -> Iterator[tuple[int, bytes]]:
        """The batches of these numbers that are there."""
        for first in range(0, len(numbers), _AT_ONCE):
            some = numbers[first : first + _AT_ONCE]
            if getattr(self._turn, "name", "") and time.monotonic() > self._turn.kept + self._lease / 4000:
                self._keep_turn()
            found = self._server.ask(RedisCommand(_BATCHES, ("HMGET", _BATCHES, *some)))
            yield from ((number, batch) for number, batch in zip(some, found, strict=True) if batch is not None)

    def _finish(self, number: int, why: bytes) -> None:
        self._server.ask(DONE.call([_QUEUE, _BATCHES, _ASIDE, _NAMES, _NAMED], self._consumer(), number, why))

    def _count(self, number: int, tries: int, since: int) -> None:
        counted = orjson.dumps([number, tries, since])
        self._server.ask(COUNT.call([_QUEUE, _TRIES], self._consumer(), number, counted))

    def _consumer(self) -> str:
        """The name of this process in the group."""
        return self._names()


def _number(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])
