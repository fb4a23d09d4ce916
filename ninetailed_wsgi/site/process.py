"""What the middleware has in one process: the service, and the threads that ask it, which do not survive a fork."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ninetailed_wsgi.errors import InvalidData, ProfileNotFound, StoreUnavailable
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.site.browser_sdk import AwaitedEvents
from ninetailed_wsgi.site.evaluation import Decision, Evaluation, EventBody, Question
from ninetailed_wsgi.site.mount_options import MountOptions
from ninetailed_wsgi.site.reports import Reports
from ninetailed_wsgi.site.workers import Call, Workers

if TYPE_CHECKING:
    from ninetailed_wsgi.core.names import Environment
    from ninetailed_wsgi.core.preview import Overrides
    from ninetailed_wsgi.service.access import Access
    from ninetailed_wsgi.service.service import ExperienceService

RETRY_AFTER = 5.0
"""Seconds until a failed startup is retried."""

_PAGES_AT_ONCE = 8  # evaluations that run at the same time; more wait, within their time budget

_NO_CONTENT = (
    "the option content is not set, so there are no audiences and no experiences, and every page shows its baselines: "
    'Ninetailed(app, content="content.json")'
)


@dataclass(slots=True)
class Engine:
    """What answers requests, from the first one of a process on.

    Attributes:
        environment: whose visitors the pages ask for.
        address_of: returns the address of a visitor from the environ.
        api: the WSGI app of the API, made at its first call because that takes longer than a page should wait.
    """

    service: Any
    evaluation: Evaluation
    environment: Environment
    address_of: Callable[[Mapping[str, Any]], str | None]
    api: Callable[..., Iterable[bytes]] | None = None


class Process:
    """One process that serves the site.

    Args:
        settings, options, access: of the middleware.
        service: one that is there already, or None.
        reports: gets what fails.

    Attributes:
        engine: None until the first request has started it.
        retry_at: when a failed startup is retried, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        settings: Settings,
        options: MountOptions,
        access: Access,
        service: ExperienceService | None,
        reports: Reports,
    ) -> None:
        self.engine: Engine | None = None
        self.retry_at = 0.0
        self._settings = settings
        self._options = options
        self._access = access
        self._service = service
        self._reports = reports
        self._awaited = AwaitedEvents(reports.hint)
        self._workers = Workers(_PAGES_AT_ONCE)
        self._starting = threading.Lock()
        self._closed = False

    def running(self) -> Engine | None:
        """Return the engine, started now if it was not; None where it cannot start."""
        if self.engine is not None or self._closed:
            return self.engine
        with self._starting:
            if self.engine is None and time.monotonic() >= self.retry_at:
                try:
                    self.engine = self._start()
                except Exception as error:
                    self.retry_at = time.monotonic() + RETRY_AFTER
                    self._reports.failure("start", error)
                else:
                    if self._service is None and not self._settings.content:
                        self._reports.hint("content", _NO_CONTENT)
            return self.engine

    def evaluate(self, question: Question, seconds: float) -> Decision:
        """Return what the service decides within ``seconds``; without data where it fails or takes longer."""
        if self._closed:
            return Decision()
        if seconds <= 0 and not question.is_last:
            return self._too_late(None)
        call = Call(partial(self._decide, question))
        try:
            self._workers.submit(call)
        except RuntimeError as error:  # no thread can be started, or the process is ending
            self._reports.failure("threads", error)
            return Decision()
        if not call.wait(seconds):
            is_cancelled = self._workers.withdraw(call) or (not question.is_last and call.cancel())
            return self._too_late(None if is_cancelled else call.id)
        if call.error is not None:
            if not isinstance(call.error, Exception):
                raise call.error
            self._reports.failure(type(call.error).__name__, call.error)
        return call.answer or Decision()

    def forget(self, id: str, environ: Mapping[str, Any]) -> bool:
        """Delete the visitor with this id, who sent a request; return whether nothing is stored of them."""
        engine = self.running()
        if engine is None:
            return False
        environment = engine.environment
        if not self._access.guarded or engine.service.certifies(environment, id):
            with suppress(ProfileNotFound):
                address = engine.address_of(environ) or ""
                engine.service.delete(environment, id, guarded=self._access.guarded, address=address)
        return True

    def check_preview(self, overrides: Overrides) -> None:
        """Raise InvalidData where a preview names what the content does not have."""
        engine = self.running()
        if engine is not None:
            engine.service.previews.check(engine.environment, overrides)

    def close(self) -> None:
        """End the threads and close the store; pages get baselines from now on."""
        self._closed = True
        self._workers.close()
        engine, self.engine = self.engine, None
        if engine is not None and self._service is None:
            engine.service.store.close()

    def _decide(self, question: Question, call: Call[Decision]) -> Decision:
        """Return what the service decides; a thread runs this while the page waits, but no longer than it may.

        ``call`` tells the page the id of the profile that the events go to, so that the cookie can carry it.
        """
        engine = self.running()
        if engine is None:
            return Decision()
        environment = engine.environment
        if self._access.guarded and question.name is not None:
            issued = partial(engine.service.certifies, environment)
            question = question._replace(name=next(filter(issued, (question.name, *question.others)), None))
        if question.name is None and question.ids is not None:
            call.id = engine.service.new_ids(environment, question.ids).profile()
        if not call.begin():
            return Decision()
        decision = engine.evaluation.decide(question, environment, engine.address_of(question.environ))
        if question.awaits_sdk and question.name and self._awaited.is_open:
            self._awaited.note(_is_stored(engine.service, environment, question.name))
        return decision

    def _start(self) -> Engine:
        from ninetailed_wsgi.api.validation.schemas import schemas
        from ninetailed_wsgi.enrichment.client_ip import ClientAddress
        from ninetailed_wsgi.service.access import INSIDE
        from ninetailed_wsgi.service.service import ExperienceService

        service = self._service or ExperienceService.from_settings(self._settings)
        evaluation = Evaluation(service, schemas(), self._access, INSIDE, partial(self._refuse, service))
        address = ClientAddress(self._settings.trusted_proxies)
        # If visitors are not trusted, do not believe an address that their browser forces.
        address_of = address.sender if self._access.guarded else address.of
        environment = service.environment(self._options.organization, self._options.environment)
        return Engine(service, evaluation, environment, address_of)

    def _refuse(self, service: ExperienceService, event: EventBody, error: InvalidData) -> None:
        if service.live is not None:
            where = service.environment(self._options.organization, self._options.environment)
            service.live.refused(where, "page", "", [event], str(error))
        # A problem quotes the value, which may be a visitor's: log only its place and what was expected.
        expected = [f"{line.partition(': found ')[0]} (expected {line.rpartition(', expected ')[2]})"
                    for line in error.problems if ": found " in line]  # fmt: skip
        text = f"a page recorded a {event.get('type')} event that was refused and left out: {'; '.join(expected[:3])}"
        self._reports.failure(f"refused {text}", StoreUnavailable(text))

    def _too_late(self, id: str | None) -> Decision:
        budget = f"{self._options.time_budget_ms:g} ms"
        self._reports.failure("time", StoreUnavailable(f"no answer within {budget}"))
        return Decision(id=id)


def _is_stored(service: Any, environment: Environment, name: str) -> bool:
    try:
        service.get(environment, name)
    except ProfileNotFound:
        return False
    return True
