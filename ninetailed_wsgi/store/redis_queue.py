"""The import queue on Redis: a stream with a consumer group, in which one batch at a time is given to one consumer.

All keys are under ``nt:{imports}``, in one slot: ``queue`` is the stream, whose entries have the batches' numbers as
ids; ``last`` the last number; ``tries`` those of the head; ``aside`` what could not be applied.

Whoever has the one pending entry of the group is at work; the others wait. A consumer that says nothing for ``lease``
seconds counts as dead: its entry is claimed by the next one. If it was only slow, two are at the same batch, or the
slow one is even at one that was done long ago. Neither doubles nor loses an event: every write compares and sets, so
both see what the other has written; a profile remembers which events of its last batch it has had, and takes none of a
batch before that one (``core/profile.py``), for a batch is begun only when the one before it is done or set aside. And
what the slow one says of its batch at last, that it is done or failed, changes nothing when that batch is not in the
stream any more.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.store.base import Head, QueueState
from ninetailed_wsgi.store.queue import DEATHS_APART
from ninetailed_wsgi.store.redis_server import Command, RedisServer, Script

_KEY = "nt:{imports}:queue"
_LAST, _TRIES, _ASIDE = ("nt:{imports}:" + name for name in ("last", "tries", "aside"))

# again, limit, least number, batch
_PUT = Script("""
if ARGV[1] == 'again' then
  return redis.error_reply('LOST the answer to a batch')
end
local waiting = redis.call('XLEN', KEYS[1])
if waiting >= tonumber(ARGV[2]) then
  return waiting
end
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local number = string.format('%.0f', math.max(last + 1, tonumber(ARGV[3])))
redis.call('XADD', KEYS[1], number .. '-0', 'batch', ARGV[4])
redis.call('SET', KEYS[2], number)
return -1
""")

_HEAD = Script("return {redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1), redis.call('GET', KEYS[2])}", writes=False)

# again, consumer, milliseconds after which a consumer counts as dead
_TAKE = Script("""
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 1
end
redis.pcall('XGROUP', 'CREATE', KEYS[1], 'importers', '0')
local mine = redis.call('XPENDING', KEYS[1], 'importers', '-', '+', 1, ARGV[2])
if #mine > 0 then
  redis.call('XCLAIM', KEYS[1], 'importers', ARGV[2], 0, mine[1][1], 'JUSTID')
  return 1
end
local claimed = redis.call('XAUTOCLAIM', KEYS[1], 'importers', ARGV[2], ARGV[3], '0-0', 'COUNT', 1, 'JUSTID')
if #claimed[2] > 0 then
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], 'importers')) do
    if consumer[2] ~= ARGV[2] and consumer[4] == 0 then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'importers', consumer[2])
    end
  end
  return 1
end
if redis.call('XPENDING', KEYS[1], 'importers')[1] > 0 then
  return 0
end
redis.call('XREADGROUP', 'GROUP', 'importers', ARGV[2], 'COUNT', 1, 'STREAMS', KEYS[1], '>')
return 1
""")

# again, consumer, milliseconds after which a consumer counts as dead
_LEAVE = Script("""
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 1
end
local mine = redis.call('XPENDING', KEYS[1], 'importers', '-', '+', 1, ARGV[2])
if #mine > 0 then
  redis.call('XCLAIM', KEYS[1], 'importers', ARGV[2], 0, mine[1][1], 'IDLE', ARGV[3], 'JUSTID')
else
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], 'importers', ARGV[2])
end
return 1
""")

# again, number, tries
_COUNT = Script("""
if #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) > 0 then
  redis.call('SET', KEYS[2], ARGV[3])
end
return 1
""")

# again, number, what is set aside of it, if anything
_DONE = Script("""
if #redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2]) > 0 then
  if ARGV[3] ~= '' then
    redis.call('HSETNX', KEYS[3], ARGV[2], ARGV[3])
  end
  redis.call('XACK', KEYS[1], 'importers', ARGV[2])
  redis.call('XDEL', KEYS[1], ARGV[2])
end
return 1
""")

_STATE = Script(
    """
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
return {redis.call('XLEN', KEYS[1]), first[1] and first[1][1] or '', redis.call('HLEN', KEYS[2])}
""",
    writes=False,
)


class RedisQueue:
    """Batches on Redis, for any number of servers; see :class:`~ninetailed_wsgi.store.base.Queue`.

    Args:
        server: where they wait.
        limit: batches that may wait.
        lease: seconds after which a consumer that says nothing counts as dead.
        clock: now, in milliseconds since the epoch.
    """

    locked: int | None = None

    def __init__(
        self,
        server: RedisServer,
        *,
        limit: int = 10_000,
        lease: float = 10.0,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._server = server
        self._limit = limit
        self._lease = int(lease * 1000)
        self._clock = clock
        self._pid = 0
        self._name = ""

    def put(self, batch: bytes) -> None:
        waiting = self._server.ask(_PUT.call([_KEY, _LAST], self._limit, self._clock() * 1000, batch))
        if waiting >= 0:
            raise StoreUnavailable(f"the import queue is full: {waiting} batches wait to be applied")

    def empty(self) -> bool:
        return not self._server.ask(Command(_KEY, ("XLEN", _KEY)))

    def head(self) -> Head | None:
        entries, counted = self._server.ask(_HEAD.call([_KEY, _TRIES]))
        if not entries:
            return None
        ((number, (_, batch)),) = entries
        of, tries, tried = orjson.loads(counted or b"[0,0,0]")
        tries, tried = (tries, tried) if of == _number(number) else (0, 0)
        return Head(_number(number), batch, tries, tried)

    def begin(self, head: Head) -> None:
        now = self._clock()
        if abs(now - head.tried) >= DEATHS_APART:
            self._count(head.number, head.tries + 1, now)

    def failed(self, head: Head) -> None:
        self._count(head.number, head.tries + 1, self._clock())

    def again(self, head: Head) -> None:
        self._count(head.number, head.tries, head.tried)

    def done(self, number: int) -> None:
        self._server.ask(_DONE.call([_KEY, _TRIES, _ASIDE], number, b""))

    def set_aside(self, head: Head, reason: str) -> None:
        kept = orjson.dumps({"reason": reason, "tries": head.tries, "batch": head.batch.decode()})
        self._server.ask(_DONE.call([_KEY, _TRIES, _ASIDE], head.number, kept))

    def aside(self) -> dict[int, dict[str, Any]]:
        found = iter(self._server.ask(Command(_ASIDE, ("HGETALL", _ASIDE))))
        return dict(sorted((int(number), orjson.loads(kept)) for number, kept in zip(found, found, strict=True)))

    def state(self) -> QueueState:
        waiting, first, aside = self._server.ask(_STATE.call([_KEY, _ASIDE]))
        oldest = max(0.0, (self._clock() - _number(first) // 1000) / 1000) if first else 0.0
        return QueueState(waiting, oldest, aside)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        name = self._consumer()
        alone = bool(self._server.ask(_TAKE.call([_KEY], name, self._lease)))
        try:
            yield alone
        finally:
            # In a child of a fork the entry is still the parent's. An outage leaves it to the end of the lease.
            if alone and self._pid == os.getpid():
                with contextlib.suppress(StoreUnavailable):
                    self._server.ask(_LEAVE.call([_KEY], name, self._lease))

    def close(self) -> None:
        """The connections are the store's."""

    def _count(self, number: int, tries: int, since: int) -> None:
        self._server.ask(_COUNT.call([_KEY, _TRIES], number, orjson.dumps([number, tries, since])))

    def _consumer(self) -> str:
        """The name of this process in the group."""
        if self._pid != os.getpid():
            self._pid, self._name = os.getpid(), f"{os.getpid()}-{secrets.token_hex(8)}"
        return self._name


def _number(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])
