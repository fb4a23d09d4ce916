"""A clock that stands still until a test moves it."""

from __future__ import annotations

import sys
import time
import warnings
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
"""What a harness's clock shows at first, by default: a Monday at noon."""

_APART = 1000  # milliseconds by which two clocks that agree may differ


class Clock:
    """The time of a harness, which does not follow freezegun or time-machine; a test that uses both is warned once.

    A call returns milliseconds since the epoch, as the service needs it.

    Args:
        now: the initial time, also as ISO 8601 text; without a zone it is UTC.
    """

    def __init__(self, now: datetime | str = START) -> None:
        self._is_warned = False
        self.at(now)

    def __call__(self) -> int:
        if not self._is_warned and (library := _time_is_held_by()):
            self._compare(library)
        return self._now

    @property
    def now(self) -> datetime:
        """Return what the clock shows, in UTC."""
        return moment(self._now)

    def at(self, now: datetime | str) -> None:
        """Set the clock, forwards or backwards, as with ``now`` above; ValueError for text that is not a time."""
        moment = datetime.fromisoformat(now) if isinstance(now, str) else now
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
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

    def _compare(self, library: str) -> None:
        """Warn where the site under test has another time than its visitors."""
        real = time.time_ns() // 1_000_000
        if abs(real - self._now) > _APART:
            self._is_warned = True
            warnings.warn(
                f"{library} shows the site {moment(real):%Y-%m-%d %H:%M:%S}, but the harness' clock stands at "
                f"{self.now:%Y-%m-%d %H:%M:%S}: set it with clock.at(...), or give the harness now=...",
                stacklevel=3,
            )


def _time_is_held_by() -> str | None:
    """Return which library replaces the time of this process, if one does; an unloaded library does not."""
    if getattr(sys.modules.get("freezegun.api"), "freeze_factories", None):
        return "freezegun"
    hatch = getattr(sys.modules.get("time_machine"), "escape_hatch", None)
    if hatch is not None and hatch.is_travelling():
        return "time-machine"
    return None


def moment(milliseconds: int) -> datetime:
    """Return a time in milliseconds since the epoch, as an aware datetime in UTC."""
    return EPOCH + timedelta(milliseconds=milliseconds)
