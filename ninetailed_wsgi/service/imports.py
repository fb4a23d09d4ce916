"""Imports: what a batch looks like while it waits, and the thread of each process that applies batches.

Of the threads of all processes, one at a time is at work. Nobody else knows the form of a batch.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic, sleep  # by name: what the tests of a host put in their place must not reach the thread
from typing import Any, NamedTuple

import orjson

from ninetailed_wsgi.core.names import Environment, Key
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


class Batch(NamedTuple):
    """A batch that was accepted and waits to be applied.

    Attributes:
        environment: of all its events.
        at: when it was accepted, milliseconds since the epoch.
        events: as they were sent; None in the place of one that was deleted since, as profiles remember places.
        guarded: whether it was accepted in the mode ``guarded``.
    """

    environment: Environment
    at: int
    events: list[dict[str, Any] | None]
    guarded: bool = False

    def encode(self) -> bytes:
        """Return the batch as a queue keeps it."""
        mode = {"guarded": True} if self.guarded else {}
        return orjson.dumps({"at": self.at, "where": list(self.environment), **mode, "events": self.events})

    @classmethod
    def decode(cls, text: bytes) -> Batch:
        """Return the batch that `encode` made this text of."""
        members = orjson.loads(text)
        return cls(Environment(*members["where"]), members["at"], members["events"], "guarded" in members)

    @property
    def names(self) -> set[Key]:
        """Return the ids and aliases that its events are about."""
        names = (name for event in self.events if event for name in names_of(event))
        return set(map(self.environment.key, names))


def names_of(event: Mapping[str, Any]) -> tuple[str, ...]:
    """Return whom an event is about: the user id that an identify event names is its visitor as well."""
    user_id = event.get("userId") if event["type"] == "identify" else None
    return (event["anonymousId"], user_id) if user_id else (event["anonymousId"],)


def events_of(text: bytes, environment: Environment) -> list[dict[str, Any] | None]:
    """Return the events of an encoded batch; none where it is of another environment, which costs no decoding of them.

    What stands before the events has no such member in it, as a quotation mark inside a text is escaped.
    """
    head = orjson.loads(text.partition(b',"events":')[0] + b"}")
    return Batch.decode(text).events if head["where"] == list(environment) else []


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
        """Something was put: look at once."""
        self.ensure()
        self._wake.set()

    def drain(self) -> bool:
        """Apply what waits until nothing does; False where another process is at it, or a try failed."""
        while True:
            with self._working:
                done = self._step()
            if done is not None:
                return done

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
            self._queue.done(head.number)
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
        """The thread is the parent's; this process starts its own when it is needed."""
        while self._queue.locked:
            os.close(self._queue.locked.pop())
        self._begin()


def _run(consumer: weakref.ref[Consumer], wake: threading.Event) -> None:
    while True:
        wake.wait(LOOK_EVERY)
        wake.clear()
        found = consumer()
        if found is None:
            return
        try:
            drained = found.drain()
        except Exception as error:  # a bug, or no memory: the thread must not end without anybody noticing
            _log.error("imports wait\n%s", stack(error))
            _log.debug("the failure in full", exc_info=error)
            drained = False
        del found
        if not drained:
            sleep(LOOK_EVERY)
