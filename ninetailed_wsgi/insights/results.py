"""Computes results of experiments: adds up visitors by variant, says whether a variant won and why (spec section 12).

Pure: it takes records one by one and returns results. `scan.py` reads the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ninetailed_wsgi.core.metrics import Metric
from ninetailed_wsgi.insights import statistics
from ninetailed_wsgi.insights.exposures import COUNTS, HOLDOUT, MULTIPLE, Split, Standing, split_of, standings
from ninetailed_wsgi.insights.statistics import Posterior

DAY = 24 * 60 * 60 * 1000
LEAST_VISITORS = 100
"""Visitors that each variant needs before there is a verdict."""

LEAST_DAYS = 7
"""The fewest days of an experiment, because weekdays and weekends differ."""

MOST_MULTIPLE = 0.01
"""If a larger share of visitors than this saw several variants, the result is not trusted."""

LOSES = 0.05
"""A variant has lost if its chance to beat the control is below this."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experience as results need it.

    Attributes:
        phase: the name of the split in force.
        sticky: whether an assignment is kept.
        metrics: the metrics that measure it; empty: only exposures are counted.
    """

    id: str
    name: str
    type: str
    phase: str
    sticky: bool
    metrics: tuple[Metric, ...]


class Period(NamedTuple):
    """The time in which visitors and their events count.

    Attributes:
        since: first exposures count from this time on, ms.
        until: first exposures and events count before this time, ms.
        window_days: for how many days after the exposure an event counts, the last moment included; None: any.
        limited: whether the caller set ``since``.
    """

    since: int
    until: int
    window_days: float | None = None
    limited: bool = False


@dataclass(slots=True)
class _Sums:
    """What the visitors of one variant did, by one metric."""

    conversions: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float, converted: bool) -> None:
        self.conversions += converted
        self.total += value
        self.squares += value * value


@dataclass(slots=True)
class _Arm:
    """The visitors of one variant."""

    visitors: int = 0
    views: int = 0
    clicks: int = 0
    sums: dict[str, _Sums] = field(default_factory=dict)

    def of(self, metric: Metric | None) -> _Sums:
        return self.sums.setdefault(metric.id, _Sums()) if metric else _Sums()


@dataclass(slots=True)
class _Phase:
    """The sums of one phase of an experience; first exposures are between ``began`` and ``ended`` (ms)."""

    arms: dict[int, _Arm] = field(default_factory=dict)
    holdout: _Arm = field(default_factory=_Arm)
    multiple: int = 0
    inconsistent: int = 0
    exposures_served: int = 0
    began: int | None = None
    ended: int = 0


class Tally:
    """Adds up the records of all visitors for some experiments; its size does not depend on the number of visitors."""

    def __init__(self, experiments: Sequence[Experiment], period: Period) -> None:
        self._experiments = {experiment.id: experiment for experiment in experiments}
        self._period = period
        self._phases: dict[str, dict[str, _Phase]] = {
            experiment.id: {experiment.phase: _Phase()} for experiment in experiments
        }

    def concerns(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record has any exposure to these experiments."""
        return not self._experiments.keys().isdisjoint(record.get("exposures", ()))

    def add(self, record: Mapping[str, Any]) -> None:
        """Add one visitor whose events were counted for the metrics of these experiments (see `MetricSet`)."""
        since, until = self._period.since, self._period.until
        conversions: Mapping[str, Any] = record.get("conversions", {})
        for id, phases in record.get("exposures", {}).items():
            if (experiment := self._experiments.get(id)) is not None:
                for phase, standing in standings(phases, sticky=experiment.sticky, since=since, until=until):
                    self._add(experiment, phase, standing, conversions)

    def _add(self, experiment: Experiment, name: str, standing: Standing, conversions: Mapping[str, Any]) -> None:
        phases = self._phases[experiment.id]
        phase = phases.get(name)
        if phase is None:
            phase = phases[name] = _Phase()
        phase.inconsistent += standing.doubtful
        if standing.kind == MULTIPLE:
            phase.multiple += 1
        if standing.kind not in (COUNTS, HOLDOUT):
            return
        arm = phase.holdout
        if standing.kind == COUNTS:
            arm = phase.arms.setdefault(standing.variant, _Arm())
            phase.exposures_served += standing.is_served
            phase.began = standing.first if phase.began is None else min(phase.began, standing.first)
            phase.ended = max(phase.ended, standing.first)
        arm.visitors += 1
        arm.views += standing.views
        arm.clicks += standing.clicks
        window = self._period.window_days
        until = self._period.until
        if window is not None:
            until = min(until, int(standing.first + window * DAY) + 1)
        for metric in experiment.metrics:
            if entries := conversions.get(metric.key):
                converted = any(standing.first <= entry[0] < until for entry in entries)
                if converted:
                    arm.of(metric).add(metric.of(entries, standing.first, until), converted)

    def results(self) -> list[Result]:
        """Return a result for each experiment, metric and phase; the latest phase of an experiment comes first."""
        results = []
        for experiment in self._experiments.values():
            phases = self._phases[experiment.id]
            # The current split is the latest phase, even before anybody saw it.
            order = sorted(phases, key=lambda name: (name == experiment.phase, phases[name].began or 0), reverse=True)
            for metric in experiment.metrics or (None,):
                results += [_result(experiment, metric, name, phases[name], self._period) for name in order]
        return results


@dataclass(frozen=True, slots=True)
class Variant:
    """The numbers of one variant; None for numbers that the data does not give."""

    index: int
    visitors: int
    views: int
    clicks: int
    conversions: int
    sum: float
    mean: float | None
    interval: tuple[float, float] | None
    lift: float | None = None
    lift_interval: tuple[float, float] | None = None
    beats_control: float | None = None
    best: float | None = None
    expected_loss: float | None = None

    def document(self) -> dict[str, Any]:
        """Return the variant as JSON."""
        return {
            "index": self.index,
            "visitors": self.visitors,
            "views": self.views,
            "clicks": self.clicks,
            "conversions": self.conversions,
            "sum": self.sum,
            "mean": self.mean,
            "interval": self.interval and list(self.interval),
            "lift": self.lift,
            "liftInterval": self.lift_interval and list(self.lift_interval),
            "beatsControl": self.beats_control,
            "best": self.best,
            "expectedLoss": self.expected_loss,
        }


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one phase of an experiment, by one metric.

    Attributes:
        since, until: the period, ms; if the caller set no start, ``since`` is the first exposure, or ``until`` if
            nobody saw it.
        exposure: the kind of exposures it is based on: ``seen``, ``served`` or ``mixed``.
        holdout: visitors outside of the traffic, and how many of them converted.
        why: the reason of the verdict, in words.
    """

    experiment: Experiment
    metric: Metric | None
    phase: str
    split: Split
    since: int
    until: int
    exposure: str
    variants: tuple[Variant, ...]
    sample_ratio: float | None
    expected: tuple[float, ...]
    multiple: int
    inconsistent: int
    holdout: tuple[int, int]
    verdict: str
    why: str
    needed: int | None

    def document(self, computed_at: int) -> dict[str, Any]:
        """Return the result as JSON: the members that the reference of the command names."""
        metric = self.metric
        metric_document = metric and {
            "id": metric.id,
            "name": metric.name,
            "type": metric.type,
            "direction": metric.direction,
        }
        share = _share(self.multiple, sum(variant.visitors for variant in self.variants))
        return {
            "experienceId": self.experiment.id,
            "name": self.experiment.name,
            "type": self.experiment.type,
            "from": iso(self.since),
            "to": iso(self.until),
            "phase": self.phase,
            "exposure": self.exposure,
            "metric": metric_document,
            "variants": [variant.document() for variant in self.variants],
            "health": {
                "srm": {
                    "p": self.sample_ratio,
                    "expected": list(self.expected),
                    "ok": _is_ratio_fine(self.sample_ratio),
                },
                "multiple": {"visitors": self.multiple, "share": share, "ok": share <= MOST_MULTIPLE},
                "inconsistent": {"visitors": self.inconsistent},
            },
            "holdout": {"visitors": self.holdout[0], "conversions": self.holdout[1]},
            "verdict": self.verdict,
            "neededPerVariant": self.needed,
            "computedAt": iso(computed_at),
        }


def iso(at: int) -> str:
    """Return a time in milliseconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_ratio_fine(chance: float | None) -> bool:
    return chance is None or chance >= statistics.MISMATCH


def _share(multiple: int, total: int) -> float:
    return multiple / (multiple + total) if multiple else 0.0


def _result(experiment: Experiment, metric: Metric | None, name: str, phase: _Phase, period: Period) -> Result:
    split = split_of(name)
    indices = range(max(len(split.shares), *(index + 1 for index in phase.arms), 1))
    arms = [phase.arms.get(index) or _Arm() for index in indices]
    shares = [*split.shares, *([0.0] * (len(indices) - len(split.shares)))]
    chance, expected = statistics.sample_ratio([arm.visitors for arm in arms], shares)
    variants = _variants(arms, metric)
    began = period.until if phase.began is None else phase.began
    since = period.since if period.limited else began
    visitors = sum(arm.visitors for arm in arms)
    # The current split is still running; only the visitors of an earlier split show how long it ran.
    ended = period.until if name == experiment.phase or phase.began is None else phase.ended
    days = (ended - began) / DAY
    verdict, why = _verdict(variants, metric, days, chance, _share(phase.multiple, visitors))
    return Result(
        experiment=experiment,
        metric=metric,
        phase=name,
        split=split,
        since=since,
        until=period.until,
        exposure="seen" if not phase.exposures_served else "served" if phase.exposures_served == visitors else "mixed",
        variants=variants,
        sample_ratio=chance,
        expected=tuple(expected),
        multiple=phase.multiple,
        inconsistent=phase.inconsistent,
        holdout=(phase.holdout.visitors, phase.holdout.of(metric).conversions),
        verdict=verdict,
        why=why,
        needed=_needed(arms, variants, metric),
    )


def _posterior(arm: _Arm, metric: Metric) -> Posterior | None:
    sums = arm.of(metric)
    if arm.visitors == 0:
        return None
    if metric.type == "binary":
        return statistics.rate(arm.visitors, sums.conversions)
    return statistics.mean_of(arm.visitors, sums.total, sums.squares)


def _variants(arms: Sequence[_Arm], metric: Metric | None) -> tuple[Variant, ...]:
    if metric is None:
        return tuple(
            Variant(index, arm.visitors, arm.views, arm.clicks, 0, 0.0, None, None) for index, arm in enumerate(arms)
        )
    highest = metric.direction == "increase"
    posteriors = [_posterior(arm, metric) for arm in arms]
    every = [posterior for posterior in posteriors if posterior is not None]
    bests: list[float] = []
    losses: list[float] = []
    if len(every) == len(arms):
        bests = statistics.chances_best(every, highest=highest)
        losses = statistics.expected_losses(every, highest=highest)
    control = posteriors[0]
    control_mean = _mean(arms[0], metric)
    variants = []
    for index, (arm, posterior) in enumerate(zip(arms, posteriors, strict=True)):
        lift = bounds = beats = None
        mean = _mean(arm, metric)
        if index and posterior is not None and control is not None:
            better, worse = (posterior, control) if highest else (control, posterior)
            beats = statistics.chance_above(better, worse)
            bounds = statistics.lift_interval(posterior, control)
        if index and mean is not None and control_mean is not None and control_mean > 0:
            lift = mean / control_mean - 1
        variants.append(
            Variant(
                index,
                arm.visitors,
                arm.views,
                arm.clicks,
                arm.of(metric).conversions,
                arm.of(metric).total,
                mean,
                statistics.interval(posterior) if posterior is not None else None,
                lift,
                bounds,
                beats,
                bests[index] if bests else None,
                losses[index] if losses else None,
            )
        )
    return tuple(variants)


def _mean(arm: _Arm, metric: Metric) -> float | None:
    return arm.of(metric).total / arm.visitors if arm.visitors else None


def _verdict(
    variants: Sequence[Variant], metric: Metric | None, days: float, chance: float | None, multiple: float
) -> tuple[str, str]:
    """Return the verdict and its reason in words."""
    if not _is_ratio_fine(chance):
        return "invalid", "visitors are not divided as the split says (sample ratio mismatch)"
    if multiple > MOST_MULTIPLE:
        return "invalid", f"{multiple:.1%} of the visitors saw several variants; up to {MOST_MULTIPLE:.0%} is fine"
    if metric is None:
        return "collecting", "no metric defines what a conversion is"
    missing = []
    if few := [str(variant.index) for variant in variants if variant.visitors < LEAST_VISITORS]:
        missing.append(f"{LEAST_VISITORS} visitors of variant {' and '.join(few)}")
    if none := [str(variant.index) for variant in variants if not variant.conversions]:
        missing.append(f"a conversion in variant {' and '.join(none)}")
    if days < LEAST_DAYS:
        missing.append(f"{LEAST_DAYS} days (it has run for {max(days, 0.0):.1f})")
    if missing:
        return "collecting", f"still missing: {', '.join(missing)}"
    others = [variant for variant in variants if variant.index and variant.beats_control is not None]
    if not others:
        return "collecting", "there is no variant to compare with the control"
    leader = max(others, key=lambda variant: (variant.best or 0, variant.beats_control or 0))
    if (leader.best or 0) >= statistics.CERTAIN:
        chance_best = "more than 99.9%" if (leader.best or 0) > 0.999 else f"{leader.best:.1%}"
        return "winner", f"variant {leader.index} is the best with a chance of {chance_best}"
    if all((variant.beats_control or 0) < LOSES for variant in others):
        return "loser", f"no variant has a chance of {LOSES:.0%} or more to beat the control"
    return "inconclusive", f"variant {leader.index} has the best chance, {leader.best or 0:.1%}; a winner needs 95%"


def _needed(arms: Sequence[_Arm], variants: Sequence[Variant], metric: Metric | None) -> int | None:
    """Return how many visitors each variant needs to show the difference that the leading variant has now."""
    others = [variant for variant in variants if variant.index and variant.beats_control is not None]
    if metric is None or not others or variants[0].mean is None:
        return None
    leader = max(others, key=lambda variant: variant.beats_control or 0)
    difference = (leader.mean or 0.0) - variants[0].mean
    return statistics.needed_per_variant(
        difference, (_variance(arms[leader.index], metric), _variance(arms[0], metric))
    )


def _variance(arm: _Arm, metric: Metric) -> float:
    sums = arm.of(metric)
    if metric.type == "binary":
        share = sums.conversions / arm.visitors if arm.visitors else 0.0
        return share * (1 - share)
    return statistics.sample_variance(arm.visitors, sums.total, sums.squares)
