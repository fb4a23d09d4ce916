"""Decides how the events of a run change each profile: a pure function of what is stored and of fixed conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core import exposures, profile, retention
from ninetailed_wsgi.core.company import Company
from ninetailed_wsgi.core.events import Event
from ninetailed_wsgi.core.location import Located
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.core.profile import Record
from ninetailed_wsgi.store.identity import Owner, is_profile
from ninetailed_wsgi.store.protocol import StoreEntry, Write

if TYPE_CHECKING:
    from ninetailed_wsgi.operations.metrics import Metrics

Run = Mapping[Key, Sequence[Event]]
"""Events that are applied together, by the key of their profile."""


class Conditions(NamedTuple):
    """What applies to the events of every request of an environment.

    Attributes:
        new_session_id: makes a session id.
        traits_bytes: the most bytes of a profile's traits as JSON; traits beyond that are left out.
        history_bytes: the most bytes of its history; beyond that, the oldest events are removed.
        metrics: counts what is stored; None: nothing is counted.
        label: the name of the environment in metrics; empty: metrics do not name it.
    """

    new_session_id: Callable[[], str]
    traits_bytes: int = profile.TRAITS_BYTES
    history_bytes: int = retention.HISTORY_BYTES
    metrics: Metrics | None = None
    label: str = ""


class AddressFacts(NamedTuple):
    """What the address of a request says about its visitor.

    Attributes:
        location: where it is; None: this was not looked up.
        company: what is known about its company; None: this was not looked up.
    """

    location: Located | None = None
    company: Company | None = None


NO_FACTS = AddressFacts()


class Snapshot(NamedTuple):
    """A profile at one moment: its record, and how many events it has had."""

    record: Record
    next_ordinal: int


class ProfileOutcome(NamedTuple):
    """What the fold of one profile decided.

    Attributes:
        write: what is to be stored.
        profile: the profile afterward; None: another profile has its name now, and nothing was applied.
        events: the events that were new to the profile.
        aliases: the aliases that the profile lists now and did not list before.
        excess: events whose traits were left out, each with the bytes that all traits would have taken.
        is_new: whether nothing of the profile was stored before.
    """

    write: Write | None
    profile: Snapshot | None
    events: Sequence[Event] = ()
    aliases: Sequence[str] = ()
    excess: Sequence[tuple[Event, int]] = ()
    is_new: bool = False


class Folding:
    """The fold of one run: decides, and changes neither the store nor its own arguments.

    Args:
        run: the events.
        catalog: the content whose audiences count them.
        conditions: what applies to every request of the environment.
        facts: what the address of the request says.
        owners: what was read about profiles before; a pointer without a meaning counts as no profile.
    """

    __slots__ = ("_catalog", "_conditions", "_facts", "_owners", "_run", "_session_ids")

    def __init__(
        self,
        run: Run,
        catalog: Catalog,
        conditions: Conditions,
        facts: AddressFacts,
        owners: Mapping[Key, Owner],
    ) -> None:
        self._run = run
        self._catalog = catalog
        self._conditions = conditions
        self._facts = facts
        self._owners = owners
        # A fold that runs again gives a profile's sessions the same ids in the same order.
        self._session_ids: dict[Key, list[str]] = {}

    def __call__(self, key: Key, entry: StoreEntry) -> ProfileOutcome:
        """Return how the events change one profile."""
        document = entry.document if entry.document is not None and not self._is_stale(key, entry) else None
        if document is not None and not is_profile(document):
            return ProfileOutcome(None, None)
        record = profile.draft(document) if document else profile.new_record(key.name)
        aliases = record["aliases"]
        recounted = self._recount(record, entry, new=document is None)
        events, excess = self._apply(key, record, entry.next_ordinal)
        write = None
        if events or recounted:
            raws = [(event.at, event.raw) for event in events]
            write = Write(record, raws, False, retention.first_ordinal(record))
        snapshot = Snapshot(record, entry.next_ordinal + len(events))
        new = () if record["aliases"] is aliases else [name for name in record["aliases"] if name not in aliases]
        return ProfileOutcome(write, snapshot, events, new, excess, document is None)

    def _is_stale(self, key: Key, entry: StoreEntry) -> bool:
        owner = self._owners.get(key)
        return owner is not None and entry.document == owner.stale

    def _recount(self, record: Record, entry: StoreEntry, *, new: bool) -> bool:
        """Count the history for audiences and metrics published since; return whether a stored record changed."""
        audiences, metrics = self._catalog.audiences, self._catalog.metrics
        is_changed = False
        if new or audiences.missing(record["counts"]):
            audiences.recount(record["counts"], () if new else entry.history())
            is_changed = not new
        if metrics.missing(record):
            metrics.recount(record, () if new else entry.history())
            is_changed = not new
        return is_changed

    def _apply(self, key: Key, record: Record, next_ordinal: int) -> tuple[list[Event], list[tuple[Event, int]]]:
        """Apply the events that are new to a record; return these, and those whose traits were left out."""
        catalog, conditions = self._catalog, self._conditions
        new_session_id = partial(self._session_id, self._session_ids.setdefault(key, []), count())
        audiences, metrics, sticky = catalog.audiences, catalog.metrics, catalog.experiences.sticky
        traits_bytes, history_bytes = conditions.traits_bytes, conditions.history_bytes
        ordinal = next_ordinal
        events: list[Event] = []
        excess: list[tuple[Event, int]] = []
        for event in self._run[key]:
            if profile.has_seen(record, event):
                continue
            if not events:
                self._enrich(record, event)
            at, body = event.at, event.body
            if body["type"] in exposures.EVENT_TYPES:  # before the event itself assigns a variant
                self._note_exposure(record, event, ordinal)
            if size := profile.apply(record, event, new_session_id, sticky, traits_bytes):
                excess.append((event, size))
            retention.weigh(record, ordinal, len(event.raw), history_bytes)
            audiences.count(record["counts"], ordinal, at, body)
            metrics.count(record, at, body)
            events.append(event)
            ordinal += 1
            if event.exposures:
                self._note_served(record, events, ordinal)
        return events, excess

    def _enrich(self, record: Record, event: Event) -> None:
        """Record what the address of the request says."""
        location, company = self._facts
        if location:
            profile.locate(record, location)
        if company:
            profile.enrich(record, company, event.at, self._conditions.traits_bytes)

    def _session_id(self, ids: list[str], position: count[int]) -> str:
        index = next(position)
        if index == len(ids):
            ids.append(self._conditions.new_session_id())
        return ids[index]

    def _note_served(self, record: Record, events: Sequence[Event], ordinal: int) -> None:
        """Count what a page showed as an exposure, after all events that the page recorded."""
        last = events[-1]
        # What visitors did before they saw a page is no conversion of that page, not even in the same millisecond.
        at = last.at + any(event.type == "track" and event.at == last.at for event in events)
        belongs = partial(self._catalog.audiences.holds, profile.facts(record, ordinal, last.at))
        for exposure in last.exposures:
            self._catalog.exposures.note(record, exposures.served_report(exposure, at), record["sticky"], belongs)

    def _note_exposure(self, record: Record, event: Event, ordinal: int) -> None:
        """Count an event that reports a component as an exposure (spec section 11)."""
        report = exposures.report_of(event.body, event.at, direct=False)
        if report is not None:
            facts = profile.facts(record, ordinal, event.at)
            audiences = self._catalog.audiences
            self._catalog.exposures.note(record, report, record["sticky"], partial(audiences.holds, facts))
