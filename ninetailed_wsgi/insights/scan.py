"""Computes results from a store: one pass over all profiles of an environment, with memory that does not grow.

For a command, or a process that serves nobody; never in a request (spec section 12).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core.metrics import Metric
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import NinetailedError
from ninetailed_wsgi.insights.results import Experiment, Period, Result, Tally
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Store

_TOLD_EVERY = 500  # profiles between two calls of ``progress``


class UnknownName(NinetailedError):
    """No experience or metric has this id or name; the text says which there are."""


def experiments_of(catalog: Catalog, experience: str | None = None, metric: str | None = None) -> list[Experiment]:
    """Return what results are wanted of.

    Args:
        catalog: the published content.
        experience: the id or name of one; None: every one.
        metric: the id or name of the metric; None: the experience's ``primaryMetric``, else every metric.

    Raises:
        UnknownName: there is no such experience or metric.
    """
    listed = catalog.experience_list
    if experience is not None:
        chosen = [each for each in listed if each.id == experience] or [
            each for each in listed if each.name == experience
        ]
        if not chosen:
            raise UnknownName(_unknown("experience", experience, [each.id for each in listed]))
        listed = tuple(chosen)
    wanted = None if metric is None else catalog.metrics.named(metric)
    if metric is not None and wanted is None:
        raise UnknownName(_unknown("metric", metric, [each.id for each in catalog.metrics.metrics]))
    return [
        Experiment(each.id, each.name, each.type, catalog.exposures.phases[each.id], each.sticky, metrics)
        for each in listed
        for metrics in [(wanted,) if wanted else _metrics_of(catalog, each.id)]
    ]


def results(
    store: Store,
    environment: Environment,
    catalog: Catalog,
    experiments: Sequence[Experiment],
    period: Period,
    progress: Callable[[int], None] = lambda profiles: None,
) -> list[Result]:
    """Scan an environment's profiles, while others write, and return the results of the experiments.

    Raises:
        StoreUnavailable: the store cannot be read now.
    """
    tally, metrics, profiles = Tally(experiments, period), catalog.metrics, 0
    for key, document in store.documents(environment.organization, environment.environment):
        if "to" in document:
            continue
        profiles += 1
        if profiles % _TOLD_EVERY == 0:
            progress(profiles)
        if not tally.concerns(document):
            continue
        if "into" in document:
            # A merge or deletion that was cut off: finished here, the other profile counts for both.
            owner = identity.resolve(store, key)
            if owner.record is None or owner.key != key:
                continue
            document = owner.record
        if metrics.missing(document):  # a metric is newer than this visitor's last event
            metrics.recount(document, store.read(key).history())
        tally.add(document)
    progress(profiles)
    return tally.results()


def _metrics_of(catalog: Catalog, experience: str) -> tuple[Metric, ...]:
    primary = catalog.metrics.named(catalog.primary_metrics.get(experience, ""))
    return (primary,) if primary else catalog.metrics.metrics


def _unknown(kind: str, name: str, names: Sequence[str]) -> str:
    listed = f"there are {', '.join(sorted(names)[:20])}" if names else "none is published"
    return f"no {kind} has the id or name {name!r}; {listed}"
