"""The items that builders make: plain JSON objects in the generic form, with the place in the code that made them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Self

_PACKAGE = __name__.rpartition(".")[0]


class Item(dict[str, Any]):
    """One published item: a dict, as ``schemas/content.schema.json`` describes it.

    Attributes:
        place: the file and line that made it, such as ``/srv/shop/experiments.py:12``, for messages.
    """

    __slots__ = ("place",)

    def __init__(self, members: Mapping[str, Any], place: str) -> None:
        super().__init__(members)
        self.place = place

    def __or__(self, other: Mapping[str, Any]) -> Self:  # type: ignore[override]  # still an item of its kind
        """Return a copy with the other members added or replaced, and the same place."""
        return type(self)({**self, **other}, self.place)

    def copy(self) -> Self:
        """Return an equal item."""
        return type(self)(self, self.place)

    def __reduce__(self) -> tuple[Any, ...]:
        """Let `copy` and `pickle` make an equal item."""
        return type(self), (dict(self), self.place)


class Audience(Item):
    """An audience, made by `audience`."""

    __slots__ = ()


class Experience(Item):
    """An experience, made by `experience` or `flag`."""

    __slots__ = ()


class Metric(Item):
    """A metric, made by `metric`."""

    __slots__ = ()


class MergeTag(Item):
    """A merge tag, made by `merge_tag`."""

    __slots__ = ()


class Entry(Item):
    """The order of an entry's experiences, made by `entry`."""

    __slots__ = ()


def place() -> str:
    """Return the file and line that called a builder, such as ``/srv/shop/experiments.py:12``."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
