"""Measures the pure decision beside the engines of Flagsmith, GrowthBook and flagd, on equivalent rules and attributes.

Run it with ``python benchmarks/decision.py`` after installing the ``bench`` extra. All contenders take turns in every
round, so that a busy machine slows all of them; the table shows the median of the rounds. Every contender gets its
rules compiled or parsed as far as it can keep them between visitors. The others have no history: what our audiences
count, they are given as ready numbers.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import Any

from flag_engine.engine import get_evaluation_result
from growthbook import GrowthBook
from report import Part, Target, table
from scenario import TRAITS, Test, attributes, audience, audience_rules, experiment

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ninetailed_wsgi.core.audiences import AudienceSet, Facts, compile_audience
from ninetailed_wsgi.core.experiences import SELECTIONS_KEPT, ExperienceSet, compile_experience

ROUNDS = 40
SECONDS_PER_TURN = 0.01
NOW = 1_790_000_000_000
MINUTE = 60_000
STABLE_ID = "4f3c6c5f0a0f4a6e8b1d0c9b7a6958473625141302f1e0d9c8b7a69584736251"

Engine = Callable[[], object]


def ours(number: int, events: int) -> Engine:
    """Our decision for a visitor with so many kept events: audiences, experiences, changes."""
    audiences = AudienceSet(compile_audience(f"audience-{index}", "", audience_rules(index)) for index in range(number))
    experiences = ExperienceSet(
        compile_experience(f"experience-{index}", "", "nt_experiment", f"audience-{index}", experiment(index))
        for index in range(number)
    )
    counts: dict[str, Any] = {}
    history = [(index, NOW - (events - index) * MINUTE, event(index)) for index in range(events)]
    audiences.recount(counts, history)

    # More visitors than selections are remembered of: each decision hashes, as the others' do.
    visitors = cycle(f"{STABLE_ID}-{index}" for index in range(2 * SELECTIONS_KEPT))

    def decide() -> object:
        facts = Facts(TRAITS, {"country": "Germany"}, 3, "mobile", counts, NOW, events)
        return experiences.select(next(visitors), audiences.matched(facts), {})

    return decide


def event(index: int) -> dict[str, Any]:
    if index % 10 == 9:
        return {"type": "track", "event": "purchase", "properties": {}}
    path = f"/pricing/{index % 7}" if index % 2 else f"/blog/{index}"
    return {"type": "page", "properties": {"path": path, "query": {}, "referrer": "", "search": "", "url": path}}


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
        "identity": {"identifier": STABLE_ID, "key": STABLE_ID, "traits": attributes(number, STABLE_ID)},
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
    instance = GrowthBook(attributes=attributes(number, STABLE_ID), features=features)
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
    """All put the visitor into the same audiences; else the comparison would mean nothing."""
    items, _ = ours(number, 500)()  # type: ignore[misc]
    selected = {item["experienceId"] for item in items}
    segments = {f"experience-{one['name'][9:]}" for one in flagsmith(number)()["segments"]}  # type: ignore[index]
    results = growthbook(number)()
    assigned = {f"experience-{index}" for index, result in enumerate(results) if result.source == "experiment"}  # type: ignore[arg-type, var-annotated]
    flags = {f"experience-{index}" for index, result in enumerate(flagd(number)()) if result.value}  # type: ignore[arg-type, var-annotated]
    if not selected == segments == assigned == flags:
        sets = [sorted(each) for each in (selected, segments, assigned, flags)]
        raise SystemExit(f"not equivalent: {sets}")


def flagd(number: int) -> Engine:
    """Flags with targeting in JsonLogic and a split, in flagd's provider for OpenFeature that decides in-process."""
    from openfeature import api
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType
    from openfeature.evaluation_context import EvaluationContext

    operators = {"equal": "==", "greater": ">", "less": "<"}

    def test(name: str, operator: str, value: str) -> dict[str, Any]:
        wanted: str | int = int(value) if value.isdigit() else value
        variable = {"var": name}
        return {"in": [wanted, variable]} if operator == "contains" else {operators[operator]: [variable, wanted]}

    def flag(index: int) -> dict[str, Any]:
        condition = {"or": [{"and": [test(*one) for one in tests]} for tests in audience(index)[1]]}
        split = {"fractional": [{"var": "targetingKey"}, ["entry", 50], ["other", 50]]}
        variants = {"entry": f"entry-{index}", "other": f"other-{index}", "none": ""}
        return {
            "state": "ENABLED",
            "variants": variants,
            "defaultVariant": "none",
            "targeting": {"if": [condition, split, "none"]},
        }

    file = Path(tempfile.mkdtemp(prefix="benchmark-flagd-"), "flags.json")
    file.write_text(json.dumps({"flags": {f"experience-{index}": flag(index) for index in range(number)}}))
    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(file))
    api.set_provider_and_wait(provider) if hasattr(api, "set_provider_and_wait") else api.set_provider(provider)
    client = api.get_client()
    known = {name: value for name, value in attributes(number, STABLE_ID).items() if name != "id"}
    context = EvaluationContext(STABLE_ID, known)
    names = [f"experience-{index}" for index in range(number)]
    return lambda: [client.get_string_details(name, "", context) for name in names]


PEERS = {"flagsmith-flag-engine": flagsmith, "growthbook": growthbook, "openfeature-provider-flagd": flagd}


def main() -> None:
    print(part())


def part() -> Part:
    peers = {f"{name} {version(name)}": make(10) for name, make in PEERS.items()}
    check_equivalence(10)
    medians = measure(
        {
            "ninetailed-wsgi, 500 kept events": ours(10, 500),
            "ninetailed-wsgi, no events": ours(10, 0),
            **peers,
            "ninetailed-wsgi, 200 audiences, 200 experiences": ours(200, 500),
        }
    )
    base = medians["ninetailed-wsgi, 500 kept events"]
    rows = [(name, f"{median:.1f}", f"{median / base:.2f}") for name, median in medians.items()]
    head = ("the decision alone, in-process; 10 audiences, 10 experiments unless noted", "µs", "ratio")
    fastest = min(medians[name] for name in peers)
    without = medians["ninetailed-wsgi, no events"]
    many = medians["ninetailed-wsgi, 200 audiences, 200 experiences"]
    wanted = [
        Target("decision: times faster than the fastest other engine", True, 3, fastest / base),
        Target("decision: 500 kept events against none", False, 2, base / without),
        Target("decision: 200 audiences and experiences against 10", False, 12, many / base),
    ]
    return Part(table(head, rows), wanted, {"decision": base, **{name: medians[name] for name in peers}})


if __name__ == "__main__":
    main()
