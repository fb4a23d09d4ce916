"""Records what SDKs report about components; each profile of a request is written once, however many events it has.

Source: spec section 11. An invalid event is left out, because SDKs retry a refused request again and again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.events import EventTimeError, ServedComponent, event_time
from ninetailed_wsgi.core.exposures import Report, joined, report_of, served_report
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.core.profile import Record
from ninetailed_wsgi.errors import PayloadTooLarge, ProfileOverload, StoreUnavailable
from ninetailed_wsgi.service.guarded import leads
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import StoreEntry, Write

MAX_EVENTS = 1000
"""The most events of one request (spec section 11)."""

ACCEPTED, INVALID, NO_PROFILE = "accepted", "invalid", "profile"

_OUTCOMES = {
    INVALID: "left out: not valid",
    NO_PROFILE: "left out: nobody has this profile id",
    "repeated": "known already",
    "experience": "left out: no published experience shows this component",
    "component": "left out: not a component of this experience",
    "inconsistent": "not counted: not the variant that this visitor gets",
}


class _Note(NamedTuple):
    """What the fold of one profile decided.

    Attributes:
        write: what to store.
        results: how many reports had which result; None: another profile has this name now, and nothing was recorded.
    """

    write: Write | None
    results: Mapping[str, int] | None


class Ingestion:
    """Records what visitors saw and clicked.

    Args:
        service: the service whose profiles, content and clock are used.
        is_valid: returns whether an event matches its JSON Schema.
    """

    def __init__(self, service: ExperienceService, is_valid: Callable[[object], bool]) -> None:
        self._service = service
        self._is_valid = is_valid

    def ingest(
        self,
        environment: Environment,
        body: Sequence[Mapping[str, Any]],
        *,
        guarded: bool = False,
        address: str | None = None,
    ) -> Mapping[str, int]:
        """Record the events of a request whose outer form is valid.

        Args:
            guarded: whether a former id leads to its profile for its visitor alone, for a minute (spec section 16).
            address: the visitor's, as for `service.guarded.leads`.

        Returns:
            How many events were ``accepted``, ``invalid``, without ``profile`` or had an outcome of `ExposureSet.note`.

        Raises:
            PayloadTooLarge: it holds more than 1,000 events.
            StoreUnavailable: nothing or only a part was stored; the request may be repeated.
        """
        count = sum(len(item["events"]) for item in body)
        if count > MAX_EVENTS:
            raise PayloadTooLarge(f"body: found {count} events, expected at most {MAX_EVENTS}")
        results: Counter[str] = Counter()
        now = self._service.clock()
        reports: dict[Key, list[Report]] = {}
        for item in body:
            read = [self._report(event, now) for event in item["events"]]
            results[INVALID] += read.count(None)
            if valid := [report for report in read if report is not None]:
                reports.setdefault(environment.key(item["profile"]["id"]), []).extend(valid)
        catalog = self._service.content(*environment)
        try:
            results += _store(self._service, catalog, reports, now, partial(_leads, guarded, address))
        except ProfileOverload as error:
            raise StoreUnavailable(str(error)) from error
        if self._service.metrics:
            for result, number in results.items():
                self._service.metrics.reported(result, number)
        if (live := self._service.live) is not None:
            outcome = ", ".join(f"{number} {_OUTCOMES.get(result, result)}" for result, number in (+results).items())
            for item in body:
                live.accepted(environment, "insights", item["profile"]["id"], item["events"], outcome)
        return +results

    def _report(self, event: object, now: int) -> Report | None:
        if not isinstance(event, dict) or not self._is_valid(event):
            return None
        try:
            return report_of(event, event_time(event, now), direct=True)
        except EventTimeError:
            return None


def expose(
    service: ExperienceService,
    environment: Environment,
    name: str,
    exposures: Iterable[ServedComponent],
    *,
    guarded: bool = False,
    address: str | None = None,
) -> None:
    """Record what a visitor was served, apart from the write of their events (spec section 12).

    A visitor without a profile does not get one, and what is stored already is not written again. ``guarded`` and
    ``address`` are as for `Ingestion.ingest`.

    Raises:
        StoreUnavailable: nothing was stored; the call may be repeated.
    """
    now = service.clock()
    catalog, key = service.content(*environment), environment.key(name)
    reports = {key: [served_report(each, now) for each in exposures]}
    _store(service, catalog, reports, now, partial(_leads, guarded, address))


def _leads(guarded: bool, address: str | None, record: Record, name: str, now: int) -> bool:
    return not guarded or leads(record, name, now, address)


def _store(
    service: ExperienceService,
    catalog: Catalog,
    reports: Mapping[Key, Sequence[Report]],
    now: int,
    does_lead: Callable[[Record, str, int], bool],
) -> Counter[str]:
    """Record reports, given by the name of their profile; return how many had which result."""
    results: Counter[str] = Counter()
    store = service.store
    while reports:
        outcomes = store.update(list(reports), partial(_fold, catalog, reports, now))
        elsewhere: dict[Key, list[Report]] = {}
        for name, outcome in outcomes.items():
            if outcome.results is not None:
                results.update(outcome.results)
            elif (owner := identity.resolve(store, name)).record is None or not does_lead(owner.record, name.name, now):
                results[NO_PROFILE] += len(reports[name])
            else:
                elsewhere.setdefault(owner.key, []).extend(reports[name])
        reports = elsewhere
    return results


def _fold(catalog: Catalog, reports: Mapping[Key, Sequence[Report]], now: int, key: Key, entry: StoreEntry) -> _Note:
    """Decide how its reports change one profile; a pure function."""
    if entry.document is None:
        return _Note(None, {NO_PROFILE: len(reports[key])})
    if not identity.is_profile(entry.document):
        return _Note(None, None)
    record = {**entry.document}
    belongs = partial(catalog.audiences.holds, profile.facts(record, entry.next_ordinal, now))
    results: Counter[str] = Counter()
    for report, number in joined(reports[key]):
        results[catalog.exposures.note(record, report, record["sticky"], belongs)] += number
    changed = results.keys() & {ACCEPTED, "inconsistent"}
    return _Note(Write(record) if changed else None, results)
