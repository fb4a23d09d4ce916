"""The compiled rules equal a naive evaluator, written from the specification, that reads the whole history."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ninetailed_wsgi.core.audiences import AudienceSet, Facts, compile_audience
from tests.searches import search

HISTORY_EVENTS = 8
HISTORY_DAYS = 10
HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_700_000_000_000

# The naive evaluator: spec section 5, sentence by sentence. It knows nothing of the code under test.


def text(value: object) -> str | None:
    """A boolean or number is compared through its JSON text, as JavaScript writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float):
        return json.dumps(int(value) if value.is_integer() else value)
    return None


def number(value: object) -> float | None:
    """Numeric operators compare numbers, and text that is no number never satisfies them."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", value):
        return None
    return float(value)


def compares(operator: str, found: object, wanted: object, blank_is_there: bool = True) -> bool:
    """The operators, on a value found (None when it is missing or null) and the author's value."""
    there = found is not None and (blank_is_there or found != "")
    match operator:
        case "exists":
            return there
        case "notExists":
            return not there
        case "notEqual" | "notEquals":
            return not compares("equal", found, wanted, blank_is_there)
        case "notContains" | "doesNotContain":
            return not compares("contains", found, wanted, blank_is_there)
        case "equal" | "contains" if wanted == "*":
            return there
        case "equal":
            return text(found) == text(wanted)
        case "contains" if isinstance(found, list):
            return text(wanted) in [text(item) for item in found]
        case "greaterThan" | "greaterThanInclusive" | "lessThan" | "lessThanInclusive":
            left, right = number(found), number(wanted)
            return left is not None and right is not None and ordered(operator, left, right)
    left_text, right_text = text(found), text(wanted)
    if left_text is None or right_text is None:
        return False
    match operator:
        case "contains":
            return right_text in left_text
        case "startsWith":
            return left_text[: len(right_text)] == right_text
        case "endsWith":
            return left_text.endswith(right_text)
        case "matches" | "regex":
            return re.search(right_text, left_text) is not None
    raise AssertionError(operator)


def ordered(operator: str, left: float, right: float) -> bool:
    return {
        "greaterThan": left > right,
        "greaterThanInclusive": left >= right,
        "lessThan": left < right,
        "lessThanInclusive": left <= right,
        "equal": left == right,
        "notEqual": left != right,
        "notEquals": left != right,
    }[operator]


def member(values: Any, key: str) -> object:
    """A dotted path into nested values is allowed; the exact name comes first."""
    if key in values and values[key] is not None:
        return values[key]
    for step in key.split("."):
        values = values.get(step) if isinstance(values, dict) else None
    return values


def condition_holds(condition: dict[str, Any], event: dict[str, Any]) -> bool:
    key, parameter = condition["key"]["key"], condition["key"].get("value")
    page = event["context"].get("page") or (event["properties"] if event["type"] == "page" else {})
    if key == "properties":
        found = member(event["properties"], parameter)
    elif key == "context_page_query":
        found = page.get("query", {}).get(parameter)
    elif key.startswith("context_campaign_"):
        found = event["context"].get("campaign", {}).get(key.removeprefix("context_campaign_"))
    else:
        found = page.get(key.removeprefix("context_page_"))
    blank_is_there = key in ("properties", "context_page_query")
    return compares(condition["operator"], found, condition["value"], blank_is_there)


def rule_holds(rule: dict[str, Any], visitor: dict[str, Any], now: int) -> bool:
    conditions = rule.get("conditions", [])
    match rule["type"]:
        case "identify":
            return compares(rule["operator"], member(visitor["traits"], rule["key"]), rule["value"])
        case "location":
            return compares(rule["operator"], visitor["location"].get(rule["key"]), rule["value"], False)
        case "device":
            return all(compares(one["operator"], visitor["device"], one["value"]) for one in conditions)
        case "isReturningVisitor":
            returning = rule["value"] in (True, "true")
            counts = [compares(one["operator"], visitor["sessions"], one["value"]) for one in conditions]
            return (visitor["sessions"] > 1) == returning and all(counts)
    kept = [(at, event) for at, event in visitor["history"][-HISTORY_EVENTS:] if at >= now - HISTORY_DAYS * DAY]
    counted = 0
    for at, event in kept:
        windows = [float(one["value"]) for one in conditions if one["key"]["key"] == "days"]
        others = [one for one in conditions if one["key"]["key"] != "days"]
        named = rule["type"] == "page" or rule["value"] in ("*", event.get("event"))
        in_time = all(at >= now - days * DAY for days in windows)
        if event["type"] == rule["type"] and named and in_time and all(condition_holds(one, event) for one in others):
            counted += 1
    return ordered(rule["operator"], counted, float(rule["count"]))


def belongs(node: dict[str, Any], visitor: dict[str, Any], now: int) -> bool:
    if "any" in node:
        return any(belongs(inner, visitor, now) for inner in node["any"])
    if "all" in node:
        # Ours, where the specification is silent: a group without rules never holds.
        return bool(node["all"]) and all(belongs(inner, visitor, now) for inner in node["all"])
    return rule_holds(node, visitor, now)


# What is generated: few different values, so that rules meet events often.

VALUES = st.sampled_from(
    [None, "", "a", "ab", "b", "5", "-2", "5.5", "true", True, False, 5, 0, -2, 5.0, 5.5, ["a", 5, None], {"c": "ab"}]
)
WANTED = st.sampled_from(["", "*", "a", "b", "ab", "5", "5.5", "-2", "true", True, 5, 5.5, 0])
PATTERNS = st.sampled_from(["a", "^a", "b$", "^[0-9.-]+$", "a|5"])
TEXT_OPERATORS = [
    "equal",
    "notEqual",
    "notEquals",
    "contains",
    "notContains",
    "doesNotContain",
    "startsWith",
    "endsWith",
]
NUMERIC_OPERATORS = ["greaterThan", "greaterThanInclusive", "lessThan", "lessThanInclusive"]
COMPARISONS = st.one_of(
    st.fixed_dictionaries(
        {
            "operator": st.sampled_from([*TEXT_OPERATORS, *NUMERIC_OPERATORS, "exists", "notExists"]),
            "value": WANTED,
        }
    ),
    st.fixed_dictionaries({"operator": st.sampled_from(["matches", "regex"]), "value": PATTERNS}),
)
MEMBERS = st.sampled_from(["a", "b", "a.c"])
TEXTS = st.sampled_from(["", "a", "ab", "5"])


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    key = draw(
        st.sampled_from(["context_page_path", "context_page_query", "context_campaign_name", "properties", "days"])
    )
    if key == "days":
        days = draw(st.sampled_from(["1", 3, "0.5", "30"]))
        return {"key": {"key": "days"}, "operator": "lessThanInclusive", "value": days}
    named = {"value": draw(MEMBERS)} if key in ("properties", "context_page_query") else {}
    return {"key": {"key": key, **named}, **draw(COMPARISONS)}


def counting(kind: str, **members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "type": st.just(kind),
            "operator": st.sampled_from([*NUMERIC_OPERATORS, "equal", "notEqual", "notEquals"]),
            "count": st.sampled_from(["0", "1", 2, "3", 4, "1.5", -1, 7, 8, 20]),
            "conditions": st.lists(conditions(), max_size=2),
            **members,
        }
    )


def keyed(key: str) -> st.SearchStrategy[dict[str, Any]]:
    return COMPARISONS.map(lambda comparison: {"key": {"key": key}, **comparison})


RULES = st.one_of(
    counting("page"),
    counting("track", value=st.sampled_from(["*", "buy", "Buy"])),
    st.tuples(MEMBERS, COMPARISONS).map(lambda drawn: {"type": "identify", "key": drawn[0], **drawn[1]}),
    st.tuples(st.sampled_from(["city", "country"]), COMPARISONS).map(
        lambda drawn: {"type": "location", "key": drawn[0], **drawn[1]}
    ),
    st.sampled_from(["equal", "notEqual"]).map(
        lambda operator: {
            "type": "device",
            "conditions": [{"key": {"key": "type"}, "operator": operator, "value": "mobile"}],
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("isReturningVisitor"),
            "value": st.sampled_from([True, False, "true", "false"]),
            "conditions": st.lists(keyed("session_count"), max_size=1),
        }
    ),
)
NODES = st.recursive(
    RULES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda nodes: {"any": nodes}),
        st.lists(inner, max_size=3).map(lambda nodes: {"all": nodes}),
    ),
    max_leaves=6,
)
PAGES = st.fixed_dictionaries({"path": TEXTS, "query": st.dictionaries(MEMBERS, TEXTS, max_size=2)})
CONTEXTS = st.fixed_dictionaries({}, optional={"page": PAGES, "campaign": st.fixed_dictionaries({"name": TEXTS})})
PROPERTIES = st.dictionaries(MEMBERS, VALUES, max_size=2)
EVENTS = st.one_of(
    st.tuples(CONTEXTS, PAGES, PROPERTIES).map(
        lambda drawn: {"type": "page", "context": drawn[0], "properties": {**drawn[2], **drawn[1]}}
    ),
    st.tuples(CONTEXTS, st.sampled_from(["buy", "Buy"]), PROPERTIES).map(
        lambda drawn: {"type": "track", "context": drawn[0], "event": drawn[1], "properties": drawn[2]}
    ),
    st.just({"type": "component", "context": {}, "properties": {}}),
)
# Whole half days, so that the borders of windows are met exactly and events share their times.
TIMES = st.integers(0, 24).map(lambda halves: START + halves * DAY // 2)
VISITORS = st.fixed_dictionaries(
    {
        "traits": st.dictionaries(MEMBERS, VALUES, max_size=3),
        "location": st.dictionaries(st.sampled_from(["city", "country"]), TEXTS),
        "device": st.sampled_from(["mobile", "desktop", "unknown"]),
        "sessions": st.integers(1, 6),
        "history": st.lists(st.tuples(TIMES, EVENTS), max_size=24),
    }
)


def facts_of(visitor: dict[str, Any], counts: dict[str, Any], now: int) -> Facts:
    known = visitor["traits"], visitor["location"], visitor["sessions"], visitor["device"]
    return Facts(*known, counts=counts, now=now, next_ordinal=len(visitor["history"]))


def audience_set(nodes: list[dict[str, Any]]) -> AudienceSet:
    audiences = [compile_audience(f"{index:02}", "", node) for index, node in enumerate(nodes)]
    return AudienceSet(audiences, history_events=HISTORY_EVENTS, history_days=HISTORY_DAYS)


@search(200)
@given(
    nodes=st.lists(NODES, min_size=1, max_size=4),
    visitor=VISITORS,
    later=st.integers(0, 30),
    counted=st.integers(0, 24),
)
def test_compiled_rules_equal_the_naive_evaluator(
    nodes: list[dict[str, Any]], visitor: dict[str, Any], later: int, counted: int
) -> None:
    """At any time, for events in any order of times, whether counted one by one or anew from some point on."""
    audiences = audience_set(nodes)
    counts: dict[str, Any] = {}
    history = [(ordinal, at, event) for ordinal, (at, event) in enumerate(visitor["history"])]
    audiences.recount(counts, history[:counted])
    for entry in history[counted:]:
        audiences.count(counts, *entry)
    now = START + later * DAY // 2
    facts = facts_of(visitor, json.loads(json.dumps(counts)), now)
    expected = [f"{index:02}" for index, node in enumerate(nodes) if belongs(node, visitor, now)]
    assert audiences.matched(facts) == expected
    explained = audiences.explain(facts)
    assert [one["id"] for one in explained if one["matched"]] == expected
    assert all(one["matched"] == any(group["held"] for group in one["groups"]) for one in explained)


@search(80)
@given(node=NODES, visitor=VISITORS)
def test_counts_made_anew_from_the_kept_history_decide_as_those_kept_all_along(
    node: dict[str, Any], visitor: dict[str, Any]
) -> None:
    audiences = audience_set([node])
    history = [(ordinal, at, event) for ordinal, (at, event) in enumerate(visitor["history"])]
    kept: dict[str, Any] = {}
    audiences.recount(kept, [])
    for entry in history:
        audiences.count(kept, *entry)
    anew: dict[str, Any] = {}
    audiences.recount(anew, reversed(history[-HISTORY_EVENTS:]))
    for later in range(0, 40, 3):
        now = START + later * DAY // 2
        assert audiences.matched(facts_of(visitor, kept, now)) == audiences.matched(facts_of(visitor, anew, now))


@search(80)
@given(node=NODES, visitor=VISITORS)
def test_no_counter_keeps_more_entries_than_the_history_has_events(
    node: dict[str, Any], visitor: dict[str, Any]
) -> None:
    audiences = audience_set([node])
    counts: dict[str, Any] = {}
    for ordinal, (at, event) in enumerate(visitor["history"]):
        audiences.count(counts, ordinal, at, event)
        assert all(len(entries) <= HISTORY_EVENTS for entries in counts.values())


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.just("\ud800"),
        st.just(10**400),
        st.just("9" * 500),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "c", "path", "query", "name"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ANY_EVENT = st.fixed_dictionaries(
    {"type": st.sampled_from(["page", "track"])},
    optional={
        "event": JSON,
        "properties": JSON,
        "context": JSON | st.fixed_dictionaries({}, optional={"page": JSON, "campaign": JSON}),
    },
)


@search(120)
@given(nodes=st.lists(NODES, max_size=4), events=st.lists(ANY_EVENT, max_size=4), traits=st.dictionaries(MEMBERS, JSON))
def test_no_json_in_events_or_traits_makes_a_decision_fail(
    nodes: list[dict[str, Any]], events: list[dict[str, Any]], traits: dict[str, Any]
) -> None:
    audiences = audience_set(nodes)
    counts: dict[str, Any] = {}
    audiences.recount(counts, [(ordinal, START, event) for ordinal, event in enumerate(events)])
    audiences.explain(Facts(traits, traits, 1, "unknown", counts, START, len(events)))
