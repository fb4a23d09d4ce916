"""The numbers of results, held against arbitrary precision, another library, and scipy.stats."""

from __future__ import annotations

import random
from importlib import import_module
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import mpmath
import numpy
import pytest

from ninetailed_wsgi.insights import statistics
from ninetailed_wsgi.insights.statistics import Beta, Normal


@pytest.fixture(scope="module")
def stats() -> Any:
    """scipy.stats, which takes a second to import: a test process that runs none of these tests does without."""
    return import_module("scipy.stats")


@pytest.fixture(scope="module")
def other_library() -> Any:
    # On its import it sets up the root logger of the process, and with it what every other test sees logged.
    with patch("logging.config.fileConfig"):
        return import_module("bayesian_testing.experiments")


BETAS = [
    [(100, 10), (100, 16)],
    [(300, 3), (300, 0)],
    [(120, 118), (90, 90)],
    [(60, 6), (60, 9), (50, 4)],
    [(500, 25), (50, 3)],
    [(0, 0), (10, 4)],
]
NORMALS = [
    [(10.0, 0.5), (11.0, 0.6)],
    [(0.2, 0.01), (0.19, 0.02), (0.24, 0.05)],
    [(1000.0, 1.0), (1000.0, 300.0)],
    [(5.0, 0.3), (5.0, 0.3)],
]


class _Exact:
    """A posterior in arbitrary precision."""

    def __init__(self, posterior: Beta | Normal) -> None:
        self._of = posterior
        self.low, self.high = (0, 1) if isinstance(posterior, Beta) else (-mpmath.inf, mpmath.inf)
        if isinstance(posterior, Beta):
            a, b = mpmath.mpf(posterior.a), mpmath.mpf(posterior.b)
            self.mean, self.spread = a / (a + b), mpmath.sqrt(a * b / (a + b + 1)) / (a + b)
        else:
            self.mean, self.spread = mpmath.mpf(posterior.mean), mpmath.mpf(posterior.deviation)

    def density(self, x: Any) -> Any:
        if isinstance(self._of, Normal):
            return mpmath.npdf(x, self.mean, self.spread)
        a, b = self._of.a, self._of.b
        if (x <= 0 and a > 1) or (x >= 1 and b > 1):
            return mpmath.mpf(0)
        return mpmath.exp(
            (a - 1) * mpmath.log(x) + (b - 1) * mpmath.log1p(-x) + mpmath.loggamma(a + b)
            - mpmath.loggamma(a) - mpmath.loggamma(b)
        ) if 0 < x < 1 else mpmath.mpf(1 if (a, b) == (1, 1) else max(a, b))  # fmt: skip

    def below(self, x: Any) -> Any:
        if isinstance(self._of, Normal):
            return mpmath.ncdf(x, self.mean, self.spread)
        return mpmath.betainc(self._of.a, self._of.b, 0, min(max(x, 0), 1), regularized=True)

    def edges(self) -> list[Any]:
        around = [self.mean + step * self.spread for step in (-9, -3, 0, 3, 9)]
        return [edge for edge in around if self.low < edge < self.high]


def _integral(function: Any, exact: list[_Exact], bends: tuple[Any, ...] = ()) -> Any:
    edges = {edge for each in exact for edge in each.edges()} | {bend for bend in bends if bend < exact[0].high}
    if exact[0].high == 1:
        edges |= {mpmath.mpf(0), mpmath.mpf(1)}
    return sum(mpmath.quad(function, pair) for pair in pairwise(sorted(edges)))


def _rates(counts: list[tuple[int, int]]) -> list[Beta]:
    return [statistics.rate(*each) for each in counts]


def _exact_chances(posteriors: list[Any]) -> list[float]:
    exact = [_Exact(posterior) for posterior in posteriors]
    chances = []
    for one in exact:
        others = [other for other in exact if other is not one]
        chances.append(
            _integral(
                lambda x, one=one, others=others: one.density(x) * mpmath.fprod(o.below(x) for o in others), exact
            )
        )
    return [float(chance) for chance in chances]


@pytest.mark.parametrize("counts", BETAS)
def test_chances_of_rates_are_exact_to_a_millionth(counts: list[tuple[int, int]]) -> None:
    rates = _rates(counts)
    expected = _exact_chances(rates)
    assert statistics.chances_best(rates) == pytest.approx(expected, abs=1e-6)
    if len(rates) == 2:
        assert statistics.chance_above(rates[1], rates[0]) == pytest.approx(expected[1], abs=1e-6)
        assert statistics.chances_best(rates, highest=False) == pytest.approx(expected[::-1], abs=1e-6)


def test_the_chance_of_two_rates_agrees_with_its_closed_form() -> None:
    one, other = statistics.rate(900, 90), statistics.rate(870, 101)  # P(other > one), a sum over whole numbers
    total = mpmath.mpf(0)
    for i in range(int(other.a)):
        logarithm = (
            mpmath.log(mpmath.beta(one.a + i, one.b + other.b))
            - mpmath.log(other.b + i)
            - mpmath.log(mpmath.beta(1 + i, other.b))
            - mpmath.log(mpmath.beta(one.a, one.b))
        )
        total += mpmath.exp(logarithm)
    assert statistics.chance_above(other, one) == pytest.approx(float(total), abs=1e-9)


@pytest.mark.parametrize("moments", NORMALS)
def test_chances_of_means_are_exact_to_a_millionth(moments: list[tuple[float, float]], stats: Any) -> None:
    means = [Normal(*each) for each in moments]
    assert statistics.chances_best(means) == pytest.approx(_exact_chances(means), abs=1e-6)
    closed = stats.norm.cdf((means[1].mean - means[0].mean) / numpy.hypot(means[0].deviation, means[1].deviation))
    assert statistics.chance_above(means[1], means[0]) == pytest.approx(float(closed), abs=1e-9)


@pytest.mark.parametrize("counts", BETAS[:4])
def test_expected_losses_are_exact_to_a_millionth(counts: list[tuple[int, int]]) -> None:
    rates = _rates(counts)
    exact = [_Exact(rate) for rate in rates]
    highest = 1 - _integral(lambda x: mpmath.fprod(one.below(x) for one in exact), exact)
    lowest = _integral(lambda x: mpmath.fprod(1 - one.below(x) for one in exact), exact)
    assert statistics.expected_losses(rates) == pytest.approx([float(highest - one.mean) for one in exact], abs=1e-6)
    assert statistics.expected_losses(rates, highest=False) == pytest.approx(
        [float(one.mean - lowest) for one in exact], abs=1e-6
    )


def test_the_expected_loss_of_two_means_agrees_with_its_closed_form(stats: Any) -> None:
    one, other = Normal(10.0, 0.5), Normal(11.0, 0.6)
    spread, gap = numpy.hypot(0.5, 0.6), 1.0
    z = gap / spread
    loss = gap * stats.norm.cdf(z) + spread * stats.norm.pdf(z)
    assert statistics.expected_losses([one, other]) == pytest.approx([loss, loss - gap], abs=1e-9)


@pytest.mark.parametrize("counts", BETAS)
def test_intervals_of_rates_leave_one_fortieth_on_each_side(counts: list[tuple[int, int]]) -> None:
    for rate in _rates(counts):
        low, high = statistics.interval(rate)
        assert float(_Exact(rate).below(mpmath.mpf(low))) == pytest.approx(0.025, abs=1e-9)
        assert float(_Exact(rate).below(mpmath.mpf(high))) == pytest.approx(0.975, abs=1e-9)


@pytest.mark.parametrize("posteriors", [*map(_rates, [*BETAS[:3], BETAS[4]]), [Normal(10.0, 0.5), Normal(11.0, 0.6)]])
def test_the_interval_of_a_lift_leaves_one_fortieth_on_each_side(posteriors: list[Any]) -> None:
    control, variant = posteriors[:2]
    bounds = statistics.lift_interval(variant, control)
    assert bounds is not None
    exact_control, exact_variant = _Exact(control), _Exact(variant)
    for bound, share in zip(bounds, (0.025, 0.975), strict=True):
        ratio = mpmath.mpf(bound) + 1
        edges = [_Exact(control), _Exact(variant)]
        below = _integral(lambda y, r=ratio: exact_control.density(y) * exact_variant.below(r * y), edges, (1 / ratio,))
        assert float(below) == pytest.approx(share, abs=1e-6)


def test_a_lift_against_a_control_that_may_be_zero_has_no_interval() -> None:
    assert statistics.lift_interval(Normal(1.0, 0.1), Normal(0.1, 0.2)) is None


def test_rates_agree_with_another_library_within_its_sampling_error(other_library: Any) -> None:
    counts = {"control": (4000, 400), "red": (4100, 452), "blue": (3900, 371)}
    other = other_library.BinaryDataTest()
    for name, (visitors, conversions) in counts.items():
        other.add_variant_data_agg(name, visitors, conversions, a_prior=1, b_prior=1)
    rates = _rates(list(counts.values()))
    chances = other.probabs_of_being_best(sim_count=200_000, seed=7)
    losses = other.expected_loss(sim_count=200_000, seed=7)
    assert statistics.chances_best(rates) == pytest.approx([chances[name] for name in counts], abs=0.005)
    assert statistics.expected_losses(rates) == pytest.approx([losses[name] for name in counts], abs=1e-4)


def test_means_agree_with_another_library_within_its_sampling_error(other_library: Any) -> None:
    draw = random.Random(3)
    samples = {name: [draw.gauss(mean, 4) for _ in range(3000)] for name, mean in (("a", 20), ("b", 20.1), ("c", 20.2))}
    other = other_library.NormalDataTest()
    for name, values in samples.items():
        other.add_variant_data(name, values, w_prior=1e-6)
    means = [statistics.mean_of(len(v), sum(v), sum(x * x for x in v)) for v in samples.values()]
    posteriors = [mean for mean in means if mean is not None]
    chances = other.probabs_of_being_best(sim_count=200_000, seed=7)
    losses = other.expected_loss(sim_count=200_000, seed=7)
    assert statistics.chances_best(posteriors) == pytest.approx([chances[name] for name in samples], abs=0.005)
    assert statistics.expected_losses(posteriors) == pytest.approx([losses[name] for name in samples], abs=2e-3)


def test_the_posterior_of_a_mean_has_the_standard_error_of_the_sample(stats: Any) -> None:
    values = [0.0, 0.0, 3.0, 12.5, 0.0, 7.0]
    mean = statistics.mean_of(len(values), sum(values), sum(x * x for x in values))
    assert mean is not None
    assert mean.mean == pytest.approx(numpy.mean(values))
    assert mean.deviation == pytest.approx(float(stats.sem(values)))


@pytest.mark.parametrize("values", [[], [5.0], [2.0, 2.0, 2.0], [0.1] * 1000])
def test_values_without_spread_have_no_posterior(values: list[float]) -> None:
    assert statistics.mean_of(len(values), sum(values), sum(x * x for x in values)) is None


@pytest.mark.parametrize(
    ("visitors", "shares"),
    [
        ([480, 520], [0.5, 0.5]),
        ([300, 310, 450], [0.3, 0.3, 0.4]),
        ([9000, 1200], [0.9, 0.1]),
        ([400, 600], [0.5, 0.5]),
    ],
)
def test_a_sample_ratio_agrees_with_the_chi_square_test(visitors: list[int], shares: list[float], stats: Any) -> None:
    chance, expected = statistics.sample_ratio(visitors, shares)
    reference = stats.chisquare(visitors, [sum(visitors) * share for share in shares])
    assert chance == pytest.approx(float(reference.pvalue), rel=1e-9)
    assert expected == pytest.approx([sum(visitors) * share for share in shares])


@pytest.mark.parametrize(
    ("visitors", "shares"), [([7, 7], [0.5, 0.5]), ([700, 5], [0.99, 0.01]), ([50, 0], [1.0, 0.0]), ([], [])]
)
def test_a_sample_ratio_of_few_visitors_is_not_judged(visitors: list[int], shares: list[float]) -> None:
    assert statistics.sample_ratio(visitors, shares)[0] is None


def test_the_needed_sample_has_the_textbook_size() -> None:
    # (1.6449 + 1.2816)^2 (0.1 0.9 + 0.12 0.88) / 0.02^2
    assert statistics.needed_per_variant(0.02, (0.12 * 0.88, 0.1 * 0.9)) == 4188
    assert statistics.needed_per_variant(0.0, (0.1, 0.1)) is None
    assert statistics.needed_per_variant(1e-9, (0.1, 0.1)) is None


def test_the_same_data_give_the_same_numbers() -> None:
    rates = _rates(BETAS[3])
    assert statistics.chances_best(rates) == statistics.chances_best(rates)
    assert sum(statistics.chances_best(rates)) == pytest.approx(1, abs=1e-9)
