"""The public operations of the Experience API, each from a validated body to the data of its answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from operator import attrgetter
from typing import Any

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.events import ServedComponent
from ninetailed_wsgi.core.flags import Flag, FlagNotFound
from ninetailed_wsgi.core.ids import REPLAY, NewIds, PageIds
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.service import erasure
from ninetailed_wsgi.service.access import ANY_TERMS, Terms
from ninetailed_wsgi.service.answers import not_found
from ninetailed_wsgi.service.application import Application, Step, latest
from ninetailed_wsgi.service.batches import Batch
from ninetailed_wsgi.service.folding import NO_FACTS, AddressFacts, Snapshot
from ninetailed_wsgi.service.foundation import Foundation
from ninetailed_wsgi.service.guarded import GuardedApplication, leads
from ninetailed_wsgi.service.incoming import needs_profile, prepared
from ninetailed_wsgi.service.limits import check_profiles, check_traits, named_by, new_profile
from ninetailed_wsgi.service.turns import NO_TURN, writers
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.overlay import Overlay


class ExperienceService(Foundation):
    """Profiles, and what each visitor should see; made of the parts that `Foundation` names.

    Every method takes documents that already passed their JSON Schema and raises the errors of
    :mod:`ninetailed_wsgi.errors`. Answers share parts with each other, so they must not be changed.
    """

    def upsert(
        self,
        environment: Environment,
        name: str | None,
        body: Mapping[str, Any],
        *,
        preflight: bool = False,
        address: str | None = None,
        locale: str = "en",
        ids: PageIds | None = None,
        catalog: Catalog | None = None,
        terms: Terms = ANY_TERMS,
        entities: bool = False,
        exposures: Sequence[ServedComponent] = (),
        overrides: Overrides | None = None,
    ) -> dict[str, Any]:
        """Create (``name`` None) or update a profile; return ``profile``, ``experiences`` and ``changes``.

        Args:
            preflight: answer the same and store nothing.
            ids: the ids of the new profile and its session; None: made here. A cookie may have the former already.
            catalog: the content that decides; None: the content that is published now.
            entities: whether ``changes`` may hold what only clients of the space routes accept (spec section 6).
            exposures: what the page of these events showed, recorded by the same write (spec section 12).
            overrides: the overrides of a preview, which is a preflight (spec section 13); None: this is no preview.
        """
        now = self._resume_imports()
        if overrides is not None:
            preflight, now, catalog = True, overrides.now(now), self.previews.catalog(environment, overrides)
        events = prepared(body["events"], now, self._mask, exposures)
        new = self.new_ids(environment, ids) if ids else None
        facts = self.addresses.look_up(address, locale, body, asks=not preflight)
        application = self._application(environment, now, terms, preflight, catalog, facts, new)
        key, is_new = self._destination(environment, name, new, application, body, terms, now)
        is_claim = terms.guarded and name is not None and not self.certifies(environment, name)
        steps = [(key, event) for event in events] if is_claim or needs_profile(events) else ()
        turn = self._turn(writers(environment, events, key, is_new=is_new, preflight=preflight))
        with self._merging(steps, terms.guarded), turn:
            if steps:
                # An id from a cookie has to lead to the profile that it joins.
                self._apply(application, (key,), steps, generated=name is None and (new is None or terms.guarded))
            else:
                application.apply_run({key: events})
            return self._answers.applied(environment, application, key, preflight, events, now, overrides, entities)

    def upsert_many(
        self, environment: Environment, body: Mapping[str, Any], *, guarded: bool = False, preflight: bool = False
    ) -> list[dict[str, Any]]:
        """Apply a batch, each event to the profile of its ``anonymousId``; return profiles in order of appearance."""
        now = self._resume_imports()
        events = prepared(body["events"], now, self._mask)
        check_profiles(events)
        key = cache(environment.key)
        steps = named_by(events, key)
        names = dict.fromkeys(key(event["anonymousId"]) for event in body["events"])
        application = self._application(environment, now, Terms(guarded, renames=False), preflight)
        turns = names.keys() | {key(event.user_id) for event in events if event.user_id}
        with self._merging(steps, guarded), self._turn(turns):
            self._apply(application, names, steps)
        homes = dict.fromkeys(map(application.home, names))
        if self.live is not None and not preflight:
            self.live.batch(environment, application, homes, steps, now)
        return [self._answers.profile(application.catalog, latest(application, home), now) for home in homes]

    def import_many(self, environment: Environment, body: Mapping[str, Any], *, guarded: bool = False) -> None:
        """Accept a batch as for `upsert_many`, to be applied soon and exactly once, even if processes die."""
        if self._queue is None or self.consumer is None:
            self.upsert_many(environment, body, guarded=guarded)
            return
        now = self.clock()
        events = prepared(body["events"], now, self._mask)
        check_profiles(events)
        # Nobody knows which traits its profiles will have when the batch is applied.
        check_traits(named_by(events, environment.key), self._most_traits, None, new_profile)
        bodies: list[dict[str, Any] | None] = [event.body for event in sorted(events, key=attrgetter("place"))]
        batch = Batch(environment, now, bodies, guarded)
        self._queue.put(batch.encode(), batch.names)
        self.consumer.wake()
        if self.live is not None:
            self.live.accepted(environment, "import", "", body["events"], "They wait to be applied.")

    def apply_import(self, number: int, text: bytes) -> None:
        """Apply the batch of this number that `import_many` accepted; after a try was cut off, apply what is left."""
        environment, at, bodies, guarded = Batch.decode(text)
        places = [place for place, body in enumerate(bodies) if body is not None]  # None: deleted since
        arrived = prepared([body for body in bodies if body is not None], at)
        steps = named_by([each._replace(imported=(number, places[each.place])) for each in arrived], environment.key)
        application = self._application(environment, self.clock(), Terms(guarded, renames=False))
        with self._merging(steps, guarded, waits=True):
            for name in dict.fromkeys(name for name, _ in steps):
                application.look_up(name)
            application.apply(steps)

    def get(
        self,
        environment: Environment,
        name: str,
        *,
        guarded: bool = False,
        address: str | None = None,
        entities: bool = False,
        overrides: Overrides | None = None,
    ) -> dict[str, Any]:
        """Return the profile with this id or alias, evaluated now, in the form of `upsert`.

        ``guarded``: not by a former id that ended, or that is not of a visitor at this ``address`` (see `leads`).
        """
        self._resume_imports()
        now, catalog = self.clock(), self.previews.other(environment, overrides)
        catalog, snapshot = self._profile(environment, name, now, catalog)
        if guarded and not leads(snapshot.record, name, now, address):
            raise not_found(name)
        return self._answers.decision(catalog, snapshot, now, overrides, entities)

    def explain(self, environment: Environment, name: str, overrides: Overrides | None = None) -> dict[str, Any]:
        """Explain why a visitor is or is not in each audience and gets each variant; the deciding functions say why.

        Returns ``profile``, and ``audiences`` and ``experiences`` as their ``explain`` methods do; with the
        ``overrides`` of a preview, the decisions of that preview.
        """
        now, catalog = self.clock(), self.previews.other(environment, overrides)
        catalog, snapshot = self._profile(environment, name, now, catalog)
        return self._answers.explanation(catalog, snapshot, now, overrides)

    def preview(
        self,
        environment: Environment,
        name: str | None,
        events: Sequence[dict[str, Any]],
        overrides: Overrides,
        terms: Terms = ANY_TERMS,
        device: str | None = None,
    ) -> dict[str, Any]:
        """Return what a visitor would get after these events, and why, as `explain` does; store nothing.

        ``name`` is an id or alias; None, or a name without a profile: a new visitor. ``device`` None: the visitor's.
        """
        now, catalog = overrides.now(self.clock()), self.previews.catalog(environment, overrides)
        application = self._application(environment, now, terms, preflight=True, catalog=catalog)
        key = environment.key(name or self.new_id(environment))
        self._apply(application, (key,), [(key, event) for event in prepared(events, now, self._mask)])
        snapshot = application.profile(key) or Snapshot(profile.new_record(key.name), 0)
        if device:
            snapshot = snapshot._replace(record={**snapshot.record, "device": device})
        return self._answers.explanation(application.catalog, snapshot, now, overrides)

    def flags(
        self,
        environment: Environment,
        name: str,
        traits: Mapping[str, Any],
        key: str | None = None,
        *,
        may_know: bool = True,
        guarded: bool = False,
        address: str | None = None,
        overrides: Overrides | None = None,
    ) -> list[Flag]:
        """Decide the flag ``key``, or every published flag by key, for the visitor with this id or alias.

        Nothing is stored. A name without a profile is a new visitor with that stable id (spec section 17).

        Args:
            traits: replace the profile's traits for this decision.
            may_know: whether the caller may know of a profile with this name; otherwise it names a new visitor.
            guarded, address: as for `get`; a former id that does not lead to its profile names a new visitor, too.
            overrides: the overrides of a preview; None: this is no preview.

        Raises:
            FlagNotFound: no published experience sets a flag of that key.
        """
        now, catalog = self.clock(), self.previews.other(environment, overrides)
        application = self._application(environment, now, preflight=True, catalog=catalog)
        catalog = application.catalog
        if key is not None and key not in catalog.flags:
            raise FlagNotFound(f"no published experience sets the flag {shorten(key)}")
        snapshot = application.profile(environment.key(name)) if may_know else None
        if snapshot is None or (guarded and not leads(snapshot.record, name, now, address)):
            snapshot = Snapshot(profile.new_record(name), 0)
        record = {**snapshot.record, "traits": {**snapshot.record["traits"], **traits}}
        keys = catalog.flags.keys if key is None else (key,)
        return self._answers.flags(catalog, snapshot._replace(record=record), now, overrides, keys)

    def delete(self, environment: Environment, name: str, *, guarded: bool = False, address: str | None = None) -> None:
        """Remove a visitor: profile, names, history, waiting imports; ``guarded``: not by a former id, as in `get`."""
        with self._turn((environment.key(name),)):
            record = identity.resolve(self.store, environment.key(name)).record if guarded else None
            if record and not leads(record, name, self.clock(), address):
                raise not_found(name)
            if not list(self.delete_many(environment, [name])):
                raise not_found(name)
        if self.live is not None:
            self.live.forget()

    def delete_many(self, environment: Environment, names: Iterable[str]) -> Iterator[str]:
        """Remove the visitors with these ids or aliases one by one, as `delete` does; yield the names that had one."""
        keys = [environment.key(name) for name in names]
        return erasure.erase(self.store, self._queue, keys, self.addresses)

    def record(self, environment: Environment, name: str, *, events: bool = False) -> dict[str, Any]:
        """Return what is stored about the visitor with this id or alias: ``profile`` as the API answers it, and more.

        The other members are ``aliases``, ``device``, ``assignments`` (experience id to the variant index that was
        seen), ``exposures`` (reports about components, by experience and phase, see `core/exposures.py`),
        ``lastActivity`` (ms since the epoch) and, with ``events``, the events: each has ``at`` (ms) and ``event``.
        """
        now = self.clock()
        catalog, snapshot = self._profile(environment, name, now)
        data = self._answers.record(catalog, snapshot, now)
        if events:
            history = self.store.read(environment.key(snapshot.record["id"])).history()
            data["events"] = [{"at": at, "event": event} for _, at, event in history]
        return data

    def imported(self, environment: Environment, names: Collection[str]) -> list[dict[str, Any]]:
        """Return the events of the visitor with these names in imports that wait or were set aside."""
        return erasure.imported(self._queue, environment, names) if self._queue else []

    def _profile(
        self, environment: Environment, name: str, now: int, catalog: Catalog | None = None
    ) -> tuple[Catalog, Snapshot]:
        """Return the content that decides, and the profile with this id or alias; raise ProfileNotFound without one.

        The profile's counts are updated, and stored if the content is the published one.
        """
        application = self._application(environment, now, preflight=catalog is not None, catalog=catalog)
        snapshot = application.profile(environment.key(name))
        if snapshot is None:
            raise not_found(name)
        return application.catalog, snapshot

    def _application(
        self,
        environment: Environment,
        now: int,
        terms: Terms = ANY_TERMS,
        preflight: bool = False,
        catalog: Catalog | None = None,
        facts: AddressFacts = NO_FACTS,
        new: NewIds | None = None,
    ) -> Application:
        """Return the application of one request's events: to the store, or to a copy in memory for a preflight."""
        store = Overlay(self.store) if preflight else self.store
        catalog = catalog or self._content.catalog(*environment)
        conditions = self._unmetered if preflight else self._conditions
        if self._environments and not preflight:
            conditions = self._environments.get(environment, conditions)
        if new:
            conditions = conditions._replace(new_session_id=new.session)
        if not terms.guarded:
            return Application(store, catalog, conditions, facts)
        return GuardedApplication(
            store,
            catalog,
            conditions,
            facts,
            terms._replace(allowance=None) if preflight else terms,
            issued=partial(self.certifies, environment),
            new_id=new.profile if new else partial(self.new_id, environment),
            now=now,
        )

    def _destination(
        self,
        environment: Environment,
        name: str | None,
        new: NewIds | None,
        application: Application,
        body: Mapping[str, Any],
        terms: Terms,
        now: int,
    ) -> tuple[Key, bool]:
        """Return the key that the events of an `upsert` go to, and whether its id was just made for this request.

        The id of a create may follow from its first message, which a preflight answered then. The message leads to that
        profile only for `REPLAY`: later, the message id may have leaked, or be in a page that many visitors get (spec
        section 6).
        """
        if name is not None:
            return environment.key(name), False
        if new is not None:
            return environment.key(new.profile()), True
        if (id := self._ids.replayed(environment, body["events"][0]["messageId"])) is not None:
            record = application.owner(key := environment.key(id)).record
            if record is None or (now - record.get("arrived", 0) <= REPLAY and leads(record, id, now, terms.address)):
                return key, False
        return environment.key(self.new_id(environment)), True

    def _apply(
        self, application: Application, names: Iterable[Key], steps: Sequence[Step], *, generated: bool = False
    ) -> None:
        """Apply events to the profiles of their names, after looking up each; raise InvalidData as `check_traits` does.

        An identify event needs its profile, and the events before it have to go to the same profile.
        """
        for name in names:
            application.look_up(name)
        check_traits(steps, self._most_traits, self.store, cache(application.owner))
        application.apply(steps, generated=generated)

    def _merging(self, steps: Sequence[Step], guarded: bool, waits: bool = False) -> AbstractContextManager[None]:
        """Return the turn of events that merge large profiles; taken first, because waiting for it blocks nobody."""
        return self._merges.turn(self.store, steps, guarded, waits) if self._merges and steps else NO_TURN

    def _turn(self, keys: Collection[Key]) -> AbstractContextManager[None]:
        return self._turns.turn(keys) if self._turns and keys else NO_TURN
