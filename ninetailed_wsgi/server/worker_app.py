"""What a worker of any server runs: the app, and what is loaded before the workers are forked."""

from __future__ import annotations

import contextlib
import gc
import logging
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.operations.metrics import process_metrics
from ninetailed_wsgi.server.checks import hosting_of
from ninetailed_wsgi.settings import Settings

if TYPE_CHECKING:
    from ninetailed_wsgi.service.expiry import Expiry
    from ninetailed_wsgi.service.service import ExperienceService
    from ninetailed_wsgi.service.sources import Sources

_NEW_OBJECTS = 10_000
"""After how many new objects Python looks for cycles, by default 700: a batch has thousands, and leaves no cycles.

Of the processor time of a batch these looks took 8 percent, of a page event 0.7.
"""


class WorkerApp(NamedTuple):
    """The service of one worker, and its WSGI app."""

    service: ExperienceService
    app: Any


def prepare(settings: Settings) -> Sources:
    """Load before the fork what holds no database or connection, so that the workers share its memory and load time.

    A worker that starts while a content file or the location database is broken then serves what was read here.

    Raises:
        SettingsError: content or location database became unusable after the start was checked.
    """
    import ninetailed_wsgi.api.app  # noqa: F401
    from ninetailed_wsgi.api.validation.schemas import REQUESTS, schemas
    from ninetailed_wsgi.enrichment.device import compile_patterns
    from ninetailed_wsgi.service.sources import Sources

    with _quietly():
        sources = Sources.read(settings)
    schemas().compile(REQUESTS)
    with contextlib.suppress(InvalidData):
        # The code that words errors takes a second to load: in a worker, a stranger could make others wait for it.
        schemas().check("profile-request", {})
    compile_patterns()
    gc.collect()
    gc.freeze()  # otherwise the first collection would write to every page, and so copy it
    gc.set_threshold(_NEW_OBJECTS)
    return sources


def worker_app(settings: Settings, sources: Sources | None) -> WorkerApp:
    """Open the store in a worker, so that no database file is open across a fork; return service and app."""
    from ninetailed_wsgi.api.app import api
    from ninetailed_wsgi.service.access import Access
    from ninetailed_wsgi.service.service import ExperienceService

    with _quietly():
        service = ExperienceService.from_settings(settings, sources)
        return WorkerApp(service, api(service, settings, Access.of(settings, hosting_of(settings.bind))))


def expiry_lock(settings: Settings) -> IO[bytes] | None:
    """Return the file that is locked by the one worker that removes inactive visitors; None if none does."""
    return tempfile.TemporaryFile() if settings.expire_after else None


def start_expiry(
    settings: Settings, service: ExperienceService, lock: IO[bytes] | None, is_busy: Callable[[], bool]
) -> Expiry | None:
    """Let this worker remove inactive visitors unless another one does; return None if none is to."""
    from ninetailed_wsgi.service.expiry import Expiry

    if lock is None:
        return None
    expiry = Expiry(
        service.store,
        settings.expire_after,
        lock,
        is_busy,
        environments=[Environment.parse(each) for each in settings.environments],
        metrics=process_metrics() if settings.metrics else None,
        addresses=service.addresses,
    )
    expiry.start()
    return expiry


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep each worker from logging again what the announcement already says."""
    log = logging.getLogger("ninetailed_wsgi")
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(logging.INFO)
