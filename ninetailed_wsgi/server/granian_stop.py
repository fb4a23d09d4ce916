"""Makes sure that no worker of Granian misses the signal that ends it.

Granian stops a worker by one SIGTERM. A signal that comes before the worker listens for it has no effect, so the
worker runs until it is killed, and the answers that other workers are still sending are lost with it.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from functools import partial
from typing import Any

_LOOK_EVERY = 0.02  # seconds
_GIVES_UP_AFTER = 60.0  # seconds after which the signal is let through in any case


class Stop:
    """Holds the signal back in each worker until Granian listens for it there.

    Its methods are called by the main threads of their processes, as Python handles signals only there.
    """

    def __init__(self) -> None:
        self._flag = mmap.mmap(-1, 1)  # shared with the workers

    def note(self) -> None:
        """Note the signals that end the server, and pass them on to Granian's handlers, which are set by now."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, partial(self._begin, signal.getsignal(number)))

    def _begin(self, handler: Any, number: int, frame: object) -> None:
        self._flag[0] = 1
        handler(number, frame)

    def hold_back(self) -> None:
        """Hold the signal back from now on in this worker; to be called before it starts threads, which inherit it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        is_early = self._flag[0] == 1  # it came before this worker was ready
        listens, deadline = threading.Event(), time.monotonic() + _GIVES_UP_AFTER

        def look(number: int, frame: Any) -> None:
            """Let the signal through, in the main thread, once this thread has nothing to do but wait for the end."""
            waits = frame is not None and frame.f_code is threading.Condition.wait.__code__
            if listens.is_set() or not (waits or time.monotonic() > deadline):
                return
            listens.set()
            if is_early:
                os.kill(os.getpid(), signal.SIGTERM)  # merges with one that is pending already
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

        signal.signal(signal.SIGUSR1, look)  # stays set: one more SIGUSR1 may be on its way
        ours = signal.getsignal(signal.SIGTERM)
        threading.Thread(target=_ask_to_look, args=(ours, listens), daemon=True).start()


def _ask_to_look(ours: object, listens: threading.Event) -> None:
    """Let the main thread look again and again, as soon as Granian has a handler for the signal."""
    while signal.getsignal(signal.SIGTERM) is ours:
        time.sleep(_LOOK_EVERY)
    while not listens.wait(_LOOK_EVERY):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
