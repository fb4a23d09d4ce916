"""Bounds how many new profiles one address may begin in a minute, in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Network

from ninetailed_wsgi.errors import RateLimited

_MINUTE = 60.0


class NewProfiles:
    """Counts the profiles that each address (IPv6: each /64) has begun since the minute began.

    Args:
        most: how many one address may begin.
        clock: seconds that never go back.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        # As many entries as profiles were begun within a minute, which the disk bounds.
        self._numbers: dict[str, int] = {}

    def begin(self, address: str | None) -> None:
        """Count one more; addresses that are not known count as one.

        Raises:
            RateLimited: the address has begun as many as it may.
        """
        network = _network(address or "")
        now = self._clock()
        with self._lock:
            if (minute := int(now / _MINUTE)) != self._minute:
                self._minute, self._numbers = minute, {}
            number = self._numbers.get(network, 0)
            if number >= self._most:
                wait = max(1, round((minute + 1) * _MINUTE - now))
                raise RateLimited(f"one address began more than {self._most} profiles in a minute", wait)
            self._numbers[network] = number + 1


@lru_cache(maxsize=4096)
def _network(address: str) -> str:
    return str(IPv6Network((address, 64), strict=False)) if ":" in address else address
