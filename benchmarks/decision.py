"""Measures the pure decision beside flagsmith-flag-engine and growthbook, on equivalent rules and attributes.

Run it with ``python benchmarks/decision.py`` after installing the ``bench`` extra. All contenders take turns in every
round, so that a busy machine slows all of them; the table shows the median of the rounds. Every contender gets its
rules compiled or parsed as far as it can keep them between visitors. The two others have no history: what our audiences
count, they are given as ready numbers.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flag_engine.engine import get_evaluation_result
from growthbook import GrowthBook

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ninetailed_wsgi.core.audiences import AudienceSet, Facts, compile_audience
from ninetailed_wsgi.core.experiences import ExperienceSet, compile_experience

ROUNDS = 40
SECONDS_PER_TURN = 0.01
NOW = 1_790_000_000_000
MINUTE = 60_000
STABLE_ID = "4f3c6c5f0a0f4a6e8b1d0c9b7a6958473625141302f1e0d9c8b7a69584736251"
TRAITS = {"plan": "pro", "age": 42, "email": "ann@shop.example", "newsletter": True}

Engine = Callable[[], object]
Test = tuple[str, str, str]  # attribute of the other engines, operator, value


def rule(kind: str, **members: Any) -> dict[str, Any]:
    return {"type": kind, **members}


def condition(key: str, operator: str, value: str) -> dict[str, Any]:
    return {"key": {"key": key}, "operator": operator, "value": value}


def audience(number: int) -> tuple[list[list[dict[str, Any]]], list[list[Test]]]:
    """Our rules and the tests of the other two, both as alternatives of rules that all have to hold."""
    plan = rule("identify", key="plan", operator="equal", value="pro"), ("plan", "equal", "pro")
    age = rule("identify", key="age", operator="greaterThan", value="30"), ("age", "greater", "30")
    email = rule("identify", key="email", operator="contains", value="@shop."), ("email", "contains", "@shop.")
    germany = rule("location", key="country", operator="equal", value="Germany"), ("country", "equal", "Germany")
    returning = rule("isReturningVisitor", value=True), ("sessions", "greater", "1")
    mobile = rule("device", conditions=[condition("type", "equal", "mobile")]), ("device", "equal", "mobile")
    path = condition("context_page_path", "contains", f"/pricing/{number // 10}")
    pricing = (
        rule("page", operator="greaterThan", count="1", conditions=[path]),
        (f"pricing{number // 10}", "greater", "1"),
    )
    bought = rule("track", value="purchase", operator="greaterThan", count="0"), ("purchases", "greater", "0")
    never_bought = rule("track", value="purchase", operator="lessThan", count="1"), ("purchases", "less", "1")
    week = [condition("context_page_path", "contains", "/blog"), condition("days", "equal", "7")]
    blog = rule("page", operator="greaterThan", count="2", conditions=week), ("blog_this_week", "greater", "2")
    alternatives = [
        [[pricing]],
        [[bought]],
        [[plan]],
        [[age]],
        [[germany]],
        [[returning]],
        [[mobile]],
        [[germany, plan], [bought, returning]],
        [[email, age]],
        [[blog, never_bought], [mobile, plan]],
    ][number % 10]
    return [[ours for ours, _ in group] for group in alternatives], [
        [test for _, test in group] for group in alternatives
    ]


def ours(number: int, events: int) -> Engine:
    """Our decision for a visitor with so many kept events: audiences, experiences, changes."""
    audiences = AudienceSet(
        compile_audience(f"audience-{index}", "", {"any": [{"all": group} for group in audience(index)[0]]})
        for index in range(number)
    )
    experiences = ExperienceSet(
        compile_experience(f"experience-{index}", "", "nt_experiment", f"audience-{index}", experiment(index))
        for index in range(number)
    )
    counts: dict[str, Any] = {}
    history = [(index, NOW - (events - index) * MINUTE, event(index)) for index in range(events)]
    audiences.recount(counts, history)

    def decide() -> object:
        facts = Facts(TRAITS, {"country": "Germany"}, 3, "mobile", counts, NOW, events)
        return experiences.select(STABLE_ID, audiences.matched(facts), {})

    return decide


def experiment(index: int) -> dict[str, Any]:
    component = {"baseline": {"id": f"entry-{index}"}, "variants": [{"id": f"other-{index}"}]}
    return {"traffic": 1, "distribution": [0.5, 0.5], "components": [component]}


def event(index: int) -> dict[str, Any]:
    if index % 10 == 9:
        return {"type": "track", "event": "purchase", "properties": {}}
    path = f"/pricing/{index % 7}" if index % 2 else f"/blog/{index}"
    return {"type": "page", "properties": {"path": path, "query": {}, "referrer": "", "search": "", "url": path}}


def attributes(number: int) -> dict[str, Any]:
    counted = {f"pricing{index}": 2 for index in range(1 + number // 10)}
    known = {"country": "Germany", "sessions": 3, "device": "mobile", "purchases": 2, "blog_this_week": 5}
    return {**TRAITS, **known, **counted, "id": STABLE_ID}


def flagsmith(number: int) -> Engine:
    """Segments that override a feature of two variants each."""
    operators = {"equal": "EQUAL", "greater": "GREATER_THAN", "less": "LESS_THAN", "contains": "CONTAINS"}

    def group(tests: list[Test]) -> dict[str, Any]:
        conditions = [
            {"property": name, "operator": operators[operator], "value": value} for name, operator, value in tests
        ]
        return {"type": "ALL", "conditions": conditions}

    def feature(index: int, enabled: bool) -> dict[str, Any]:
        variants = [
            {"value": f"entry-{index}", "weight": 50, "priority": 1},
            {"value": f"other-{index}", "weight": 50, "priority": 2},
        ]
        return {
            "key": str(index),
            "name": f"experience-{index}",
            "enabled": enabled,
            "value": None,
            "variants": variants,
        }

    context: Any = {
        "environment": {"key": "main", "name": "main"},
        "identity": {"identifier": STABLE_ID, "key": STABLE_ID, "traits": attributes(number)},
        "features": {f"experience-{index}": feature(index, False) for index in range(number)},
        "segments": {
            str(index): {
                "key": str(index),
                "name": f"audience-{index}",
                "rules": [
                    {"type": "ALL", "rules": [{"type": "ANY", "rules": [group(tests) for tests in audience(index)[1]]}]}
                ],
                "overrides": [feature(index, True)],
            }
            for index in range(number)
        },
    }
    return lambda: get_evaluation_result(context)


def growthbook(number: int) -> Engine:
    """Features with one experiment rule each, on one long-lived instance."""
    operators = {"equal": "$eq", "greater": "$gt", "less": "$lt", "contains": "$regex"}

    def test(name: str, operator: str, value: str) -> dict[str, Any]:
        wanted: str | int = int(value) if value.isdigit() else value.replace(".", "\\.")
        return {name: wanted if operator == "equal" else {operators[operator]: wanted}}

    def rules(index: int) -> list[dict[str, Any]]:
        condition = {"$or": [{"$and": [test(*one) for one in tests]} for tests in audience(index)[1]]}
        split = {"variations": [f"entry-{index}", f"other-{index}"], "weights": [0.5, 0.5], "coverage": 1}
        return [
            {"key": f"experience-{index}", "condition": condition, "hashAttribute": "id", "hashVersion": 2, **split}
        ]

    features = {f"experience-{index}": {"defaultValue": "", "rules": rules(index)} for index in range(number)}
    instance = GrowthBook(attributes=attributes(number), features=features)
    names = list(features)
    return lambda: [instance.eval_feature(name) for name in names]


def measure(engines: dict[str, Engine]) -> dict[str, float]:
    """Median microseconds of one decision of each engine."""
    repeats = {}
    for name, engine in engines.items():
        engine()
        started = time.perf_counter()
        engine()
        repeats[name] = max(1, int(SECONDS_PER_TURN / (time.perf_counter() - started)))
    turns: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            started = time.perf_counter()
            for _ in range(repeats[name]):
                engine()
            turns[name].append((time.perf_counter() - started) / repeats[name] * 1e6)
    return {name: statistics.median(values) for name, values in turns.items()}


def check_equivalence(number: int) -> None:
    """All three put the visitor into the same audiences; else the comparison would mean nothing."""
    items, _ = ours(number, 500)()  # type: ignore[misc]
    selected = {item["experienceId"] for item in items}
    segments = {f"experience-{one['name'][9:]}" for one in flagsmith(number)()["segments"]}  # type: ignore[index]
    results = growthbook(number)()
    assigned = {f"experience-{index}" for index, result in enumerate(results) if result.source == "experiment"}  # type: ignore[arg-type, var-annotated]
    if not selected == segments == assigned:
        raise SystemExit(f"not equivalent: {sorted(selected)} {sorted(segments)} {sorted(assigned)}")


def main() -> None:
    check_equivalence(10)
    medians = measure(
        {
            "ninetailed-wsgi, 500 kept events": ours(10, 500),
            "ninetailed-wsgi, no events": ours(10, 0),
            "flagsmith-flag-engine": flagsmith(10),
            "growthbook": growthbook(10),
            "ninetailed-wsgi, 200 audiences, 200 experiences": ours(200, 500),
        }
    )
    base = medians["ninetailed-wsgi, 500 kept events"]
    print(f"{'10 audiences, 10 experiments unless noted':50} {'µs':>8} {'ratio':>7}")
    for name, median in medians.items():
        print(f"{name:50} {median:8.1f} {median / base:7.2f}")
    fastest = min(medians["flagsmith-flag-engine"], medians["growthbook"])
    targets = {
        "times faster than the faster of the two (at least 3)": fastest / base,
        "500 kept events against none (at most 2)": base / medians["ninetailed-wsgi, no events"],
        "200 + 200 against 10 + 10 (under 20)": medians["ninetailed-wsgi, 200 audiences, 200 experiences"] / base,
    }
    print()
    for name, ratio in targets.items():
        print(f"{name:59} {ratio:7.2f}")


if __name__ == "__main__":
    main()
