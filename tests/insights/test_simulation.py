"""How often results are right, by simulated experiments; `make simulation` has the longer form."""

from __future__ import annotations

from insights.simulation import false_winners, true_winners
from ninetailed_wsgi.insights.statistics import needed_per_variant


def test_experiments_without_a_difference_seldom_name_a_winner() -> None:
    experiments = 200
    most = 0.05 + 3 * (0.05 * 0.95 / experiments) ** 0.5
    assert false_winners(experiments, seed=1, per_day=40) / experiments <= most


def test_a_lift_of_a_fifth_is_found_at_the_computed_sample_size() -> None:
    needed = needed_per_variant(0.02, (0.12 * 0.88, 0.1 * 0.9))
    assert needed is not None
    assert true_winners(30, 2, needed) >= 24
