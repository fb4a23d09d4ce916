"""How many requests a client address may make: Falcon middleware, installed if the option `rate_limit` is set."""

from __future__ import annotations

import math
import time

import falcon
from limits import parse_many
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from ninetailed_wsgi.enrichment.client_ip import ClientAddress, subscriber
from ninetailed_wsgi.errors import RateLimited

WATCHED = ("/health/", "/metrics")
"""Monitoring is never refused."""


class RateLimit:
    """Counts the requests of each address in the memory of this process, and refuses those over the limit.

    A request without a known address (a Unix socket that is not a trusted proxy) is not counted.

    Args:
        rates: such as ``100/second;2000/minute``, as the option takes it.
        address: finds the address.
    """

    def __init__(self, rates: str, address: ClientAddress) -> None:
        self._rates = parse_many(rates)
        self._address = address
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not req.path.startswith(WATCHED) and (sender := self._address.sender(req.env)) is not None:
            self._check(sender)

    def _check(self, address: str) -> None:
        client = subscriber(address)
        for rate in self._rates:
            if not self._limiter.hit(rate, client):
                wait = self._limiter.get_window_stats(rate, client).reset_time - time.time()
                raise RateLimited("too many requests from this address", max(1, math.ceil(wait)))
