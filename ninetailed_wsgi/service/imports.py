"""Imports: batches that are accepted now and applied later, by a thread of each process.

Only one thread of all processes works at a time.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep  # by name: when a host's tests replace them, the thread is not affected

from ninetailed_wsgi.errors import ProfileOverload, StoreUnavailable
from ninetailed_wsgi.operations.forks import prepare_forks
from ninetailed_wsgi.operations.logs import stack
from ninetailed_wsgi.store.protocol import Queue

MAX_TRIES = 5
"""How often a batch may fail."""

MAX_DEATHS = 20
"""How often a process may die while it applies a batch: more often, because the batch may not be the reason."""

LOOK_EVERY = 0.5
"""Seconds between two checks for batches of other processes; also between two tries of one batch."""

LOOK_SELDOM = 5.0
"""Seconds between two checks of a process without the thread for batches that others put and did not apply."""

_FORK_WAITS = 2.0  # the most seconds that a fork waits for the batch that is being applied

_log = logging.getLogger("ninetailed_wsgi")


class Consumer:
    """The thread of this process that applies batches, one after the other.

    Args:
        queue: where they wait.
        apply: applies the batch of a number; may be called again for the same batch, to do what is left.

    If a thread is cut off at any point, by the end of the process or by a fork, its successor finds all unfinished work
    in the queue. The thread ends when nothing references the consumer any more.
    """

    def __init__(self, queue: Queue, apply: Callable[[int, bytes], None]) -> None:
        self._queue = queue
        self._apply = apply
        self._waits_for = ""
        self._begin()
        prepare_forks(self)

    def _begin(self) -> None:
        self._thread: threading.Thread | None = None
        self._look_at = 0.0
        self._starting = threading.Lock()
        self._working = threading.Lock()
        self._wake = threading.Event()

    def ensure(self) -> None:
        """Start the thread in this process unless it runs."""
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    thread = threading.Thread(
                        target=_run, args=(weakref.ref(self), self._wake), name="ninetailed-imports", daemon=True
                    )
                    try:
                        thread.start()
                    except RuntimeError:  # at the end of the process, or where there are too many threads
                        return
                    self._thread = thread

    def resume(self) -> None:
        """Start the thread if a batch waits, such as one of a process that was killed; called by requests.

        A site that imports nothing has no thread.
        """
        if self._thread is not None or (now := monotonic()) < self._look_at:
            return
        self._look_at = now + LOOK_SELDOM
        with suppress(StoreUnavailable):  # a later request looks again
            if not self._queue.empty():
                self.ensure()

    def wake(self) -> None:
        """Check the queue now, because a batch was put."""
        self.ensure()
        self._wake.set()

    def drain(self) -> bool:
        """Apply batches until none waits; return False if another process does so, or a try failed."""
        while True:
            with self._working:
                work = self._step()
            if work is not None:
                return work

    def _step(self) -> bool | None:
        """Apply the first batch; return None if there may be another one, otherwise the result of `drain`."""
        try:
            if self._queue.empty():
                return True
            with self._queue.alone() as alone:
                return self._apply_head() if alone else False
        except StoreUnavailable as error:
            return self._wait(error)

    def _apply_head(self) -> bool | None:
        head = self._queue.head()  # another process may have applied the one that was seen before
        if head is None:
            return True
        if head.tries >= MAX_DEATHS:
            self._queue.set_aside(head, "the process died or was killed while it applied this batch")
            return None
        self._queue.begin(head)
        try:
            self._apply(head.number, head.batch)
            self._queue.finish(head.number)
        except (StoreUnavailable, ProfileOverload) as error:
            self._queue.again(head)
            return self._wait(error)
        except Exception as error:
            _log.error("an imported batch failed, try %d of %d\n%s", head.tries + 1, MAX_TRIES, stack(error))
            _log.debug("the failure in full", exc_info=error)
            if head.tries + 1 < MAX_TRIES:
                self._queue.failed(head)
                return False
            self._queue.set_aside(head._replace(tries=head.tries + 1), f"{type(error).__name__}: {error}")
        self._waits_for = ""
        return None

    def _wait(self, error: Exception) -> bool:
        if str(error) != self._waits_for:  # log it once, not twice a second
            self._waits_for = str(error)
            _log.warning("imports wait: %s", error)
        return False

    # A fork must not happen inside SQLite or the queue's lock: the child would inherit the locks as taken.

    def before_fork(self) -> bool:
        """Wait for the end of a batch; return whether `after_fork` has to let the thread continue."""
        return self._working.acquire(timeout=_FORK_WAITS)

    def after_fork(self) -> None:
        self._working.release()

    def in_child(self) -> None:
        """Forget the thread, which is the parent's; this process starts its own when it needs one."""
        while self._queue.locked:
            os.close(self._queue.locked.pop())
        self._begin()


def _run(consumer: weakref.ref[Consumer], wake: threading.Event) -> None:
    while True:
        wake.wait(LOOK_EVERY)
        wake.clear()
        here = consumer()
        if here is None:
            return
        try:
            drained = here.drain()
        except Exception as error:  # a bug, or no memory: the thread must not end unnoticed
            _log.error("imports wait\n%s", stack(error))
            _log.debug("the failure in full", exc_info=error)
            drained = False
        del here
        if not drained:
            sleep(LOOK_EVERY)
