"""Counts page and track events: which events count, and the few numbers kept so that no update reads the history.

Source: spec section 5, "has viewed page", "has performed event" and the paragraph on history.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2s
from typing import Any
from urllib.parse import parse_qs

from ninetailed_wsgi.core.events import page_of

# One matching event: its ordinal and its time in milliseconds. Part of the stored profile, so a list as JSON has it.
Occurrence = list[int]


class SeenEvent:
    """What the conditions of page and track rules read of one event.

    Attributes:
        page: ``context.page``; if a page event lacks it, its ``properties``; otherwise empty.
    """

    __slots__ = ("_event", "_query", "page")

    def __init__(self, event: Mapping[str, Any]) -> None:
        self.page = page_of(event)
        self._event = event
        self._query: Mapping[str, Any] | None = None

    @property
    def campaign(self) -> Mapping[str, Any]:
        """Return ``context.campaign``, or nothing."""
        return _mapping(_mapping(self._event.get("context")).get("campaign"))

    @property
    def properties(self) -> Mapping[str, Any]:
        """Return ``properties``, or nothing."""
        return _mapping(self._event.get("properties"))

    @property
    def query(self) -> Mapping[str, Any]:
        """Return the page's query parameters.

        If ``query`` is missing, they are parsed from ``search``, else from ``url``.
        """
        if self._query is None:
            query = self.page.get("query")
            self._query = query if isinstance(query, dict) else _parse_query(self.page)
        return self._query


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _parse_query(page: Mapping[str, Any]) -> Mapping[str, Any]:
    search, url = page.get("search"), page.get("url")
    if isinstance(search, str) and search:
        text = search.removeprefix("?")
    elif isinstance(url, str):
        text = url.partition("#")[0].partition("?")[2]
    else:
        return {}
    return parse_qs(text, keep_blank_values=True)


@dataclass(frozen=True, slots=True)
class Counter:
    """Counts the events that a page or track rule asks for; rules that ask for the same share one counter.

    Attributes:
        key: the name under which a profile keeps its entries; equal counters have the same key in every process.
        event_type: ``page`` or ``track``.
        event_name: the name of the track events that count; ``None`` if any name counts.
        counts: whether all conditions hold for an event of this type and name.
        enough: at this count or above, no decision changes anymore.
    """

    key: str
    event_type: str
    event_name: str | None
    counts: Callable[[SeenEvent], bool]
    enough: int

    def keep(self, entries: Sequence[Occurrence], ordinal: int, at: int, first_ordinal: int) -> Sequence[Occurrence]:
        """Return the entries (sorted by ordinal) with one more event, without those that no longer affect a decision.

        An entry leaves the kept history when its ordinal or its time becomes too old. So an entry may be dropped once
        ``enough`` others have a later ordinal and no earlier time: they remain for as long as it could count, for any
        window of days. Events that arrive in the order of their times leave exactly ``enough`` entries.
        """
        entries = [*entries, [ordinal, at]]
        if entries[0][0] < first_ordinal:
            entries = [entry for entry in entries if entry[0] >= first_ordinal]
        surplus = len(entries) - self.enough
        if surplus <= 0:
            return entries
        if surplus == 1:  # only the first entry can have that many after it
            if entries[0][1] <= min([entry[1] for entry in entries]):
                del entries[0]
            return entries
        rest: list[Occurrence] = []
        latest: list[int] = []  # heap: the `enough` latest times of the entries after the current one
        for entry in reversed(entries):
            if len(latest) < self.enough:
                heapq.heappush(latest, entry[1])
            elif latest[0] < entry[1]:
                heapq.heapreplace(latest, entry[1])
            else:
                continue
            rest.append(entry)
        return rest[::-1]


def counter_key(event_type: str, event_name: str | None, conditions: Sequence[Sequence[str]], enough: int) -> str:
    """Return the stable name of what is counted; the order and repetition of conditions do not matter."""
    question = [event_type, event_name, sorted(set(map(tuple, conditions))), enough]
    return digest(json.dumps(question))


def digest(text: str) -> str:
    """Return a short fingerprint: 16 hex characters, the same in every process."""
    return blake2s(text.encode(), digest_size=8).hexdigest()
