"""The numbers of a result: posteriors, intervals, chances, expected loss, sample ratio, sample size (spec section 12).

Every integral is computed by Gauss-Legendre quadrature between quantiles of the distributions involved, never by random
draws: the same data gives the same numbers. Only this module imports scipy and numpy, which take 40 MB: no process that
serves requests loads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy
from scipy import special

Array = Any
"""A numpy array of floats."""

CERTAIN = 0.95
"""The chance from which a variant wins; the share of an interval."""

POWER = 0.9
"""The share of experiments of the needed size that name a true winner."""

SMALLEST_EXPECTED = 8
"""Visitors that the split must predict for each variant before a sample ratio is judged."""

MISMATCH = 0.001
"""A sample ratio is a mismatch if its probability by chance alone is below this."""

_NODES = 32  # nodes of each panel
_LEVELS = (1e-14, 1e-10, 1e-7, 1e-5, 1e-3, 0.02, 0.1, 0.3, 0.5)  # a density is smooth enough between these quantiles
_STEPS = 100  # the most steps of false position


class Posterior(Protocol):
    """What the data says about a variant's true mean: a distribution with the functions that integrals need."""

    @property
    def mean(self) -> float:
        """The expected value."""

    def density(self, x: Array) -> Array:
        """Return the density at each x."""

    def below(self, x: Array) -> Array:
        """Return the chance to lie at or below each x."""

    def quantile(self, share: float, *, upper: bool = False) -> float:
        """Return the x with this chance below it; with ``upper``, above it, exact for tiny chances too."""


@dataclass(frozen=True, slots=True)
class Beta:
    """The posterior of a rate: Beta(a, b)."""

    a: float
    b: float

    @property
    def mean(self) -> float:
        """The expected value."""
        return self.a / (self.a + self.b)

    def density(self, x: Array) -> Array:
        """Return the density at each x of [0, 1]."""
        inside = numpy.clip(x, 0.0, 1.0)
        logarithm = special.xlogy(self.a - 1, inside) + special.xlog1py(self.b - 1, -inside)
        return numpy.exp(logarithm - special.betaln(self.a, self.b))

    def below(self, x: Array) -> Array:
        """Return the chance to lie at or below each x."""
        return special.betainc(self.a, self.b, numpy.clip(x, 0.0, 1.0))

    def quantile(self, share: float, *, upper: bool = False) -> float:
        """Return the x with this chance below it; with ``upper``, above it."""
        inverse = special.betainccinv if upper else special.betaincinv
        return float(inverse(self.a, self.b, share))


@dataclass(frozen=True, slots=True)
class Normal:
    """The posterior of a mean: normal with this mean and standard deviation, which is above 0."""

    mean: float
    deviation: float

    def density(self, x: Array) -> Array:
        """Return the density at each x."""
        return numpy.exp(-0.5 * ((x - self.mean) / self.deviation) ** 2) / (self.deviation * math.sqrt(2 * math.pi))

    def below(self, x: Array) -> Array:
        """Return the chance to lie at or below each x."""
        return special.ndtr((x - self.mean) / self.deviation)

    def quantile(self, share: float, *, upper: bool = False) -> float:
        """Return the x with this chance below it; with ``upper``, above it."""
        distance = float(special.ndtri(share)) * self.deviation
        return self.mean - distance if upper else self.mean + distance


def rate(visitors: int, conversions: int) -> Beta:
    """Return the posterior of a conversion rate, from a uniform prior: Beta(1 + c, 1 + n - c)."""
    return Beta(1 + conversions, 1 + visitors - conversions)


def mean_of(visitors: int, total: float, squares: float) -> Normal | None:
    """Return the normal posterior of a mean.

    Args:
        visitors: how many values there are, zeros included.
        total: their sum.
        squares: the sum of their squares.

    Returns:
        None if the data says nothing about the spread: fewer than two visitors, or all values equal.
    """
    variance = sample_variance(visitors, total, squares)
    return Normal(total / visitors, math.sqrt(variance / visitors)) if variance > 0 else None


def sample_variance(visitors: int, total: float, squares: float) -> float:
    """Return the variance of a sample from its sums; 0 for fewer than two visitors or equal values."""
    if visitors < 2:
        return 0.0
    spread = squares - total * total / visitors
    # If the two sums cancel out, what is left is rounding.
    return spread / (visitors - 1) if spread > 1e-12 * abs(squares) else 0.0


def interval(posterior: Posterior) -> tuple[float, float]:
    """Return the central 95 % interval."""
    tail = (1 - CERTAIN) / 2
    return posterior.quantile(tail), posterior.quantile(tail, upper=True)


def chance_above(one: Posterior, other: Posterior) -> float:
    """Return the chance that the true mean of ``one`` is above that of ``other``."""
    return _integral(lambda x: one.density(x) * other.below(x), [one], [one, other])


def chances_best(posteriors: Sequence[Posterior], *, highest: bool = True) -> list[float]:
    """Return for each posterior the chance that its true mean is the highest of all, or the lowest."""
    chances = []
    for index, posterior in enumerate(posteriors):
        others = [other for place, other in enumerate(posteriors) if place != index]

        def density(x: Array, posterior: Posterior = posterior, others: list[Posterior] = others) -> Array:
            return posterior.density(x) * _product(others, x, highest)

        chances.append(_integral(density, [posterior], posteriors))
    return chances


def expected_losses(posteriors: Sequence[Posterior], *, highest: bool = True) -> list[float]:
    """Return the expected loss of choosing each variant instead of the truly best one, in the unit of the means."""
    low, high = _range(posteriors)
    beyond = _integral(lambda x: _product(posteriors, x, highest), posteriors, posteriors)
    if highest:
        return [max(0.0, high - beyond - posterior.mean) for posterior in posteriors]
    return [max(0.0, posterior.mean - low - beyond) for posterior in posteriors]


def lift_interval(variant: Posterior, control: Posterior) -> tuple[float, float] | None:
    """Return the central 95 % interval of ``variant / control - 1``; None if the control may well be 0 or less."""
    if float(control.below(numpy.asarray(0.0))) > 1e-4:
        return None
    tail = (1 - CERTAIN) / 2
    return _ratio_quantile(variant, control, tail) - 1, _ratio_quantile(variant, control, 1 - tail) - 1


def sample_ratio(visitors: Sequence[int], shares: Sequence[float]) -> tuple[float | None, list[float]]:
    """Compare how many visitors each variant has with how many the split should give it (chi-square test).

    Args:
        visitors: by variant index.
        shares: the share of each index, adding up to 1.

    Returns:
        The chance of a difference at least this large, None if fewer than 8 visitors are expected for a variant that
        has a share; and the expected numbers.
    """
    total = sum(visitors)
    expected = [total * share for share in shares]
    pairs = [(count, expectation) for count, expectation in zip(visitors, expected, strict=True) if expectation > 0]
    if len(pairs) < 2 or min(expectation for _, expectation in pairs) < SMALLEST_EXPECTED:
        return None, expected
    statistic = sum((count - expectation) ** 2 / expectation for count, expectation in pairs)
    return float(special.chdtrc(len(pairs) - 1, statistic)), expected


def needed_per_variant(difference: float, variances: tuple[float, float]) -> int | None:
    """Return how many visitors each variant needs until a true difference of means wins in nine of ten experiments.

    Args:
        difference: between the means of variant and control.
        variances: of one visitor's value, of the variant and of the control.

    Returns:
        None if there is no difference, or if it would take more than a billion visitors.
    """
    if difference == 0 or sum(variances) <= 0:
        return None
    distance = float(special.ndtri(CERTAIN) + special.ndtri(POWER))
    needed = distance**2 * sum(variances) / difference**2
    return math.ceil(needed) if needed < 1e9 else None


def _product(posteriors: Sequence[Posterior], x: Array, highest: bool) -> Array:
    """Return the chance that all are below x, or all above."""
    product = numpy.ones_like(x)
    for posterior in posteriors:
        below = posterior.below(x)
        product = product * (below if highest else 1 - below)
    return product


def _range(posteriors: Sequence[Posterior]) -> tuple[float, float]:
    least = _LEVELS[0]
    lows = [posterior.quantile(least) for posterior in posteriors]
    return min(lows), max(posterior.quantile(least, upper=True) for posterior in posteriors)


def _edges(posterior: Posterior) -> list[float]:
    lower = [posterior.quantile(level) for level in _LEVELS]
    return lower + [posterior.quantile(level, upper=True) for level in _LEVELS]


def _integral(function: Callable[[Array], Array], over: Sequence[Posterior], shaped: Sequence[Posterior]) -> float:
    """Integrate over the range of some posteriors; panels end at the quantiles of those that shape the function."""
    low, high = _range(over)
    edges = sorted({low, high, *(edge for posterior in shaped for edge in _edges(posterior) if low < edge < high)})
    x, weights = _panels(edges)
    return float(numpy.dot(function(x), weights))


def _panels(edges: Sequence[float]) -> tuple[Array, Array]:
    """Return the nodes and weights of all panels between neighboring edges."""
    nodes, weights = _legendre()
    starts, ends = numpy.asarray(edges[:-1]), numpy.asarray(edges[1:])
    half = (ends - starts)[:, None] / 2
    return (starts[:, None] + half * (nodes[None, :] + 1)).ravel(), (half * weights[None, :]).ravel()


@lru_cache(maxsize=1)
def _legendre() -> tuple[Array, Array]:
    nodes, weights = numpy.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def _ratio_quantile(variant: Posterior, control: Posterior, share: float) -> float:
    """Return the r with ``P(variant <= r control) = share``.

    On the scale of normal quantiles, that chance is nearly a line, so false position (Illinois) needs some ten steps.
    """
    z = float(special.ndtri(share))

    def beyond(ratio: float) -> float:
        chance = min(max(_ratio_below(variant, control, ratio), 1e-300), 1 - 1e-16)
        return float(special.ndtri(chance)) - z

    tail = share / 2 if share < 0.5 else (1 - share) / 2  # each bound is exceeded with less than the wanted chance
    low = variant.quantile(tail) / control.quantile(tail, upper=True)
    high = variant.quantile(tail, upper=True) / control.quantile(tail)
    if low > high or variant.quantile(tail) < 0:
        low, high = min(low, variant.quantile(tail) / control.quantile(tail)), max(low, high)
    at_low, at_high, side = beyond(low), beyond(high), 0
    for _ in range(_STEPS):
        ratio = (low * at_high - high * at_low) / (at_high - at_low)
        distance = beyond(ratio)
        if abs(distance) < 1e-10 or high - low < 1e-13 * abs(high):
            return ratio
        if distance > 0:
            high, at_high = ratio, distance
            at_low /= 2 if side > 0 else 1
            side = 1
        else:
            low, at_low = ratio, distance
            at_high /= 2 if side < 0 else 1
            side = -1
    return (low + high) / 2


def _ratio_below(variant: Posterior, control: Posterior, ratio: float) -> float:
    low, high = _range([control])
    bends = [*_edges(control), *(edge / ratio for edge in _edges(variant) if ratio)]
    x, weights = _panels(sorted({low, high, *(bend for bend in bends if low < bend < high)}))
    return float(numpy.dot(control.density(x) * variant.below(ratio * x), weights))
