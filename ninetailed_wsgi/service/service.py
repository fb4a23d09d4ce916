"""The whole flow of a request, from validated body to answer data: the only caller of store, content and location."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple

from ninetailed_wsgi.content import Catalog, ContentSource, content_source
from ninetailed_wsgi.core import profile, retention
from ninetailed_wsgi.core.flags import Flag, FlagNotFound
from ninetailed_wsgi.core.ids import HALF, certifies, issue, replay_of
from ninetailed_wsgi.core.location import Located, wants_lookup
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.core.url_masks import MASKED, UrlMask
from ninetailed_wsgi.enrichment.device import device_type
from ninetailed_wsgi.enrichment.geoip import LocationDatabase
from ninetailed_wsgi.enrichment.source import LocationSource
from ninetailed_wsgi.errors import ProfileNotFound, StoreUnavailable, UnknownEnvironment
from ninetailed_wsgi.operations.metrics import Metrics, State, process_metrics
from ninetailed_wsgi.service import erasure
from ninetailed_wsgi.service.access import Terms
from ninetailed_wsgi.service.application import Application, Snapshot
from ninetailed_wsgi.service.guarded import GuardedApplication, leads
from ninetailed_wsgi.service.imports import Batch, Consumer
from ninetailed_wsgi.service.incoming import prepared
from ninetailed_wsgi.service.limits import check_profiles, check_traits, named_by, new_profile
from ninetailed_wsgi.service.turns import Turns
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.opening import open_store
from ninetailed_wsgi.store.overlay import Overlay
from ninetailed_wsgi.store.protocol import Queue, QueueState, Store

_ANY_TERMS = Terms()


class Sources(NamedTuple):
    """What is read at the start and then followed; may be read before a fork, for all processes that come from it."""

    content: ContentSource
    location: LocationSource | None

    @classmethod
    def read(cls, settings: Settings) -> Sources:
        """Read both for the first time; SettingsError names what cannot be used."""
        content = content_source(settings)
        content.load()
        return cls(content, LocationDatabase(settings.geoip_database) if settings.geoip_database else None)


class ExperienceService:
    """Profiles, and what each visitor should see.

    Args:
        store: where profiles are kept.
        content: where published audiences and experiences come from.
        location: the location database, or None.
        queue: where imports wait to be applied; None: they are applied at once.
        environments: which are served; empty: any.
        max_traits_bytes: what all traits of a profile may take as JSON.
        history_bytes: what the events that are kept of a profile may take as JSON.
        masked_query_parameters: query parameters whose values are emptied in the addresses of pages.
        metrics: counts events, evaluations and conflicts; None: nobody asks.
        turns: how many requests write a profile at once; None: as many as come.
        clock: now, in milliseconds since the epoch.
        new_id: makes the profile id, of which the first half is taken where ids certify themselves.
        new_session_id: makes a session id.
        id_key: gives the key that ids are certified with (spec section 16); None: ids are as ``new_id`` makes them.

    Every method takes documents that already passed their JSON Schema and raises the errors of
    :mod:`ninetailed_wsgi.errors`.
    """

    def __init__(
        self,
        *,
        store: Store,
        content: ContentSource,
        location: LocationSource | None = None,
        queue: Queue | None = None,
        environments: Collection[Environment] = (),
        max_traits_bytes: int = profile.TRAITS_BYTES,
        history_bytes: int = retention.HISTORY_BYTES,
        masked_query_parameters: Collection[str] = MASKED,
        metrics: Metrics | None = None,
        turns: Turns | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        new_id: Callable[[], str] = lambda: secrets.token_hex(32),
        new_session_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        id_key: Callable[[], bytes] | None = None,
    ) -> None:
        self._store = store
        self._content = content
        self._location = location
        self._environments = frozenset(environments)
        self._most_traits = max_traits_bytes
        self._most_history = history_bytes
        self._mask = UrlMask(masked_query_parameters)
        self._metrics = metrics
        self._turns = turns
        self._clock = clock
        self._new_id = new_id
        self._new_session_id = new_session_id
        self._id_key = id_key
        self._queue = queue
        self._consumer = Consumer(queue, self._apply_import) if queue else None

    @classmethod
    def from_settings(cls, settings: Settings, sources: Sources | None = None) -> ExperienceService:
        """The service that these settings describe; SettingsError names what cannot be used.

        ``sources`` are those that were read before this process was forked.
        """
        content, location = sources or Sources.read(settings)
        content.follow()
        if location:
            location.follow()
        store, queue = open_store(settings)
        # The first one compiles every pattern: a tenth of a second that no visitor should wait.
        device_type("Mozilla/5.0 (X11; Linux x86_64) Gecko/")
        return cls(
            store=store,
            content=content,
            location=location,
            queue=queue,
            environments=[Environment.parse(pair) for pair in settings.environments],
            max_traits_bytes=settings.max_traits_bytes,
            history_bytes=settings.history_bytes,
            masked_query_parameters=settings.masked_query_parameters,
            metrics=process_metrics() if settings.metrics else None,
            turns=Turns(settings.profile_concurrency, settings.store_timeout),
            id_key=store.id_key,
        )

    @property
    def store(self) -> Store:
        """Where the profiles are kept, for commands that go through all of them."""
        return self._store

    @property
    def clock(self) -> Callable[[], int]:
        """What tells the time, in milliseconds since the epoch."""
        return self._clock

    @property
    def metrics(self) -> Metrics | None:
        """What counts; None: nobody asks."""
        return self._metrics

    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        return self._clock() / 1000

    def environment(self, organization: str, environment: str) -> Environment:
        """The environment of a request; UnknownEnvironment when it is not served here."""
        asked = Environment(organization, environment)
        if self._environments and asked not in self._environments:
            raise UnknownEnvironment(
                f"no environment {shorten(environment)} of organization {shorten(organization)} is served here"
            )
        return asked

    def has_content(self, environment: Environment) -> bool:
        """Return whether an environment is named by the options or has published content."""
        catalog = self.content(*environment)
        return environment in self._environments or bool(
            catalog.audience_list or catalog.experience_list or catalog.merge_tags
        )

    def count_unverified(self, claims: int) -> None:
        """Count identify events whose user id was not believed."""
        if self._metrics:
            self._metrics.unverified(claims)

    def certifies(self, environment: Environment, name: str) -> bool:
        """Return whether a name is a profile id that was issued for this environment (spec section 16)."""
        return self._id_key is not None and certifies(self._id_key(), environment, name)

    def content(self, organization: str, environment: str) -> Catalog:
        """The published content of an environment."""
        return self._content.catalog(organization, environment)

    def new_id(self, environment: Environment, first: Mapping[str, Any] | None = None) -> str:
        """Return an id for a profile of this environment that nobody has yet.

        With ``first``, its first event, the one that a preflight of the same event was told (spec section 6).
        """
        made = self._new_id()
        if self._id_key is None:
            return made
        key = self._id_key()
        return issue(key, environment, first and replay_of(key, environment, first, self._clock()) or made[:HALF])

    def check(self) -> None:
        """Raise StoreUnavailable with the reason when requests cannot be served."""
        self._importing()
        self._store.check()
        self.imports()

    def upsert(
        self,
        environment: Environment,
        name: str | None,
        body: Mapping[str, Any],
        *,
        preflight: bool = False,
        address: str | None = None,
        locale: str = "en",
        new_id: str | None = None,
        catalog: Catalog | None = None,
        terms: Terms = _ANY_TERMS,
        entities: bool = False,
    ) -> dict[str, Any]:
        """Create (``name`` None) or update the profile with this id or alias by the events of ``body``.

        A preflight answers the same and stores nothing.

        Args:
            new_id: the id of a profile that is created, from `new_id`, and an alias where an event joins it to
                another one; None: one is made here, which nobody learns then.
            catalog: the content that decides, from `content`; None: what is published now.
            entities: whether ``changes`` may hold what clients of the space routes alone take (spec section 6).

        Returns:
            ``profile``, ``experiences`` and ``changes``.
        """
        self._importing()
        now = self._clock()
        events = prepared(body["events"], now, self._mask)
        key = environment.key((new_id or self.new_id(environment, body["events"][0])) if name is None else name)
        location = self._look_up(address, locale, body) if self._location and address else None
        application = self._applied_on(terms, environment, preflight, now, location, catalog)
        named = terms.guarded and name is not None and not self.certifies(environment, name)
        turns = {environment.key(event.user_id) for event in events if event.user_id}
        # Nobody else can know an id that was just made; a preflight writes nothing, but a merge of it reads histories.
        if name is not None and (turns or not preflight):
            turns.add(key)
        with self._turn(turns):
            if named or any(event.user_id or event.body.get("traits") for event in events):
                # An identify event needs to know the profile; the events before it then have to go to the same one.
                steps = [(key, event) for event in events]
                application.look_up(key)
                check_traits(steps, self._most_traits, self._store, cache(application.owner))
                # An id from outside may be in a cookie already, and then has to lead to the profile that it joins.
                application.apply(steps, generated=name is None and (new_id is None or terms.guarded))
            else:
                application.apply_run({key: events})
            return self._decision(application.catalog, self._applied(application, key), now, entities)

    def upsert_many(
        self, environment: Environment, body: Mapping[str, Any], *, guarded: bool = False
    ) -> list[dict[str, Any]]:
        """Apply a batch, each event to the profile of its ``anonymousId``; the profiles, in order of appearance."""
        self._importing()
        now = self._clock()
        events = prepared(body["events"], now, self._mask)
        check_profiles(events)
        steps = named_by(events, environment.key)
        names = dict.fromkeys(environment.key(event["anonymousId"]) for event in body["events"])
        application = self._applied_on(Terms(guarded), environment, False, now, None, renames=False)
        with self._turn(names.keys() | {environment.key(event.user_id) for event in events if event.user_id}):
            for name in names:
                application.look_up(name)
            check_traits(steps, self._most_traits, self._store, cache(application.owner))
            application.apply(steps)
        homes = dict.fromkeys(map(application.home, names))
        return [self._profile(application.catalog, self._applied(application, home), now) for home in homes]

    def import_many(self, environment: Environment, body: Mapping[str, Any], *, guarded: bool = False) -> None:
        """Accept a batch as of `upsert_many`, to be applied soon and exactly once, even if processes die."""
        if self._queue is None or self._consumer is None:
            self.upsert_many(environment, body, guarded=guarded)
            return
        now = self._clock()
        events = prepared(body["events"], now, self._mask)
        check_profiles(events)
        # What its profiles have by the time the batch is applied, nobody knows.
        check_traits(named_by(events, environment.key), self._most_traits, None, new_profile)
        bodies: list[dict[str, Any] | None] = [event.body for event in sorted(events, key=attrgetter("place"))]
        batch = Batch(environment, now, bodies, guarded)
        self._queue.put(batch.encode(), batch.names)
        self._consumer.wake()

    def imports(self) -> QueueState | None:
        """How many batches wait to be applied, and how long; None without a queue."""
        return self._queue.state() if self._queue else None

    def state(self) -> State:
        """What `/metrics` tells besides counts: what waits, and which content and location database are served."""
        try:
            queue = self.imports()
        except StoreUnavailable:  # the rest is worth knowing all the more
            queue = None
        versions, errors = self._content.state()
        return State(
            (queue.waiting, queue.oldest, queue.aside) if queue else None,
            versions,
            errors,
            self._location.state() if self._location else None,
        )

    def get(
        self, environment: Environment, name: str, *, guarded: bool = False, entities: bool = False
    ) -> dict[str, Any]:
        """The profile with this id or alias, evaluated now: as `upsert` answers it."""
        self._importing()
        application, now = self._application(environment), self._clock()
        snapshot = self._stored(application, environment.key(name))
        if guarded and not leads(snapshot.record, name, now):
            raise _not_found(name)
        return self._decision(application.catalog, snapshot, now, entities)

    def explain(self, environment: Environment, name: str) -> dict[str, Any]:
        """Why the visitor is in each audience and gets each variant, or not, by the functions that decide.

        Returns ``profile``, and ``audiences`` and ``experiences`` as their ``explain`` methods say.
        """
        now, application = self._clock(), self._application(environment)
        catalog, snapshot = application.catalog, self._stored(application, environment.key(name))
        record, answer = snapshot.record, self._profile(catalog, snapshot, now)
        return {
            "profile": answer,
            "audiences": catalog.audiences.explain(profile.facts(*snapshot, now)),
            "experiences": catalog.experiences.explain(record["stable_id"], answer["audiences"], record["sticky"]),
        }

    def flags(
        self,
        environment: Environment,
        name: str,
        traits: Mapping[str, Any],
        key: str | None = None,
        *,
        known: bool = True,
        guarded: bool = False,
    ) -> list[Flag]:
        """Decide the flag ``key``, or every published flag by key, for the visitor with this id or alias.

        Nothing is stored. A name without a profile is a new visitor with that stable id (spec section 17).

        Args:
            traits: lie over the profile's traits for this decision.
            known: whether the caller may know of a profile with this name; else it is a new visitor's.

        Raises:
            FlagNotFound: no published experience sets a flag of that key.
        """
        application = self._preflight(environment)
        catalog = application.catalog
        if key is not None and key not in catalog.flags:
            raise FlagNotFound(f"no published experience sets the flag {shorten(key)}")
        now = self._clock()
        snapshot = application.profile(environment.key(name)) if known else None
        if snapshot is None or (guarded and not leads(snapshot.record, name, now)):
            snapshot = Snapshot(profile.new_record(name), 0)
        record = {**snapshot.record, "traits": {**snapshot.record["traits"], **traits}}
        audiences = catalog.audiences.matched(profile.facts(record, snapshot.next_ordinal, now))
        keys = catalog.flags.keys if key is None else (key,)
        return [catalog.flags.decide(each, record["stable_id"], audiences, record["sticky"]) for each in keys]

    def delete(self, environment: Environment, name: str) -> None:
        """Remove the visitor with this id or alias: profile, aliases, history, and events of imports that wait."""
        with self._turn((environment.key(name),)):
            if not list(self.delete_many(environment, [name])):
                raise _not_found(name)

    def delete_many(self, environment: Environment, names: Iterable[str]) -> Iterator[str]:
        """As `delete`, with several names, while they are iterated; yields those that led to a visitor."""
        return erasure.erase(self._store, self._queue, [environment.key(name) for name in names])

    def record(self, environment: Environment, name: str, *, events: bool = False) -> dict[str, Any]:
        """What is kept of the visitor with this id or alias: ``profile`` as the API answers it, and what it does not.

        That is ``aliases``, ``device``, ``assignments`` (experience id to the variant index that was seen),
        ``exposures`` (what was reported of components, by experience and phase, see `core/exposures.py`),
        ``lastActivity`` (ms since the epoch) and, if asked for, ``events``: each its time ``at`` (ms) and ``event``.
        """
        application = self._application(environment)
        snapshot = self._stored(application, environment.key(name))
        record = snapshot.record
        kept = {
            "profile": self._profile(application.catalog, snapshot, self._clock()),
            "aliases": record["aliases"],
            "device": record["device"],
            "assignments": record["sticky"],
            "exposures": record.get("exposures", {}),
            "lastActivity": record["updated"],
        }
        if events:
            history = self._store.read(environment.key(record["id"])).history()
            kept["events"] = [{"at": at, "event": event} for _, at, event in history]
        return kept

    def imported(self, environment: Environment, names: Collection[str]) -> list[dict[str, Any]]:
        """The events of the visitor of these names that wait in imports to be applied, or were put aside."""
        return erasure.imported(self._queue, environment, names) if self._queue else []

    # Imports

    def _importing(self) -> None:
        """What waits is applied by the processes that serve: see `Consumer`."""
        if self._consumer:
            self._consumer.resume()

    def _apply_import(self, number: int, text: bytes) -> None:
        environment, at, bodies, guarded = Batch.decode(text)
        places = [place for place, body in enumerate(bodies) if body is not None]  # else deleted since
        arrived = prepared([body for body in bodies if body is not None], at)
        events = [event._replace(imported=(number, places[event.place])) for event in arrived]
        steps = named_by(events, environment.key)
        application = self._applied_on(Terms(guarded), environment, False, self._clock(), None, renames=False)
        for name in dict.fromkeys(name for name, _ in steps):
            application.look_up(name)
        application.apply(steps)

    def _look_up(self, address: str, locale: str, body: Mapping[str, Any]) -> Located | None:
        features = (body.get("options") or {}).get("features") or ()
        if self._location and wants_lookup(body["events"], features):
            return self._location.lookup(address, locale)
        return None

    def _application(
        self, environment: Environment, location: Located | None = None, catalog: Catalog | None = None
    ) -> Application:
        return Application(
            self._store,
            catalog or self.content(*environment),
            new_session_id=self._new_session_id,
            most_traits=self._most_traits,
            most_history=self._most_history,
            location=location,
            metrics=self._metrics,
            # Clients can name any environment; only those of the options are as many as the operator wants.
            label=str(environment) if self._environments else "",
        )

    def _applied_on(
        self,
        terms: Terms,
        environment: Environment,
        preflight: bool,
        now: int,
        location: Located | None,
        catalog: Catalog | None = None,
        *,
        renames: bool = True,
    ) -> Application:
        """Return what applies events on these terms; ``renames``: whether the caller learns of a new id."""
        if not terms.guarded:
            return (self._preflight if preflight else self._application)(environment, location, catalog)
        return GuardedApplication(
            Overlay(self._store) if preflight else self._store,
            catalog or self.content(*environment),
            issued=lambda key: self.certifies(environment, key.name),
            new_key=lambda: environment.key(self.new_id(environment)),
            now=now,
            renames=renames,
            begin=None if preflight else terms.begin,
            new_session_id=self._new_session_id,
            most_traits=self._most_traits,
            most_history=self._most_history,
            location=location,
            metrics=None if preflight else self._metrics,
            label=str(environment) if self._environments else "",
        )

    def _preflight(
        self, environment: Environment, location: Located | None = None, catalog: Catalog | None = None
    ) -> Application:
        return Application(
            Overlay(self._store),
            catalog or self.content(*environment),
            new_session_id=self._new_session_id,
            most_traits=self._most_traits,
            most_history=self._most_history,
            location=location,
        )

    def _turn(self, keys: Collection[Key]) -> AbstractContextManager[None]:
        return self._turns.turn(keys) if self._turns and keys else nullcontext()

    def _stored(self, application: Application, key: Key) -> Snapshot:
        """Return the profile of a name that has to be there."""
        snapshot = application.profile(key)
        if snapshot is None:
            raise _not_found(key.name)
        return snapshot

    def _applied(self, application: Application, key: Key) -> Snapshot:
        """Return a profile that events were just applied to."""
        snapshot = application.profile(key)
        if snapshot is None:
            raise StoreUnavailable("the profile was deleted while events were applied to it")
        return snapshot

    # Deciding

    def _decision(self, catalog: Catalog, snapshot: Snapshot, now: int, entities: bool) -> dict[str, Any]:
        """Return ``profile``, ``experiences`` and ``changes`` as the API answers them."""
        record, answer = snapshot.record, self._profile(catalog, snapshot, now)
        experiences, changes = catalog.experiences.select(
            record["stable_id"], answer["audiences"], record["sticky"], entities=entities
        )
        return {"profile": answer, "experiences": experiences, "changes": changes}

    def _profile(self, catalog: Catalog, snapshot: Snapshot, now: int) -> dict[str, Any]:
        if self._metrics:
            self._metrics.evaluated()
        audiences = catalog.audiences.matched(profile.facts(*snapshot, now))
        return profile.answer(snapshot.record, audiences)


def _not_found(name: str) -> ProfileNotFound:
    return ProfileNotFound(f"no profile has the id or alias {shorten(name)}")
