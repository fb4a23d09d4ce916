"""Decides which process asks a space, and when: one of a server at a time, later after each failure."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import orjson

from ninetailed_wsgi.operations.files import replacement
from ninetailed_wsgi.operations.private_files import open_private

LONGEST_PAUSE = 300.0
"""Seconds between two attempts at most, however many failed and whatever Contentful asks for."""

LONGEST_LIMIT = 60.0
"""Seconds between two attempts at most where Contentful says when it may be asked again, unless that is later."""

SHORTEST_PAUSE = 1.0
"""Seconds between two attempts at least while they fail, however often somebody asks for one."""

# A time that a poll is due later than this: the clock was set back.
_FARTHEST = 2 * 3600.0


class PollOutcome(NamedTuple):
    """How the last poll of any process ended.

    Attributes:
        failures: how many failed in a row.
        not_before: when the next may be, in seconds since the epoch.
        trouble: why it failed; None: it did not.
        not_even: until then a refresh asks Contentful nothing either, in seconds since the epoch.
    """

    failures: int = 0
    not_before: float = 0.0
    trouble: str | None = None
    not_even: float = 0.0


def pause(failures: int, poll: float, least: float | None, chance: float) -> float:
    """Return how long to wait after so many failures in a row, in seconds.

    Args:
        failures: at least 1.
        poll: seconds between two polls that succeed.
        least: how long Contentful asks to wait at least, if it does.
        chance: from 0 to 1, so that servers which failed together do not come back together.
    """
    # A limit lasts for as long as Contentful says, unlike an outage: so it is not left alone for minutes.
    longest = LONGEST_PAUSE if least is None else LONGEST_LIMIT
    grown = min(longest, max(poll, 1.0) * 2.0 ** min(failures, 20))
    return min(LONGEST_PAUSE, max(grown * (0.5 + chance / 2), (least or 0.0) + chance))


class Schedule(Protocol):
    """When a space is polled. Times are seconds since the epoch."""

    def outcome(self) -> PollOutcome:
        """Return how the last poll ended, of whatever process."""

    def due(self, now: float) -> bool:
        """Tell whether a poll is due."""

    def turn(self) -> contextlib.AbstractContextManager[bool]:
        """Return a context in which no other process polls; it gives False where another one has the turn."""

    def begin(self, now: float, after: float) -> None:
        """Note that a poll begins; the next is due ``after`` seconds from now."""

    def end(self, outcome: PollOutcome) -> None:
        """Note how it ended."""

    def hurry(self) -> None:
        """Make a poll due at once."""


class OwnSchedule:
    """The schedule of a process that shares nothing with others."""

    def __init__(self) -> None:
        self._due = 0.0
        self._outcome = PollOutcome()

    def outcome(self) -> PollOutcome:
        """Return how the last poll ended."""
        return self._outcome

    def due(self, now: float) -> bool:
        """Tell whether a poll is due."""
        outcome = self._outcome
        return now >= max(self._due, outcome.not_before if self._due else outcome.not_even)

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """Give True: nobody else polls."""
        yield True

    def begin(self, now: float, after: float) -> None:
        """Note that a poll begins."""
        self._due = now + after

    def end(self, outcome: PollOutcome) -> None:
        """Note how it ended."""
        self._outcome = outcome

    def hurry(self) -> None:
        """Make a poll due at once."""
        self._due = 0.0


class SharedSchedule:
    """The schedule of all processes of a server: a file that is locked by the one that polls.

    The file's time of change is when the next poll is due; a second file holds the outcome of the last one. A process
    that dies in its turn loses the lock with its life.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._outcome_file = file.with_name(file.name + "-outcome")
        self._read: tuple[tuple[int, int], PollOutcome] | None = None
        self._own = OwnSchedule()  # for a folder that is gone, or can be written no more
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            os.close(open_private(file, os.O_RDWR))
            self.hurry()

    def outcome(self) -> PollOutcome:
        """Return how the last poll ended, of whatever process."""
        try:
            status = self._outcome_file.stat()
            key = (status.st_mtime_ns, status.st_ino)
            if self._read is None or self._read[0] != key:
                self._read = (key, PollOutcome(*orjson.loads(self._outcome_file.read_bytes())))
            return self._read[1]
        except (OSError, ValueError, TypeError):
            return self._own.outcome()

    def due(self, now: float) -> bool:
        """Tell whether a poll is due; a clock that was set back counts as due."""
        try:
            at = self._file.stat().st_mtime
        except OSError:
            return self._own.due(now)
        if now < at <= now + _FARTHEST:
            return False
        outcome = self.outcome()
        return not now < (outcome.not_before if at else outcome.not_even) <= now + LONGEST_PAUSE

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """Give whether this process may poll now."""
        try:
            descriptor = open_private(self._file, os.O_RDWR)
        except OSError:
            yield True  # a folder that can be written no more: every process for itself
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that was forked in between holds the file, too
            os.close(descriptor)

    def begin(self, now: float, after: float) -> None:
        """Note that a poll begins; a `hurry` from here on leads to another one."""
        self._own.begin(now, after)
        with contextlib.suppress(OSError):
            os.utime(self._file, (now, now + after))

    def end(self, outcome: PollOutcome) -> None:
        """Note how it ended, where it did not end as the one before."""
        changed = outcome != self.outcome()
        self._own.end(outcome)
        if changed:
            with contextlib.suppress(OSError), replacement(self._outcome_file) as output:
                output.write(orjson.dumps(list(outcome)))

    def hurry(self) -> None:
        """Make a poll due at once, in whatever process looks next."""
        self._own.hurry()
        with contextlib.suppress(OSError):
            os.utime(self._file, (0, 0))
