"""Applies the events of one request: finds whose they are, claims user ids, folds events into records, joins profiles.

An identify event can make two profiles one. So events are applied in runs that end before each event that does, and the
join happens between two runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core import exposures, profile, retention
from ninetailed_wsgi.core.events import Event
from ninetailed_wsgi.core.location import Located, laid_over
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.core.profile import Record
from ninetailed_wsgi.operations.metrics import Metrics
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Entry, Store, Write

Step = tuple[Key, Event]
"""An event and the id or alias that it was sent for."""


class Snapshot(NamedTuple):
    """A profile at one moment: its record, and how many events it has had."""

    record: Record
    next_ordinal: int


class Outcome(NamedTuple):
    """What the fold of one profile decided.

    Attributes:
        write: what is to be stored.
        profile: as it is then; None: another one has its name now, and nothing was applied.
        applied: the events that were new to it.
        aliases: those that it lists now and did not before.
        excess: events whose traits were left out, each with the bytes that all traits would take.
    """

    write: Write | None
    profile: Snapshot | None
    applied: Sequence[Event] = ()
    aliases: Sequence[str] = ()
    excess: Sequence[tuple[Event, int]] = ()


class Application:
    """The events of one request, and the profiles that they belong to.

    Args:
        store: where the profiles are.
        catalog: the content whose audiences count the events.
        new_session_id: makes a session id.
        most_traits: bytes that all traits of a profile may take as JSON; those over it are left out.
        most_history: bytes that its history may take; the oldest events over it go.
        location: what the location database says of the request's address; None: it was not asked.
        metrics: counts what is stored; None: nobody asks.
        label: the environment as metrics name it; empty: they do not.

    Attributes:
        catalog: as above.
        excess: the events whose traits were left out, each with the bytes that all traits would take.
    """

    __slots__ = (
        "_claims",
        "_homes",
        "_label",
        "_location",
        "_metrics",
        "_most_history",
        "_most_traits",
        "_new_session_id",
        "_owners",
        "_profiles",
        "_store",
        "catalog",
        "excess",
    )

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        *,
        new_session_id: Callable[[], str],
        most_traits: int = profile.TRAITS_BYTES,
        most_history: int = retention.HISTORY_BYTES,
        location: Located | None = None,
        metrics: Metrics | None = None,
        label: str = "",
    ) -> None:
        self.catalog = catalog
        self.excess: list[tuple[Event, int]] = []
        self._store = store
        self._new_session_id = new_session_id
        self._most_traits = most_traits
        self._most_history = most_history
        self._location = location
        self._metrics = metrics
        self._label = label
        self._homes: dict[Key, Key] = {}  # a name as the request says it -> the profile that it leads to
        self._owners: dict[Key, identity.Owner] = {}  # what was read of a profile before its fold
        self._claims: dict[Key, Key] = {}  # aliases claimed and not yet confirmed -> the claimant
        self._profiles: dict[Key, Snapshot] = {}  # as the request's events left them

    def home(self, name: Key) -> Key:
        """Return the key of the profile that a name leads to, as far as this request knows."""
        return self._homes.get(name, name)

    def look_up(self, name: Key) -> Key:
        """Read whose a name is, once; return the key of the profile that it leads to."""
        if name not in self._homes:
            owner = identity.resolve(self._store, name)
            self._homes[name] = owner.key
            self._owners[owner.key] = owner
        return self._homes[name]

    def owner(self, name: Key) -> identity.Owner:
        """Read what a name leads to; remembered only where `look_up` has asked."""
        home = self._homes.get(name)
        return identity.resolve(self._store, name) if home is None else self._owners[home]

    def profile(self, name: Key) -> Snapshot | None:
        """Return the profile with this id or alias as the events left it, its counts up to date; None without one."""
        key = self.home(name)
        snapshot = self._profiles.get(key)
        if snapshot is not None:
            return snapshot
        owner = identity.resolve(self._store, key)
        if owner.record is None:
            return None
        if self.catalog.audiences.missing(owner.record["counts"]):
            # An audience published since is counted from the kept history, once.
            self.apply_run({owner.key: []})
            return self.profile(owner.key)
        return Snapshot(owner.record, owner.next_ordinal)

    def apply(self, steps: Sequence[Step], *, generated: bool = False) -> None:
        """Apply events to the profiles of their names; ``generated``: to a profile whose id was made for this request.

        Raises StoreUnavailable and ProfileOverload; the request can be repeated, as no event counts twice.
        """
        while steps:
            run, owner = self._claim_run(steps)
            self.apply_run(run)
            self._move_location(event for events in run.values() for event in events)
            self._confirm_claims()
            steps = steps[sum(map(len, run.values())) :]
            if owner:
                self._join(steps[0][0], owner, generated)

    def _move_location(self, events: Iterable[Event]) -> None:
        """Lay what events say of the location over what the database says, for the events that follow."""
        if self._location:
            self._location = laid_over(self._location, (event.body for event in events))

    def apply_run(self, run: Mapping[Key, Sequence[Event]]) -> None:
        """Apply each profile's events in one atomic step; names that turn out to be aliases are followed."""
        while run:
            session_ids: dict[Key, list[str]] = {key: [] for key in run}
            fold = partial(self._fold, run, session_ids)
            outcomes = self._count(run, fold) if self._metrics else self._store.update(list(run), fold)
            elsewhere: dict[Key, Sequence[Event]] = {}
            for key, events in run.items():
                outcome = outcomes[key]
                if outcome.profile is None:
                    home = self._follow(key)
                    elsewhere[home] = [*elsewhere.get(home, ()), *events]
                    continue
                self._profiles[key] = outcome.profile
                if outcome.excess:
                    self.excess += outcome.excess
                for alias in outcome.aliases:
                    # Also one that the profile had before, until a deletion came in between.
                    self._claims[key._replace(name=alias)] = key
            run = elsewhere

    def _count(
        self, run: Mapping[Key, Sequence[Event]], fold: Callable[[Key, Entry], Outcome]
    ) -> Mapping[Key, Outcome]:
        """Update the store and let metrics count what was stored, and how often a conflict let a fold run again."""
        folds = 0

        def counted(key: Key, entry: Entry) -> Outcome:
            nonlocal folds
            folds += 1
            return fold(key, entry)

        outcomes = self._store.update(list(run), counted)
        assert self._metrics is not None
        if folds > len(run):
            self._metrics.conflicts(folds - len(run))
        for key, outcome in outcomes.items():
            if outcome.profile is not None:
                types = [event.body["type"] for event in outcome.applied]
                self._metrics.stored(types, self._label, len(run[key]) - len(types))
        return outcomes

    # Whose an event is

    def _claim_run(self, steps: Sequence[Step]) -> tuple[dict[Key, list[Event]], Key | None]:
        """Claim the user ids of the events up to the next one that joins two profiles.

        Returns these events by profile, and the other profile of the one that joins; None when none does.
        """
        run: dict[Key, list[Event]] = {}
        for name, event in steps:
            if event.user_id:
                home = self.look_up(name)
                if not self._is_repeated(home, event, run.get(home, ())):
                    owner = self._claim(home, event.user_id, run)
                    if owner != home:
                        return run, owner
            run.setdefault(self.home(name), []).append(event)
        return run, None

    def _is_repeated(self, home: Key, event: Event, earlier: Sequence[Event]) -> bool:
        """Whether the event's message id was applied before, so that it identifies nobody.

        One that did identify then goes its way again: it may have been cut off before its claim was confirmed.
        """
        if any(event.key == other.key for other in earlier):
            return True
        snapshot = self._profiles.get(home) or self._owners.get(home)
        record = snapshot.record if snapshot else None
        return record is not None and event.user_id not in record["aliases"] and profile.has_seen(record, event)

    def _claim(self, home: Key, user_id: str, run: Collection[Key]) -> Key:
        """Claim a user id for a profile unless another one has it; return the key of the profile that has it then."""
        alias = home._replace(name=user_id)
        if alias == home:
            return home
        if alias in run:  # an event of this run makes it a profile, which is not stored yet
            return alias
        if alias in self._claims:
            return self._claims[alias]
        owner = identity.claim_unless_owned(self._store, alias, home)
        if owner == home:
            # Events that name the alias join this profile's at once, so that they keep their order.
            self._homes[alias] = home
            record = self._owners[home].record if home in self._owners else None
            if not (record and user_id in record["aliases"]):
                self._claims[alias] = home
        return owner

    def _confirm_claims(self) -> None:
        """Two profiles that claimed the same alias at the same time are one visitor."""
        claims, self._claims = self._claims, {}
        for alias, claimant in claims.items():
            while (home := self.home(claimant)) != (owner := identity.confirm(self._store, home, alias.name)):
                self._join(claimant, owner)

    def _join(self, name: Key, owner: Key, generated: bool = False) -> None:
        """Let two profiles be one: that of a name becomes part of ``owner``."""
        home = self.home(name)
        if generated and home not in self._profiles and self._owners[home].record is None:
            # Nobody has been told this id, and it has no events: there is nothing to merge.
            self._homes[name] = owner
            return
        merged = self._merged(home, owner)
        self._profiles.pop(home, None)
        self._profiles.pop(merged, None)
        self._owners[merged] = identity.resolve(self._store, merged)
        for other in [*self._homes, name, home]:
            if self.home(other) in (home, owner):
                self._homes[other] = merged

    def _merged(self, home: Key, owner: Key) -> Key:
        return identity.merge(self._store, home, owner)

    def _follow(self, key: Key) -> Key:
        """Read again whose a name is that was a profile's before."""
        self._homes.pop(key, None)
        home = self.look_up(key)
        for name, earlier in self._homes.items():
            if earlier == key:
                self._homes[name] = home
        return home

    # Folds: they decide from what is stored and from what stays the same during an update, and change neither.

    def _fold(
        self, run: Mapping[Key, Sequence[Event]], session_ids: Mapping[Key, list[str]], key: Key, entry: Entry
    ) -> Outcome:
        """Decide what the events of a run make of one profile."""
        document, owner = entry.document, self._owners.get(key)
        if document is not None and owner is not None and document == owner.stale:
            document = None
        if document is not None and ("to" in document or "into" in document):
            return Outcome(None, None)
        record, audiences = document or profile.new_record(key.name), self.catalog.audiences
        counts = record["counts"]
        recounted = document is not None and audiences.missing(counts)
        if recounted or document is None:
            audiences.recount(counts, entry.history() if document else ())
        aliases = record["aliases"]
        if self.catalog.metrics.missing(record):
            recounted = document is not None
            self.catalog.metrics.recount(record, entry.history() if document else ())
        applied: list[Event] = []
        excess: list[tuple[Event, int]] = []
        sticky_ids = self.catalog.experiences.sticky_ids
        new_session_id = partial(_session_id, self._new_session_id, session_ids[key], count())
        for event in run[key]:
            if profile.has_seen(record, event):
                continue
            if self._location and not applied:
                profile.locate(record, self._location)
            ordinal = entry.next_ordinal + len(applied)
            if event.type in exposures.EVENT_TYPES:  # before the event itself makes an assignment
                self._note_exposure(record, event, ordinal)
            if size := profile.apply(record, event, new_session_id, sticky_ids, self._most_traits):
                excess.append((event, size))
            retention.weigh(record, ordinal, len(event.raw), self._most_history)
            audiences.count(counts, ordinal, event.at, event.body)
            self.catalog.metrics.count(record, event.at, event.body)
            applied.append(event)
        events, first = [(event.at, event.raw) for event in applied], retention.first_ordinal(record)
        write = Write(record, events, first=first) if applied or recounted else None
        snapshot = Snapshot(record, entry.next_ordinal + len(applied))
        new = () if record["aliases"] is aliases else [name for name in record["aliases"] if name not in aliases]
        return Outcome(write, snapshot, applied, new, excess)

    def _note_exposure(self, record: Record, event: Event, ordinal: int) -> None:
        """Let an event that reports a component count as an exposure (spec section 11)."""
        report = exposures.report_of(event.body, event.at, direct=False)
        if report is not None:
            facts = profile.facts(record, ordinal, event.at)
            self.catalog.exposures.note(record, report, record["sticky"], partial(self.catalog.audiences.holds, facts))


def _session_id(new_id: Callable[[], str], ids: list[str], position: Iterator[int]) -> str:
    """Return the next session id of a profile; a fold that runs again gets the same ones in the same order."""
    index = next(position)
    if index == len(ids):
        ids.append(new_id())
    return ids[index]
