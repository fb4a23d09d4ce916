"""One audience rule, compiled into two functions: the visitor's value, and whether it satisfies the rule.

Source: spec section 5, the tables of rules and conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ninetailed_wsgi.core.counters import Counter, SeenEvent, counter_key
from ninetailed_wsgi.core.expressions import Expression, joined
from ninetailed_wsgi.core.operators import COUNTING, DENIALS, Number, compile_count_test, number_of, text_of
from ninetailed_wsgi.core.problems import Problems, excerpt
from ninetailed_wsgi.core.rule_parts import Comparison, Condition, RawRule, read_rule

DAY = 86_400_000
LOCATION_KEYS = ("continent", "countryCode", "city", "postalCode", "region", "regionCode", "country", "timezone")
DEVICE_TYPES = ("desktop", "mobile", "tablet", "unknown")
WINDOW_KEYS = ("days", "last_days", "when")
PAGE_KEYS = ("context_page_url", "context_page_path", "context_page_referrer")
CAMPAIGN_KEYS = tuple(f"context_campaign_{member}" for member in ("name", "source", "medium", "term", "content"))
EVENT_KEYS = (*PAGE_KEYS, "context_page_query", *CAMPAIGN_KEYS, "properties", *WINDOW_KEYS)


@dataclass(slots=True)
class Facts:
    """The visitor's facts that decide audiences.

    Attributes:
        traits: of the profile.
        location: of the profile, names in English.
        session_count: number of sessions, the current one included.
        device: the type according to the latest user agent: desktop, mobile, tablet or unknown.
        counts: of the profile, as `AudienceSet.count` and `AudienceSet.recount` keep them.
        now: milliseconds since the epoch.
        next_ordinal: how many events were applied so far; the newest one has this number minus one as its ordinal.
        first_kept: the ordinal of the oldest event that the limit of bytes leaves in the history.
        first_ordinal: set by `AudienceSet`: the oldest ordinal within the kept history.
        oldest: set by `AudienceSet`: the oldest event time within the kept history.
    """

    traits: Mapping[str, Any]
    location: Mapping[str, Any]
    session_count: int
    device: str
    counts: Mapping[str, Any]
    now: int
    next_ordinal: int
    first_kept: int = 0
    first_ordinal: int = field(default=0, init=False)
    oldest: int = field(default=0, init=False)


Predicate = Callable[[Facts], bool]
"""Whether a rule or an audience holds for a visitor; never raises."""


class Rule(NamedTuple):
    """One compiled rule; it holds where ``holds(fact(facts))`` is true.

    Attributes:
        words: the rule in words, for `AudienceSet.explain`.
        fact: returns the compared value: a trait, a location's member, a device type, a number of sessions or events.
        holds: whether the value satisfies the rule. Neither function raises for any JSON.
        write: writes the rule as an expression of the facts; None: write it as calls of ``fact`` and ``holds``.
        counter: only for page and track rules.
    """

    type: str
    words: str
    fact: Callable[[Facts], object]
    holds: Callable[[Any], bool]
    write: Callable[[Expression], str] | None = None
    counter: Counter | None = None

    def expression(self, code: Expression) -> str:
        """Return the text of an expression that tells whether the rule holds."""
        return self.write(code) if self.write else f"{code.name(self.holds)}({code.call(self.fact)})"


class EventCondition(NamedTuple):
    """A condition of a page or track rule: as an expression of the event, in words, and the texts that identify it."""

    write: Callable[[Expression], str]
    words: str
    identity: tuple[str, ...]


def compile_rule(body: Mapping[str, Any], path: str, problems: Problems) -> Rule | None:
    """Compile one rule as an authoring tool stored it.

    Args:
        body: with ``type``, ``operator``, ``count``, ``key``, ``value`` and ``conditions``; a member may be missing if
            the type does not need it.
        path: where the rule is, such as ``any[0].all[1]``.
        problems: receives every problem of the rule.

    Returns:
        The rule; ``None`` if a problem was noted.
    """
    kind = body.get("type")
    compile_kind = _KINDS.get(kind) if isinstance(kind, str) else None
    if compile_kind is None:
        problems.add_choice(f"{path}.type", kind, _KINDS)
        return None
    raw = read_rule(body, path, Problems())
    rule = compile_kind(raw)
    problems.take(raw.problems)
    return None if raw.problems else rule


def find(values: Mapping[str, Any], key: str) -> object:
    """Return a member by its exact name, else by a dotted path into nested objects; None without one."""
    value = values.get(key)
    if value is not None or "." not in key:
        return value
    node: object = values
    for step in key.split("."):
        if not isinstance(node, dict):
            return None
        node = node.get(step)
    return node


# Rules about the visitor


def _identify(raw: RawRule) -> Rule | None:
    raw.refuse_conditions()
    key = raw.body.get("key")
    if not isinstance(key, str) or not key:
        raw.problems.add(f"{raw.path}.key", key, "the name of a trait")
        key = ""
    comparison = raw.comparison()
    if comparison is None:
        return None
    words = f"trait {excerpt(key)} {comparison.words}"
    if "." in key:
        return Rule("identify", words, lambda facts: find(facts.traits, key), comparison.test)
    return _of_member("identify", words, "traits", key, comparison)


def _location(raw: RawRule) -> Rule | None:
    raw.refuse_conditions()
    key: Any = raw.body.get("key")
    if key not in LOCATION_KEYS:
        raw.problems.add_choice(f"{raw.path}.key", key, LOCATION_KEYS)
    comparison = raw.comparison(blank_is_missing=True)
    if comparison is None:
        return None
    return _of_member("location", f"{key} {comparison.words}", "location", key, comparison)


def _of_member(type: str, words: str, mapping: str, key: str, comparison: Comparison) -> Rule:
    """Return a rule that compares a member of a mapping of the facts."""
    test = comparison.test

    def write(code: Expression) -> str:
        return code.test(code.member(mapping, key), test, *comparison.identity)

    return Rule(type, words, lambda facts: getattr(facts, mapping).get(key), test, write)


def _returning(raw: RawRule) -> Rule:
    operator = raw.operator("equal")
    if operator not in ("equal", "notEqual"):
        raw.problems.add_choice(f"{raw.path}.operator", operator, ("equal", "notEqual"))
    answer = raw.body.get("value")
    value = "true" if answer is None or answer == "" else text_of(answer)
    if value not in ("true", "false"):
        raw.problems.add(f"{raw.path}.value", answer, "true or false")
    comparisons = raw.comparisons("session_count")
    tests = tuple(comparison.test for comparison in comparisons)
    returning = (value == "true") == (operator == "equal")

    def holds(sessions: int) -> bool:
        return (sessions > 1) is returning and (not tests or all(test(sessions) for test in tests))

    words = [f"session_count {'greaterThan' if returning else 'lessThanInclusive'} 1"]
    words += [f"session_count {comparison.words}" for comparison in comparisons]
    return Rule("isReturningVisitor", " and ".join(words), lambda facts: facts.session_count, holds)


def _device(raw: RawRule) -> Rule:
    comparisons = raw.comparisons("type")
    if not raw.conditions:
        raw.problems.add(f"{raw.path}.conditions", None, "a condition with the key type")
    for name, value in (comparison.identity for comparison in comparisons):
        if name in ("equal", "notEqual") and value not in (*DEVICE_TYPES, "*"):
            raw.problems.add_choice(f"{raw.path}.conditions", value, DEVICE_TYPES)
    tests = tuple(comparison.test for comparison in comparisons)
    words = " and ".join(f"device {comparison.words}" for comparison in comparisons)
    holds = tests[0] if len(tests) == 1 else lambda device: all(test(device) for test in tests)
    return Rule("device", words, lambda facts: facts.device, holds)


# Rules that count events


def _page(raw: RawRule) -> Rule:
    return _counting(raw, "page", None)


def _track(raw: RawRule) -> Rule:
    name = raw.body.get("value")
    if not isinstance(name, str) or not name:
        raw.problems.add(f"{raw.path}.value", name, "the name of an event, or *")
        name = None
    return _counting(raw, "track", None if name == "*" else name)


def _counting(raw: RawRule, kind: str, name: str | None) -> Rule:
    operator = raw.operator("greaterThanInclusive")
    if operator not in COUNTING:
        raw.problems.add_choice(f"{raw.path}.operator", operator, COUNTING)
        operator = "greaterThanInclusive"
    count = raw.count()
    windows = [_days(condition) for condition in raw.conditions if condition.key in WINDOW_KEYS]
    compiled = [_event_condition(condition) for condition in raw.conditions if condition.key not in WINDOW_KEYS]
    conditions = [condition for condition in compiled if condition is not None]
    holds, enough = compile_count_test(operator, count)
    key = counter_key(kind, name, [condition.identity for condition in conditions], enough)
    code = Expression("event")
    counts = code.function(joined([condition.write(code) for condition in conditions], "all") if conditions else "True")
    counter = Counter(key, kind, name, counts, enough)
    window = min(windows, default=None)
    words = [f"{kind} events named {excerpt(name)}" if name else f"{kind} events"]
    words += [f"where {' and '.join(condition.words for condition in conditions)}"] if conditions else []
    words += [f"in the last {text_of(window)} days"] if window is not None else []
    number = _events_found(key, window)

    def write(code: Expression) -> str:
        return code.test(code.call(number), holds, operator, str(count))

    return Rule(kind, f"{' '.join(words)}: {operator} {text_of(count)}", number, holds, write, counter)


def _events_found(key: str, window: Number | None) -> Callable[[Facts], int]:
    """Return a function for the number of events that count; an event exactly ``window`` days ago still counts."""
    window_ms = None if window is None else round(window * DAY)

    def number_of_events(facts: Facts) -> int:
        entries = facts.counts.get(key)
        if not entries:
            return 0
        first = facts.first_ordinal
        oldest = facts.oldest if window_ms is None else max(facts.oldest, facts.now - window_ms)
        number = 0
        for ordinal, at in entries:
            if ordinal >= first and at >= oldest:
                number += 1
        return number

    return number_of_events


def _days(condition: Condition) -> Number:
    """Return the length of a window. Its operator has no meaning, but must be valid."""
    condition.operator("equal")
    days = number_of(condition.body.get("value"))
    if days is None or not days > 0:
        condition.problems.add(f"{condition.path}.value", condition.body.get("value"), "a number of days above 0")
        return 1
    return min(days, 1e6)


def _event_condition(condition: Condition) -> EventCondition | None:
    read = _reader(condition)
    # SDKs send "" for unknown members of a page or campaign; a parameter or property with the value "" exists.
    comparison = condition.comparison(blank_is_missing=condition.key in (*PAGE_KEYS, *CAMPAIGN_KEYS))
    if comparison is None:
        return None
    test = _of_any(comparison) if condition.key == "context_page_query" else comparison.test
    name = f"{condition.key}[{condition.parameter}]" if condition.parameter else condition.key
    identity = (condition.key, condition.parameter, *comparison.identity)
    words = f"{name} {comparison.words}"
    if condition.key in PAGE_KEYS:
        member = _member(condition.key)
        return EventCondition(
            lambda code: code.test(code.member("page", member), test, *comparison.identity), words, identity
        )
    return EventCondition(lambda code: f"{code.name(test)}({code.call(read)})", words, identity)


def _of_any(comparison: Comparison) -> Callable[[object], bool]:
    """Return a test for a query parameter with several values: one match is enough, a negation must hold for all."""
    test, operator = comparison.test, comparison.identity[0]
    holds = all if operator in DENIALS else any

    def test_each(value: object) -> bool:
        if type(value) is not list:
            return test(value)
        return holds(map(test, value)) if value else test(None)

    return test_each


def _reader(condition: Condition) -> Callable[[SeenEvent], object]:
    """Return the function that reads the value of a condition from an event."""
    key, parameter = condition.key, condition.parameter
    if key not in EVENT_KEYS:
        condition.problems.add_choice(f"{condition.path}.key.key", key, EVENT_KEYS)
    if key in ("properties", "context_page_query") and not parameter:
        what = "property" if key == "properties" else "query parameter"
        condition.problems.add(f"{condition.path}.key.value", parameter, f"the name of a {what}")
    if key == "properties":
        return lambda event: find(event.properties, parameter)
    if key == "context_page_query":
        return lambda event: event.query.get(parameter)
    member = _member(key)
    if key in PAGE_KEYS:
        return lambda event: event.page.get(member)
    return lambda event: event.campaign.get(member)


def _member(key: str) -> str:
    """Return the member of a page or campaign that a condition names: ``path`` for ``context_page_path``."""
    return key.rpartition("_")[2]


_KINDS: dict[str, Callable[[RawRule], Rule | None]] = {
    "page": _page,
    "track": _track,
    "identify": _identify,
    "location": _location,
    "isReturningVisitor": _returning,
    "device": _device,
}
