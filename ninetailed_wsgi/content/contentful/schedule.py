"""Decides which process polls a space, and when: one process of a server at a time, later after each failure."""

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
"""Maximum seconds between two attempts, regardless of how many failed and what Contentful asks for."""

LONGEST_LIMIT = 60.0
"""Maximum seconds between two attempts if Contentful says when to retry, unless that time is later."""

SHORTEST_PAUSE = 1.0
"""Minimum seconds between two attempts while they fail, regardless of how often a refresh is requested."""

# Seconds; if a poll is due later than this, the clock was set back.
_FARTHEST = 2 * 3600.0


class PollOutcome(NamedTuple):
    """How the last poll of any process ended.

    Attributes:
        failures: how many polls failed in a row.
        not_before: the earliest time of the next poll, in seconds since the epoch.
        trouble: why the last poll failed; None if it did not.
        not_even: the earliest time at which even a refresh may poll, in seconds since the epoch.
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
        least: the minimum time that Contentful asks to wait, if it does.
        chance: a random number from 0 to 1, so that servers that failed together do not retry together.
    """
    # Unlike an outage, a rate limit ends when Contentful says, so do not wait for minutes.
    longest = LONGEST_PAUSE if least is None else LONGEST_LIMIT
    grown = min(longest, max(poll, 1.0) * 2.0 ** min(failures, 20))
    return min(LONGEST_PAUSE, max(grown * (0.5 + chance / 2), (least or 0.0) + chance))


class Schedule(Protocol):
    """When a space is polled. Times are seconds since the epoch."""

    def outcome(self) -> PollOutcome:
        """Return how the last poll of any process ended."""

    def due(self, now: float) -> bool:
        """Tell whether a poll is due."""

    def turn(self) -> contextlib.AbstractContextManager[bool]:
        """Return a context in which no other process polls; it gives False if another process has the turn."""

    def begin(self, now: float, after: float) -> None:
        """Note that a poll begins; the next one is due ``after`` seconds from now."""

    def end(self, outcome: PollOutcome) -> None:
        """Note how the poll ended."""

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
    """The schedule of all processes of a server: a file that the polling process locks.

    The file's modification time is when the next poll is due; a second file contains the outcome of the last poll. The
    lock of a process that dies during its turn is released.

    Raises:
        OSError: the folder is not writable.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._outcome_file = file.with_name(file.name + "-outcome")
        self._read: tuple[tuple[int, int], PollOutcome] | None = None
        self._own = OwnSchedule()  # used when the folder is gone or no longer writable
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not file.exists():
            os.close(open_private(file, os.O_RDWR))
            self.hurry()

    def outcome(self) -> PollOutcome:
        """Return how the last poll of any process ended."""
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
            yield True  # the folder is no longer writable: every process polls for itself
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
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child process may also have the file open
            os.close(descriptor)

    def begin(self, now: float, after: float) -> None:
        """Note that a poll begins; a `hurry` after this makes another poll due."""
        self._own.begin(now, after)
        with contextlib.suppress(OSError):
            os.utime(self._file, (now, now + after))

    def end(self, outcome: PollOutcome) -> None:
        """Note how the poll ended, if it ended differently from the previous one."""
        changed = outcome != self.outcome()
        self._own.end(outcome)
        if changed:
            with contextlib.suppress(OSError), replacement(self._outcome_file) as output:
                output.write(orjson.dumps(list(outcome)))

    def hurry(self) -> None:
        """Make a poll due at once, in the process that looks next."""
        self._own.hurry()
        with contextlib.suppress(OSError):
            os.utime(self._file, (0, 0))
