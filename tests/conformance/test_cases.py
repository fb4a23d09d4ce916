"""Every case of sessions, identity, location and events, said to the WSGI app in-process."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from support import Server

from ninetailed_wsgi.contract.answers import differences
from tests.tables import by_id, check_each

from .cases import cases_in, files_of, load_cases

AREAS = ("sessions", "identity", "location", "events")
CASES = load_cases(*AREAS)


@pytest.mark.parametrize("file", files_of(*AREAS))
def test_each_case_of_a_file_is_answered_as_expected(cases_server: Server, file: str) -> None:
    check_each(by_id(cases_in(file)), lambda case: answered(cases_server, case))


def answered(cases_server: Server, case: dict[str, Any]) -> None:
    """Send the case's steps to an environment that nobody used yet; each answer is as the case expects."""
    api = cases_server.environment()
    answers: list[Any] = []
    for number, step in enumerate(case["steps"]):
        request, expected = step["request"], step["expect"]
        cases_server.clock.is_at(step["at"])
        options = {name: request[name] for name in ("headers",) if name in request}
        if "body" in request:
            answer = api.send(request["path"], request["body"], params=request.get("query"), **options)
        else:
            answer = api.request(request["method"], request["path"], params=request.get("query"), **options)
        answers.append(answer.json)
        problems = [*differences(expected["body"], answer.json, answers, "body")]
        if answer.status_code != expected["status"]:
            problems.insert(0, f"status: {answer.status_code}, expected {expected['status']}")
        assert not problems, f"{case['name']}; step {number}: {problems}; answer: {answer.text}"


@pytest.mark.parametrize("area", AREAS)
def test_an_area_has_cases(area: str) -> None:
    assert len(load_cases(area)) >= 20


def test_each_case_has_its_own_id_and_sentence_and_a_step_at_least() -> None:
    for member in ("id", "name"):
        assert [text for text, times in Counter(case[member] for case in CASES).items() if times > 1] == []
    assert all(case["steps"] for case in CASES)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {}),
        ({"a": {}}, {}),
        ({"a": None}, {}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": {"$absent": True}}, {"a": None}),
        ({"a": {"$any": True}}, {}),
        ({"$exactly": {}}, {"a": 1}),
        ({"$exactly": {"a": {}}}, {"a": {"b": 1}}),
        ({"a": {"$same": "/0/x~1y"}}, {"a": 6}),
        ({"a": {"$other": "/0/x~1y"}}, {"a": 5}),
        ({"a": {"$other": "/0/x~1y"}}, {}),
        ({"a": {"$matches": "^b"}}, {"a": "ab"}),
        ({"a": {"$near": 1.5}}, {"a": 1.51}),
    ],
)
def test_an_answer_that_differs_from_a_case_is_noticed(expected: Any, found: Any) -> None:
    assert [*differences(expected, found, [{"x/y": 5}], "body")]


def test_an_answer_may_have_more_than_a_case_names() -> None:
    expected = {
        "a": {"$absent": True},
        "b": {"$exactly": {"c": [1]}},
        "d": {"$same": "/0/x"},
        "e": {"$near": 1 / 3},
        "g": {"$any": True},
    }
    found = {"g": None, "b": {"c": [1]}, "d": 5, "e": 0.33333333, "f": 1}
    assert not [*differences(expected, found, [{"x": 5}], "body")]
