"""Notices that the process was forked: the one place that compares process ids or is told of forks.

Process ids are compared where a value is used, since some servers (uWSGI) fork without telling Python.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

_Value = TypeVar("_Value")


class PerProcess(Generic[_Value]):
    """A value that each process has for itself: threads, locks, connections.

    Calling it returns this process's value, made on first use. A parent's value stays referenced and unused in the
    child, because closing an inherited connection would harm the parent. Threads may share one instance; of two that
    make the value at once, both get the same one.

    Args:
        make: makes the value; must not open anything that has to be closed, because it may be called once too often.
    """

    __slots__ = ("_make", "_values")

    def __init__(self, make: Callable[[], _Value]) -> None:
        self._make = make
        self._values: dict[int, _Value] = {}

    def __call__(self) -> _Value:
        process = os.getpid()
        value = self._values.get(process)
        return self._values.setdefault(process, self._make()) if value is None else value


def forked_since() -> Callable[[], bool]:
    """Return a function that tells whether the process that calls it is a child, forked since now."""
    process = os.getpid()
    return lambda: os.getpid() != process


class Forked(Protocol):
    """An object that has to act at a fork; see `prepare_forks`."""

    def before_fork(self) -> bool:
        """Reach a point where a fork does no harm; return whether `after_fork` has to follow."""

    def after_fork(self) -> None:
        """Continue, in the parent."""

    def in_child(self) -> None:
        """Release what belongs to the parent, in the child."""


_forked: weakref.WeakSet[Forked] = weakref.WeakSet()
_paused: list[Forked] = []


def prepare_forks(of: Forked) -> None:
    """Notify an object of each fork that Python makes from now on, as long as something references the object."""
    _forked.add(of)


def _before() -> None:
    _paused.extend([one for one in list(_forked) if one.before_fork()])


def _after_in_parent() -> None:
    while _paused:
        _paused.pop().after_fork()


def _after_in_child() -> None:
    _paused.clear()
    for one in list(_forked):
        one.in_child()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
