"""The keys of the import queue on Redis, all in one slot; `queue.py` says what lies under each."""

from __future__ import annotations

QUEUE, BATCHES, LAST, TRIES, ASIDE, TURN, NEXT, CHANGES, NAMES, NAMES_BY_BATCH = (
    "nt:{imports}:" + name
    for name in ("queue", "batches", "last", "tries", "aside", "turn", "next", "changes", "names", "named")
)
