"""Removes inactive visitors: all at once for a command, in small steps while a server runs."""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import IO

from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.errors import ProfileOverload, StoreUnavailable
from ninetailed_wsgi.operations.metrics import Metrics
from ninetailed_wsgi.operations.watching import Watcher
from ninetailed_wsgi.service.addresses import Addresses
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import DAY, Document, Store

STEP_EVERY = 0.2
"""Seconds between two steps."""

LONGEST_STEP = 0.02
"""Seconds after which a step does not begin another profile."""

PASS_EVERY = 3600.0
"""Seconds from the end of one pass over all profiles to the next one; also after the store could not serve."""

_log = logging.getLogger("ninetailed_wsgi")


def profiles_by_activity(
    store: Store, documents: Iterable[tuple[Key, Document]], before: int
) -> Iterator[tuple[Key, bool]]:
    """Yield the key of each profile among stored documents, and whether its newest event is older than a time (ms).

    No lock is held between two profiles, so the caller may pause as long as it likes.
    """
    for key in identity.profiles(store, documents):
        record = store.read(key).document
        yield key, identity.is_profile(record) and _is_older(record, before)


def delete_inactive(store: Store, key: Key, before: int, addresses: Addresses | None = None) -> bool:
    """Delete a profile, its history and its aliases if its newest event is older than ``before`` (ms).

    Returns whether it was deleted. The caller may retry after any error. Company data that ``addresses`` keeps of the
    visitor is deleted too.
    """
    digests = addresses.digests(store, key) if addresses else []
    went = identity.delete(store, key, lambda record: _is_older(record, before))
    if addresses and went:
        addresses.forget(digests)
    return went


def _is_older(record: Document, before: int) -> bool:
    return bool(record["updated"] < before)


class Expiry:
    """Checks all profiles again and again, and deletes those that had no event for some days.

    Args:
        store: where the profiles are.
        days: an inactive visitor's newest event is older than this.
        lock: a file that all workers of a server inherit; the one that locks it does the work until it ends.
        is_busy: whether this worker answers requests; then a step ends after one profile.
        environments: the environments whose visitors are checked; empty: all.
        metrics: counts the removed visitors; None: nothing is counted.
        addresses: keeps data of visitors' companies; None: there is none.
        clock: returns the time in milliseconds since the epoch.
        seconds: returns seconds from an arbitrary start, and never goes back.
    """

    def __init__(
        self,
        store: Store,
        days: int,
        lock: IO[bytes],
        is_busy: Callable[[], bool],
        *,
        environments: Collection[Environment] = (),
        metrics: Metrics | None = None,
        addresses: Addresses | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._days = days
        self._lock = lock
        self._is_busy = is_busy
        self._environments = frozenset(environments)
        self._metrics = metrics
        self._addresses = addresses
        self._clock = clock
        self._seconds = seconds
        self._began = clock(), seconds()
        self._is_ours = False
        self._pass: Iterator[tuple[Key, bool]] | None = None
        self._before = 0
        self._removals = 0
        self._next_pass = 0.0
        self._watcher = Watcher(self.step, STEP_EVERY, "ninetailed-expiry")

    def start(self) -> None:
        """Take a step at intervals in a thread of this process, as long as something references this object."""
        self._watcher.ensure()

    def step(self) -> None:
        """Check some profiles; none if another worker does the work or the next pass is not due."""
        if not self._take_lock() or (self._pass is None and self._seconds() < self._next_pass):
            return
        if self._pass is None:
            self._before, self._removals = self._now() - self._days * DAY, 0
            self._pass = profiles_by_activity(self._store, self._documents(), self._before)
        try:
            self._go_on(self._pass)
        except StoreUnavailable as error:
            _log.warning("inactive visitors are removed later: %s", error)
            self._end_pass()

    def _go_on(self, profiles: Iterator[tuple[Key, bool]]) -> None:
        end = self._seconds() + LONGEST_STEP
        for key, inactive in profiles:
            with suppress(ProfileOverload):  # the profile is active
                if inactive and delete_inactive(self._store, key, self._before, self._addresses):
                    self._removals += 1
                    if self._metrics:
                        self._metrics.expired()
            if self._is_busy() or self._seconds() >= end:
                return
        self._end_pass()

    def _end_pass(self) -> None:
        if self._removals:
            _log.info("%d visitors were removed who had no event for %d days", self._removals, self._days)
        self._pass, self._next_pass = None, self._seconds() + PASS_EVERY

    def _now(self) -> int:
        """Return the time (ms), so that a clock set ahead while the server runs does not delete everybody."""
        clock, seconds = self._began
        return min(self._clock(), clock + int((self._seconds() - seconds) * 1000))

    def _documents(self) -> Iterator[tuple[Key, Document]]:
        for key, document in self._store.documents():
            if not self._environments or key.where in self._environments:
                yield key, document

    def _take_lock(self) -> bool:
        """Take the lock unless another worker has it, and return whether this one has it."""
        if not self._is_ours:
            # A lock of `lockf` belongs to the process, although all workers inherit the file from their parent.
            with suppress(OSError):
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._is_ours = True
        return self._is_ours
