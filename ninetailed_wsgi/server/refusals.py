"""Delays each 429: a client that comes back at once waits for it, and nobody else does.

A refusal costs a client nothing, and the server most of a request: sixteen clients that come back at once made the
median of everybody else six times as long. So the answer is delayed. Connections and addresses are not counted,
because behind a proxy or a NAT other people share them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

SHORTEST_PAUSE = 0.25
"""Seconds between a 429 and its sending."""

LONGEST_PAUSE = 1.0
"""Seconds: no longer than the shortest time that a 429 asks its client to wait (`Retry-After`)."""

REFUSALS_PER_SECOND = 64
"""429s that a process sends in a second, until the longest pause is reached."""

Late = TypeVar("Late")


def pause(waiting: int) -> float:
    """Return the seconds by which to delay a 429 while so many of them wait."""
    return min(max(SHORTEST_PAUSE, waiting / REFUSALS_PER_SECOND), LONGEST_PAUSE)


class Refusals(Generic[Late]):
    """Answers that are sent later, in their order; times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Late]] = deque()

    def add(self, item: Late, now: float) -> None:
        """Let an answer wait, at least until those that wait already are sent."""
        due = now + pause(len(self._waiting))
        self._waiting.append((max(due, self._waiting[-1][0]) if self._waiting else due, item))

    def seconds(self, now: float) -> float | None:
        """Return the seconds until an answer is due; None if none waits."""
        return max(0.0, self._waiting[0][0] - now) if self._waiting else None

    def due(self, now: float) -> Iterator[Late]:
        """Yield the answers whose time has come, each once."""
        while self._waiting and self._waiting[0][0] <= now:
            yield self._waiting.popleft()[1]
