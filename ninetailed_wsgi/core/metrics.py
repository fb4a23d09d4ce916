"""What counts as success: metrics, and what a profile keeps of the events that they count (spec section 12).

For each kind of event that a metric counts, a profile keeps entries ``[time, number, sum]``, oldest first: the newest
events one by one, older ones as sums. So a result does not depend on how long the history is kept, and does not read
the history of visitors whose events were counted on arrival.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ninetailed_wsgi.core.counters import digest
from ninetailed_wsgi.core.problems import Problems

TYPES = ("binary", "count", "value")
DIRECTIONS = ("increase", "decrease")

ENTRIES_KEPT = 64
"""Entries of one kind of event that a profile keeps; above this number, the two oldest become one."""

LARGEST_VALUE = 1e12
"""A larger number in a property counts as 0, so that one visitor cannot outweigh all others."""

_COUNTED_FOR = "for"  # the member that names the kinds of events that were counted

Conversion = list[Any]
"""Time of the first event (ms), number of events, sum of the property: what one or several events count."""


class Metric(NamedTuple):
    """One compiled metric.

    Attributes:
        type: ``binary`` (did it at least once), ``count`` (how often), ``value`` (sum of a property).
        event: the name of the track events that count.
        property: the property whose numbers are added up; None for other types.
        direction: ``increase`` or ``decrease``: the desired direction.
        key: the name under which a profile keeps its events.
    """

    id: str
    name: str
    type: str
    event: str
    property: str | None
    direction: str
    key: str

    def of(self, entries: Iterable[Conversion], since: int, until: float) -> float:
        """Return the result of a visitor's events at ``since <= time < until`` (ms): 0 or 1, a number, or a sum."""
        matches = [entry for entry in entries if since <= entry[0] < until]
        if self.type == "binary":
            return 1.0 if matches else 0.0
        place = 1 if self.type == "count" else 2
        return float(sum(entry[place] for entry in matches))


def compile_metric(
    id: str, name: str, type: object, event: object, property: object = None, direction: object = None
) -> Metric:
    """Compile a metric; arguments are members of its definition (spec section 12).

    Raises:
        ContentError: with every problem.
    """
    problems = Problems()
    if type not in TYPES:
        problems.add_choice("type", type, TYPES)
    if not isinstance(event, str) or not event:
        problems.add("event", event, "the name of a track event")
    if direction is not None and direction not in DIRECTIONS:
        problems.add_choice("direction", direction, DIRECTIONS)
    if property is not None and (not isinstance(property, str) or not property):
        problems.add("property", property, "the name of a property")
    elif (property is None) == (type == "value"):
        problems.add("property", property, "the name of a property" if type == "value" else "none, as only value has")
    problems.raise_any()
    name_of_property = property if isinstance(property, str) else None
    # In practice, names have no control characters; if they do, two metrics may share a counter.
    key = digest(f"{event}\0{name_of_property or ''}")
    return Metric(id, name, str(type), str(event), name_of_property, str(direction or "increase"), key)


class MetricSet:
    """All metrics of one environment, in the order of the content. Immutable, shared by all threads.

    This class defines a profile's ``conversions``, a JSON object that the caller stores and passes back.
    """

    def __init__(self, metrics: Iterable[Metric]) -> None:
        """Index the metrics by the events that they count."""
        self.metrics = tuple(metrics)
        self._by_event: dict[str, dict[str, str | None]] = {}
        for metric in self.metrics:
            self._by_event.setdefault(metric.event, {})[metric.key] = metric.property
        self._keys = frozenset(metric.key for metric in self.metrics)
        self._counted_for = digest(" ".join(sorted(self._keys))) if self._keys else ""

    def find(self, name: str) -> Metric | None:
        """Return the metric with this id; without one, the metric with this name."""
        by_id = next((metric for metric in self.metrics if metric.id == name), None)
        return by_id or next((metric for metric in self.metrics if metric.name == name), None)

    def count(self, record: dict[str, Any], at: int, event: Mapping[str, Any]) -> None:
        """Count one applied event in the ``conversions`` of the record, if a metric counts it."""
        if not self._by_event or event.get("type") != "track":
            return
        name = event.get("event")
        if isinstance(name, str) and (events_counted := self._by_event.get(name)):
            conversions = record.setdefault("conversions", {_COUNTED_FOR: self._counted_for})
            for key, property in events_counted.items():
                conversions[key] = _added(conversions.get(key, ()), [at, 1, _number(event, property)])

    def missing(self, record: Mapping[str, Any]) -> bool:
        """Return whether a profile's events were counted for a different set of metrics, so `recount` is needed."""
        conversions = record.get("conversions")
        return bool((conversions.get(_COUNTED_FOR, "") if conversions else "") != self._counted_for)

    def recount(self, record: dict[str, Any], history: Iterable[tuple[int, int, Mapping[str, Any]]]) -> None:
        """Count the events of the kept history that were not counted on arrival; keep what was already counted.

        Args:
            record: the profile; afterwards its ``conversions`` are for exactly the metrics of this set.
            history: ``(ordinal, at, event)`` of every kept event that `count` will not count.
        """
        before = record.pop("conversions", {})
        if not self._keys:
            return
        earlier = {key: entries for key, entries in before.items() if key in self._keys}
        record["conversions"] = {_COUNTED_FOR: self._counted_for}
        for _, at, event in history:
            self.count(record, at, event)
        record["conversions"].update(earlier)


def events_counted(record: Mapping[str, Any]) -> set[str]:
    """Return the keys of the metrics that count any event of a profile."""
    return {key for key, entries in record.get("conversions", {}).items() if key != _COUNTED_FOR and entries}


def merged(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge the conversions of two profiles; empty, so that `recount` is needed, if they counted different metrics."""
    one, other = one or {}, other or {}
    if one.get(_COUNTED_FOR) != other.get(_COUNTED_FOR):
        return {}
    both = {**one, **other}
    for key in (one.keys() & other.keys()) - {_COUNTED_FOR}:
        both[key] = _bounded(sorted([*one[key], *other[key]]))
    return both


def _added(entries: Sequence[Conversion], entry: Conversion) -> list[Conversion]:
    more = [*entries, entry]
    if len(more) > 1 and more[-2][0] > entry[0]:
        more.sort()
    return _bounded(more)


def _bounded(entries: Sequence[Conversion]) -> list[Conversion]:
    surplus = len(entries) - ENTRIES_KEPT
    if surplus <= 0:
        return list(entries)
    oldest = entries[: surplus + 1]
    added = [oldest[0][0], sum(entry[1] for entry in oldest), sum(entry[2] for entry in oldest)]
    return [added, *entries[surplus + 1 :]]


def _number(event: Mapping[str, Any], property: str | None) -> float:
    properties = event.get("properties")
    value = properties.get(property) if property is not None and isinstance(properties, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return value if math.isfinite(value) and abs(value) <= LARGEST_VALUE else 0
