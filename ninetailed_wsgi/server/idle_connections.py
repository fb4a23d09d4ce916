"""Which connections end when there is no place for another one: silent ones of the address that has most of them."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any

from ninetailed_wsgi.enrichment.client_ip import subscriber


def owner(connection: Any) -> str | None:
    """Return who has a connection of gunicorn, by its address; None for one of a socket file, which is a proxy's."""
    return subscriber(connection.client[0]) if isinstance(connection.client, tuple) else None


def least_needed(connections: Iterable[Any], count: int) -> list[Any]:
    """Return so many connections that may end, or all there are.

    Each is the oldest one of the address that has most of them at that time: somebody with a few keeps them while
    another one has many.

    Args:
        connections: of gunicorn, the oldest first.
    """
    by_address: defaultdict[object, deque[Any]] = defaultdict(deque)
    for connection in connections:
        by_address[owner(connection)].append(connection)
    groups = [(-len(group), number, group) for number, group in enumerate(by_address.values())]
    heapq.heapify(groups)
    ends: list[Any] = []
    while groups and len(ends) < count:
        size, number, group = heapq.heappop(groups)
        ends.append(group.popleft())
        if group:
            heapq.heappush(groups, (size + 1, number, group))
    return ends
