"""Simulated experiments: how often a result names a winner that is none, and finds one that is; `make simulation`.

Seeded, no network, no store: conversions are drawn, and judged by the code that judges real results.
"""

from __future__ import annotations

import random
import sys

from ninetailed_wsgi.core.metrics import compile_metric
from ninetailed_wsgi.insights.results import DAY, Experiment, Period, Tally

METRIC = compile_metric("bought", "Bought", "binary", "purchase")
EXPERIMENT = Experiment("test", "Test", "nt_experiment", "1:0.5/0.5", False, (METRIC,))
DAYS = 28


class Simulated:
    """One experiment: its visitors by day, each with a variant and whether they convert."""

    def __init__(self, draw: random.Random, rates: tuple[float, float], per_day: int) -> None:
        self._draw = draw
        self._rates = rates
        self._per_day = per_day
        # The seven days are over whenever a result is asked for, so the end of the period may be a later one.
        self._tally = Tally([EXPERIMENT], Period(0, DAYS * DAY))

    def day(self, number: int) -> None:
        """Let the visitors of one day come."""
        for _ in range(self._per_day):
            variant = int(self._draw.random() < 0.5)
            at = number * DAY + self._draw.randrange(DAY)
            record: dict[str, object] = {"exposures": {"test": {EXPERIMENT.phase: {"first": at, "index": variant}}}}
            if self._draw.random() < self._rates[variant]:
                record["conversions"] = {METRIC.key: [[at, 1, 0]]}
            self._tally.add(record)

    def verdict(self) -> str:
        """Judge by the visitors who came until now."""
        return self._tally.results()[0].verdict


def false_winners(experiments: int, seed: int, *, per_day: int = 60, daily: bool = False) -> int:
    """Count the A/A experiments of four weeks that name a winner at the end, or on any day."""
    draw, winners = random.Random(seed), 0
    for _ in range(experiments):
        simulated = Simulated(draw, (0.1, 0.1), per_day)
        verdicts = []
        for day in range(DAYS):
            simulated.day(day)
            if day == DAYS - 1 or (daily and day >= 6):
                verdicts.append(simulated.verdict())
        winners += "winner" in verdicts
    return winners


def true_winners(experiments: int, seed: int, per_variant: int) -> int:
    """Count the experiments of four weeks with a true lift of 20 % that find it."""
    draw, winners = random.Random(seed), 0
    for _ in range(experiments):
        simulated = Simulated(draw, (0.1, 0.12), 2 * per_variant // DAYS + 1)
        for day in range(DAYS):
            simulated.day(day)
        winners += simulated.verdict() == "winner"
    return winners


if __name__ == "__main__":
    from ninetailed_wsgi.insights.statistics import needed_per_variant

    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    needed = needed_per_variant(0.02, (0.12 * 0.88, 0.1 * 0.9)) or 0
    print(f"{number} experiments without a difference, four weeks, 60 visitors a day")
    print(f"  a winner at the end:                      {false_winners(number, 1)}")
    print(f"  a winner on some day from the seventh on: {false_winners(number, 1, daily=True)}")
    print(f"{number} experiments with a lift from 10 to 12 %, {needed:,} visitors per variant")
    print(f"  found: {true_winners(number, 2, needed)}")
