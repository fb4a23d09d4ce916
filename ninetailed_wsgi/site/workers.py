"""Runs what pages ask in threads, so that no page waits longer than its time budget."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Call(Generic[Value]):
    """What a page asks, on its way through a thread.

    A call that has not begun when its page gives up never begins. One that has begun continues.

    Args:
        work: returns the answer; it gets the call, which it has to `begin`.
    """

    # PERF: a Future tells any number of waiters with a condition, which took three times as long as this lock.
    __slots__ = ("_end", "_first", "_work", "answer", "error", "id")

    def __init__(self, work: Callable[[Call[Value]], Value]) -> None:
        self._work = work
        self._first = threading.Lock()  # the first to get it decides whether the call begins
        self._end = threading.Lock()
        self._end.acquire()
        self.answer: Value | None = None
        self.error: BaseException | None = None
        self.id: str | None = None  # of the profile that the events go to, as soon as that is known

    def begin(self) -> bool:
        """Return whether the work may begin: its page has not given up."""
        return self._first.acquire(blocking=False)

    def cancel(self) -> bool:
        """Return whether the work has not begun; then it never will."""
        return self._first.acquire(blocking=False)

    def run(self) -> None:
        """Do the work, in a thread."""
        try:
            self.answer = self._work(self)
        except BaseException as error:
            self.error = error
        self._end.release()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the work; return whether it came in time."""
        return self._end.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX)))


class _Thread:
    """A daemon thread, and what it does when it wakes; None: it ends."""

    __slots__ = ("call", "wakes")

    def __init__(self) -> None:
        self.call: Call[Any] | None = None
        self.wakes = threading.Lock()
        self.wakes.acquire()


class Workers:
    """Up to ``most`` daemon threads, started when they are needed; none keeps the process from ending.

    ``concurrent.futures`` joins its threads when the interpreter ends, so one evaluation that hangs would keep the
    host site from stopping.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._idle: list[_Thread] = []  # the last one used is taken first: its memory is in the processor's caches
        self._waiting: deque[Call[Any]] = deque()
        self._threads = 0
        self._closed = False

    def submit(self, call: Call[Any]) -> None:
        """Run a call in a thread, at once or when one is free; RuntimeError when no thread can be started."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the middleware is closed")
            if self._idle:
                thread = self._idle.pop()
            elif self._threads < self._most:
                thread = self._start()
            else:
                self._waiting.append(call)
                return
        thread.call = call
        thread.wakes.release()

    def withdraw(self, call: Call[Any]) -> bool:
        """Forget a call that no thread has taken yet; return whether that is so."""
        with self._lock:
            try:
                self._waiting.remove(call)
            except ValueError:
                return False
            return True

    def close(self) -> None:
        """End the threads once they have done what they are doing."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for thread in idle:
            thread.wakes.release()

    def _start(self) -> _Thread:
        thread, number = _Thread(), self._threads + 1
        threading.Thread(target=self._run, args=(thread,), name=f"ninetailed-{number}", daemon=True).start()
        self._threads = number
        return thread

    def _run(self, thread: _Thread) -> None:
        while True:
            thread.wakes.acquire()
            call, thread.call = thread.call, None
            if call is None:
                return
            call.run()
            del call  # keeps nothing of a request alive
            self._give_back(thread)

    def _give_back(self, thread: _Thread) -> None:
        """Let a thread take the call that has waited longest, or wait for one, or end."""
        with self._lock:
            if self._waiting:
                thread.call = self._waiting.popleft()
            elif not self._closed:
                self._idle.append(thread)
                return
        thread.wakes.release()
