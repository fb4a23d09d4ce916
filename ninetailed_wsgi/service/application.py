"""Applies the events of one request: finds their profiles, claims user ids, folds the events, joins profiles.

An identify event can join two profiles. So events are applied in runs: a run ends before each event that joins, and
the join happens between two runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.events import Event
from ninetailed_wsgi.core.location import laid_over
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.service.folding import NO_FACTS, AddressFacts, Conditions, Folding, ProfileOutcome, Run, Snapshot
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Store, StoreEntry

Step = tuple[Key, Event]
"""An event and the id or alias that it was sent for."""


class Application:
    """The events of one request, and the profiles that they belong to.

    Args:
        store: where the profiles are.
        catalog: the content whose audiences count the events.
        conditions: what applies to every request of the environment.
        facts: what the address of the request says.

    Attributes:
        catalog: as above.
        excess: the events whose traits were left out, each with the bytes that all traits would have taken.
    """

    __slots__ = (
        "_claims",
        "_conditions",
        "_facts",
        "_homes",
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
        conditions: Conditions,
        facts: AddressFacts = NO_FACTS,
    ) -> None:
        self.catalog = catalog
        self.excess: list[tuple[Event, int]] = []
        self._store = store
        self._conditions = conditions
        self._facts = facts
        self._homes: dict[Key, Key] = {}  # a name in the request -> the profile that it leads to
        self._owners: dict[Key, identity.Owner] = {}  # what was read about a profile before its fold
        self._claims: dict[Key, Key] = {}  # aliases claimed and not yet confirmed -> the claimant
        self._profiles: dict[Key, Snapshot] = {}  # as the request's events left them

    def home(self, name: Key) -> Key:
        """Return the key of the profile that a name leads to, as far as this request knows, without reading."""
        return self._homes.get(name, name)

    def look_up(self, name: Key) -> Key:
        """Return the key of the profile that a name leads to; read it once from the store."""
        if name not in self._homes:
            owner = identity.resolve(self._store, name)
            self._homes[name] = owner.key
            self._owners[owner.key] = owner
        return self._homes[name]

    def owner(self, name: Key) -> identity.Owner:
        """Read what a name leads to; only `look_up` remembers the result."""
        home = self._homes.get(name)
        return identity.resolve(self._store, name) if home is None else self._owners[home]

    def profile(self, name: Key) -> Snapshot | None:
        """Return the profile with this id or alias after the events, with current counts; None if there is none."""
        key = self.home(name)
        snapshot = self._profiles.get(key)
        if snapshot is not None:
            return snapshot
        owner = identity.resolve(self._store, key)
        if owner.record is None:
            return None
        if self.catalog.audiences.missing(owner.record["counts"]):
            # An audience that was published since then is counted once, from the history.
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
        """Let the location in events override the one in the database, for the events that follow."""
        if self._facts.location:
            location = laid_over(self._facts.location, (event.body for event in events))
            self._facts = self._facts._replace(location=location)

    def apply_run(self, run: Run) -> None:
        """Apply each profile's events in one atomic step; names that turn out to be aliases are followed."""
        while run:
            outcomes = self._update(run)
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
                    # Also an alias that the profile had before a deletion came in between.
                    self._claims[key._replace(name=alias)] = key
            run = elsewhere

    def _update(self, run: Run) -> dict[Key, ProfileOutcome]:
        """Fold and store the events of each profile; return what was decided."""
        fold = Folding(run, self.catalog, self._conditions, self._facts, self._owners)
        return update(self._store, run, fold, self._conditions)

    # Which profile an event belongs to

    def _claim_run(self, steps: Sequence[Step]) -> tuple[dict[Key, list[Event]], Key | None]:
        """Claim the user ids of the events up to the next one that joins two profiles.

        Returns these events by profile, and the other profile of the event that joins; None if no event joins.
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
        """Return whether the event's message id was applied before, so that it identifies nobody.

        An event that did identify is handled again: it may have been cut off before its claim was confirmed.
        """
        if any(event.key == other.key for other in earlier):
            return True
        snapshot = self._profiles.get(home) or self._owners.get(home)
        record = snapshot.record if snapshot else None
        return record is not None and event.user_id not in record["aliases"] and profile.has_seen(record, event)

    def _claim(self, home: Key, user_id: str, run: Collection[Key]) -> Key:
        """Claim a user id for a profile unless another one has it; return the key of the profile that now has it."""
        alias = home._replace(name=user_id)
        if alias == home:
            return home
        if alias in run:  # an event of this run creates a profile with this name, which is not stored yet
            return alias
        if alias in self._claims:
            return self._claims[alias]
        owner = identity.claim_unless_owned(self._store, alias, home)
        if owner == home:
            # Events that name the alias go to this profile at once, so that they keep their order.
            self._homes[alias] = home
            record = self._owners[home].record if home in self._owners else None
            if not (record and user_id in record["aliases"]):
                self._claims[alias] = home
        return owner

    def _confirm_claims(self) -> None:
        """Merge profiles that claimed the same alias at the same time, because they are one visitor."""
        claims, self._claims = self._claims, {}
        for alias, claimant in claims.items():
            while (home := self.home(claimant)) != (owner := identity.confirm(self._store, home, alias.name)):
                self._join(claimant, owner)

    def _join(self, name: Key, owner: Key, generated: bool = False) -> None:
        """Join two profiles: the profile of a name becomes part of ``owner``."""
        home = self.home(name)
        if generated and home not in self._profiles and self._owners[home].record is None:
            # Nobody knows this id yet, and it has no events: there is nothing to merge.
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
        """Read again where a key leads that was the key of a profile before; return the profile's key now."""
        self._homes.pop(key, None)
        home = self.look_up(key)
        for name, earlier in self._homes.items():
            if earlier == key:
                self._homes[name] = home
        return home


def latest(application: Application, name: Key) -> Snapshot:
    """Return the profile that events were just applied to; raise StoreUnavailable if it was deleted since."""
    snapshot = application.profile(name)
    if snapshot is None:
        raise StoreUnavailable("the profile was deleted while events were applied to it")
    return snapshot


def update(store: Store, run: Run, fold: Folding, conditions: Conditions) -> dict[Key, ProfileOutcome]:
    """Update the store; count in the metrics what was stored, and how often a fold ran again after a conflict.

    Returns what was decided for each profile of the run.
    """
    metrics = conditions.metrics
    if metrics is None:
        return store.update(list(run), fold)
    folds = 0

    def count(key: Key, entry: StoreEntry) -> ProfileOutcome:
        nonlocal folds
        folds += 1
        return fold(key, entry)

    outcomes = store.update(list(run), count)
    if folds > len(run):
        metrics.conflicts(folds - len(run))
    for key, outcome in outcomes.items():
        if outcome.profile is not None:
            types = [event.body["type"] for event in outcome.events]
            metrics.count_events(types, conditions.label, len(run[key]) - len(types))
    return outcomes
