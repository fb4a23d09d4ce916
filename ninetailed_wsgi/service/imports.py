"""Imports: batches that are accepted now and applied later, by a thread of each process.

Of the threads of all processes, one at a time is at work.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep  # by name: what the tests of a host put in their place must not reach the thread

from ninetailed_wsgi.errors import ProfileOverload, StoreUnavailable
from ninetailed_wsgi.operations.forks import prepare_forks
from ninetailed_wsgi.operations.logs import stack
from ninetailed_wsgi.store.protocol import Queue

MAX_TRIES = 5
"""How often a batch may fail."""

MAX_DEATHS = 20
"""How often a process may die while it applies a batch: more often, as it may be killed for reasons of its own."""

LOOK_EVERY = 0.5
"""Seconds between two looks for what other processes have put; also between two tries of one batch."""

LOOK_SELDOM = 5.0
"""Seconds between two looks of a process without the thread for what others have put and not applied."""

_FORK_WAITS = 2.0  # seconds that a fork waits at most for the batch that is being applied

_log = logging.getLogger("ninetailed_wsgi")


class Consumer:
    """The thread of this process that applies batches, one after the other.

    Args:
        queue: where they wait.
        apply: applies a batch of this number; may be called again for the same batch, with whatever is left to do.

    A thread cut off anywhere, by the end of the process or by a fork, leaves nothing behind that its successor does not
    find in the queue. The thread ends when nobody holds the consumer any more.
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
        """Let the thread run in this process."""
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
        """Let the thread run where a batch waits, such as one of a process that was killed; called by requests.

        A site that imports nothing has no thread for it.
        """
        if self._thread is not None or (now := monotonic()) < self._look_at:
            return
        self._look_at = now + LOOK_SELDOM
        with suppress(StoreUnavailable):  # a later request looks again
            if not self._queue.empty():
                self.ensure()

    def wake(self) -> None:
        """Look at once, as a batch was put."""
        self.ensure()
        self._wake.set()

    def drain(self) -> bool:
        """Apply what waits until nothing does; False where another process is at it, or a try failed."""
        while True:
            with self._working:
                work = self._step()
            if work is not None:
                return work

    def _step(self) -> bool | None:
        """Apply the first batch; None when there may be another one, else what `drain` answers."""
        try:
            if self._queue.empty():
                return True
            with self._queue.alone() as alone:
                return self._apply_head() if alone else False
        except StoreUnavailable as error:
            return self._wait(error)

    def _apply_head(self) -> bool | None:
        head = self._queue.head()  # the one seen before may have been applied by another process meanwhile
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
        if str(error) != self._waits_for:  # said once, not twice a second
            self._waits_for = str(error)
            _log.warning("imports wait: %s", error)
        return False

    # A fork must not happen inside SQLite, whose locks the child would inherit as taken, nor inside the queue's lock.

    def before_fork(self) -> bool:
        """Wait for the end of a batch; whether `after_fork` has to let the thread go on."""
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
        except Exception as error:  # a bug, or no memory: the thread must not end without anybody noticing
            _log.error("imports wait\n%s", stack(error))
            _log.debug("the failure in full", exc_info=error)
            drained = False
        del here
        if not drained:
            sleep(LOOK_EVERY)
