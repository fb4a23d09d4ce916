"""Merges large profiles one after the other, with pauses in between, so that the process has time for other requests.

A merge reads two histories and writes one; a preflight of it does the same without the write. With 1 MB it takes fifty
times as long as a page event, and holds the interpreter's lock most of that time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from ninetailed_wsgi.core import retention
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import ProfileOverload
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.service.application import Step
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.overlay import Overlay
from ninetailed_wsgi.store.protocol import Store

LARGE = 100_000
"""From this size of the histories on (bytes), profiles that merge take turns."""

RESTS = 4
"""A process lets the next merge wait this many times as long as the last one took."""

LONGEST_REST = 0.5
"""The longest pause, in seconds."""

_EVENT = 2000  # bytes assumed for an event from a version that noted no sizes


@dataclass(slots=True)
class _Line:
    """Which requests have a turn or wait for one, and the time (s) before which none begins one."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    turn: threading.Lock = field(default_factory=threading.Lock)
    requests: int = 0
    rests_until: float = 0.0


class MergeTurns:
    """One request at a time that merges large profiles, in each process.

    Args:
        threads: the number of threads of a process; two of them stay free of such requests.
        timeout: seconds that a request waits for its turn.
        clock: returns a time in seconds that never goes back.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        threads: int,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._at_once = max(1, threads - 2)
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self._line = PerProcess(_Line)

    def turn(
        self, store: Store, steps: Sequence[Step], guarded: bool, waits: bool = False
    ) -> AbstractContextManager[None]:
        """Return the turn of a request, for the ``with`` block that applies its events; cheap events need none.

        Entering it raises ProfileOverload if too many such requests wait; with ``waits`` it waits in any case.
        """
        return self.large_turn(waits) if moved_bytes(store, steps, guarded) >= LARGE else nullcontext()

    @contextmanager
    def large_turn(self, waits: bool = False) -> Iterator[None]:
        """Take the turn of a request that merges large profiles while the block runs; errors as for `turn`."""
        line = self._line()
        with self._place(line, waits):
            if not line.turn.acquire(timeout=-1 if waits else self._timeout):
                raise ProfileOverload("other requests merged large profiles for as long as this one may wait")
            began = None
            try:
                self._rest(line, waits)
                began = self._clock()
                yield
            finally:
                if began is not None:
                    now = self._clock()
                    line.rests_until = now + min(RESTS * (now - began), LONGEST_REST)
                line.turn.release()

    @contextmanager
    def _place(self, line: _Line, waits: bool) -> Iterator[None]:
        with line.lock:
            if line.requests >= self._at_once and not waits:
                raise ProfileOverload("other requests are merging large profiles; try again in a second")
            line.requests += not waits
        try:
            yield
        finally:
            with line.lock:
                line.requests -= not waits

    def _rest(self, line: _Line, waits: bool) -> None:
        rest = line.rests_until - self._clock()
        if rest > 0 and self._at_once == 1 and not waits:  # no thread to spare for a request that sleeps
            raise ProfileOverload("large profiles have just been merged; try again in a second")
        if rest > 0:
            self._sleep(rest)


def moved_bytes(store: Store, steps: Sequence[Step], guarded: bool) -> int:
    """Return the bytes of the histories that events may join or move, 0 if there is only one and it stays.

    Args:
        store: only read.
        steps: the events of a request, each with the name that it was sent for.
        guarded: whether an identify event that gives a profile its user moves it to a new id.
    """
    if not any(event.user_id for _, event in steps):
        return 0
    overlay = Overlay(store)
    owners: dict[Key, identity.Owner] = {}
    profiles: dict[Key, int] = {}
    earlier: set[Key] = set()  # names that have had an event
    moves = False
    for name, event in steps:
        for key in (name, name._replace(name=event.user_id)) if event.user_id else ():
            owner = owners.get(key) or owners.setdefault(key, identity.resolve(overlay, key))
            if owner.record is not None:
                profiles[owner.key] = retention.size(owner.record) or owner.next_ordinal * _EVENT
                moves = moves or (guarded and owner.record.get("user") != event.user_id)
            elif key in earlier:
                profiles[key] = 0
        earlier.add(name)
    return sum(profiles.values()) if moves or len(profiles) > 1 else 0
