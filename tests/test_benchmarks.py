"""The benchmarks as judges: what they call met or missed."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import bench
import instructions
import page
from report import Target, put, targets


@pytest.mark.parametrize(("now", "kept"), [(1000, True), (1100, True), (1101, False), (500, True)])
def test_an_operation_may_take_a_tenth_more_instructions_than_its_baseline(now: int, kept: bool) -> None:
    [line], found = instructions.compared({"a get": now}, {"a get": 1000})
    assert found is kept
    assert ("too many" in line) is not kept


def test_an_operation_may_take_no_more_than_its_multiple_of_another() -> None:
    now = {name: 1000 for pair in instructions.RATIOS for name in pair}
    assert instructions.related(now)[1]
    name, other = next(iter(instructions.RATIOS))
    lines, kept = instructions.related({**now, name: 1301})
    assert not kept
    assert [line for line in lines if "too many" in line] == [f"{name}: 1.30 times {other}, at most 1.3  too many"]


def test_an_operation_that_the_baseline_does_not_know_is_no_failure() -> None:
    assert instructions.compared({"a get": 1000}, {})[1]


@pytest.mark.parametrize(
    ("at_least", "measured", "verdict"),
    [(True, 0.5, "met"), (True, 0.49, "missed"), (False, 0.5, "met"), (False, 0.51, "missed"), (True, None, "not mea")],
)
def test_a_target_says_whether_it_was_met(at_least: bool, measured: float | None, verdict: str) -> None:
    assert verdict in targets([Target("rate", at_least, 0.5, measured)]).splitlines()[-1]


def test_the_page_about_speed_has_a_place_for_everything_that_make_bench_writes() -> None:
    text = bench.DOCUMENT.read_text(encoding="utf-8")
    for mark in bench.MARKS:
        assert text.count(f"<!-- {mark} -->") == text.count(f"<!-- /{mark} -->") == 1, mark
        assert text.partition(f"<!-- {mark} -->")[2].partition("<!--")[0].strip(), f"{mark}: make bench"


def test_the_picture_shows_each_figure_in_proportion() -> None:
    drawn = bench.picture([("ours & <mine>", 200.0), ("a bare echo", 50.0)])
    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"
    widths = [int(width) for width in re.findall(r'width="(\d+)" height="20"', drawn)]
    assert widths[0] == 4 * widths[1]


def test_the_tables_in_the_document_are_replaced_and_nothing_beside_them(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- page -->\nold\n<!-- /page -->\nafter\n")
    put(file, "page", "new")
    put(file, "page", "newest")
    assert file.read_text() == "before\n<!-- page -->\n\nnewest\n\n<!-- /page -->\nafter\n"


def test_every_way_to_apply_a_page_event_that_is_compared_does_so(tmp_path: Path) -> None:
    turns = page.measure(tmp_path, rounds=1)
    assert [len(values) for values in turns.values()] == [1] * 8
    assert all(values[0] > 0 for values in turns.values())
