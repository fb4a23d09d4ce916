"""Runs what pages ask in threads, so that no page waits longer than its time budget."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], object]


class Workers:
    """Up to ``most`` daemon threads, started when they are needed; none keeps the process from ending.

    ``concurrent.futures`` joins its threads when the interpreter ends, so one evaluation that hangs would keep the
    host site from stopping.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads = 0
        self._closed = False

    def submit(self, work: Work) -> None:
        """Run ``work``, which must not raise, in a thread; RuntimeError when no thread can be started."""
        if not self._idle.acquire(blocking=False):
            with self._lock:
                if self._closed:
                    raise RuntimeError("the middleware is closed")
                if self._threads < self._most:
                    number = self._threads + 1
                    threading.Thread(target=self._run, name=f"ninetailed-{number}", daemon=True).start()
                    self._threads = number
        self._work.put(work)

    def close(self) -> None:
        """End the threads once they have done what they are doing."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # keeps nothing of a request alive
            self._idle.release()
