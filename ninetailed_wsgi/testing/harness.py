"""The whole Experience API for one test: its own store, a clock that stands still, ids that are the same each time."""

from __future__ import annotations

import copy
import hashlib
import random
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias
from wsgiref.types import WSGIApplication

from ninetailed_wsgi.api.app import App, api
from ninetailed_wsgi.content import EMPTY, Catalog, LiveContent, draft_source
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.enrichment.companies import Companies as KnownCompanies
from ninetailed_wsgi.enrichment.company_database import CompanyDatabase
from ninetailed_wsgi.enrichment.geoip import LocationDatabase
from ninetailed_wsgi.enrichment.source import LocationSource
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.metrics import process_metrics
from ninetailed_wsgi.service import explanation
from ninetailed_wsgi.service.access import Access
from ninetailed_wsgi.service.keys import SCOPES, changing, new_key
from ninetailed_wsgi.service.live import Live
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.site.middleware import Ninetailed
from ninetailed_wsgi.site.reports import Reports
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.testing import report
from ninetailed_wsgi.testing.client import Client
from ninetailed_wsgi.testing.clock import START, Clock
from ninetailed_wsgi.testing.companies import Companies
from ninetailed_wsgi.testing.locations import Locations, LocationWrapper
from ninetailed_wsgi.testing.publishing import ContentPart, GivenContent, PublishedContent
from ninetailed_wsgi.testing.recording import Captured, RecordingStore
from ninetailed_wsgi.testing.visitor import Visitor

CompaniesLike: TypeAlias = Mapping[str, str | Mapping[str, Any]] | str | Path | Companies | None
LocationLike: TypeAlias = Mapping[str, str | Mapping[str, Any]] | str | Path | LocationDatabase | Locations | None

# Options of Settings that nothing in a harness reads: it has no server, no Redis, no queue and no rivals.
_UNUSED = (
    "albacross_key_file",
    "albacross_url",
    "bind",
    "workers",
    "threads",
    "log_format",
    "store",
    "store_wait_replicas",
    "import_queue",
    "import_queue_bytes",
    "profile_concurrency",
)

ROUTES = ("/v2/organizations", "/v3/spaces", "/v1/organizations")
"""The paths before the names of an environment: for classic clients, the newest ones, and Insights."""

# Each shard is a database of its own, which takes 6 ms to make; a test has few writers at a time.
SHARDS = 1


class SeededIds:
    """Ids that look real and depend only on the seed; each kind has its own sequence."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Restart the sequences."""
        self._profiles, self._sessions, self._messages = (
            random.Random(f"{kind} {self._seed}") for kind in ("profile", "session", "message")
        )

    @property
    def key(self) -> bytes:
        """The key that ids are certified with."""
        return hashlib.sha256(f"key {self._seed}".encode()).digest()

    def profile(self) -> str:
        return f"{self._profiles.getrandbits(256):064x}"

    def session(self) -> str:
        return str(uuid.UUID(int=self._sessions.getrandbits(128), version=4))

    def message(self) -> str:
        return str(uuid.UUID(int=self._messages.getrandbits(128), version=4))


class Harness:
    """A real Experience API, deterministic: the app and everything around it that a test wants to set or see.

    Args:
        content: what is published at first: anything that the option ``content`` takes, such as the path of a file,
            its content as JSON, or a list of audiences and experiences as the builders make them.
        organization, environment: what is served; a request for another one is answered 404.
        now: what the clock shows at first; also as ISO 8601 text.
        seed: a different one gives different ids, and so different hashes for traffic and distribution.
        location: a dict of places (see `Locations`), the path of a MaxMind database, or an object with its ``lookup``.
        companies: a dict of companies (see `Companies`), or the path of a company database.
        settings: options of :class:`~ninetailed_wsgi.settings.Settings` that a harness uses; environment variables are
            not read, and ``/explain`` is served unless ``explain=False``. With
            ``access="guarded"`` the files of keys and of the identity secret are created if no option names them.

    Attributes:
        app: the API as a WSGI app, to be called or mounted.
        client: calls that app without a server; its paths follow the environment: ``/profiles/anna``.
        insights: the same for Insights, whose one path is ``/events``.
        space_client: the same on the routes of the newest clients, which name a space.
        clock: the time, moved by ``harness.clock.advance(minutes=31)``.
        ids: makes the ids.
        reports: logs once what a test gave to a visitor and what is not understood.
        access: the rules in force, see docs/security.md; without ``access="guarded"`` everybody may do everything.

    Raises:
        SettingsError: an option is wrong, or the content has errors: all of them are listed.
        ValueError: a place of ``location`` is invalid.

    A context manager; `close` removes everything it stored.
    """

    def __init__(
        self,
        content: GivenContent = None,
        *,
        organization: str = "default",
        environment: str = "main",
        now: datetime | str = START,
        seed: int = 0,
        location: LocationLike = None,
        companies: CompaniesLike = None,
        **settings: Any,
    ) -> None:
        _refuse_unused(settings)
        self.clock = Clock(now)
        self.ids = SeededIds(seed)
        self.reports = Reports()
        self._start = self.clock.now
        self._folder = tempfile.TemporaryDirectory(prefix="ninetailed-harness-")
        self._stores = 0
        try:
            folder = Path(self._folder.name)
            where = Environment(organization, environment)
            guarded = settings.get("access") == "guarded"
            own = {"environments": [str(where)], "explain": True, "store_shards": SHARDS, "access": "open"}
            own |= self._trust(folder, settings) if guarded else {}
            self.settings = Settings.from_env({}, data_dir=folder / "data", content=content, **{**own, **settings})
            self._content = PublishedContent(self.settings, where, lambda: self.clock() / 1000)
            self._store = RecordingStore(self._new_store())
            self.service = self._service(_location(location, self.settings), _companies(companies, self.settings))
            self.access = Access.of(self.settings, "local", now=lambda: self.clock() / 1000)
            self.app: App = api(self.service, self.settings, self.access)
        except BaseException:
            self._folder.cleanup()
            raise
        self.environment = where
        prefixes = [f"{routes}/{organization}/environments/{environment}" for routes in ROUTES]
        self.client, self.space_client, self.insights = (Client(self.app, prefix) for prefix in prefixes)

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything that was stored; the harness cannot be used afterwards."""
        self._store.close()
        self._folder.cleanup()

    def reset(self) -> None:
        """Restore the initial state: no visitors, the initial content, nothing forced, the clock at its start."""
        self._store.replace(self._new_store())
        self._content.reset()
        self.clock.at(self._start)
        self.ids.reset()

    # Callers, where ``access="guarded"``

    def key(self, *scopes: str, days: int | None = None) -> str:
        """Return a new key with these scopes (default: all) for the header ``Authorization: Bearer KEY``.

        It expires after ``days`` days.
        """
        if self.settings.keys_file is None:
            raise ValueError('an open harness knows no keys: Harness(access="guarded")')
        now = int(self.clock() / 1000)
        key, entry = new_key("test", scopes or SCOPES, now, None if days is None else now + days * 86_400)
        with changing(self.settings.keys_file) as keys:
            keys.append(entry)
        self.access.reload_keys()
        return key

    def identity_token(self, user_id: str, seconds: int = 3600) -> str:
        """Return the proof that a visitor is this user, for the trait ``nt_identity`` of an identify event."""
        if self.access.tokens is None:
            raise ValueError('an open harness checks no proofs: Harness(access="guarded")')
        return self.access.tokens.make(user_id, *self.environment, seconds)

    def _service(self, location: LocationSource | None, companies: KnownCompanies) -> ExperienceService:
        return ExperienceService(
            store=self._store,
            content=self._content,
            metrics=process_metrics() if self.settings.metrics else None,
            location=location,
            environments=[Environment.parse(pair) for pair in self.settings.environments],
            max_traits_bytes=self.settings.max_traits_bytes,
            history_bytes=self.settings.history_bytes,
            masked_query_parameters=self.settings.masked_query_parameters,
            clock=self.clock,
            new_id=self.ids.profile,
            new_session_id=self.ids.session,
            id_key=lambda: self.ids.key,
            draft=_loaded(draft_source(self.settings)),
            companies=companies,
            live=Live(lambda: self._store.arrivals, self.clock) if self.settings.inspector else None,
        )

    def _trust(self, folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Make the files of keys and of the identity secret that the settings do not name."""
        files: dict[str, Any] = {}
        if "keys_file" not in settings:
            files["keys_file"] = folder / "keys.json"
            with changing(files["keys_file"]):
                pass  # an empty file of keys
        if "identity_secret_file" not in settings:
            files["identity_secret_file"] = folder / "identity-secret"
            files["identity_secret_file"].write_bytes(self.ids.key.hex().encode())
        return files

    # Visitors

    def visitor(self, id: str | None = None, *, locale: str = "en") -> Visitor:
        """Return a new visitor, or the one whose profile has this id or alias.

        Args:
            id: None: the API generates it; a name makes tests readable: ``harness.visitor("anna")``.
            locale: the language of place names in answers.
        """
        return Visitor(self, id, locale=locale)

    @property
    def events(self) -> list[Captured]:
        """Return every event that was stored and acknowledged, the oldest first, with the id of its profile."""
        return self._store.events

    def explain(self, visitor: Visitor | str) -> dict[str, Any]:
        """Explain why a visitor (or an id, or an alias) is in each audience and gets each variant, or not.

        Returns:
            ``profile``, ``audiences``, ``experiences``, as :meth:`ExperienceService.explain` says.
        """
        id = visitor if isinstance(visitor, str) else visitor.id
        if id is None:
            raise AssertionError("this visitor has done nothing yet, so there is no profile")
        return copy.deepcopy(self.service.explain(self.environment, id))

    def why(self, visitor: Visitor | str) -> str:
        """Return the same as `explain`, as a text to print."""
        return explanation.text(self.explain(visitor))

    def results(
        self,
        experience: ContentPart | str,
        metric: ContentPart | str | None = None,
        *,
        window_days: float | None = None,
    ) -> dict[str, Any]:
        """Return the result of an experience (or its id or name) in its latest phase; needs the extra `results`.

        Args:
            metric: by which metric (or its id or name); None: the experience's own, or the first one of the content.
            window_days: up to how many days after the first view a visitor's events count; None: any.

        Returns:
            A result as ``ninetailed-wsgi results --json`` writes it, in which ``variants`` has the numbers.

        Raises:
            UnknownName: there is no such experience or metric.
        """
        from ninetailed_wsgi.insights import results, scan

        experiments = scan.experiments_of(self.catalog, _id(experience), None if metric is None else _id(metric))
        now = self.clock()
        period = results.Period(0, now + 1, window_days)
        return scan.results(self._store, self.environment, self.catalog, experiments, period)[0].document(now)

    def what_if(self, draft: GivenContent, *, sample: int | None = None) -> dict[str, Any]:
        """Return what publishing this content, in place of all that is published, would change (spec section 15).

        Args:
            draft: as a harness takes its first content; nothing of it is published.
            sample: how many visitors are looked at; None: all.

        Returns:
            What ``ninetailed-wsgi what-if --json`` writes: ``visitorsChanged``, ``audiences``, ``experiences``.

        Raises:
            SettingsError: the draft has errors: all of them are listed.
        """
        from ninetailed_wsgi.insights.replay import what_if

        source = _loaded(draft_source(replace(self.settings, draft_content=draft)))  # type: ignore[arg-type]
        after = source.catalog(*self.environment) if source else EMPTY
        return what_if(self._store, self.environment, self.catalog, after, self.clock(), sample=sample)[0]

    def report(self) -> str:
        """Return what each visitor did, and why they got what they got: what a failing test shows."""
        return report.text(self.events, self.explain)

    def mount(self, site: WSGIApplication, **options: Any) -> Ninetailed:
        """Wrap your site with the middleware, on this harness.

        Args:
            site: a WSGI app.
            options: further keywords of :class:`~ninetailed_wsgi.site.middleware.Ninetailed`.

        Example: ``app.wsgi_app = harness.mount(app.wsgi_app)``; `unmount` undoes it.
        """
        own = {
            "organization": self.environment.organization,
            "environment": self.environment.environment,
            "time_budget_ms": 30_000,  # a slow machine is no reason for a test to see baselines
        }
        inner: Any = site._app if isinstance(site, Ninetailed) else site  # mounted again: replace, do not nest
        mounted = Ninetailed(inner, self.settings, service=self.service, **{**own, **options})
        mounted.cookie.clock = lambda: self.clock() / 1000
        return mounted

    def unmount(self, site: WSGIApplication) -> WSGIApplication:
        """Return the site that `mount` wrapped; any other one as it is."""
        inner: Any = site._app if isinstance(site, Ninetailed) else site
        return inner  # type: ignore[no-any-return]

    # Content

    @property
    def catalog(self) -> Catalog:
        """Return what is published now, compiled."""
        return self._content.catalog()

    def publish(self, *content: ContentPart) -> None:
        """Publish audiences and experiences, replacing those with the same id; all or nothing.

        Args:
            content: what the builders make, or whole documents of any form that content files have.

        Raises:
            SettingsError: it has errors: all of them are listed, and what was published before stays.
        """
        self._content.publish(*content)

    def unpublish(self, *published: ContentPart | str) -> None:
        """Remove audiences and experiences (or their ids) from the content; ValueError if they are not published."""
        self._content.unpublish(*map(_id, published))

    def force(self, experience: ContentPart | str, index: int) -> None:
        """Let every visitor get this variant index of an experience (or its id), until `release` or `reset`.

        It holds whatever audience, traffic, distribution and assignments say. Until then no assignment is stored.

        Raises:
            ValueError: no such experience is published, or it has no such variant.
        """
        self._content.force(_id(experience), index)

    def release(self, experience: ContentPart | str | None = None) -> None:
        """Let an experience (or its id; None: every one) be decided normally again."""
        self._content.release(None if experience is None else _id(experience))

    def _new_store(self) -> DiskStore:
        self._stores += 1
        settings = self.settings
        return DiskStore(
            settings.data_dir / str(self._stores),
            shards=settings.store_shards,
            synchronous=settings.sqlite_synchronous,
            timeout=settings.store_timeout,
            history_events=settings.history_events,
            history_days=settings.history_days,
            clock=self.clock,
        )


def _refuse_unused(settings: Mapping[str, Any]) -> None:
    if unused := [name for name in _UNUSED if name in settings]:
        raise SettingsError([f"{name}: a Harness does not use this option; leave it out" for name in unused])


def _loaded(draft: LiveContent | None) -> LiveContent | None:
    if draft:
        draft.load()
    return draft


def _companies(companies: CompaniesLike, settings: Settings) -> KnownCompanies:
    if companies is None:
        companies = settings.company_database
    if isinstance(companies, str | Path):
        return KnownCompanies([CompanyDatabase(companies)])
    if isinstance(companies, Mapping):
        companies = Companies(companies)
    return KnownCompanies([] if companies is None else companies.sources)


def _location(location: LocationLike, settings: Settings) -> LocationSource | None:
    if location is None:
        location = settings.geoip_database
    if isinstance(location, str | Path):
        return LocationDatabase(location)
    if isinstance(location, Mapping):
        return Locations(location)
    return location if location is None or hasattr(location, "state") else LocationWrapper(location)


def _id(published: ContentPart | str) -> str:
    return published if isinstance(published, str) else str(published["id"])
