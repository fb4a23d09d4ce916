"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
"""What a harness's clock shows at first, by default: a Monday at noon."""


class Clock:
    """The time of a harness. A call returns milliseconds since the epoch, as the service needs it.

    Args:
        now: the initial time, also as ISO 8601 text; without a zone it is UTC.
    """

    def __init__(self, now: datetime | str = START) -> None:
        self.at(now)

    def __call__(self) -> int:
        return self._now

    @property
    def now(self) -> datetime:
        """Return what the clock shows, in UTC."""
        return moment(self._now)

    def at(self, now: datetime | str) -> None:
        """Set the clock, forwards or backwards, as with ``now`` above; ValueError for text that is not a time."""
        given = datetime.fromisoformat(now) if isinstance(now, str) else now
        aware = given if given.tzinfo else given.replace(tzinfo=UTC)
        self._now = (aware - EPOCH) // timedelta(milliseconds=1)

    def advance(self, by: timedelta = timedelta(), /, **parts: float) -> None:
        """Let time pass: a timedelta, or its parts by name, as in ``advance(minutes=31)``.

        Raises:
            ValueError: the time is negative; use ``at`` to turn the clock back.
        """
        passed = by + timedelta(**parts)
        if passed < timedelta():
            raise ValueError(f"found {passed}, expected a time of at least 0; use clock.at(...) to turn the clock back")
        self._now += passed // timedelta(milliseconds=1)


def moment(milliseconds: int) -> datetime:
    """Return a time in milliseconds since the epoch, as an aware datetime in UTC."""
    return EPOCH + timedelta(milliseconds=milliseconds)
