"""Variants are given out in the shares that an experience names, by chi-squared tests with fixed visitors.

Each test rejects at the level 0.001: were the visitors drawn anew, one run in a thousand would fail by chance. Critical
values: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4, upper-tail table, column 0.999.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from ninetailed_wsgi.core.experiences import Experience, compile_experience

VISITORS = 100_000
CRITICAL = {1: 10.828, 2: 13.816, 4: 18.467}  # by degrees of freedom


def experience(id: str, shares: Sequence[float], traffic: float = 1) -> Experience:
    return compile_experience(id, "", "nt_experiment", None, {"traffic": traffic, "distribution": list(shares)})


def visitors(seed: int) -> list[str]:
    """Stable ids as the service generates them, the same in every run."""
    draw = random.Random(seed)
    return [f"{draw.getrandbits(256):064x}" for _ in range(VISITORS)]


def chi_squared(found: Sequence[int], expected: Sequence[float]) -> float:
    return sum((seen - wanted) ** 2 / wanted for seen, wanted in zip(found, expected, strict=True))


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.33, 0.33, 0.34)], ids=["50/50", "33/33/34"])
def test_a_hundred_thousand_visitors_are_split_in_the_shares_of_the_distribution(
    shares: tuple[float, ...], seed: int
) -> None:
    split = experience(f"split-{seed}", shares)
    got = Counter(split.allocated(visitor) for visitor in visitors(seed))
    assert set(got) == set(range(len(shares)))
    found = [got[index] for index in range(len(shares))]
    assert chi_squared(found, [share * VISITORS for share in shares]) < CRITICAL[len(shares) - 1]


@pytest.mark.parametrize("seed", [4, 5])
def test_ids_that_count_upwards_are_split_in_the_same_shares(seed: int) -> None:
    split = experience(f"counted-{seed}", (0.33, 0.33, 0.34))
    got = Counter(split.allocated(f"user-{number}") for number in range(VISITORS))
    assert chi_squared([got[0], got[1], got[2]], [33_000, 33_000, 34_000]) < CRITICAL[2]


def test_the_share_of_visitors_in_traffic_is_the_one_that_the_experience_names() -> None:
    limited = experience("limited", (0.5, 0.5), traffic=0.2)
    got = Counter(limited.allocated(visitor) for visitor in visitors(6))
    assert chi_squared([got[0], got[1], got[None]], [10_000, 10_000, 80_000]) < CRITICAL[2]


def test_two_experiments_are_independent_of_each_other() -> None:
    first, second = experience("first", (0.33, 0.33, 0.34)), experience("second", (0.33, 0.33, 0.34))
    got = Counter((first.allocated(visitor), second.allocated(visitor)) for visitor in visitors(7))
    rows = [sum(got[row, column] for column in range(3)) for row in range(3)]
    columns = [sum(got[row, column] for row in range(3)) for column in range(3)]
    cells = [(row, column) for row in range(3) for column in range(3)]
    expected = [rows[row] * columns[column] / VISITORS for row, column in cells]
    assert chi_squared([got[cell] for cell in cells], expected) < CRITICAL[4]


def test_the_same_visitor_gets_the_same_variant_every_time() -> None:
    split = experience("again", (0.33, 0.33, 0.34))
    some = visitors(8)[:1_000]
    assert [split.allocated(visitor) for visitor in some] == [split.allocated(visitor) for visitor in some]
