"""Computes results repeatedly, in a process of its own that serves no requests and ends with the server.

Workers never load the code that computes: it costs 41 MiB and 0.4 s (spec section 12).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ninetailed_wsgi.errors import NinetailedError
from ninetailed_wsgi.insights import latest, population
from ninetailed_wsgi.operations.logs import stack
from ninetailed_wsgi.settings import Settings

if TYPE_CHECKING:
    from ninetailed_wsgi.service.service import ExperienceService

_LOOK_EVERY = 2.0  # seconds between two looks for a draft that somebody handed to the inspector
_log = logging.getLogger("ninetailed_wsgi")


def start(settings: Settings) -> int:
    """Start the process; to be called before the server opens a store or starts a thread.

    Returns:
        Its process id.
    """
    server = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        threading.Thread(target=_end_with, args=(server,), daemon=True).start()
        os.nice(10)  # requests come first
        work, between = _work(settings)
        repeat(settings.results_every, work, between=between)
    except BaseException as error:  # no frame of the server may continue here
        _log.error("results are no longer computed, as this failed; restart the server:\n%s", stack(error))
    finally:
        os._exit(1)


def repeat(
    seconds: float,
    work: Callable[[], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    between: Callable[[], None] | None = None,
) -> None:
    """Do some work at once, then again every so many seconds, even after a failure.

    Between two times, ``between`` is called every two seconds; None: nothing is.
    """
    while True:
        due = clock() + seconds
        _try(work)
        while (pause := max(0.0, due - clock())) > _LOOK_EVERY and between is not None:
            sleep(_LOOK_EVERY)
            _try(between)
        sleep(pause)


def _try(work: Callable[[], None]) -> None:
    try:
        work()
    except (NinetailedError, OSError) as error:
        _log.error("results cannot be computed now, so the last ones stay: %s", error)
    except Exception as error:  # one visitor's record must not end the results of all others for good
        _log.error("results cannot be computed, so the last ones stay; this is a bug:\n%s", stack(error))


def _work(settings: Settings) -> tuple[Callable[[], None], Callable[[], None] | None]:
    """Return the work to repeat, and the work to do between two times."""
    from ninetailed_wsgi.service.service import ExperienceService

    # One process of the server: it counts nothing of its own, and reads no location.
    own = replace(settings, metrics=False, geoip_database=None)
    services: list[ExperienceService] = []

    def opened() -> tuple[ExperienceService, population.PopulationContent]:
        if not services:  # opened here, so that an unreachable store is retried
            services.append(ExperienceService.from_settings(own))
        return services[0], contents_of(settings, services[0])

    def work() -> None:
        service, contents = opened()
        latest.compute(settings.data_dir, service.store, service.content)
        if settings.inspector:
            population.compute(settings.data_dir, service.store, contents, service.clock())

    def waiting() -> None:
        service, contents = opened()
        population.compute_waiting(settings.data_dir, service.store, contents, service.clock())

    return work, waiting if settings.inspector else None


def contents_of(settings: Settings, service: ExperienceService) -> population.PopulationContent:
    """Return the content by which the visitors of a service are counted."""
    draft = service.previews.draft if settings.draft_content else None
    bounds = (settings.history_events, settings.history_days)
    return population.PopulationContent(service.content, draft, settings.content_locale, *bounds)


def _end_with(server: int) -> None:
    """End this process, whatever it does, when the server's process has ended."""
    while os.getppid() == server:
        time.sleep(0.5)
    os._exit(0)
