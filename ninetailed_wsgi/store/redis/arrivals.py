"""The newest events for somebody who watches, in a list on Redis that expires when nobody watches any more."""

from __future__ import annotations

from ninetailed_wsgi.store.redis.commands import RedisCommand
from ninetailed_wsgi.store.redis.server import RedisServer

NEWEST, UNTIL = "nt:{arrivals}:newest", "nt:{arrivals}:until"

_MOST = 200  # entries of the list
_LIFE = 10 * 60  # seconds


class RedisArrivals:
    """See :class:`~ninetailed_wsgi.store.protocol.Arrivals`."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def watch(self, until: int) -> None:
        self._server.ask(RedisCommand(UNTIL, ("SET", UNTIL, until, "EX", _LIFE)))

    def watched_until(self) -> int:
        return int(self._server.ask(RedisCommand(UNTIL, ("GET", UNTIL))) or 0)

    def add(self, arrival: bytes) -> None:
        self._server.run(
            [
                RedisCommand(NEWEST, ("LPUSH", NEWEST, arrival)),
                RedisCommand(NEWEST, ("LTRIM", NEWEST, 0, _MOST - 1)),
                RedisCommand(NEWEST, ("EXPIRE", NEWEST, _LIFE)),
            ]
        )

    def newest(self) -> list[bytes]:
        arrivals: list[bytes] = self._server.ask(RedisCommand(NEWEST, ("LRANGE", NEWEST, 0, -1)))
        return arrivals[::-1]

    def clear(self) -> None:
        self._server.ask(RedisCommand(NEWEST, ("DEL", NEWEST, UNTIL)))
