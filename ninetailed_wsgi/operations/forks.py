"""Notices that the process was forked: the one place that compares process ids.

Process ids are compared where a value is used, since some servers (uWSGI) fork without telling Python.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class PerProcess(Generic[_Value]):
    """A value of which each process has its own: threads, locks, connections.

    Calling it returns this process's value, made on first use. A parent's value stays referenced and unused in the
    child, because closing an inherited connection would harm the parent. Threads may share one instance; of two that
    make the value at once, both get the same one.

    Args:
        make: makes the value; must not open anything that has to be closed, as it may be called once too often.
    """

    __slots__ = ("_make", "_values")

    def __init__(self, make: Callable[[], _Value]) -> None:
        self._make = make
        self._values: dict[int, _Value] = {}

    def __call__(self) -> _Value:
        process = os.getpid()
        value = self._values.get(process)
        return self._values.setdefault(process, self._make()) if value is None else value
