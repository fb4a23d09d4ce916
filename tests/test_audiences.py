from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.core.audiences import AudienceSet, ContentError, Facts, compile_audience
from ninetailed_wsgi.core.operators import LONGEST_MATCHED_TEXT, compile_test, text_of

DAY = 86_400_000
NOW = 1_790_000_000_000


def page(path: str = "/pricing", **members: Any) -> dict[str, Any]:
    return {"type": "page", "context": {}, "properties": {"path": path, "query": {}}, **members}


def track(name: str, **properties: Any) -> dict[str, Any]:
    return {"type": "track", "context": {}, "event": name, "properties": properties}


def condition(key: str, operator: str, value: object, parameter: str | None = None) -> dict[str, Any]:
    return {
        "key": {"key": key} if parameter is None else {"key": key, "value": parameter},
        "operator": operator,
        "value": value,
    }


def viewed(count: object = 1, *conditions: dict[str, Any], operator: str = "greaterThanInclusive") -> dict[str, Any]:
    return {"type": "page", "operator": operator, "count": count, "conditions": list(conditions)}


def trait(key: str, operator: str, value: object) -> dict[str, Any]:
    return {"type": "identify", "key": key, "operator": operator, "value": value}


def audience_set(*rules: dict[str, Any], **limits: int) -> AudienceSet:
    return AudienceSet(
        (compile_audience(f"audience-{index}", f"Audience {index}", rule) for index, rule in enumerate(rules)), **limits
    )


def facts(counts: dict[str, Any] | None = None, *, now: int = NOW, events: int = 0, **known: Any) -> Facts:
    members = {"traits": {}, "location": {}, "session_count": 1, "device": "unknown", **known}
    return Facts(**members, counts=counts or {}, now=now, next_ordinal=events)


def problems_of(rules: object) -> dict[str, str]:
    with pytest.raises(ContentError) as caught:
        compile_audience("broken", "Broken", rules)
    return dict(caught.value.problems)


# What is wrong with content


@pytest.mark.parametrize(
    ("rule", "path", "message"),
    [
        (
            {"type": "pge"},
            "type",
            'found "pge", expected one of page, track, identify, location, isReturningVisitor, device',
        ),
        ({}, "type", "found nothing, expected one of page"),
        ({"type": ["page"]}, "type", "found a list, expected one of page"),
        (trait("plan", "equls", "pro"), "operator", 'found "equls", expected one of equal, notEqual'),
        (trait("plan", 5, "pro"), "operator", "found 5, expected one of equal"),
        (trait("", "equal", "pro"), "key", 'found "", expected the name of a trait'),
        (trait("plan", "equal", None), "value", "found nothing, expected text, a number, true or false"),
        (trait("plan", "equal", ["pro"]), "value", "found a list, expected text, a number, true or false"),
        (
            {**trait("plan", "exists", ""), "conditions": [condition("days", "equal", 7)]},
            "conditions[0].key.key",
            'found "days"',
        ),
        (
            {"type": "location", "key": "town", "value": "Ulm"},
            "key",
            'found "town", expected one of continent, countryCode, city',
        ),
        ({"type": "location", "value": "Ulm"}, "key", "found nothing, expected one of continent"),
        ({"type": "track"}, "value", "found nothing, expected the name of an event, or *"),
        ({"type": "track", "value": ""}, "value", 'found "", expected the name of an event, or *'),
        (viewed("many"), "count", 'found "many", expected a number of events'),
        (viewed(True), "count", "found true, expected a number of events"),
        (viewed([2]), "count", "found a list, expected a number of events"),
        (viewed("1e400"), "count", 'found "1e400", expected a number of events'),
        (viewed(operator="contains"), "operator", 'found "contains", expected one of greaterThan'),
        (
            viewed(1, condition("context_page_title", "equal", "x")),
            "conditions[0].key.key",
            'found "context_page_title", expected one of',
        ),
        (viewed(1, condition("session_count", "equal", "x")), "conditions[0].key.key", 'found "session_count"'),
        (
            viewed(1, condition("context_page_path", "is", "x")),
            "conditions[0].operator",
            'found "is", expected one of equal',
        ),
        (
            viewed(1, condition("context_page_query", "equal", "x")),
            "conditions[0].key.value",
            'found "", expected the name of a query parameter',
        ),
        (
            viewed(1, condition("properties", "equal", "x", "")),
            "conditions[0].key.value",
            'found "", expected the name of a property',
        ),
        (
            viewed(1, condition("days", "equal", "soon")),
            "conditions[0].value",
            'found "soon", expected a number of days above 0',
        ),
        (viewed(1, condition("days", "equal", 0)), "conditions[0].value", "found 0, expected a number of days above 0"),
        (viewed(1, condition("days", "within", 7)), "conditions[0].operator", 'found "within"'),
        ({"type": "page", "conditions": "x"}, "conditions", 'found "x", expected a list'),
        ({"type": "page", "conditions": ["x"]}, "conditions[0]", 'found "x", expected an object'),
        (
            {"type": "page", "conditions": [{}]},
            "conditions[0].key.key",
            "found nothing, expected the name of a condition",
        ),
        ({"type": "isReturningVisitor", "value": "yes"}, "value", 'found "yes", expected true or false'),
        (
            {"type": "isReturningVisitor", "value": True, "operator": "contains"},
            "operator",
            'found "contains", expected one of equal, notEqual',
        ),
        (
            {"type": "isReturningVisitor", "conditions": [condition("count", "equal", 1)]},
            "conditions[0].key.key",
            'found "count", expected session_count',
        ),
        ({"type": "device"}, "conditions", "found nothing, expected a condition with the key type"),
        (
            {"type": "device", "conditions": [condition("kind", "equal", "mobile")]},
            "conditions[0].key.key",
            'found "kind", expected type',
        ),
        (
            {"type": "device", "conditions": [condition("type", "equal", "phone")]},
            "conditions",
            'found "phone", expected one of desktop, mobile',
        ),
        (
            trait("plan", "matches", "("),
            "value",
            'found "(", expected a regular expression that RE2 can run, but missing )',
        ),
        (trait("plan", "matches", "(?=a)"), "value", "invalid perl operator: (?="),
        (trait("plan", "regex", r"(a)\1"), "value", r"invalid escape sequence: \1"),
        (trait("plan", "matches", "((a{9}){9}){9}" * 9), "value", "at most 3000 are allowed"),
        (trait("plan", "matches", "\ud800"), "value", "half of a surrogate pair"),
    ],
)
def test_a_mistake_in_a_rule_is_named_with_its_place_and_what_was_expected(
    rule: dict[str, Any], path: str, message: str
) -> None:
    found = problems_of({"any": [{"all": [trait("plan", "exists", ""), rule]}]})
    assert list(found) == [f"any[0].all[1].{path}"]
    assert message in found[f"any[0].all[1].{path}"]


@pytest.mark.parametrize(
    ("rules", "path", "message"),
    [
        ([], "rules", "found a list, expected an object with any, all or type"),
        ("any", "rules", 'found "any", expected an object'),
        ({"any": 5}, "any", "found 5, expected a list"),
        ({"any": {"all": {"type": "pages"}}}, "any[0].all[0].type", 'found "pages", expected one of page'),
        ({"any": None}, "any", "found nothing, expected a list"),
        ({"any": [{"all": [5]}]}, "any[0].all[0]", "found 5, expected an object"),
        ({"any": [None]}, "any[0]", "found nothing, expected an object"),
        ({"any": [], "all": []}, "rules", "expected either any or all"),
    ],
)
def test_a_mistake_in_the_groups_is_named_with_its_place(rules: object, path: str, message: str) -> None:
    assert message in problems_of(rules)[path]


def test_every_mistake_of_an_audience_is_reported_at_once() -> None:
    rules = {
        "any": [{"all": [trait("plan", "equls", "pro"), viewed("x", condition("nowhere", "is", []))]}, {"all": [{}]}, 5]
    }
    assert list(problems_of(rules)) == [
        "any[0].all[0].operator",
        "any[0].all[1].count",
        "any[0].all[1].conditions[0].key.key",
        "any[0].all[1].conditions[0].operator",
        "any[0].all[1].conditions[0].value",
        "any[1].all[0].type",
        "any[2]",
    ]


def test_the_error_tells_the_first_mistake_by_itself() -> None:
    with pytest.raises(ContentError) as caught:
        compile_audience("broken", "Broken", {"all": [{"type": "x"}, {"type": "y"}]})
    assert caught.value.path == "all[0].type"
    assert caught.value.message.startswith('found "x", expected one of')
    assert "all[1].type: found" in str(caught.value)


def test_groups_nested_without_end_are_refused_and_do_not_exhaust_the_stack() -> None:
    rules: dict[str, Any] = trait("plan", "exists", "")
    for _ in range(5000):
        rules = {"any": [rules]}
    assert "at most 50 groups inside each other" in next(iter(problems_of(rules).values()))


def test_a_condition_key_may_be_plain_text() -> None:
    audiences = audience_set(viewed(1, {"key": "context_page_path", "operator": "equal", "value": "/pricing"}))
    counts: dict[str, Any] = {}
    audiences.count(counts, 0, NOW, page())
    assert audiences.matched(facts(counts, events=1)) == ["audience-0"]


def test_two_audiences_of_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="same id"):
        AudienceSet([compile_audience("a", "", {}), compile_audience("a", "", {})])


# Values as text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        # Left: JSON values; right: what JavaScript's String() makes of them.
        (True, "true"),
        (False, "false"),
        (5, "5"),
        (5.0, "5"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (1e15, "1000000000000000"),
        (1e16, "10000000000000000"),
        (123456789012345680000.0, "123456789012345680000"),
        (1e21, "1e+21"),
        (-1.5e300, "-1.5e+300"),
        (0.0001, "0.0001"),
        (0.00001, "0.00001"),
        (1.25e-6, "0.00000125"),
        (1e-7, "1e-7"),
        (-1.5e-10, "-1.5e-10"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (2.0**53, "9007199254740992"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        (float("nan"), "NaN"),
        (0.5, "0.5"),
        (1.25e20, "125000000000000000000"),
        (-0.000012, "-0.000012"),
        # Whole numbers keep all digits that were sent.
        (9007199254740993, "9007199254740993"),
        ("5.0", "5.0"),
        (None, None),
        ([], None),
        ({}, None),
    ],
)
def test_a_value_is_compared_through_the_text_that_javascript_writes(value: object, text: str | None) -> None:
    assert text_of(value) == text


def test_a_number_too_long_to_be_written_equals_nothing() -> None:
    assert text_of(10**5000) is None


# Regular expressions


def test_a_regular_expression_never_matches_text_beyond_its_bound() -> None:
    matches = compile_test("matches", "a$")
    assert matches("b" * (LONGEST_MATCHED_TEXT - 1) + "a")
    assert not matches("b" * LONGEST_MATCHED_TEXT + "a")


def test_half_of_a_surrogate_pair_matches_no_regular_expression() -> None:
    assert not compile_test("matches", ".*")("\ud800")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(?:[ab]*a[ab]{900}c|x)", "([ab]{1,30}){30}c", "(.*a){20}$"])
def test_patterns_that_hang_other_engines_are_decided_quickly(pattern: str) -> None:
    matches = compile_test("matches", pattern)
    text = ("ab" * LONGEST_MATCHED_TEXT)[: LONGEST_MATCHED_TEXT - 1] + "!"
    started = time.process_time()
    assert not matches(text)
    assert time.process_time() - started < 10  # others never end


# Counting


def test_events_in_the_order_of_their_times_leave_as_many_entries_as_the_rule_asks_for() -> None:
    audiences = audience_set(viewed(3))
    counts: dict[str, Any] = {}
    for ordinal in range(400):
        audiences.count(counts, ordinal, NOW + ordinal, page())
    (entries,) = counts.values()
    assert entries == [[397, NOW + 397], [398, NOW + 398], [399, NOW + 399]]


@pytest.mark.parametrize(
    ("operator", "count", "kept"),
    [
        ("greaterThanInclusive", "3", 3),
        ("greaterThan", "3", 4),
        ("lessThan", "3", 3),
        ("lessThanInclusive", "3", 4),
        ("equal", "3", 4),
        ("notEqual", "3", 4),
        ("greaterThanInclusive", "2.5", 3),
        ("greaterThan", "2.5", 3),
        ("greaterThan", "-5", 1),
    ],
)
def test_no_more_entries_are_kept_than_decide_the_comparison(operator: str, count: str, kept: int) -> None:
    audiences = audience_set(viewed(count, operator=operator))
    counts: dict[str, Any] = {}
    for ordinal in range(20):
        audiences.count(counts, ordinal, NOW, page())
    (entries,) = counts.values()
    assert len(entries) == kept


def test_rules_that_count_the_same_share_one_counter() -> None:
    path, query = condition("context_page_path", "contains", "x"), condition("context_page_query", "exists", "", "q")
    week = condition("days", "equal", 7)
    audiences = audience_set(viewed(2, path, query), viewed("2", query, path, path), viewed(2, path, query, week))
    counts: dict[str, Any] = {}
    audiences.count(counts, 0, NOW, {"type": "page", "properties": {"path": "x", "query": {"q": ""}}})
    assert len(counts) == 1


def test_rules_that_count_different_things_do_not_share_a_counter() -> None:
    rules = [
        viewed(2),
        viewed(3),
        viewed(2, condition("properties", "exists", "", "a")),
        viewed(2, condition("properties", "exists", "", "b")),
        viewed(2, condition("context_page_query", "exists", "", "a")),
        viewed(2, condition("properties", "equal", "1", "a")),
        viewed(2, condition("properties", "contains", "1", "a")),
        {"type": "track", "value": "*", "count": 2},
        {"type": "track", "value": "buy", "count": 2},
    ]
    counters = {audience.counters[0].key for audience in audience_set(*rules).audiences}
    assert len(counters) == len(rules)


def test_an_event_that_no_rule_counts_changes_nothing() -> None:
    audiences = audience_set(
        {"type": "track", "value": "buy"}, viewed(1, condition("context_page_path", "equal", "/x"))
    )
    counts: dict[str, Any] = {}
    for event in (page(), track("sell"), {"type": "component"}, {"type": "track", "event": ["buy"]}):
        audiences.count(counts, 0, NOW, event)
    assert counts == {}


def test_the_newest_events_alone_count_whatever_their_type() -> None:
    audiences = audience_set(viewed(1), history_events=3)
    counts: dict[str, Any] = {}
    audiences.count(counts, 0, NOW, page())
    assert audiences.matched(facts(counts, events=3)) == ["audience-0"]
    assert audiences.matched(facts(counts, events=4)) == []


def test_an_event_counts_until_the_history_ends_just_before_it() -> None:
    audiences = audience_set(viewed(3), history_events=3)
    counts: dict[str, Any] = {}
    for ordinal in range(5):
        audiences.count(counts, ordinal, NOW, page())
        assert audiences.matched(facts(counts, events=ordinal + 1)) == (["audience-0"] if ordinal >= 2 else [])


def test_a_counter_keeps_no_more_entries_than_the_history_has_events() -> None:
    audiences = audience_set(viewed(1000), history_events=5)
    counts: dict[str, Any] = {}
    for ordinal in range(50):
        audiences.count(counts, ordinal, NOW, page())
    assert [len(entries) for entries in counts.values()] == [5]


def test_events_that_arrive_late_with_early_times_push_out_no_entry_that_lasts_longer() -> None:
    audiences = audience_set(viewed(1), viewed(1, condition("days", "equal", 3)), history_events=2)
    counts: dict[str, Any] = {}
    audiences.count(counts, 0, NOW, page())
    audiences.count(counts, 1, NOW - 5 * DAY, page())
    assert audiences.matched(facts(counts, events=2)) == ["audience-0", "audience-1"]
    assert audiences.matched(facts(counts, events=3)) == ["audience-0"]
    assert audiences.matched(facts(counts, events=2, now=NOW + 4 * DAY)) == ["audience-0"]


def test_the_history_of_a_recount_may_come_in_any_order() -> None:
    audiences = audience_set(viewed(1), history_events=2)
    counts: dict[str, Any] = {}
    audiences.recount(counts, [(1, NOW - 5 * DAY, page()), (0, NOW, page())])
    assert audiences.matched(facts(counts, events=3)) == ["audience-0"]


def test_the_days_of_the_history_are_configurable_and_include_the_last_millisecond() -> None:
    audiences = audience_set(viewed(1), history_days=3)
    counts: dict[str, Any] = {}
    audiences.count(counts, 0, NOW - 3 * DAY, page())
    assert audiences.matched(facts(counts, events=1)) == ["audience-0"]
    assert audiences.matched(facts(counts, events=1, now=NOW + 1)) == []


def test_a_profile_that_was_never_counted_needs_a_recount() -> None:
    audiences = audience_set(viewed(1))
    counts: dict[str, Any] = {}
    assert audiences.missing(counts)
    audiences.recount(counts, [])
    assert not audiences.missing(counts)


def test_an_audience_published_today_counts_the_visits_of_yesterday() -> None:
    history = [(0, NOW - DAY, page("/a")), (1, NOW - DAY, page("/b"))]
    before, after = (
        audience_set(viewed(2)),
        audience_set(viewed(2), viewed(1, condition("context_page_path", "equal", "/a"))),
    )
    counts: dict[str, Any] = {}
    before.recount(counts, history)
    assert after.missing(counts)
    after.recount(counts, history)
    assert not after.missing(counts)
    assert after.matched(facts(counts, events=2)) == ["audience-0", "audience-1"]


def test_counters_that_no_rule_uses_any_more_are_dropped() -> None:
    counts: dict[str, Any] = {}
    audience_set(viewed(1), viewed(2)).recount(counts, [(0, NOW, page())])
    audience_set(viewed(1)).recount(counts, [(0, NOW, page())])
    assert sum(isinstance(value, list) for value in counts.values()) == 1
    without = audience_set(trait("plan", "exists", ""))
    assert without.missing(counts)
    without.recount(counts, [])
    assert counts == {}
    assert not without.missing(counts)


def test_a_change_to_rules_that_count_nothing_needs_no_recount() -> None:
    counts: dict[str, Any] = {}
    audience_set(viewed(1)).recount(counts, [])
    changed = audience_set(trait("plan", "equal", "pro"), viewed(1, operator="greaterThanInclusive"))
    assert not changed.missing(counts)


def test_counters_have_the_same_names_in_every_process() -> None:
    rule = viewed(2, condition("context_page_path", "contains", "/a"), condition("properties", "equal", 5, "b"))
    code = f"""
from ninetailed_wsgi.core.audiences import compile_audience
print(compile_audience("a", "", {rule!r}).counters[0].key)
"""
    root = Path(__file__).parent.parent
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert printed == compile_audience("a", "", rule).counters[0].key


# Reasons


def test_explain_tells_for_each_rule_what_was_found_and_what_was_wanted() -> None:
    rules = {
        "any": [
            {
                "all": [
                    viewed("2", condition("context_page_path", "contains", "/pricing"), condition("days", "equal", 7)),
                    trait("plan", "equal", "pro"),
                ]
            },
            {
                "all": [
                    {
                        "type": "isReturningVisitor",
                        "value": True,
                        "conditions": [condition("session_count", "greaterThan", 2)],
                    }
                ]
            },
            {"all": [{"type": "track", "value": "buy", "operator": "lessThan", "count": 1}]},
            {"all": [{"type": "location", "key": "city", "operator": "equal", "value": "Ulm"}]},
            {"all": [{"type": "device", "conditions": [condition("type", "notEqual", "mobile")]}]},
        ]
    }
    audiences = AudienceSet([compile_audience("a", "An audience", rules)])
    counts: dict[str, Any] = {}
    audiences.count(counts, 0, NOW, page())
    known = facts(counts, events=1, traits={"plan": "pro"}, location={}, session_count=2, device="mobile")
    window = 'page events where context_page_path contains "/pricing" in the last 7 days: greaterThanInclusive 2'
    sessions = 'session_count greaterThan 1 and session_count greaterThan "2"'
    assert audiences.explain(known) == [
        {
            "id": "a",
            "name": "An audience",
            "matched": True,
            "groups": [
                {
                    "held": False,
                    "rules": [
                        {"type": "page", "held": False, "found": 1, "wanted": window},
                        {"type": "identify", "held": True, "found": "pro", "wanted": 'trait "plan" equal "pro"'},
                    ],
                },
                {
                    "held": False,
                    "rules": [{"type": "isReturningVisitor", "held": False, "found": 2, "wanted": sessions}],
                },
                {
                    "held": True,
                    "rules": [
                        {"type": "track", "held": True, "found": 0, "wanted": 'track events named "buy": lessThan 1'}
                    ],
                },
                {
                    "held": False,
                    "rules": [{"type": "location", "held": False, "found": None, "wanted": 'city equal "Ulm"'}],
                },
                {
                    "held": False,
                    "rules": [
                        {"type": "device", "held": False, "found": "mobile", "wanted": 'device notEqual "mobile"'}
                    ],
                },
            ],
        }
    ]


def test_explain_says_where_more_events_may_count_than_were_worth_keeping() -> None:
    audiences = audience_set(viewed(2))
    counts: dict[str, Any] = {}
    for ordinal in range(5):
        audiences.count(counts, ordinal, NOW, page())
    (explained,) = audiences.explain(facts(counts, events=5))
    (rule,) = explained["groups"][0]["rules"]
    assert (rule["found"], rule["at_least"], rule["held"]) == (2, True, True)


def test_explain_shows_deeper_groups_in_place_of_rules() -> None:
    inner = {"any": [trait("a", "exists", ""), trait("b", "exists", "")]}
    (explained,) = audience_set({"all": [trait("c", "exists", ""), inner]}).explain(facts(traits={"b": 1, "c": 1}))
    assert explained["matched"]
    rule, group = explained["groups"][0]["rules"]
    assert rule["wanted"] == 'trait "c" exists'
    assert (group["kind"], group["held"], [one["held"] for one in group["rules"]]) == ("any", True, [False, True])


def test_explain_of_an_audience_without_rules_says_that_it_does_not_match() -> None:
    assert audience_set({}).explain(facts()) == [
        {"id": "audience-0", "name": "Audience 0", "matched": False, "groups": []}
    ]


def test_reasons_can_be_written_as_json() -> None:
    rules = {"any": [{"all": [viewed(1), trait("a", "exists", "")]}, {"all": []}]}
    assert json.dumps(audience_set(rules).explain(facts(traits={"a": {"b": [1, None]}})))


# Many audiences


def compiled_in(number: int) -> tuple[AudienceSet, float]:
    """That many audiences, half of them of traits and half of pages, and the processor time that compiling takes."""
    start = time.process_time()
    rules = [
        trait("number", "equal", str(index))
        if index % 2
        else viewed(1, condition("context_page_path", "equal", f"/{index}"))
        for index in range(number)
    ]
    return audience_set(*rules), time.process_time() - start


def test_ten_thousand_audiences_decide_and_compile_in_proportion() -> None:
    _, few = compiled_in(1_000)
    audiences, many = compiled_in(10_000)
    counts: dict[str, Any] = {}
    audiences.count(counts, 0, NOW, page("/9998"))
    assert audiences.matched(facts(counts, events=1, traits={"number": 9999})) == ["audience-9998", "audience-9999"]
    assert many < 50 * few, "in proportion it is 10 times as much; with the square of their number 100 times"
