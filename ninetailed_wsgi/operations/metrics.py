"""Counts for Prometheus: only this module uses prometheus_client, and imports it only if metrics are on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ninetailed_wsgi import __version__
from ninetailed_wsgi.operations.forks import forked_since

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that tells prometheus_client where the processes of a service share their counters."""

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_PREFIX = "ninetailed-metrics-"


class State(NamedTuple):
    """The state at the moment of a scrape, for any process.

    Attributes:
        imports: batches that wait, seconds that the oldest has waited, batches set aside; None: unknown.
        contents: environment, version and time of reading (seconds since the epoch) of the content that is served.
        content_errors: errors in the current content.
        content_left_out: entries, or parts of them, that cannot be understood and are not served.
        location: when the location database was built (seconds since the epoch), and whether its current file
            is refused; None without a database.
    """

    imports: tuple[int, float, int] | None
    contents: Sequence[tuple[str, str, float | None]]
    content_errors: int
    content_left_out: int
    location: tuple[float, bool] | None


class Metrics:
    """The counters of this process; prometheus_client adds those of several processes in a shared folder.

    Use `process_metrics`: a second one in a process would overwrite the counts of the first in that folder.
    Every method may be called by any thread.
    """

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "ninetailed_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "ninetailed_request_duration_seconds",
            "Time from reading a request's head to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._errors = Counter(
            "ninetailed_errors",
            "Requests refused, by reason: ProfileOverload and RateLimited are 429, StoreUnavailable 503.",
            ["error"],
            registry=registry,
        )
        self._count_events(registry)
        self._evaluations = Counter(
            "ninetailed_evaluations", "Decisions about a visitor's audiences and variants.", registry=registry
        )
        self._conflicts = Counter(
            "ninetailed_store_conflicts",
            "Updates repeated because another writer of the profile was faster.",
            registry=registry,
        )
        self._unverified = Counter(
            "ninetailed_identities_unverified",
            "Identify events whose user id was ignored because they had no proof.",
            registry=registry,
        )
        self._expired = Counter(
            "ninetailed_profiles_expired", "Visitors removed as inactive (--expire-after).", registry=registry
        )
        self._workers = Gauge(
            "ninetailed_workers", "Processes that serve.", multiprocess_mode="livesum", registry=registry
        )
        self._workers.set(1)
        # Cached, because finding the series of labels costs more than counting; one per known route and status.
        self._answered: dict[tuple[str, str, object], tuple[Any, Any]] = {}
        self._typed: dict[tuple[str, str], Any] = {}

    def _count_events(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter

        self._applied = Counter(
            "ninetailed_events_applied",
            "Events applied to profiles; environment only where the option environments is set.",
            ["type", "environment"],
            registry=registry,
        )
        self._repeated = Counter(
            "ninetailed_events_repeated", "Events left out because they were applied before.", registry=registry
        )
        self._insights = Counter(
            "ninetailed_insights_events",
            "Insights events: accepted, or left out by reason.",
            ["result"],
            registry=registry,
        )

    def expired(self) -> None:
        """Count one visitor who was removed as inactive."""
        self._expired.inc()

    def unverified(self, claims: int) -> None:
        """Count identify events that came without a proof of their user id."""
        self._unverified.inc(claims)

    def answered(self, method: str, route: str, status: object, seconds: float, error: str | None) -> None:
        """Count an answered request; ``route`` is a template, never a path; ``status`` begins with its number.

        ``error`` is the class of the error that the answer reports, or None.
        """
        pair = self._answered.get((method, route, status))
        if pair is None:
            pair = self._requests.labels(method, route, str(status)[:3]), self._seconds.labels(route)
            self._answered[method, route, status] = pair
        pair[0].inc()
        pair[1].observe(seconds)
        if error is not None:
            self._errors.labels(error).inc()

    def count_events(self, types: Sequence[str], environment: str, repeated: int) -> None:
        """Count the events stored for one profile."""
        for type in types:
            counter = self._typed.get((type, environment))
            if counter is None:
                counter = self._typed[type, environment] = self._applied.labels(type, environment)
            counter.inc()
        if repeated:
            self._repeated.inc(repeated)

    def reported(self, result: str, number: int) -> None:
        """Count Insights events that were accepted, or left out for one reason."""
        self._insights.labels(result).inc(number)

    def evaluated(self) -> None:
        """Count one decision about audiences and variants."""
        self._evaluations.inc()

    def conflicts(self, number: int) -> None:
        """Count repeated folds."""
        self._conflicts.inc(number)

    def exposition(self, state: State) -> tuple[str, bytes]:
        """Return content type and text of a scrape: the counters of all processes and the current state."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return CONTENT_TYPE_LATEST, generate_latest(registry) + generate_latest(_Now(state))


@cache
def process_metrics() -> Metrics:
    """Return the metrics of this process, created on first use."""
    return Metrics()


class _Now:
    """The gauges that are read at the moment of a scrape."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import InfoMetricFamily

        build = InfoMetricFamily("ninetailed_build", "Version of this software and of Python.")
        build.add_metric([], {"version": __version__, "python": sys.version.split()[0]})
        yield build
        yield from self._imports()
        yield from self._content()
        yield from self._location()
        yield from _processes()

    def _imports(self) -> Iterator[Metric]:
        if (imports := self._state.imports) is None:
            return
        waiting, oldest, aside = imports
        yield _gauge("ninetailed_import_queue_batches", "Batches that wait to be applied.", waiting)
        yield _gauge("ninetailed_import_queue_oldest_seconds", "How long the oldest of them has waited.", oldest)
        yield _gauge("ninetailed_import_aside_batches", "Batches that were set aside.", aside)

    def _content(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

        info = InfoMetricFamily("ninetailed_content", "The content served, by environment.", labels=["environment"])
        loaded = GaugeMetricFamily(
            "ninetailed_content_loaded_timestamp_seconds", "When it was read.", labels=["environment"]
        )
        for environment, version, at in self._state.contents:
            info.add_metric([environment], {"version": version})
            if at is not None:
                loaded.add_metric([environment], at)
        yield info
        yield loaded
        yield _gauge(
            "ninetailed_content_errors",
            "Errors in the current content; above 0 an older version is served.",
            self._state.content_errors,
        )
        yield _gauge(
            "ninetailed_content_left_out",
            "Entries, or parts of them, that cannot be understood and are not served; everything else is.",
            self._state.content_left_out,
        )

    def _location(self) -> Iterator[Metric]:
        if (location := self._state.location) is None:
            return
        built, refused = location
        yield _gauge(
            "ninetailed_location_database_build_timestamp_seconds", "When the database in use was built.", built
        )
        yield _gauge(
            "ninetailed_location_database_refused",
            "1 while the current file is invalid and an older version is in use.",
            int(refused),
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, text, value=value)


def _processes() -> Iterator[Metric]:
    """Yield the process metrics of prometheus_client for each serving process."""
    from prometheus_client import CollectorRegistry, ProcessCollector
    from prometheus_client.metrics_core import Metric

    pids = [os.getpid()]
    if FOLDER in os.environ:  # each worker has this file as long as it lives
        files = Path(os.environ[FOLDER]).glob("gauge_livesum_*.db")
        pids = sorted(int(file.stem.rpartition("_")[2]) for file in files)
    merged: dict[str, Metric] = {}
    for pid in pids:
        collector = ProcessCollector(pid=lambda pid=pid: pid, registry=CollectorRegistry())  # type: ignore[misc]
        for family in collector.collect():
            into = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                into.add_sample(sample.name, {**sample.labels, "pid": str(pid)}, sample.value)
    yield from merged.values()


# The folder in which the workers of `serve` count together.


@contextlib.contextmanager
def counting_together() -> Iterator[None]:
    """Give the workers an empty folder; for the process that starts them, before it imports prometheus_client.

    The folder is in memory if possible, because each request writes counters. It is removed when the block ends; the
    next server removes what a killed one left. If the variable names a folder, that folder is emptied and used instead.
    """
    if path := os.environ.get(FOLDER):
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.db"):
            file.unlink()
        yield
        return
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(directory, os.O_RDONLY)  # inherited by the workers: held until the last of them is gone
    fcntl.flock(lock, fcntl.LOCK_SH)
    in_a_child = forked_since()
    os.environ[FOLDER] = str(directory)
    try:
        yield
    finally:
        if not in_a_child():
            shutil.rmtree(directory, ignore_errors=True)


def worker_ended(pid: int) -> None:
    """Note in the parent process that a worker has ended; its counters stay."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(_PREFIX + "*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime < 60:  # its owner may be about to lock it
                continue
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
