"""The whole flow of a request, from validated body to answer data: the only caller of store, content and location."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NamedTuple

import orjson

from ninetailed_wsgi.content import Catalog, ContentSource, content_source
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.events import Event
from ninetailed_wsgi.core.location import Located, laid_over, wants_lookup
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.core.profile import Record
from ninetailed_wsgi.enrichment.device import device_type
from ninetailed_wsgi.enrichment.geoip import LocationDatabase
from ninetailed_wsgi.enrichment.source import LocationSource
from ninetailed_wsgi.errors import ProfileNotFound, StoreUnavailable, UnknownEnvironment
from ninetailed_wsgi.operations.metrics import Metrics, State, process_metrics
from ninetailed_wsgi.service.imports import Consumer
from ninetailed_wsgi.service.incoming import check_own_traits, check_profiles, check_traits, prepared, short, times_of
from ninetailed_wsgi.service.turns import Turns
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store import erasure, identity
from ninetailed_wsgi.store.opening import open_store
from ninetailed_wsgi.store.overlay import Overlay
from ninetailed_wsgi.store.protocol import Document, Entry, Queue, QueueState, Store, Write

Step = tuple[Key, Event]


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


class Known(NamedTuple):
    """A profile as a request knows it: its record, and how many events it has had."""

    record: Record
    next_ordinal: int


@dataclass(slots=True)
class _Request:
    """What stays the same while the events of one request are applied."""

    store: Store
    catalog: Catalog
    now: int
    located: Located | None = None
    homes: dict[Key, Key] = field(default_factory=dict)  # a name as the request says it -> the profile it leads to
    found: dict[Key, identity.Found] = field(default_factory=dict)  # what was read of a profile before its fold
    claims: dict[Key, Key] = field(default_factory=dict)  # aliases claimed and not yet confirmed -> the claimant
    folded: dict[Key, Known] = field(default_factory=dict)  # profiles as the request's events left them
    folds: int = 0  # how often a fold ran, as conflicts make it run again
    applied: dict[Key, Sequence[Event]] = field(default_factory=dict)  # what the last fold of a profile applied

    def home(self, name: Key) -> Key:
        return self.homes.get(name, name)


class ExperienceService:
    """Profiles, and what each visitor should see.

    Args:
        store: where profiles are kept.
        content: where published audiences and experiences come from.
        location: the location database, or None.
        queue: where imports wait to be applied; None: they are applied at once.
        environments: which are served; empty: any.
        max_traits_bytes: what all traits of a profile may take as JSON.
        metrics: counts events, evaluations and conflicts; None: nobody asks.
        turns: how many requests write a profile at once; None: as many as come.
        clock: now, in milliseconds since the epoch.
        new_id: makes a profile id.
        new_session_id: makes a session id.

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
        metrics: Metrics | None = None,
        turns: Turns | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        new_id: Callable[[], str] = lambda: secrets.token_hex(32),
        new_session_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._store = store
        self._content = content
        self._location = location
        self._environments = frozenset(environments)
        self._most_traits = max_traits_bytes
        self._metrics = metrics
        self._turns = turns
        self._clock = clock
        self._new_id = new_id
        self._new_session_id = new_session_id
        self._queue = queue
        self._consumer = Consumer(queue, self._apply_import) if queue else None

    @classmethod
    def from_settings(cls, settings: Settings, sources: Sources | None = None) -> ExperienceService:
        """The service that these settings describe; SettingsError names what cannot be used.

        ``sources`` are those that were read before this process was forked.
        """
        content, location = sources or Sources.read(settings)
        content.follow()
        store, queue = open_store(settings)
        device_type(
            "Mozilla/5.0 (X11; Linux x86_64) Gecko/"
        )  # the first one compiles every pattern, a tenth of a second that no visitor should wait
        return cls(
            store=store,
            content=content,
            location=location,
            queue=queue,
            environments=[Environment.parse(pair) for pair in settings.environments],
            max_traits_bytes=settings.max_traits_bytes,
            metrics=process_metrics() if settings.metrics else None,
            turns=Turns(settings.profile_concurrency, settings.store_timeout),
        )

    @property
    def store(self) -> Store:
        """Where the profiles are kept, for commands that go through all of them."""
        return self._store

    def environment(self, organization: str, environment: str) -> Environment:
        """The environment of a request; UnknownEnvironment when it is not served here."""
        asked = Environment(organization, environment)
        if self._environments and asked not in self._environments:
            raise UnknownEnvironment(
                f"no environment {short(environment)} of organization {short(organization)} is served here"
            )
        return asked

    def content(self, organization: str, environment: str) -> Catalog:
        """The published content of an environment."""
        return self._content.catalog(organization, environment)

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
    ) -> dict[str, Any]:
        """Create (``name`` None) or update the profile with this id or alias by the events of ``body``.

        A preflight answers the same and stores nothing. Returns ``profile``, ``experiences`` and ``changes``.
        """
        self._importing()
        now = self._clock()
        events = prepared(body["events"], now)
        key = environment.key(self._new_id() if name is None else name)
        request = self._request(environment, now, preflight)
        features = (body.get("options") or {}).get("features") or ()
        if self._location and address and wants_lookup(body["events"], features):
            request.located = self._location.lookup(address, locale)
        # Nobody else can know an id that was just made, and a preflight writes nothing.
        with self._turn(() if preflight or name is None else (key,)):
            if any(event.user_id or event.body.get("traits") for event in events):
                # An identify event needs to know the profile; the events before it then have to go to the same one.
                steps = [(key, event) for event in events]
                self._find(request, key)
                self._check_traits(request, steps)
                self._apply(request, steps, generated=name is None)
            else:
                self._fold(request, {key: events})
            return self._decided(request, self._known(request, request.home(key)))

    def upsert_many(self, environment: Environment, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Apply a batch, each event to the profile of its ``anonymousId``; the profiles, in order of appearance."""
        self._importing()
        now = self._clock()
        events = prepared(body["events"], now)
        check_profiles(body["events"])
        request = self._request(environment, now)
        with self._turn({environment.key(event["anonymousId"]) for event in body["events"]}):
            distinct = self._apply_batch(request, environment, events, checked=False)
        homes = dict.fromkeys(map(request.home, distinct))
        return [self._profile(request, self._known(request, home)) for home in homes]

    def import_many(self, environment: Environment, body: Mapping[str, Any]) -> None:
        """Accept a batch as of `upsert_many`, to be applied soon, exactly once, whatever dies meanwhile."""
        if self._queue is None or self._consumer is None:
            self.upsert_many(environment, body)
            return
        now = self._clock()
        times_of(body["events"], now)
        check_profiles(body["events"])
        check_own_traits(body["events"], self._most_traits)
        accepted = {"at": now, "where": [environment.organization, environment.environment], "events": body["events"]}
        self._queue.put(orjson.dumps(accepted))
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

    def get(self, environment: Environment, name: str) -> dict[str, Any]:
        """The profile with this id or alias, evaluated now: ``profile``, ``experiences`` and ``changes``."""
        self._importing()
        request = self._request(environment, self._clock())
        return self._decided(request, self._existing(request, environment.key(name)))

    def explain(self, environment: Environment, name: str) -> dict[str, Any]:
        """Why the visitor is in each audience and gets each variant, or not, by the functions that decide.

        Returns ``profile``, and ``audiences`` and ``experiences`` as their ``explain`` methods say.
        """
        request = self._request(environment, self._clock())
        known = self._existing(request, environment.key(name))
        record, answered = known.record, self._profile(request, known)
        experiences = request.catalog.experiences
        return {
            "profile": answered,
            "audiences": request.catalog.audiences.explain(profile.facts(*known, request.now)),
            "experiences": experiences.explain(record["stable_id"], answered["audiences"], record["sticky"]),
        }

    def delete(self, environment: Environment, name: str) -> None:
        """Remove the visitor with this id or alias: profile, aliases, history, and events of imports that wait."""
        known: set[str] = set()
        with self._turn((environment.key(name),)):
            self.delete_many(environment, [name], known)
        if not known:
            raise _not_found(name)

    def delete_many(self, environment: Environment, names: Iterable[str], known: set[str]) -> None:
        """As `delete`, with several names; adds to ``known`` those that led to a visitor, also before an error."""
        erasure.erase(self._store, self._queue, [environment.key(name) for name in names], known)

    def record(self, environment: Environment, name: str, *, events: bool = False) -> dict[str, Any]:
        """What is kept of the visitor with this id or alias: ``profile`` as the API answers it, and what it does not.

        That is ``aliases``, ``device``, ``assignments`` (experience id to the variant index that was seen),
        ``lastActivity`` (ms since the epoch) and, if asked for, ``events``: each its time ``at`` (ms) and ``event``.
        """
        request = self._request(environment, self._clock())
        known = self._existing(request, environment.key(name))
        record = known.record
        kept = {
            "profile": self._profile(request, known),
            "aliases": record["aliases"],
            "device": record["device"],
            "assignments": record["sticky"],
            "lastActivity": record["updated"],
        }
        if events:
            history = self._store.read(environment.key(record["id"])).history()
            kept["events"] = [{"at": at, "event": event} for _, at, event in history]
        return kept

    def imported(self, environment: Environment, names: Collection[str]) -> list[dict[str, Any]]:
        """The events of the visitor of these names that wait in imports to be applied, or were put aside."""
        return erasure.imported(self._queue, environment.key(""), names) if self._queue else []

    # Imports

    def _importing(self) -> None:
        """What waits is applied by every process that serves, from its first request on: see `Consumer`."""
        if self._consumer:
            self._consumer.ensure()

    def _apply_import(self, number: int, batch: bytes) -> None:
        accepted = orjson.loads(batch)
        environment = Environment(*accepted["where"])
        places = [index for index, body in enumerate(accepted["events"]) if body is not None]  # else deleted since
        arrived = prepared([accepted["events"][index] for index in places], accepted["at"])
        events = [event._replace(imported=(number, index)) for index, event in zip(places, arrived, strict=True)]
        self._apply_batch(self._request(environment, self._clock()), environment, events)

    def _apply_batch(
        self, request: _Request, environment: Environment, events: Sequence[Event], *, checked: bool = True
    ) -> list[Key]:
        """Apply events, each to the profile of its ``anonymousId``; the keys of these, in order of appearance."""
        names = [environment.key(event.body["anonymousId"]) for event in events]
        distinct = list(dict.fromkeys(names))
        for name in distinct:
            self._find(request, name)
        steps = list(zip(names, events, strict=True))
        if not checked:
            self._check_traits(request, steps)
        self._apply(request, steps)
        return distinct

    def _check_traits(self, request: _Request, steps: Sequence[Step]) -> None:
        @cache
        def find(name: Key) -> tuple[Key, Record | None]:
            home = request.homes.get(name)
            found = identity.resolve(request.store, name) if home is None else request.found[home]
            return found.key, found.record

        check_traits(steps, find, self._most_traits)

    def _turn(self, keys: Collection[Key]) -> AbstractContextManager[None]:
        return self._turns.taken(keys) if self._turns and keys else nullcontext()

    def _request(self, environment: Environment, now: int, preflight: bool = False) -> _Request:
        catalog = self.content(environment.organization, environment.environment)
        return _Request(Overlay(self._store) if preflight else self._store, catalog, now)

    def _existing(self, request: _Request, name: Key) -> Known:
        found = identity.resolve(request.store, name)
        if found.record is None:
            raise _not_found(name.name)
        return self._counted(request, found, found.record)

    def _counted(self, request: _Request, found: identity.Found, record: Record) -> Known:
        if request.catalog.audiences.missing(record["counts"]):
            # An audience published since is counted from the kept history, once.
            self._fold(request, {found.key: []})
            return self._known(request, found.key)
        return Known(record, found.next_ordinal)

    # Applying events. An identify event can make two profiles one; so the events are applied in runs that end before
    # each event that does, and the merge happens between two runs.

    def _apply(self, request: _Request, steps: Sequence[Step], generated: bool = False) -> None:
        while steps:
            run, owner = self._next_run(request, steps)
            self._fold(request, run)
            if request.located:
                request.located = laid_over(
                    request.located, (event.body for events in run.values() for event in events)
                )
            self._confirm_claims(request)
            steps = steps[sum(map(len, run.values())) :]
            if owner:
                self._join(request, steps[0][0], owner, generated)

    def _next_run(self, request: _Request, steps: Sequence[Step]) -> tuple[dict[Key, list[Event]], Key | None]:
        """The events up to the next one that makes two profiles one, by profile; and the other profile of that one."""
        run: dict[Key, list[Event]] = {}
        for name, event in steps:
            if event.user_id and not self._is_repeated(request, name, event, run):
                owner = self._other_owner(request, name, event.user_id, run)
                if owner:
                    return run, owner
            run.setdefault(request.home(name), []).append(event)
        return run, None

    def _is_repeated(self, request: _Request, name: Key, event: Event, run: Mapping[Key, Sequence[Event]]) -> bool:
        """Whether the event's message id was applied before, so that it identifies nobody.

        One that did identify then goes its way again: it may have been cut off before its claim was confirmed.
        """
        home = self._find(request, name)
        if any(event.key == earlier.key for earlier in run.get(home, ())):
            return True
        known = request.folded.get(home) or request.found.get(home)
        record = known.record if known else None
        return record is not None and event.user_id not in record["aliases"] and profile.has_seen(record, event)

    def _other_owner(self, request: _Request, name: Key, user_id: str, run: Collection[Key]) -> Key | None:
        """The other profile that an identify event leads to; None when the user id is or becomes the profile's own."""
        home = self._find(request, name)
        known = request.found[home].record if home in request.found else None
        if user_id == home.name:
            return None
        alias = home._replace(name=user_id)
        # What an earlier event of this run makes the alias's owner is not stored yet.
        owner = alias if alias in run else request.claims.get(alias)
        if owner is None:
            owner = identity.claim(request.store, home, user_id)
            if owner == home:
                # Events that name the alias join this profile's at once, so that they keep their order.
                request.homes[alias] = home
                if not (known and user_id in known["aliases"]):
                    request.claims[alias] = home
        return None if owner == home else owner

    def _confirm_claims(self, request: _Request) -> None:
        """Two profiles that claimed the same alias at the same time are one visitor."""
        claims, request.claims = request.claims, {}
        for alias, claimant in claims.items():
            while (home := request.home(claimant)) != (owner := identity.confirm(request.store, home, alias.name)):
                self._join(request, claimant, owner)

    def _join(self, request: _Request, name: Key, owner: Key, generated: bool = False) -> None:
        home = request.home(name)
        if generated and home not in request.folded:
            # Nobody has been told this id, and it has no events: there is nothing to merge.
            request.homes[name] = owner
            return
        merged = identity.merge(request.store, home, owner)
        request.folded.pop(home, None)
        request.folded.pop(merged, None)
        request.found[merged] = identity.resolve(request.store, merged)
        for other in [*request.homes, name, home]:
            if request.home(other) in (home, owner):
                request.homes[other] = merged

    def _find(self, request: _Request, name: Key) -> Key:
        if name not in request.homes:
            found = identity.resolve(request.store, name)
            request.homes[name] = found.key
            request.found[found.key] = found
        return request.homes[name]

    def _fold(self, request: _Request, run: Mapping[Key, Sequence[Event]]) -> None:
        """Apply each profile's events in one atomic step; names that turn out to be aliases are followed."""
        while run:
            moved: set[Key] = set()
            request.folds = 0
            request.store.update(list(run), partial(self._fold_one, request, run, moved))
            if self._metrics and request.store is self._store:
                self._count(self._metrics, request, run, moved)
            followed: dict[Key, Sequence[Event]] = {}
            for key in [key for key in run if key in moved]:
                home = self._follow(request, key)
                followed[home] = [*followed.get(home, ()), *run[key]]
            run = followed

    def _count(self, metrics: Metrics, request: _Request, run: Mapping[Key, Sequence[Event]], moved: set[Key]) -> None:
        if request.folds > len(run):
            metrics.conflicts(request.folds - len(run))
        for key, events in run.items():
            if key not in moved:
                applied = request.applied[key]
                # Clients can name any environment; only those of the options are as many as the operator wants.
                environment = str(Environment(*key[:2])) if self._environments else ""
                metrics.stored([event.body["type"] for event in applied], environment, len(events) - len(applied))

    def _fold_one(
        self, request: _Request, run: Mapping[Key, Sequence[Event]], moved: set[Key], key: Key, entry: Entry
    ) -> Write | None:
        request.folds += 1
        document = entry.document
        if document is not None and key in request.found and document == request.found[key].stale:
            document = None
        if document is not None and ("to" in document or "into" in document):
            moved.add(key)
            return None
        moved.discard(key)
        return self._fold_events(request, key, document, entry, run[key])

    def _follow(self, request: _Request, key: Key) -> Key:
        request.homes.pop(key, None)
        home = self._find(request, key)
        for name, known in request.homes.items():
            if known == key:
                request.homes[name] = home
        return home

    def _fold_events(
        self, request: _Request, key: Key, document: Document | None, entry: Entry, events: Sequence[Event]
    ) -> Write | None:
        record = document or profile.new_record(key.name)
        catalog, counts = request.catalog, record["counts"]
        recounted = document is not None and catalog.audiences.missing(counts)
        if recounted or document is None:
            catalog.audiences.recount(counts, entry.history() if document else ())
        applied: list[Event] = []
        listed = set(record["aliases"])
        for event in events:
            if profile.has_seen(record, event):
                continue
            if request.located and not applied:
                profile.locate(record, request.located)
            profile.apply(record, event, self._new_session_id, catalog.experiences.sticky_ids, self._most_traits)
            catalog.audiences.count(counts, entry.next_ordinal + len(applied), event.at, event.body)
            applied.append(event)
        for alias in record["aliases"]:
            if alias not in listed:
                # Also one that the profile had before, until a deletion came in between.
                request.claims[key._replace(name=alias)] = key
        request.applied[key] = applied
        request.folded[key] = Known(record, entry.next_ordinal + len(applied))
        if not applied and not recounted:
            return None
        return Write(record, [(event.at, event.raw) for event in applied])

    def _known(self, request: _Request, key: Key) -> Known:
        if (known := request.folded.get(key)) is not None:
            return known
        found = identity.resolve(request.store, key)
        if found.record is None:
            raise StoreUnavailable("the profile was deleted while events were applied to it")
        return self._counted(request, found, found.record)

    # Deciding

    def _decided(self, request: _Request, known: Known) -> dict[str, Any]:
        """``profile``, ``experiences`` and ``changes`` as the API answers them."""
        record, answered = known.record, self._profile(request, known)
        select = request.catalog.experiences.select
        experiences, changes = select(record["stable_id"], answered["audiences"], record["sticky"])
        return {"profile": answered, "experiences": experiences, "changes": changes}

    def _profile(self, request: _Request, known: Known) -> dict[str, Any]:
        if self._metrics:
            self._metrics.evaluated()
        audiences = request.catalog.audiences.matched(profile.facts(*known, request.now))
        return profile.answer(known.record, audiences)


def _not_found(name: str) -> ProfileNotFound:
    return ProfileNotFound(f"no profile has the id or alias {short(name)}")
