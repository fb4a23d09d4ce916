"""The import queue on Redis: a stream with a consumer group, which gives one batch at a time to one consumer.

All keys are under ``nt:{imports}``, in one slot: ``queue`` is the stream, whose entries have the batches' numbers as
ids; ``batches`` holds what was put, by number; ``last`` the last number; ``tries`` the tries of the head; ``aside`` why
a batch could not be applied; ``turn`` the name of a deletion that keeps consumers out, ``next`` the name of a consumer
that waits for the deletion's end, ``changes`` what the deletion is about to replace; ``names`` and ``named`` whom each
batch is about, by name and by batch. Entries of a stream cannot be changed, and a removed entry stays in memory for a
while: so the stream contains no events.

The consumer that has the one pending entry of the group works; the others wait. A consumer that is silent for
``lease`` seconds counts as dead: the next one claims its entry. A consumer begins no update in the last part of its
lease. If it does, two consumers apply the same batch, or the slow one applies a batch that was done long ago. This
neither doubles nor loses an event: every write compares and sets, so each sees what the other has written. A profile
remembers which events of its last batch it has applied, and accepts none of an earlier batch (``core/profile.py``),
because a batch starts only after the one before it is done or set aside. When the slow consumer reports its batch as
done or failed, nothing changes if another consumer has the batch by then or the stream no longer contains it.

A deletion takes the turn, so that no consumer begins, and waits for the consumer that is at work. A consumer that finds
the turn taken comes before the next deletion, so that deletions without a pause do not stop the imports. A deletion
checks before every change whether the turn is still its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.store.keys import digest_of
from ninetailed_wsgi.store.protocol import Head, QueueState
from ninetailed_wsgi.store.redis.commands import RedisCommand
from ninetailed_wsgi.store.redis.queue_batches import RedisBatches, number_of
from ninetailed_wsgi.store.redis.queue_contents import RedisQueueContents
from ninetailed_wsgi.store.redis.queue_keys import (
    ASIDE,
    BATCHES,
    CHANGES,
    LAST,
    NAMES,
    NAMES_BY_BATCH,
    QUEUE,
    TRIES,
    TURN,
)
from ninetailed_wsgi.store.redis.queue_place import ConsumerPlace
from ninetailed_wsgi.store.redis.queue_scripts import COMMIT, COUNT, FINISH, HEAD, INDEX, PUT, STATE
from ninetailed_wsgi.store.redis.server import RedisServer
from ninetailed_wsgi.store.tries import Tries

_TOO_MUCH = -2  # what `PUT` answers when the batches take too many bytes


class RedisQueue(Tries):
    """Batches on Redis, for any number of servers; see :class:`~ninetailed_wsgi.store.protocol.Queue`.

    Args:
        server: where they wait.
        limit: how many batches may wait.
        most_bytes: how much memory they may take, as Redis estimates it.
        timeout: seconds that a deletion waits for the consumer.
        lease: seconds after which a silent consumer or deletion counts as dead; longer than an update takes.
        clock: returns the time in milliseconds since the epoch.

    Attributes:
        locked: empty, because Redis holds the lock.
        contents: all that the queue holds, for the commands.
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
        super().__init__(clock)
        self._server = server
        self._limit = limit
        self._most_bytes = most_bytes
        self._place = ConsumerPlace(server, timeout=timeout, lease=lease)
        self._batches = RedisBatches(server, self._place)
        self.contents = RedisQueueContents(server, self._batches)
        self.locked: set[int] = set()

    def put(self, batch: bytes, names: Collection[Key] = ()) -> None:
        least = self._clock() * 1000
        keys = [QUEUE, BATCHES, LAST, NAMES, NAMES_BY_BATCH]
        put = PUT.call(keys, self._limit, least, batch, self._most_bytes, *map(digest_of, names))
        waiting = self._server.ask(put)
        if waiting == _TOO_MUCH:
            raise StoreUnavailable(f"the import queue is full: the waiting batches take {self._most_bytes} bytes")
        if waiting >= 0:
            raise StoreUnavailable(f"the import queue is full: {waiting} batches wait to be applied")

    def empty(self) -> bool:
        return not self._server.ask(RedisCommand(QUEUE, ("XLEN", QUEUE)))

    def head(self) -> Head | None:
        answer = self._server.ask(HEAD.call([QUEUE, BATCHES, TRIES]))
        if not answer:
            return None
        number, batch = int(answer[0]), answer[1]
        numbered, tries, last_try = orjson.loads(answer[2] or b"[0,0,0]")
        return Head(number, batch or b"", *((tries, last_try) if numbered == number else (0, 0)))

    def finish(self, number: int) -> None:
        self._finish(number, b"")

    def set_aside(self, head: Head, reason: str) -> None:
        self._finish(head.number, orjson.dumps({"reason": reason, "tries": head.tries}))

    def state(self) -> QueueState:
        waiting, first, aside = self._server.ask(STATE.call([QUEUE, ASIDE]))
        oldest = max(0.0, (self._clock() - number_of(first) // 1000) / 1000) if first else 0.0
        return QueueState(waiting, oldest, aside)

    def index(self, names: Callable[[bytes], Collection[Key]]) -> None:
        there, indexed = (
            {*map(int, self._server.ask(RedisCommand(key, ("HKEYS", key))))} for key in (BATCHES, NAMES_BY_BATCH)
        )
        keys = [BATCHES, NAMES, NAMES_BY_BATCH]
        for number, batch in self._batches.read(sorted(there - indexed)):
            self._server.ask(INDEX.call(keys, number, *map(digest_of, names(batch))))
        # An older version removes a batch without updating its names.
        self._server.run([INDEX.call(keys, number) for number in indexed - there])

    def batches(self, names: Collection[Key] | None = None, *, aside: bool = False) -> Iterator[bytes]:
        for _, batch in self._batches.read(self._batches.numbers(names, aside=aside)):
            yield batch

    def rewrite(self, change: Callable[[bytes], bytes | None], names: Collection[Key] | None = None) -> None:
        self._server.ask(RedisCommand(CHANGES, ("DEL", CHANGES)))  # left by a deletion that died
        changes = 0
        for number, batch in self._batches.read(self._batches.numbers(names, aside=True)):
            if (new := change(batch)) != batch:
                self._place.keep(number, new or b"")
                changes += 1
        if changes:  # all of them, or none
            keys = [TURN, CHANGES, QUEUE, BATCHES, ASIDE, NAMES, NAMES_BY_BATCH]
            self._server.ask(COMMIT.call(keys, self._place.turn, changes))

    def alone(self, *, wait: bool = False) -> AbstractContextManager[bool]:
        return self._place.alone(wait=wait)

    def close(self) -> None:
        """Do nothing, because the connections belong to the store."""

    def _finish(self, number: int, why: bytes) -> None:
        self._server.ask(FINISH.call([QUEUE, BATCHES, ASIDE, NAMES, NAMES_BY_BATCH], self._place.consumer, number, why))

    def _count(self, number: int, tries: int, last_try: int) -> None:
        text = orjson.dumps([number, tries, last_try])
        self._server.ask(COUNT.call([QUEUE, TRIES], self._place.consumer, number, text))
