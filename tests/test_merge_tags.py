"""Merge tags: which value of a profile a path means, and how text and rich text are filled in."""

from __future__ import annotations

import json
import math
import random
import shutil
import struct
import subprocess
from typing import Any

import pytest
from conformance.cases import load_cases

from ninetailed_wsgi.core.javascript import json_text, number_text
from ninetailed_wsgi.core.merge_tags import candidates, fill, render, resolve, text

PROFILE: dict[str, Any] = {
    "traits": {
        "first_name": "Anna",
        "first": {"name": "Ben", "nick": ""},
        "empty": "",
        "none": None,
        "zero": 0,
        "no": False,
        "list": [],
        "object": {},
        "tags": ["a", {"b": "c"}],
        "constructor": "x",
    },
    "location": {"city": "Graz"},
    "session": {"count": 3},
    "flat_name": "flat",
}


def test_underscores_are_turned_into_dots_from_the_left_one_after_another() -> None:
    assert [*candidates("a_b_c")] == ["a_b_c", "a.b_c", "a.b.c"]
    assert [*candidates("a.b")] == ["a.b"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("traits.first_name", "Anna"),
        ("traits_first_name", "Anna"),
        (" location.city ", "Graz"),
        ("session_count", 3),
        ("flat_name", "flat"),
        ("traits_first_nick", None),
        ("traits.empty", None),
        ("traits.none", None),
        ("traits.zero", None),
        ("traits.no", None),
        ("traits.list", []),
        ("traits.object", {}),
        ("traits.tags.0", "a"),
        ("traits.tags.1.b", "c"),
        ("traits.tags.2", None),
        ("traits.tags.length", None),
        ("traits.constructor", None),
        ("traits.first_name.length", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_the_first_candidate_that_leads_to_a_truthy_value_wins(path: str, value: object) -> None:
    assert resolve(PROFILE, path) == value


@pytest.mark.parametrize(
    ("path", "profile"),
    [(name, {name: "x"}) for name in ("__proto__", "prototype", "constructor")],
)
def test_names_that_javascript_keeps_for_itself_lead_nowhere(path: str, profile: dict[str, Any]) -> None:
    assert resolve(profile, path) is None


@pytest.mark.parametrize("case", load_cases("merge-tags"), ids=lambda case: case["id"])
def test_a_value_stands_in_a_page_as_javascript_prints_it(case: dict[str, Any]) -> None:
    assert text(case["value"]) == case["text"], case["name"]


@pytest.mark.parametrize(
    ("value", "number", "json"),
    [
        (float("nan"), "NaN", "null"),
        (float("inf"), "Infinity", "null"),
        (-(10**400), "-Infinity", "null"),
        (True, "1", "true"),
    ],
)
def test_numbers_that_json_does_not_have_are_printed_too(value: float, number: str, json: str) -> None:
    assert (number_text(value), json_text(value)) == (number, json)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_node_prints_numbers_the_same() -> None:
    drawn = random.Random(8)
    doubles = (struct.unpack("<d", drawn.randbytes(8))[0] for _ in range(20_000))
    numbers: list[float] = [number for number in doubles if number == number and abs(number) != math.inf]
    for exponent in range(-30, 31):
        near = 10.0**exponent
        numbers += [near, -near, math.nextafter(near, 0), math.nextafter(near, math.inf), drawn.random() * near]
    numbers += [round(drawn.random() * 10**size, places) for size in range(-3, 12) for places in range(12)]
    numbers += [drawn.randrange(-(10**size), 10**size) for size in range(1, 40)]
    program = "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0)).map(String)))"
    printed = subprocess.run(
        ["node", "-e", program], input=json.dumps(numbers), capture_output=True, text=True, check=True
    )
    for number, expected in zip(numbers, json.loads(printed.stdout), strict=True):
        assert number_text(number) == expected, number


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("Hello {{ name }}!", "Hello <name>!"),
        ("{{a}}{{b}}", "<a><b>"),
        ("{{a}} and {{ b.c }} end", "<a> and <b.c> end"),
        ("no braces", "no braces"),
        ("", ""),
        ("{{", "{{"),
        ("a {{ b", "a {{ b"),
        ("a }} b {{c}}", "a }} b <c>"),
        ("{{a}} {{ b", "<a> {{ b"),
        ("{{}}", "<>"),
        ("{a}", "{a}"),
    ],
)
def test_each_path_in_double_braces_is_filled_in(template: str, filled: str) -> None:
    assert fill(template, lambda path: f"<{path}>") == filled


def looked_up(path: str, fallback: str | None) -> str:
    return f"<{path}|{fallback}>"


def embedded(kind: str, fields: object) -> dict[str, Any]:
    return {"nodeType": kind, "content": [], "data": {"target": fields}}


def filled(path: str, fallback: str | None) -> dict[str, Any]:
    return {"nodeType": "text", "value": looked_up(path, fallback), "marks": [], "data": {}}


def test_text_is_filled_in_without_a_fallback_of_its_own() -> None:
    assert render("Hi {{ a }}", looked_up) == "Hi <a|None>"


@pytest.mark.parametrize(
    "tag", [{"fields": {"nt_mergetag_id": "a", "nt_fallback": "b"}}, {"nt_mergetag_id": "a", "nt_fallback": "b"}]
)
def test_an_embedded_merge_tag_becomes_text_inline_and_a_paragraph_as_a_block(tag: dict[str, Any]) -> None:
    inline, block = embedded("embedded-entry-inline", tag), embedded("embedded-entry-block", tag)
    document = {"nodeType": "document", "data": {}, "content": [{"nodeType": "paragraph", "content": [inline]}, block]}
    assert render(document, looked_up) == {
        "nodeType": "document",
        "data": {},
        "content": [
            {"nodeType": "paragraph", "content": [filled("a", "b")]},
            {"nodeType": "paragraph", "content": [filled("a", "b")], "data": {}},
        ],
    }


def test_a_merge_tag_needs_no_fallback_and_its_id_may_be_a_number() -> None:
    assert render(embedded("embedded-entry-inline", {"nt_mergetag_id": 5}), looked_up) == filled("5", None)


@pytest.mark.parametrize(
    "node",
    [
        5,
        None,
        {"nodeType": "text", "value": "{{ a }}", "marks": [], "data": {}},
        {"nodeType": "hyperlink", "data": {"target": {"nt_mergetag_id": "a"}}, "content": []},
        embedded("embedded-entry-inline", {"fields": {"title": "no merge tag"}}),
        embedded("embedded-entry-inline", None),
        {"nodeType": "embedded-entry-block", "data": None},
        {"nodeType": "embedded-entry-block"},
        {"value": [{"nodeType": "embedded-entry-inline", "data": {"target": {"nt_mergetag_id": "a"}}}]},
    ],
)
def test_everything_else_stays_as_it_is(node: object) -> None:
    assert render(node, looked_up) == node


def test_a_list_of_nodes_is_filled_in_one_by_one() -> None:
    assert render([embedded("embedded-entry-inline", {"nt_mergetag_id": "a"}), 5], looked_up) == [filled("a", None), 5]
