"""Applies events in the mode ``guarded``: a visitor's id is a secret, and a profile has at most one verified user.

Every user id that comes here was verified: by code of the site, by a trusted caller or by a proof (spec section 16).
An identify event with it gives the profile a new id. The old id leads to the profile for one more minute, and only from
the visitor's address, so an id that an attacker planted is worth nothing. A trusted caller may name this address; if
it does not, any will do for this minute. A record notes its ``user``; ``vouched``, the aliases that were claimed in
this mode; and ``until``, the former ids, each with the time (ms) until which it leads here, or with this time and the
mark of the address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.core.profile import Record
from ninetailed_wsgi.enrichment.client_ip import subscriber
from ninetailed_wsgi.service.access import Terms
from ninetailed_wsgi.service.application import Application, Step, update
from ninetailed_wsgi.service.folding import AddressFacts, Conditions, Folding, ProfileOutcome, Run
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Store, StoreEntry, Write

GRACE = 60_000
"""Milliseconds for which a former id still leads to its profile, for requests under way and other tabs."""


def leads(record: Record, name: str, now: int, address: str | None) -> bool:
    """Return whether a name that a record lists still leads to it at this time (ms).

    Args:
        address: of the visitor who asks, empty if it is unknown; None: a trusted caller asks who does not name it.
    """
    until = record.get("until", {}).get(name)
    if until is None:
        return True
    end, mark = until if isinstance(until, list) else (until, None)
    return bool(now < end) and (mark is None or address is None or mark == _mark(name, address))


def _until(name: str, now: int, address: str | None) -> object:
    """Return how long a former id leads to its profile, and from which address, as a record notes it."""
    return now + GRACE if address is None else [now + GRACE, _mark(name, address)]


def _mark(name: str, address: str) -> str:
    """Return four characters that keep others out, and that tell nobody the address."""
    return sha256(f"{name} {subscriber(address)}".encode()).hexdigest()[:4]


class GuardedApplication(Application):
    """The events of one request whose user ids were verified.

    Args:
        store, catalog, conditions, facts: as for `Application`.
        terms: the terms on which events are applied.
        issued: returns whether a name is an id that certifies itself; any other name is a user id.
        new_id: makes the id of a new profile.
        now: the time, in milliseconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        conditions: Conditions,
        facts: AddressFacts,
        terms: Terms,
        *,
        issued: Callable[[str], bool],
        new_id: Callable[[], str],
        now: int,
    ) -> None:
        super().__init__(store, catalog, conditions, facts)
        self._issued = issued
        self._new_id = new_id
        self._now = now
        self._renames = terms.renames
        self._allowance = terms.allowance
        self._address = terms.address
        self._room: bool | None = None
        self._names: dict[Key, list[str]] = {}  # user ids that requests used for a profile, so it has to list them

    def look_up(self, name: Key) -> Key:
        """Return the key of a name's profile, read once; a user id without a profile gets one with an id of its own."""
        if name in self._homes:
            return self._homes[name]
        owner = self._owner_of(name)
        if not self._issued(name.name):
            owner = self._adopt(name, owner)
        self._homes[name] = owner.key
        self._owners[owner.key] = owner
        return owner.key

    def apply(self, steps: Sequence[Step], *, generated: bool = False) -> None:
        """Apply events to the profiles of their names; ``generated``: to a profile whose id was made for this request.

        Raises StoreUnavailable and ProfileOverload; the request can be repeated, as no event counts twice.
        """
        run: list[Step] = []
        for name, event in steps:
            home = self.look_up(name)
            if event.user_id and not self._is_repeated(home, event, [e for n, e in run if self.home(n) == home]):
                self._apply_steps(run)
                run = []
                self._identify(name, event.user_id, generated)
            run.append((name, event))
        self._apply_steps(run)

    def _apply_steps(self, steps: Sequence[Step]) -> None:
        run: dict[Key, list[Any]] = {}
        for name, event in steps:
            run.setdefault(self.home(name), []).append(event)
        self.apply_run(run)
        self._move_location(event for _, event in steps)
        self._confirm_claims()

    def _new_key(self, name: Key) -> Key:
        """Return the key of a new profile in the environment of a name."""
        return name._replace(name=self._new_id())

    # Which profile a name leads to

    def _owner_of(self, name: Key) -> identity.Owner:
        """Read what a name leads to now; a former id that has expired leads to a new profile.

        In a batch it still leads to the old one: its trusted sender never learns new ids and keeps using the old id.
        """
        owner = identity.resolve(self._store, name)
        if owner.record is None or not self._renames or leads(owner.record, name.name, self._now, self._address):
            return owner
        return identity.Owner(self._new_key(name), None)

    def _adopt(self, name: Key, owner: identity.Owner) -> identity.Owner:
        """Give a user id a profile with an issued id; it may have no profile, or one from before this mode."""
        if owner.record is not None and self._issued(owner.key.name):
            return owner
        new = self._new_key(name)
        if owner.record is not None:
            return self._rename(owner.key, owner.record, new, None)
        self._check_room()
        key = identity.claim_unless_owned(self._store, name, new)
        if key != new:
            return self._owner_of(key)
        self._names.setdefault(new, []).append(name.name)
        return identity.Owner(new, None)

    def _identify(self, name: Key, user_id: str, generated: bool) -> None:
        """Lead a name to the profile of a verified user: its own, that of the user, or a fresh one."""
        home = self.home(name)
        record = self._record(home)
        if record is not None and record.get("user") == user_id:
            return
        mine = record.get("user") if record else None
        alias = home._replace(name=user_id)
        theirs = self._owner_of(alias)
        is_other = theirs.record is not None and theirs.key != home
        if is_other and theirs.record is not None and _is_user(theirs.record, user_id):
            if record is None or mine is not None:
                self._lead(name, theirs)  # two verified users never merge
            else:
                self._join(name, theirs.key, generated)
            return
        if record is None or mine is not None:
            self._check_room()
        if is_other:  # claimed without verification, or a name of another user: the verified user takes it
            self._take(alias, theirs)
        if mine is not None:
            self._lead(name, identity.Owner(self._new_key(name), None))
        elif self._renames and not generated and self._issued(home.name):
            self._lead(
                name, self._rename(home, record, self._new_key(home), _until(home.name, self._now, self._address))
            )
            if record is None and self._allowance:
                self._allowance.count(1)
        home = self.home(name)
        other = identity.claim_unless_owned(self._store, alias, home)
        if other != home:
            self._join(name, other)
            return
        self._homes[alias] = home
        self._claims[alias] = home

    def _record(self, home: Key) -> Record | None:
        snapshot = self._profiles.get(home) or self._owners.get(home)
        return snapshot.record if snapshot else None

    def _lead(self, name: Key, owner: identity.Owner) -> None:
        home = self.home(name)
        for other in [*self._homes, name, home]:
            if self.home(other) == home:
                self._homes[other] = owner.key
        self._owners[owner.key] = owner

    def _take(self, alias: Key, owner: identity.Owner) -> None:
        """Take a user id from a profile whose claim to it was never verified."""
        assert owner.record is not None
        if owner.key == alias:  # it is the profile's id, from before this mode: the profile gets a new, unknown id
            owner = self._rename(alias, owner.record, self._new_key(alias), None)
        identity.release(self._store, owner.key, alias.name)
        self._profiles.pop(owner.key, None)

    def _rename(self, key: Key, record: Record | None, new: Key, until: object) -> identity.Owner:
        """Give a profile a new id; the old one leads to it as ``until`` says, or for good (None)."""
        fresh: Record = {**profile.new_record(new.name), "born": new.name}
        fresh["stable_id"] = record["stable_id"] if record else key.name
        self._store.update([new], lambda _, entry: Write(fresh) if entry.document is None else None)
        merged = identity.merge(self._store, key, new, until)
        if merged != new:
            # Another request was faster, and nobody knows this id. What it leads to now must not be deleted here.
            identity.delete(self._store, new, lambda record: record["id"] == new.name)
        self._profiles.pop(key, None)
        self._profiles.pop(merged, None)
        return identity.resolve(self._store, merged)

    def _takes_new(self) -> bool:
        """Return whether a new profile is allowed, decided once, so that a refusal comes before any write.

        Requests that run at the same time may each get the last allowed profile.
        """
        if self._room is None:
            self._room = self._allowance is None or self._allowance.has_room()
        return self._room

    def _check_room(self) -> None:
        """Raise RateLimited if no new profile is allowed, before a user id leads to one."""
        if self._allowance and not self._takes_new():
            raise self._allowance.refusal()

    def _merged(self, home: Key, owner: Key) -> Key:
        until = _until(home.name, self._now, self._address) if self._renames and self._issued(home.name) else None
        return identity.merge(self._store, home, owner, until)

    def _update(self, run: Run) -> dict[Key, ProfileOutcome]:
        """Update as `Application` does; raise RateLimited and store nothing if the address may have no new profile."""
        base = (run, self.catalog, self._conditions, self._facts, self._owners)
        fold = _GuardedFolding(*base, names=self._names, takes_new=self._takes_new())
        outcomes = update(self._store, run, fold, self._conditions)
        if self._allowance and (number := sum(outcome.is_new for outcome in outcomes.values())):
            if any(outcome.is_new and outcome.write is None for outcome in outcomes.values()):
                raise self._allowance.refusal()
            self._allowance.count(number)
        return outcomes


class _GuardedFolding(Folding):
    """The fold of one run that also notes which user ids were verified.

    Args:
        names: user ids that requests used for a profile, so it has to list them.
        takes_new: whether a new profile is allowed; if not, the outcome of a new one has nothing to store.
        others: as for `Folding`.
    """

    __slots__ = ("_names", "_takes_new")

    def __init__(self, *others: Any, names: Mapping[Key, Sequence[str]], takes_new: bool) -> None:
        super().__init__(*others)
        self._names = names
        self._takes_new = takes_new

    def __call__(self, key: Key, entry: StoreEntry) -> ProfileOutcome:
        """Return how the events change one profile."""
        if not self._takes_new and (entry.document is None or self._is_stale(key, entry)):
            return ProfileOutcome(None, None, is_new=True)
        outcome = super().__call__(key, entry)
        if outcome.profile is None:
            return outcome
        record = outcome.profile.record
        users = [event.user_id for event in outcome.events if event.user_id]
        names = [name for name in self._names.get(key, ()) if name not in record["aliases"]]
        if outcome.write is None and not names:
            return outcome
        if users:
            record["user"] = users[-1]
        for name in names:
            record["aliases"] = profile.with_alias(record, name)
        if new_names := [name for name in (*users, *names) if name not in record.get("vouched", ())]:
            record["vouched"] = [*record.get("vouched", ()), *new_names]
        write = outcome.write or Write(record)
        return outcome._replace(write=write, aliases=[*outcome.aliases, *names])


def _is_user(record: Record, user_id: str) -> bool:
    """Return whether a profile is this user's: verified for the user, or known to trusted callers by this name."""
    user = record.get("user")
    return user == user_id or (user is None and user_id in record.get("vouched", ()))
