"""The benchmarks as judges: what they call met or missed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import instructions
from report import Target, targets


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
