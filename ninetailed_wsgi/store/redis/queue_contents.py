"""All that an import queue on Redis holds, for the commands that move it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from ninetailed_wsgi.store.protocol import Queued
from ninetailed_wsgi.store.redis.commands import RedisCommand
from ninetailed_wsgi.store.redis.queue_batches import RedisBatches
from ninetailed_wsgi.store.redis.queue_keys import ASIDE, BATCHES, LAST, NAMES, NAMES_BY_BATCH, QUEUE, TRIES
from ninetailed_wsgi.store.redis.queue_scripts import CLEAR, LOAD
from ninetailed_wsgi.store.redis.server import RedisServer


class RedisQueueContents:
    """See :class:`~ninetailed_wsgi.store.protocol.QueueContents`."""

    def __init__(self, server: RedisServer, batches: RedisBatches) -> None:
        self._server = server
        self._batches = batches

    def aside(self) -> dict[int, dict[str, Any]]:
        answer = iter(self._server.ask(RedisCommand(ASIDE, ("HGETALL", ASIDE))))
        reasons = dict(sorted((int(number), orjson.loads(why)) for number, why in zip(answer, answer, strict=True)))
        batches = self._batches.read(list(reasons))
        return {number: {**reasons[number], "batch": batch.decode()} for number, batch in batches}

    def last(self) -> int:
        return int(self._server.ask(RedisCommand(LAST, ("GET", LAST))) or 0)

    def dump(self) -> Iterator[Queued]:
        for number, batch in self._batches.read(self._batches.numbers(aside=False)):
            yield Queued(number, batch, False)
        for number, members in self.aside().items():
            yield Queued(number, orjson.dumps(members, option=orjson.OPT_SORT_KEYS), True)

    def load(self, queued: Sequence[Queued], last: int) -> None:
        parts: list[Any] = []
        for number, value, aside in queued:
            why = orjson.loads(value) if aside else {}
            batch = why.pop("batch", value)
            parts += number, batch, orjson.dumps(why) if aside else b""
        self._server.ask(LOAD.call([QUEUE, BATCHES, LAST, ASIDE], last, *parts))

    def clear(self, *, aside: bool) -> None:
        self._server.ask(CLEAR.call([QUEUE, BATCHES, TRIES, ASIDE, NAMES, NAMES_BY_BATCH], int(aside)))
