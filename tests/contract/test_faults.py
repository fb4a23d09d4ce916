"""No fault of a server goes unnoticed: the command ends with 1 and names the case that caught it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIApplication

import pytest

from ninetailed_wsgi.contract import command
from tests.contract.faults import FAULTS, Ask, Fault, Reply, Request, with_fault
from tests.contract.servers import CASES, Told, behind_a_port, breaches, run_of, speaking_with


def with_cases_of_one_area(monkeypatch: pytest.MonkeyPatch, case: str) -> str:
    """Give the command the cases of this case's area, for the sake of time; the area."""
    area = next(one.area for one in CASES if one.id == case)
    monkeypatch.setattr(command, "load_cases", lambda: [one for one in CASES if one.area == area])
    return area


@pytest.mark.parametrize(
    ("fault", "case"), FAULTS.values(), ids=[f"{name}, by {case}" for name, (_, case) in FAULTS.items()]
)
def test_a_broken_server_is_caught(
    api: WSGIApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, case: str
) -> None:
    area = with_cases_of_one_area(monkeypatch, case)
    monkeypatch.setattr(command, "Target", lambda url, timeout: speaking_with(with_fault(api, fault)))
    told = Told("http://broken.example", tmp_path)
    assert told.status == 1
    assert case in told.failed()
    assert f"FAIL  {area}/{case}: " in told.out
    assert told.report["profiles"]["left"] == []


@pytest.mark.parametrize("name", ["changes missing", "no CORS header", "201 events at most"])
def test_a_broken_server_is_caught_over_http(
    api: WSGIApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fault, case = FAULTS[name]
    with_cases_of_one_area(monkeypatch, case)
    with behind_a_port(with_fault(api, fault)) as url:
        told = Told(url, tmp_path)
    assert told.status == 1
    assert case in told.failed()


def test_the_wrapper_alone_breaks_nothing(api: WSGIApplication) -> None:
    assert breaches([*run_of(with_fault(api, lambda ask: ask)).results(CASES)]) == []


def cases_of(*ids: str, **changed: Any) -> list[Any]:
    """These cases, with steps that wait no longer than ``within`` seconds."""
    return [
        replace(
            case, steps=[{**step, **{name: changed[name] for name in changed if name in step}} for step in case.steps]
        )
        for case in CASES
        if case.id in ids
    ]


def importing(order: Sequence[str]) -> Fault:
    """A server that keeps imports for later, and processes them when asked for a profile as ``order`` says."""
    waiting: list[Request] = []
    asked_for = iter(order)

    def spoilt(ask: Ask) -> Ask:
        def asked(request: Request) -> Reply:
            if request.path == "/import/events":
                waiting.append(request)
                return Reply(200, {"content-type": "application/json"}, {"data": {}, "error": None, "message": "ok"})
            if request.method == "GET" and next(asked_for, "") == "process":
                for imported in waiting:
                    ask(replace(imported, path="/events"))
            return ask(request)

        return asked

    return spoilt


def test_a_server_may_process_an_import_after_its_answer(api: WSGIApplication) -> None:
    app = with_fault(api, importing(["", "process"]))
    assert breaches([*run_of(app).results(cases_of("import-new"))]) == []


def test_a_server_that_loses_imports_is_caught_by_import_new(api: WSGIApplication) -> None:
    app = with_fault(api, importing([]))
    (breach,) = breaches([*run_of(app).results(cases_of("import-new", within=0.2))])
    assert breach.startswith("import-new: ['status: found 404, expected 200'")
