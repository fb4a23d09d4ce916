"""The public operations of the Experience API, each from a validated body to the data of its answer."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from ninetailed_wsgi.content import Catalog, ContentSource
from ninetailed_wsgi.core import profile, retention
from ninetailed_wsgi.core.events import ServedComponent
from ninetailed_wsgi.core.flags import Flag, FlagNotFound
from ninetailed_wsgi.core.ids import Ids, NewIds
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.core.url_masks import MASKED, UrlMask
from ninetailed_wsgi.enrichment.companies import Companies
from ninetailed_wsgi.enrichment.source import LocationSource
from ninetailed_wsgi.errors import StoreUnavailable, UnknownEnvironment
from ninetailed_wsgi.operations.metrics import Metrics, State
from ninetailed_wsgi.service import erasure
from ninetailed_wsgi.service.access import ANY_TERMS, Terms
from ninetailed_wsgi.service.addresses import Addresses
from ninetailed_wsgi.service.answers import Answers, latest, not_found, snapshot_of
from ninetailed_wsgi.service.application import Application, Step
from ninetailed_wsgi.service.applications import Applications
from ninetailed_wsgi.service.folding import Conditions, Snapshot
from ninetailed_wsgi.service.guarded import leads
from ninetailed_wsgi.service.imports import Consumer, Imports
from ninetailed_wsgi.service.incoming import identify, prepared
from ninetailed_wsgi.service.limits import check_profiles, check_traits, named_by, new_profile
from ninetailed_wsgi.service.merges import Merges
from ninetailed_wsgi.service.opening import opened
from ninetailed_wsgi.service.previews import PreviewContent
from ninetailed_wsgi.service.profile_ids import ProfileIds
from ninetailed_wsgi.service.replay import replayed
from ninetailed_wsgi.service.sources import Sources
from ninetailed_wsgi.service.turns import NO_TURN, Turns, writers
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.protocol import Queue, QueueState, Store

if TYPE_CHECKING:
    from ninetailed_wsgi.service.live import Live


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
        merges: how many requests merge large profiles at once; None: as many as come.
        clock: now, in milliseconds since the epoch.
        new_id: makes the profile id, of which the first half is taken where ids certify themselves.
        new_session_id: makes a session id.
        id_key: gives the key that ids are certified with (spec section 16); None: ids are as ``new_id`` makes them.
        draft: content that is not published and that previews may show (spec section 13); None: there is none.
        companies: what knows visitors' companies (spec section 10); None: nothing does.
        live: shows what comes in to somebody who watches; None: nobody can.

    Attributes:
        previews: the content of previews.
        addresses: what the address of a request tells.
        live: as above.

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
        merges: Merges | None = None,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        new_id: Callable[[], str] = lambda: secrets.token_hex(32),
        new_session_id: Callable[[], str] = lambda: str(uuid.uuid4()),
        id_key: Callable[[], bytes] | None = None,
        draft: ContentSource | None = None,
        companies: Companies | None = None,
        live: Live | None = None,
    ) -> None:
        self.previews = PreviewContent(content, draft)
        self.live = live
        self._store = store
        self._content = content
        self.addresses = Addresses(location, companies)
        self._queue = queue
        self._environments = frozenset(environments)
        self._most_traits = max_traits_bytes
        self._mask = UrlMask(masked_query_parameters)
        self._metrics = metrics
        self._turns = turns
        self._merges = merges
        self._clock = clock
        self._ids = ProfileIds(new_id, id_key)
        self._new_session_id = new_session_id
        conditions = Conditions(new_session_id, max_traits_bytes, history_bytes, metrics)
        self._applications = Applications(store, content, self._ids, conditions, self._environments)
        self._answers = Answers(metrics, live)
        self._imports = Imports(queue, self._applications, clock, partial(self._merging, waits=True)) if queue else None

    @classmethod
    def from_settings(cls, settings: Settings, sources: Sources | None = None) -> ExperienceService:
        """Return the service that these settings describe; SettingsError names what cannot be used.

        ``sources`` are those that were read before this process was forked.
        """
        return cls(**opened(settings, sources))

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

    @property
    def consumer(self) -> Consumer | None:
        """What applies imports in this process; None: they are applied at once."""
        return self._imports.consumer if self._imports else None

    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        return self._clock() / 1000

    def environment(self, organization: str, environment: str) -> Environment:
        """Return the environment of a request; UnknownEnvironment when it is not served here."""
        where = Environment(organization, environment)
        if self._environments and where not in self._environments:
            raise UnknownEnvironment(
                f"no environment {shorten(environment)} of organization {shorten(organization)} is served here"
            )
        return where

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
        return self._ids.certifies(environment, name)

    def content(self, organization: str, environment: str) -> Catalog:
        """Return the published content of an environment."""
        return self._content.catalog(organization, environment)

    def new_id(self, environment: Environment) -> str:
        """Return an id for a profile of this environment that nobody has yet."""
        return self._ids.make(environment)

    def new_ids(self, environment: Environment, ids: Ids) -> NewIds:
        """Return what makes the ids of a request, those of ``ids`` first."""
        return ids.replay(NewIds(partial(self.new_id, environment), self._new_session_id))

    def check(self) -> None:
        """Raise StoreUnavailable with the reason when requests cannot be served."""
        self._resume_imports()
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
        ids: Ids | None = None,
        catalog: Catalog | None = None,
        terms: Terms = ANY_TERMS,
        entities: bool = False,
        exposures: Sequence[ServedComponent] = (),
        overrides: Overrides | None = None,
    ) -> dict[str, Any]:
        """Create (``name`` None) or update a profile; return ``profile``, ``experiences`` and ``changes``.

        Args:
            preflight: answer the same and store nothing.
            ids: of the new profile and its session; None: made here. The former may be in a cookie before the answer.
            catalog: the content that decides; None: what is published now.
            entities: whether ``changes`` may hold what clients of the space routes alone take (spec section 6).
            exposures: what the page of these events showed, noted by the same write (spec section 12).
            overrides: of a preview, which is a preflight (spec section 13); None: it is no preview.
        """
        now = self._resume_imports()
        if overrides is not None:
            preflight, now, catalog = True, overrides.now(now), self.previews.catalog(environment, overrides)
        events = prepared(body["events"], now, self._mask, exposures)
        new = self.new_ids(environment, ids) if ids else None
        facts = self.addresses.look_up(address, locale, body, asks=not preflight)
        application = self._applications.on(terms, environment, now, preflight, facts, catalog, new=new)
        is_claim = terms.guarded and name is not None and not self.certifies(environment, name)
        replay = replayed(self._ids, environment, application, body, now) if name is None and new is None else None
        key = replay or environment.key((new.profile() if new else self.new_id(environment)) if name is None else name)
        steps = [(key, event) for event in events] if is_claim or identify(events) else ()
        turn = self._turn(writers(environment, events, key, preflight if name or replay else None))
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
        """Apply a batch, each event to the profile of its ``anonymousId``; the profiles, in order of appearance."""
        now = self._resume_imports()
        events = prepared(body["events"], now, self._mask)
        check_profiles(events)
        steps = named_by(events, environment.key)
        names = dict.fromkeys(environment.key(event["anonymousId"]) for event in body["events"])
        application = self._applications.on(Terms(guarded), environment, now, preflight, renames=False)
        turns = names.keys() | {environment.key(event.user_id) for event in events if event.user_id}
        with self._merging(steps, guarded), self._turn(turns):
            self._apply(application, names, steps)
        homes = dict.fromkeys(map(application.home, names))
        if self.live is not None and not preflight:
            self.live.batch(environment, application, homes, steps, now)
        return [self._answers.profile(application.catalog, latest(application, home), now) for home in homes]

    def import_many(self, environment: Environment, body: Mapping[str, Any], *, guarded: bool = False) -> None:
        """Accept a batch as of `upsert_many`, to be applied soon and exactly once, even if processes die."""
        if self._imports is None:
            self.upsert_many(environment, body, guarded=guarded)
            return
        now = self._clock()
        events = prepared(body["events"], now, self._mask)
        check_profiles(events)
        # What its profiles have by the time the batch is applied, nobody knows.
        check_traits(named_by(events, environment.key), self._most_traits, None, new_profile)
        self._imports.accept(environment, events, now, guarded=guarded)
        if self.live is not None:
            self.live.accepted(environment, "import", "", body["events"], "They wait to be applied.")

    def imports(self) -> QueueState | None:
        """Return how many batches wait to be applied, and how long; None without a queue."""
        return self._queue.state() if self._queue else None

    def refresh_content(self) -> None:
        """Look for changed content at once; returns before that is done."""
        self._content.refresh()

    def state(self) -> State:
        """Return what `/metrics` tells besides counts: imports that wait, the live content and location database."""
        try:
            queue = self.imports()
        except StoreUnavailable:  # the rest is worth knowing all the more
            queue = None
        versions, errors, left_out = self._content.state()
        return State(
            (queue.waiting, queue.oldest, queue.aside) if queue else None,
            versions,
            errors,
            left_out,
            self.addresses.state(),
        )

    def get(
        self,
        environment: Environment,
        name: str,
        *,
        guarded: bool = False,
        entities: bool = False,
        overrides: Overrides | None = None,
    ) -> dict[str, Any]:
        """Return the profile with this id or alias, evaluated now: as `upsert` answers it."""
        self._resume_imports()
        now, catalog = self._clock(), self.previews.other(environment, overrides)
        application = self._applications.reading(environment, catalog)
        snapshot = snapshot_of(application, environment.key(name))
        if guarded and not leads(snapshot.record, name, now):
            raise not_found(name)
        return self._answers.decision(application.catalog, snapshot, now, overrides, entities)

    def explain(self, environment: Environment, name: str, overrides: Overrides | None = None) -> dict[str, Any]:
        """Explain why a visitor is in each audience and gets each variant, or not, by the functions that decide.

        Returns ``profile``, and ``audiences`` and ``experiences`` as their ``explain`` methods say; with the
        ``overrides`` of a preview, what it comes to.
        """
        now, catalog = self._clock(), self.previews.other(environment, overrides)
        application = self._applications.reading(environment, catalog)
        snapshot = snapshot_of(application, environment.key(name))
        return self._answers.explanation(application.catalog, snapshot, now, overrides)

    def preview(
        self,
        environment: Environment,
        name: str | None,
        events: Sequence[dict[str, Any]],
        overrides: Overrides,
        terms: Terms = ANY_TERMS,
        device: str | None = None,
    ) -> dict[str, Any]:
        """Say what a visitor would get after these events, and why, as `explain` does; nothing is stored.

        ``name`` is an id or alias; None, or one that nobody has: somebody new. ``device`` None: that of the visitor.
        """
        now, catalog = overrides.now(self._clock()), self.previews.catalog(environment, overrides)
        application = self._applications.on(terms, environment, now, preflight=True, catalog=catalog)
        key = environment.key(name or self.new_id(environment))
        self._apply(application, (key,), [(key, event) for event in prepared(events, now, self._mask)])
        snapshot = application.profile(key) or Snapshot(profile.new_record(key.name), 0)
        if device:
            snapshot = snapshot._replace(record={**snapshot.record, "device": device})
        return self._answers.explanation(application.catalog, snapshot, now, overrides)

    def secret(self, purpose: str) -> bytes:
        """Return a secret for one purpose that all processes on this store know (spec section 16)."""
        return self._ids.secret(purpose)

    def flags(
        self,
        environment: Environment,
        name: str,
        traits: Mapping[str, Any],
        key: str | None = None,
        *,
        may_know: bool = True,
        guarded: bool = False,
        overrides: Overrides | None = None,
    ) -> list[Flag]:
        """Decide the flag ``key``, or every published flag by key, for the visitor with this id or alias.

        Nothing is stored. A name without a profile is a new visitor with that stable id (spec section 17).

        Args:
            traits: lie over the profile's traits for this decision.
            may_know: whether the caller may know of a profile with this name; else it is a new visitor's.
            overrides: of a preview; None: it is no preview.

        Raises:
            FlagNotFound: no published experience sets a flag of that key.
        """
        application = self._applications.preflight(environment, catalog=self.previews.other(environment, overrides))
        catalog = application.catalog
        if key is not None and key not in catalog.flags:
            raise FlagNotFound(f"no published experience sets the flag {shorten(key)}")
        now = self._clock()
        snapshot = application.profile(environment.key(name)) if may_know else None
        if snapshot is None or (guarded and not leads(snapshot.record, name, now)):
            snapshot = Snapshot(profile.new_record(name), 0)
        record = {**snapshot.record, "traits": {**snapshot.record["traits"], **traits}}
        keys = catalog.flags.keys if key is None else (key,)
        return self._answers.flags(catalog, snapshot._replace(record=record), now, overrides, keys)

    def delete(self, environment: Environment, name: str, *, guarded: bool = False) -> None:
        """Remove a visitor: profile, names, history, waiting imports; ``guarded``: by a former id only in its time."""
        with self._turn((environment.key(name),)):
            record = self._applications.reading(environment).owner(environment.key(name)).record if guarded else None
            if (record and not leads(record, name, self._clock())) or not list(self.delete_many(environment, [name])):
                raise not_found(name)
        if self.live is not None:
            self.live.forget()

    def delete_many(self, environment: Environment, names: Iterable[str]) -> Iterator[str]:
        """Remove the visitors with these ids or aliases one by one, as `delete` does; yield names that led there."""
        keys = [environment.key(name) for name in names]
        return erasure.erase(self._store, self._queue, keys, self.addresses)

    def record(self, environment: Environment, name: str, *, events: bool = False) -> dict[str, Any]:
        """Return what is stored of the visitor with this id or alias: ``profile`` as the API answers it, and the rest.

        The rest is ``aliases``, ``device``, ``assignments`` (experience id to the variant index that was seen),
        ``exposures`` (what was reported of components, by experience and phase, see `core/exposures.py`),
        ``lastActivity`` (ms since the epoch) and, if asked for, ``events``: each its time ``at`` (ms) and ``event``.
        """
        application = self._applications.for_storage(environment)
        snapshot = snapshot_of(application, environment.key(name))
        data = self._answers.record(application.catalog, snapshot, self._clock())
        if events:
            history = self._store.read(environment.key(snapshot.record["id"])).history()
            data["events"] = [{"at": at, "event": event} for _, at, event in history]
        return data

    def imported(self, environment: Environment, names: Collection[str]) -> list[dict[str, Any]]:
        """Return the events of the visitor with these names in imports that wait or were put aside."""
        return erasure.imported(self._queue, environment, names) if self._queue else []

    def _resume_imports(self) -> int:
        """Let batches that wait be applied by the processes that serve, see `Consumer`; return the time (ms)."""
        if self._imports:
            self._imports.consumer.resume()
        return self._clock()

    def _apply(
        self, application: Application, names: Iterable[Key], steps: Sequence[Step], *, generated: bool = False
    ) -> None:
        """Apply events to the profiles of their names, of which each is looked up first; InvalidData as `check_traits`.

        An identify event needs to know its profile, and the events before it have to go to the same one.
        """
        for name in names:
            application.look_up(name)
        check_traits(steps, self._most_traits, self._store, cache(application.owner))
        application.apply(steps, generated=generated)

    def _merging(self, steps: Sequence[Step], guarded: bool, waits: bool = False) -> AbstractContextManager[None]:
        """Return the turn of events that merge large profiles; taken first, as who waits for it keeps nobody else."""
        return self._merges.turn(self._store, steps, guarded, waits) if self._merges and steps else NO_TURN

    def _turn(self, keys: Collection[Key]) -> AbstractContextManager[None]:
        return self._turns.turn(keys) if self._turns and keys else NO_TURN
