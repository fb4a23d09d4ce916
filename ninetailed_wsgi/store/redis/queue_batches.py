"""Finds and reads the batches of an import queue on Redis."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.keys import digest_of
from ninetailed_wsgi.store.redis.commands import RedisCommand
from ninetailed_wsgi.store.redis.queue_keys import ASIDE, BATCHES, NAMES, QUEUE
from ninetailed_wsgi.store.redis.queue_place import ConsumerPlace
from ninetailed_wsgi.store.redis.server import RedisServer

_DIGEST = 16  # bytes
_AT_ONCE = 20  # batches that are read together: each may have some hundred kilobytes


class RedisBatches:
    """The batches, by number.

    Args:
        server: where they are.
        place: the place of a deletion, kept while it reads many batches.
    """

    def __init__(self, server: RedisServer, place: ConsumerPlace) -> None:
        self._server = server
        self._place = place

    def numbers(self, about: Collection[Key] | None = None, *, aside: bool) -> list[int]:
        """Return the numbers of the batches that wait, in order; with ``aside``, also of those set aside.

        Args:
            about: ids and aliases; only batches about one of them, and maybe some that once were.
        """
        if about is not None:
            return self._numbers_about(about, aside=aside)
        numbers: list[int] = []
        first = b"-"
        while entries := self._server.ask(RedisCommand(QUEUE, ("XRANGE", QUEUE, first, "+", "COUNT", 1000))):
            numbers += [number_of(entry_id) for entry_id, _ in entries]
            first = b"(" + entries[-1][0]
        return numbers + sorted(self._aside()) if aside else numbers

    def read(self, numbers: list[int]) -> Iterator[tuple[int, bytes]]:
        """Yield the batches with these numbers that still exist."""
        for first in range(0, len(numbers), _AT_ONCE):
            some = numbers[first : first + _AT_ONCE]
            self._place.keep_if_due()
            batches = self._server.ask(RedisCommand(BATCHES, ("HMGET", BATCHES, *some)))
            yield from ((number, batch) for number, batch in zip(some, batches, strict=True) if batch is not None)

    def _numbers_about(self, names: Collection[Key], *, aside: bool) -> list[int]:
        digests = [digest_of(name) for name in names]
        # A digest is followed by digits, and a colon sorts after all digits.
        ranges = [("ZRANGEBYLEX", NAMES, b"[" + digest, b"(" + digest + b":") for digest in digests]
        members = self._server.run([RedisCommand(NAMES, words) for words in ranges])
        numbers = {int(member[_DIGEST:]) for some in members for member in some}
        return sorted(numbers if aside else numbers - self._aside())

    def _aside(self) -> set[int]:
        return {*map(int, self._server.ask(RedisCommand(ASIDE, ("HKEYS", ASIDE))))}


def number_of(entry_id: bytes) -> int:
    """Return the number of the batch with this id in the stream."""
    return int(entry_id.split(b"-")[0])
