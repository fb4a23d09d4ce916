"""Limits what one address may do in a minute, such as create profiles; counted in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ninetailed_wsgi.enrichment.client_ip import subscriber
from ninetailed_wsgi.errors import RateLimited

_MINUTE = 60.0


class PerMinute:
    """Counts what each address (IPv6: each /64) did since the minute began.

    Args:
        most: how often one address may do it.
        clock: returns seconds that never go back.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        # One entry per action within a minute at most; the disk or the processor limits their number.
        self._numbers: dict[str, int] = {}

    def has_room(self, address: str | None) -> bool:
        """Return whether an address may do it once more now; all unknown addresses count as one."""
        network = subscriber(address or "")
        with self._lock:
            self._turn_minute()
            return self._numbers.get(network, 0) < self._most

    def count(self, address: str | None, number: int) -> None:
        """Add a number of times that an address did it."""
        network = subscriber(address or "")
        with self._lock:
            self._turn_minute()
            self._numbers[network] = self._numbers.get(network, 0) + number

    def wait(self) -> int:
        """Return the seconds until the next minute begins."""
        return max(1, round((self._minute + 1) * _MINUTE - self._clock()))

    def _turn_minute(self) -> None:
        if (minute := int(self._clock() / _MINUTE)) != self._minute:
            self._minute, self._numbers = minute, {}


class NewProfiles(PerMinute):
    """Counts the profiles that each address has created since the minute began."""

    def refusal(self) -> RateLimited:
        """Return the error for an address that has created as many profiles as it may."""
        return RateLimited("too many new profiles from this address in this minute", self.wait())


class Allowance:
    """How many new profiles the address of one request may have.

    Args:
        new_profiles: counts them for all addresses.
        address: the client's; None: it is not known.
    """

    __slots__ = ("_address", "_new_profiles")

    def __init__(self, new_profiles: NewProfiles, address: str | None) -> None:
        self._new_profiles = new_profiles
        self._address = address

    def has_room(self) -> bool:
        """Return whether the address may have another one now."""
        return self._new_profiles.has_room(self._address)

    def count(self, number: int) -> None:
        """Count new profiles that were stored."""
        self._new_profiles.count(self._address, number)

    def refusal(self) -> RateLimited:
        """Return the error for one profile too many."""
        return self._new_profiles.refusal()
