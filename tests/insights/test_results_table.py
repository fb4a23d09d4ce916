"""The table of results, for a person: at most 80 columns, whatever the numbers and names, and numbers in words."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ninetailed_wsgi.commands.results_table import text
from ninetailed_wsgi.core.metrics import Metric, compile_metric
from ninetailed_wsgi.insights.results import DAY, Experiment, Period, Result, Tally

BOUGHT = compile_metric("bought", "Bought", "binary", "purchase")
REVENUE = compile_metric("revenue", "Revenue", "value", "purchase", "total")
BEGAN = 1_767_225_600_000  # 2026-01-01


class Many(Tally):
    """Adds visitors up as if each had come so many times."""

    def multiply(self, times: int) -> None:
        for phases in self._phases.values():
            for phase in phases.values():
                for arm in phase.arms.values():
                    arm.visitors *= times
                    for sums in arm.sums.values():
                        sums.conversions, sums.total, sums.squares = (
                            sums.conversions * times,
                            sums.total * times,
                            sums.squares * times,
                        )


def visitor(
    index: int, at: int, metric: Metric | None = None, value: float = 0.0, phase: str = ""
) -> Mapping[str, Any]:
    """A profile that saw a variant and, where a metric is named, did what it counts."""
    record: dict[str, Any] = {"exposures": {"hero": {phase: {"first": at, "index": index}}}}
    if metric:
        record["conversions"] = {metric.key: [[at, 1, value]]}
    return record


def result(metric: Metric, values: Sequence[Sequence[float]], times: int = 1, name: str = "Hero") -> Result:
    """The result of visitors who each did what the metric counts with this value; 0: who did not."""
    phase = "1:" + "/".join([f"{1 / len(values):.6f}"] * len(values))
    tally = Many([Experiment("hero", name, "nt_experiment", phase, False, (metric,))], Period(0, BEGAN + 30 * DAY))
    for index, arm in enumerate(values):
        for value in arm:
            tally.add(visitor(index, BEGAN, metric if value else None, value, phase))
    tally.multiply(times)
    [only] = tally.results()
    return only


def columns(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


SOME = [1.0] * 10 + [0.0] * 90
MORE = [1.0] * 30 + [0.0] * 70
ALL = {
    "millions of visitors": (BOUGHT, [SOME, MORE], 12_345),
    "one who bought in a hundred thousand": (BOUGHT, [[1.0] + [0.0] * 99, MORE], 1_000),
    "revenue in millions": (
        REVENUE,
        [[value * 12_345_678 for value in SOME], [value * 98_765_432 for value in MORE]],
        9,
    ),
    "losses in millions": (
        REVENUE,
        [[value * -12_345_678 for value in SOME], [value * 98_765_432 for value in MORE]],
        9,
    ),
    "revenue beyond measure": (REVENUE, [[value * 1e12 for value in SOME], [value * -9e11 for value in MORE]], 9),
    "parts of a cent": (REVENUE, [[value * 1.23456e-9 for value in SOME], [value * 1.23456e-5 for value in MORE]], 9),
    "twelve variants": (REVENUE, [[value * 2.34567 for value in SOME]] * 12, 9),
}


@pytest.mark.parametrize("case", ALL)
def test_no_number_makes_a_line_wider_than_eighty_columns(case: str) -> None:
    metric, values, times = ALL[case]
    lines = text(result(metric, values, times))
    assert [line for line in lines if len(line) > 80] == []
    assert not [line for line in lines if "-0.0 %" in line]


@pytest.mark.parametrize("name", ["実験" * 60, "\u05d0\u05d1 " * 60, "e\u0301" * 60, "\U0001f600" * 60, "x" * 300])
def test_no_name_makes_a_line_wider_than_eighty_columns(name: str) -> None:
    first = text(result(BOUGHT, [SOME, MORE], name=name))[0]
    assert columns(first) <= 80 + first.count("\u0301")
    assert first.startswith(name[:30])


def test_counts_of_millions_do_not_run_together() -> None:
    [control] = [line for line in text(result(BOUGHT, [SOME, MORE], 123_456)) if line.startswith("control 1")]
    assert control.split()[:3] == ["control", "12,345,600", "1,234,560"]


def test_large_amounts_are_written_out() -> None:
    lines = "\n".join(text(result(REVENUE, [[value * 1_000_000 for value in SOME], MORE], 9)))
    assert "100,000" in lines
    assert "e+" not in lines


def test_no_chance_is_called_certain() -> None:
    told = "\n".join(text(result(BOUGHT, [SOME, MORE], 1_000)))
    assert "winner: variant 1 is the best with a chance of more than 99.9%" in told
    assert "100.0%" not in told


def test_a_split_that_was_in_force_for_a_day_has_not_run_for_a_week_when_that_is_over() -> None:
    old, new = "1:0.5/0.5", "1:0.1/0.9"
    tally = Tally([Experiment("hero", "Hero", "nt_experiment", new, False, (BOUGHT,))], Period(0, BEGAN + 30 * DAY))
    for number in range(400):
        bought = BOUGHT if number % 10 == 0 or number % 3 == 0 and number % 2 else None
        tally.add(visitor(number % 2, BEGAN + number * DAY // 400, bought, phase=old))
    _, ended = tally.results()
    assert (ended.phase, ended.verdict) == (old, "collecting")
    assert ended.why == "still missing: 7 days (it has run for 1.0)"
