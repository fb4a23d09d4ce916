"""Chooses the connections that end when there is no room for another: silent ones of the address with the most."""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Any

from ninetailed_wsgi.enrichment.client_ip import subscriber


def owner(connection: Any) -> str | None:
    """Return the owner of a gunicorn connection, by address; None for one of a Unix socket, which is a proxy's."""
    return subscriber(connection.client[0]) if isinstance(connection.client, tuple) else None


def least_needed(connections: Iterable[Any], count: int) -> list[Any]:
    """Return so many connections that may end, or all if there are fewer.

    Each is the oldest one of the address that has the most at that time: an address with a few keeps them while
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
