"""Lets requests of one process that write the same profile wait for each other here, in order, not in the database.

In the database, each would compute its answer, find that another one was faster, and compute again, or sleep and
retry. A request that waits occupies one of the few threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from ninetailed_wsgi.core.events import Event
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.errors import ProfileOverload
from ninetailed_wsgi.operations.forks import PerProcess

NO_TURN = nullcontext()
"""The turn of a request that does not have to wait."""


@dataclass(slots=True)
class _Waiting:
    """The profiles that are being written, and for each the locks of the requests that wait."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    queues: dict[Key, deque[threading.Lock]] = field(default_factory=dict)


class Turns:
    """One writer at a time for each profile, first come first served.

    Args:
        at_once: how many requests may write one profile or wait for it; any more are refused.
        timeout: seconds that a request waits for its turn.
    """

    def __init__(self, at_once: int, timeout: float) -> None:
        self._at_once = at_once
        self._timeout = timeout
        self._waiting = PerProcess(_Waiting)

    def turn(self, keys: Collection[Key]) -> Turn:
        """Return the turn for these profiles, for the ``with`` block that writes them.

        Entering it raises ProfileOverload if one of them has too many writers.
        """
        return Turn(self, sorted(keys) if len(keys) > 1 else keys)  # sorted, to avoid deadlocks

    def take(self, key: Key) -> None:
        """Wait for the turn of a profile."""
        waiting = self._waiting()
        with waiting.lock:
            queue = waiting.queues.get(key)
            if queue is None:
                waiting.queues[key] = deque()
                return
            if len(queue) + 1 >= self._at_once:
                raise ProfileOverload("too many requests are writing this profile; try again in a second")
            turn = threading.Lock()
            turn.acquire()
            queue.append(turn)
        if not turn.acquire(timeout=self._timeout):
            with waiting.lock:
                if turn in queue:  # otherwise the turn came at the last moment
                    queue.remove(turn)
                    raise ProfileOverload("other requests wrote this profile for as long as this one may wait")

    def give_back(self, key: Key) -> None:
        """Let the next request write the profile."""
        waiting = self._waiting()
        with waiting.lock:
            queue = waiting.queues[key]
            if queue:
                queue.popleft().release()
            else:
                del waiting.queues[key]


class Turn:
    """The turn of one request for all of its profiles; entered once."""

    __slots__ = ("_held_keys", "_keys", "_turns")

    def __init__(self, turns: Turns, keys: Collection[Key]) -> None:
        self._turns = turns
        self._keys = keys
        self._held_keys: list[Key] = []

    def __enter__(self) -> None:
        try:
            for key in self._keys:
                self._turns.take(key)
                self._held_keys.append(key)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        for key in self._held_keys:
            self._turns.give_back(key)


def writers(environment: Environment, events: Sequence[Event], key: Key, *, is_new: bool, preflight: bool) -> set[Key]:
    """Return the names for which a request takes turns; ``is_new``: the id in ``key`` was just made for it."""
    users: set[Key] = set()
    for event in events:
        if event.user_id:
            users.add(environment.key(event.user_id))
    # Nobody else knows an id that was just made. A preflight writes nothing, but if it merges, it reads histories.
    return users if is_new or (preflight and not users) else users | {key}
