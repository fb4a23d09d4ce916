"""The parts of the service and their state; the operations of the service are in `service.py`."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Self

from ninetailed_wsgi.content import Catalog, ContentSource
from ninetailed_wsgi.core import profile, retention
from ninetailed_wsgi.core.ids import NewIds, PageIds
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.core.url_masks import MASKED, UrlMask
from ninetailed_wsgi.enrichment.companies import Companies
from ninetailed_wsgi.enrichment.source import LocationSource
from ninetailed_wsgi.errors import StoreUnavailable, UnknownEnvironment
from ninetailed_wsgi.operations.metrics import Metrics, State
from ninetailed_wsgi.service.addresses import Addresses
from ninetailed_wsgi.service.answers import Answers
from ninetailed_wsgi.service.folding import Conditions
from ninetailed_wsgi.service.imports import Consumer
from ninetailed_wsgi.service.merge_turns import MergeTurns
from ninetailed_wsgi.service.opening import opened
from ninetailed_wsgi.service.previews import PreviewContent
from ninetailed_wsgi.service.profile_ids import ProfileIds
from ninetailed_wsgi.service.sources import Sources
from ninetailed_wsgi.service.turns import Turns
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.protocol import Queue, QueueState, Store

if TYPE_CHECKING:
    from ninetailed_wsgi.service.live import Live


class Foundation:
    """The parts of the service.

    Args:
        store: where profiles are kept.
        content: where published audiences and experiences come from.
        location: the location database, or None.
        queue: where imports wait to be applied; None: they are applied at once.
        environments: the environments that are served; empty: any.
        max_traits_bytes: the most bytes of a profile's traits as JSON.
        history_bytes: the most bytes of a profile's history as JSON.
        masked_query_parameters: query parameters whose values are emptied in the addresses of pages.
        metrics: counts events, evaluations and conflicts; None: nothing is counted.
        turns: limits how many requests write a profile at once; None: there is no limit.
        merges: limits how many requests merge large profiles at once; None: there is no limit.
        clock: returns the time in milliseconds since the epoch.
        new_id: makes a profile id; if ids certify themselves, only its first half is used.
        new_session_id: makes a session id.
        id_key: returns the key that certifies ids (spec section 16); None: ids are as ``new_id`` makes them.
        draft: content that is not published and that previews may show (spec section 13); None: there is none.
        companies: the sources of visitors' companies (spec section 10); None: there are none.
        live: shows incoming events to somebody who watches; None: nobody can watch.

    Attributes:
        store, metrics, clock, live: as above.
        previews: the content of previews.
        addresses: looks up what the address of a request says.
        consumer: the thread of this process that applies imports; None: they are applied at once.
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
        merges: MergeTurns | None = None,
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
        self.store = store
        self._content = content
        self.addresses = Addresses(location, companies)
        self._queue = queue
        self._most_traits = max_traits_bytes
        self._mask = UrlMask(masked_query_parameters)
        self.metrics = metrics
        self._turns = turns
        self._merges = merges
        self.clock = clock
        self._ids = ProfileIds(new_id, id_key)
        self._new_session_id = new_session_id
        self._conditions = Conditions(new_session_id, max_traits_bytes, history_bytes, metrics)
        # Clients can name any environment; metrics name only as many as the operator wants.
        self._environments = {each: self._conditions._replace(label=str(each)) for each in environments}
        self._unmetered = self._conditions._replace(metrics=None)
        self._answers = Answers(metrics, live)
        self.consumer = Consumer(queue, self.apply_import) if queue else None

    @classmethod
    def from_settings(cls, settings: Settings, sources: Sources | None = None) -> Self:
        """Return the service that these settings describe; raise SettingsError for what cannot be used.

        ``sources`` were read before this process was forked.
        """
        return cls(**opened(settings, sources))

    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        return self.clock() / 1000

    def environment(self, organization: str, environment: str) -> Environment:
        """Return the environment of a request; raise UnknownEnvironment if it is not served here."""
        where = Environment(organization, environment)
        if self._environments and where not in self._environments:
            raise UnknownEnvironment(
                f"no environment {shorten(environment)} of organization {shorten(organization)} is served here"
            )
        return where

    def has_content(self, environment: Environment) -> bool:
        """Return whether the options name an environment or it has published content."""
        catalog = self.content(*environment)
        return environment in self._environments or bool(
            catalog.audience_list or catalog.experience_list or catalog.merge_tags
        )

    def certifies(self, environment: Environment, name: str) -> bool:
        """Return whether a name is a profile id that was issued for this environment (spec section 16)."""
        return self._ids.certifies(environment, name)

    def content(self, organization: str, environment: str) -> Catalog:
        """Return the published content of an environment."""
        return self._content.catalog(organization, environment)

    def new_id(self, environment: Environment) -> str:
        """Return an id for a profile of this environment that nobody has yet."""
        return self._ids.make(environment)

    def new_ids(self, environment: Environment, ids: PageIds) -> NewIds:
        """Return the source of a request's new ids, which gives those of ``ids`` first."""
        return ids.replay(NewIds(partial(self.new_id, environment), self._new_session_id))

    def check(self) -> None:
        """Raise StoreUnavailable with the reason if requests cannot be served."""
        self._resume_imports()
        self.store.check()
        self.imports()

    def imports(self) -> QueueState | None:
        """Return how many batches wait to be applied, and how long; None without a queue."""
        return self._queue.state() if self._queue else None

    def refresh_content(self) -> None:
        """Start to check for changed content now; return before the check is done."""
        self._content.refresh()

    def state(self) -> State:
        """Return what `/metrics` shows besides counts: imports that wait, the live content and location database."""
        try:
            queue = self.imports()
        except StoreUnavailable:  # then the rest of the state matters even more
            queue = None
        versions, errors, left_out = self._content.state()
        return State(
            (queue.waiting, queue.oldest, queue.aside) if queue else None,
            versions,
            errors,
            left_out,
            self.addresses.state(),
        )

    def secret(self, purpose: str) -> bytes:
        """Return the secret for one purpose that all processes of this store share (spec section 16)."""
        return self._ids.secret(purpose)

    def _resume_imports(self) -> int:
        """Let the serving processes apply batches that wait, see `Consumer`; return the time (ms)."""
        if self.consumer:
            self.consumer.resume()
        return self.clock()

    def apply_import(self, number: int, text: bytes) -> None:
        """Apply a batch from the queue; the consumer's part of `ExperienceService.import_many`."""
        raise NotImplementedError
