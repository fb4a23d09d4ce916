"""A thread of each process that takes one step again and again, such as a check for changed files."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from time import sleep  # by name: when a host's tests replace time.sleep, the threads are not affected

from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.operations.logs import stack

_log = logging.getLogger("ninetailed_wsgi")


@dataclass(slots=True)
class _Slot:
    starting: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None


class Watcher:
    """Takes a step every few seconds in a daemon thread, until the step's owner is garbage-collected.

    Args:
        step: a method; its owner is held weakly.
        every: seconds between two steps.
        name: the thread's name, also used in the log when a step raises.
    """

    def __init__(self, step: Callable[[], object], every: float, name: str) -> None:
        self._step = weakref.WeakMethod(step)
        self._every = every
        self._name = name
        self._slot = PerProcess(_Slot)

    def ensure(self) -> None:
        """Start the thread unless it runs in this process; if it runs, this costs only a look-up."""
        slot = self._slot()
        if slot.thread is not None:
            return
        with slot.starting:
            if slot.thread is None:
                thread = threading.Thread(
                    target=_run, args=(self._step, self._every, self._name), name=self._name, daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # the process is ending, or has too many threads: the next call tries again
                    return
                slot.thread = thread


def _run(step: weakref.WeakMethod[Callable[[], object]], every: float, name: str) -> None:
    while True:
        sleep(every)
        work = step()
        if work is None:
            return
        try:
            work()
        except Exception as error:  # a bug, or no memory: the thread must not end unnoticed
            _log.error("%s failed and is tried again in %g s\n%s", name, every, stack(error))
            _log.debug("the failure in full", exc_info=error)
        del work
