"""How an answer is held against a case: what a browser needs, names of each run's own, repeated items."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ninetailed_wsgi.contract.answers import Answer, document_of, unfit, unmet
from ninetailed_wsgi.contract.cases import Case, marked

ORIGIN = "https://shop.example"
ASKING = {"Origin": ORIGIN, "Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "A, b"}
LEAVE = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, delete",
    "access-control-allow-headers": "a,B",
}


def hidden(sent: dict[str, str], headers: dict[str, str], method: str = "OPTIONS") -> list[str]:
    step = {"request": {"method": method, "path": "/profiles", "headers": sent}, "expect": {"status": 204}}
    return unfit(step, Answer(204, headers, b""))


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({}, None),
        ({"access-control-allow-origin": ORIGIN}, None),
        ({"access-control-allow-methods": "*", "access-control-allow-headers": "*"}, None),
        ({"access-control-allow-origin": "https://other.example"}, "access-control-allow-origin: found https://other"),
        ({"access-control-allow-origin": f"{ORIGIN}, *"}, "access-control-allow-origin: found https://shop.example, *"),
        ({"access-control-allow-methods": "GET"}, "access-control-allow-methods: found GET, expected delete"),
        ({"access-control-allow-headers": "a, c"}, "access-control-allow-headers: found a, c, expected b"),
    ],
)
def test_a_page_of_another_origin_needs_leave_as_browsers_see_it(changed: dict[str, str], problem: str | None) -> None:
    problems = hidden(ASKING, LEAVE | changed)
    assert len(problems) == (problem is not None)
    assert problem is None or problem in problems[0]


@pytest.mark.parametrize("name", LEAVE)
def test_a_missing_header_is_said(name: str) -> None:
    (problem,) = hidden(ASKING, {key: value for key, value in LEAVE.items() if key != name})
    assert problem.startswith(f"headers.{name}: found nothing")


def test_a_simple_method_needs_no_leave_and_a_request_without_an_origin_needs_nothing() -> None:
    asking = {**ASKING, "Access-Control-Request-Method": "POST"}
    assert hidden(asking, {key: value for key, value in LEAVE.items() if "methods" not in key}) == []
    assert hidden({}, {}) == []


@pytest.mark.parametrize(
    ("headers", "body", "problem"),
    [
        ({"content-type": "text/html"}, b"{}", "headers.content-type: found text/html"),
        ({}, b"{}", "headers.content-type: found nothing"),
        ({"content-type": "application/json"}, b"<html>", "body: found no JSON"),
        (
            {"content-type": "application/json; charset=utf-8"},
            b"{}",
            "by the schema empty-response: data: found nothing",
        ),
    ],
)
def test_an_answer_is_json_of_its_schema(headers: dict[str, str], body: bytes, problem: str) -> None:
    step = {"request": {"method": "DELETE", "path": "/profiles/a"}, "expect": {"status": 200}}
    assert problem in unfit(step, Answer(200, headers, body))[0]


def test_status_and_body_are_compared_and_both_are_said() -> None:
    step = {"request": {}, "expect": {"status": 200, "body": {"a": 1}}}
    answer = Answer(201, {}, b"no JSON")
    assert unmet(step, answer, [document_of(answer)]) == [
        "status: found 201, expected 200",
        'body: found nothing, expected {"a": 1}',
    ]


def case(*steps: dict[str, Any]) -> Case:
    return Case("id", "area", "name", "", steps)


def test_every_name_gets_the_mark_of_the_run_and_what_was_expected_of_it_too() -> None:
    event = {"anonymousId": "a/b", "userId": "", "messageId": "m", "traits": {"id": "a/b"}}
    expected = {"profile": {"id": "a/b", "stableId": "other", "traits": {"name": "a/b"}}, "list": [{"id": "user"}]}
    step = {
        "request": {"path": "/profiles/a%2Fb", "body": {"events": [event, 5, {"userId": "user", "messageId": 7}]}},
        "expect": {"status": 200, "body": expected},
    }
    before = json.dumps(step)
    (told,) = marked(case(step), "x-")
    assert told["request"]["path"] == "/profiles/x-a%2Fb"
    assert told["request"]["body"]["events"] == [
        {"anonymousId": "x-a/b", "userId": "", "messageId": "x-m", "traits": {"id": "a/b"}},
        5,
        {"userId": "x-user", "messageId": 7},
    ]
    assert told["expect"]["body"] == {
        "profile": {"id": "x-a/b", "stableId": "other", "traits": {"name": "a/b"}},
        "list": [{"id": "x-user"}],
    }
    assert json.dumps(step) == before


@pytest.mark.parametrize("path", ["/profiles", "/profiles/", "/events", "/profiles/{/0/data/profile/id}"])
def test_a_path_without_a_name_stays(path: str) -> None:
    assert marked(case({"request": {"path": path}, "expect": {"status": 200}}), "x-")[0]["request"]["path"] == path


def test_repeated_items_are_written_out_with_their_numbers() -> None:
    body = {"events": [{"$repeat": 2, "item": {"messageId": "e#", "list": ["#", 1]}}, {"messageId": "#"}]}
    (step,) = marked(case({"request": {"path": "/events", "body": body}, "expect": {"status": 200}}), "x-")
    assert step["request"]["body"]["events"] == [
        {"messageId": "x-e1", "list": ["1", 1]},
        {"messageId": "x-e2", "list": ["2", 1]},
        {"messageId": "x-#"},
    ]
