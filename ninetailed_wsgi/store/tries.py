"""Counts how often the first batch of an import queue was tried; both queues count in the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from ninetailed_wsgi.store.protocol import DEATHS_APART, Head


class Tries(ABC):
    """The part of a queue that counts tries; each queue stores the counts itself.

    Args:
        clock: returns the time, in milliseconds since the epoch.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock

    def begin(self, head: Head) -> None:
        """Count a try before it begins: a batch that kills the process that applies it must not be tried forever."""
        now = self._clock()
        if abs(now - head.last_try) >= DEATHS_APART:
            self._count(head.number, head.tries + 1, now)

    def failed(self, head: Head) -> None:
        """Count a try that ended with an error."""
        self._count(head.number, head.tries + 1, self._clock())

    def again(self, head: Head) -> None:
        """Undo the count of the last try: it was not the batch that failed."""
        self._count(head.number, head.tries, head.last_try)

    @abstractmethod
    def _count(self, number: int, tries: int, last_try: int) -> None:
        """Store how often the batch with a number was tried, and when the last try was counted (ms)."""
