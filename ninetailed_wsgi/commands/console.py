"""What a command prints to: results, and a progress line, which is rewritten in place on a terminal."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TextIO, TypeVar

from ninetailed_wsgi.errors import ProfileOverload, StoreUnavailable
from ninetailed_wsgi.operations.terminal import escaping, in_line, unescaped

_Result = TypeVar("_Result")

_TRIES = 5
_EVERY = {True: 0.1, False: 10.0}  # seconds between two lines, by whether it is a terminal


class Progress:
    """Tells how much of some work is done, how fast it goes and how long it will take.

    Args:
        out: where the line goes, as a rule the standard error.
        unit: what is counted, in the plural.
        clock: seconds from any beginning.
    """

    def __init__(self, out: TextIO, unit: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = unescaped(out)  # it rewrites its line
        self._unit = in_line(unit)
        self._clock = clock
        self._terminal = out.isatty()
        self._began = self._last_at = clock()
        self._first: tuple[int, float] | None = None
        self._width = 0

    def at(self, count: int, fraction: float | None = None) -> None:
        """Say where the work is, unless that was said a moment ago.

        Args:
            count: how many units are done.
            fraction: the part of all work that is done, 0 to 1; None if unknown.
        """
        now = self._clock()
        if self._first is None:
            self._first = (count, fraction or 0.0)  # resumed work did not begin at zero
        if now - self._last_at < _EVERY[self._terminal]:
            return
        self._last_at = now
        line = self._line(count, fraction, now - self._began)
        if self._terminal:
            self._out.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._out.write(line + "\n")
        self._out.flush()

    def end(self) -> None:
        """Erase the line from the terminal, so that what is printed next stands alone."""
        if self._width:
            self._out.write("\r" + " " * self._width + "\r")
            self._out.flush()
            self._width = 0

    def _line(self, count: int, fraction: float | None, seconds: float) -> str:
        first, first_fraction = self._first or (0, 0.0)
        parts = [f"{count:,} {self._unit}", f"{(count - first) / seconds:,.0f}/s"]
        if fraction is not None:
            parts.insert(0, f"{min(fraction, 1.0):.0%}")
            if fraction > first_fraction:
                rest = seconds * (1 - min(fraction, 1.0)) / (fraction - first_fraction)
                parts.append(f"{duration(rest)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a time span as ``2:05`` (minutes, seconds) or ``1:02:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Console(NamedTuple):
    """Where a command prints.

    Attributes:
        out: gets the result.
        err: gets progress, and the summary where ``out`` gets data.
        sleep: waits some seconds before a busy store is asked again.
    """

    out: TextIO
    err: TextIO
    sleep: Callable[[float], None] = time.sleep

    @contextlib.contextmanager
    def progress(self, unit: str) -> Iterator[Progress]:
        """Yield a progress line, which is erased when the block ends, however it does."""
        line = Progress(self.err, unit)
        try:
            yield line
        finally:
            line.end()

    def patiently(self, step: Callable[[], _Result]) -> _Result:
        """Return the result of a step that may be repeated; retry it for some seconds while the store is busy."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return step()
            except (ProfileOverload, StoreUnavailable):
                if attempt == _TRIES:
                    raise
                self.sleep(attempt)


def print_in_utf8() -> None:
    """Let the standard output be UTF-8, as JSON is, whatever the terminal can show."""
    if isinstance(stdout := unescaped(sys.stdout), io.TextIOWrapper):
        stdout.reconfigure(encoding="utf-8")


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """Let the standard streams escape what came from outside, and letters that the terminal lacks, in this block."""
    streams = sys.stdout, sys.stderr
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = map(escaping, streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
