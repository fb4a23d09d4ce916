"""Every case of fixtures/cases/results: what visitors report and do, and what comes of it; no store, no HTTP."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.content.compiling import compile_content
from ninetailed_wsgi.content.formats.generic import read_generic
from ninetailed_wsgi.contract.answers import differences
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.events import ServedComponent
from ninetailed_wsgi.core.exposures import report_of, served_report
from ninetailed_wsgi.insights.results import DAY, Period, Tally
from ninetailed_wsgi.insights.scan import experiments_of

FILES = sorted((Path(__file__).parents[2] / "fixtures" / "cases" / "results").glob("*.json"))
CASES = [case for file in FILES for case in json.loads(file.read_text(encoding="utf-8"))["cases"]]
NOW = "2026-01-31T00:00:00Z"
MEMBERS = {"channel": "web", "context": {"library": {"name": "cases", "version": "1.0.0"}}}


def milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


class Story:
    """Profiles in memory, changed by the functions that change stored ones."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.catalog = self._compiled(content)
        self.records: dict[str, profile.Record] = {}
        self.history: dict[str, list[tuple[int, int, dict[str, Any]]]] = {}
        self.outcomes: list[str] = []

    def _compiled(self, content: dict[str, Any]) -> Catalog:
        catalog = compile_content(read_generic(content, "case"))
        assert catalog.errors == ()
        return catalog

    def step(self, step: dict[str, Any]) -> None:
        if "publish" in step:
            self.catalog = self._compiled(step["publish"])
        elif "delete" in step:
            del self.records[step["delete"]]
        elif "merge" in step:
            canonical, other = step["merge"]
            self.records[canonical] = profile.merge(self.records[canonical], self.records.pop(other))
            self.history[canonical] = sorted(self.history[canonical] + self.history[other], key=lambda entry: entry[1])
        elif "served" in step:
            self._served(step["visitor"], milliseconds(step["at"]), ServedComponent(*step["served"]))
        else:
            self._event(step["visitor"], milliseconds(step["at"]), step["event"], step.get("api", False))

    def _event(self, visitor: str, at: int, event: dict[str, Any], api: bool) -> None:
        record = self.records.setdefault(visitor, profile.new_record(visitor))
        history = self.history.setdefault(visitor, [])
        if self.catalog.metrics.missing(record):
            self.catalog.metrics.recount(record, history)
        if event["type"] in ("track", "identify"):
            record["traits"].update(event.get("traits", {}))
            self.catalog.metrics.count(record, at, event)
            history.append((len(history), at, event))
            return
        if not schemas().is_valid("insights-event", {**MEMBERS, **event}):
            self.outcomes.append("invalid")
            return
        report = report_of(event, at, direct=not api)
        assert report is not None  # what the schema lets pass can be read
        belongs = partial(self.catalog.audiences.holds, profile.facts(record, len(history), at))
        self.outcomes.append(self.catalog.exposures.note(record, report, record["sticky"], belongs))
        if event.get("sticky"):
            record["sticky"].setdefault(event["experienceId"], event["variantIndex"])

    def _served(self, visitor: str, at: int, served: ServedComponent) -> None:
        record = self.records.setdefault(visitor, profile.new_record(visitor))
        facts = profile.facts(record, len(self.history.setdefault(visitor, [])), at)
        belongs = partial(self.catalog.audiences.holds, facts)
        report = served_report(served, at)
        self.outcomes.append(self.catalog.exposures.note(record, report, record["sticky"], belongs))

    def results(self, metric: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
        now = milliseconds(NOW)
        since, until = asked.get("from"), asked.get("to")
        period = Period(
            milliseconds(since) if since else 0,
            milliseconds(until) if until else now,
            asked.get("windowDays"),
            since is not None,
        )
        tally = Tally(experiments_of(self.catalog, None, metric), period)
        for visitor, record in self.records.items():
            if self.catalog.metrics.missing(record):
                self.catalog.metrics.recount(record, self.history[visitor])
            if tally.concerns(record):
                tally.add(record)
        return [result.document(now) for result in tally.results()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_case_has_the_expected_results(case: dict[str, Any]) -> None:
    story = Story(case["content"])
    for step in case["steps"]:
        story.step(step)
    results = story.results(case["metric"], case.get("period", {}))
    assert not [*differences(case["expect"], results, [], "results")], case["name"]
    if "outcomes" in case:
        assert story.outcomes == case["outcomes"], case["name"]


def test_each_case_has_its_own_id_and_sentence() -> None:
    assert len(CASES) >= 50
    for member in ("id", "name"):
        assert len({case[member] for case in CASES}) == len(CASES)


def test_a_window_is_counted_in_days() -> None:
    assert DAY == 86_400_000
