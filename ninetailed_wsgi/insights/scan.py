"""Computes results from a store: one pass over all profiles of an environment, with memory that does not grow.

For a command, or a process that serves no requests; never in a request (spec section 12).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core.metrics import Metric
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.errors import NinetailedError
from ninetailed_wsgi.insights.results import Experiment, Period, Result, Tally
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Document, Store

_TOLD_EVERY = 500  # profiles between two calls of ``progress``


class UnknownName(NinetailedError):
    """No experience or metric has this id or name; the text says which there are."""


def experiments_of(catalog: Catalog, experience: str | None = None, metric: str | None = None) -> list[Experiment]:
    """Return the experiments for which results are wanted.

    Args:
        catalog: the published content.
        experience: the id or name of an experience; None: all of them.
        metric: the id or name of a metric; None: the experience's ``primaryMetric``, or every metric without one.

    Raises:
        UnknownName: there is no such experience or metric.
    """
    experiences = catalog.experience_list
    if experience is not None:
        matches = [each for each in experiences if each.id == experience] or [
            each for each in experiences if each.name == experience
        ]
        if not matches:
            raise UnknownName(_unknown("experience", experience, [each.id for each in experiences]))
        experiences = tuple(matches)
    measure = None if metric is None else catalog.metrics.find(metric)
    if metric is not None and measure is None:
        raise UnknownName(_unknown("metric", metric, [each.id for each in catalog.metrics.metrics]))
    return [
        Experiment(each.id, each.name, each.type, catalog.exposures.phases[each.id], each.sticky, metrics)
        for each in experiences
        for metrics in [(measure,) if measure else _metrics_of(catalog, each.id)]
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
    tally, profiles = Tally(experiments, period), 0
    for key, document in store.documents(*environment):
        if identity.is_pointer(document):
            continue
        profiles += 1
        if profiles % _TOLD_EVERY == 0:
            progress(profiles)
        _add(tally, store, catalog, key, document)
    progress(profiles)
    return tally.results()


def every(store: Store, content: Callable[[str, str], Catalog], until: int) -> dict[Environment, list[Result]]:
    """Scan all profiles once and return the results of each environment that has exposures.

    Args:
        content: returns the catalog of an organization's environment.
        until: only exposures and events before this time count, ms.

    Raises:
        StoreUnavailable: the store cannot be read now.
    """
    tallies: dict[Environment, tuple[Tally, Catalog]] = {}
    for key, document in store.documents():
        if "exposures" not in document or identity.is_pointer(document):
            continue
        environment = key.where
        if environment not in tallies:
            catalog = content(*environment)
            tallies[environment] = Tally(experiments_of(catalog), Period(0, until)), catalog
        tally, catalog = tallies[environment]
        _add(tally, store, catalog, key, document)
    return {environment: tally.results() for environment, (tally, _) in tallies.items()}


def _add(tally: Tally, store: Store, catalog: Catalog, key: Key, document: Document) -> None:
    """Count one visitor if they saw any of the experiments."""
    if not tally.concerns(document):
        return
    if identity.is_marked(document):
        # A merge or deletion was cut off: it is finished here, and the other profile counts for both.
        owner = identity.resolve(store, key)
        if owner.record is None or owner.key != key:
            return
        document = owner.record
    if catalog.metrics.missing(document):  # a metric is newer than this visitor's last event
        catalog.metrics.recount(document, store.read(key).history())
    tally.add(document)


def _metrics_of(catalog: Catalog, experience: str) -> tuple[Metric, ...]:
    primary = catalog.metrics.find(catalog.primary_metrics.get(experience, ""))
    return (primary,) if primary else catalog.metrics.metrics


def _unknown(kind: str, name: str, names: Sequence[str]) -> str:
    choice = f"there are {', '.join(sorted(names)[:20])}" if names else "none is published"
    return f"no {kind} has the id or name {name!r}; {choice}"
