"""How many bytes of events a history keeps: a record stores the sizes of groups of events, not of each event.

The member ``sizes`` of a record is ``[first, bytes, first, bytes, ...]``: for each group, the ordinal of its first
event and the bytes of its events as JSON, oldest first. A record has at most about thirty groups, so the oldest events
are dropped in steps of a sixteenth of the limit. Audiences count no event before the first group (spec section 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HISTORY_BYTES = 1_000_000
"""Bytes of events that a history keeps by default."""

_GROUPS = 16


def weigh(record: dict[str, Any], ordinal: int, size: int, most: int) -> None:
    """Add an event of ``size`` bytes, and drop the oldest groups while the total exceeds ``most`` bytes.

    A record of an older version has no sizes: its events count as part of the first group and are dropped with it.
    """
    before = record.get("sizes")
    if not before:
        record["sizes"] = [0, size]
        return
    sizes = record["sizes"] = [*before]
    _add(sizes, ordinal, size, most // _GROUPS)
    if len(sizes) > 2:
        surplus = sum(sizes[1::2]) - most
        while surplus > 0 and len(sizes) > 2:
            surplus -= sizes[1]
            del sizes[:2]


def weigh_again(record: dict[str, Any], first: int, events: Sequence[int]) -> None:
    """Store the bytes of all events of a history that is rewritten as a whole; ``first`` is the first ordinal."""
    share = sum(events) // _GROUPS
    record["sizes"] = [first, 0]
    for ordinal, size in enumerate(events, first):
        _add(record["sizes"], ordinal, size, share)


def first_ordinal(record: Mapping[str, Any]) -> int:
    """Return the ordinal of the oldest event that the limit of bytes leaves in the history."""
    sizes = record.get("sizes")
    return sizes[0] if sizes else 0


def size(record: Mapping[str, Any]) -> int:
    """Return an upper bound for the bytes of the kept events; 0 if an older version stored none."""
    return sum(record.get("sizes", ())[1::2])


def _add(sizes: list[int], ordinal: int, size: int, share: int) -> None:
    if sizes[-1] + size <= share:
        sizes[-1] += size
    else:
        sizes += (ordinal, size)
