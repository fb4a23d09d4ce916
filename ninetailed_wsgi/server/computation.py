"""Computes results again and again, in a process of its own that serves nobody and ends with the server.

Workers never load what computes: it costs 41 MiB and 0.4 s (spec section 12).
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from ninetailed_wsgi.errors import NinetailedError
from ninetailed_wsgi.insights import latest, population
from ninetailed_wsgi.operations.logs import stack
from ninetailed_wsgi.settings import Settings

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
        repeat(settings.results_every, _work(settings))
    except BaseException as error:  # no frame of the server may continue here
        _log.error("results are no longer computed, as this failed; restart the server:\n%s", stack(error))
    finally:
        os._exit(1)


def repeat(
    seconds: float,
    work: Callable[[], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Do some work now and then every so many seconds, also after a failure that may pass."""
    while True:
        due = clock() + seconds
        try:
            work()
        except (NinetailedError, OSError) as error:
            _log.error("results cannot be computed now, so the last ones stay: %s", error)
        except Exception as error:  # one visitor's record must not end the results of all others for good
            _log.error("results cannot be computed, so the last ones stay; this is a bug:\n%s", stack(error))
        sleep(max(0.0, due - clock()))


def _work(settings: Settings) -> Callable[[], None]:
    from ninetailed_wsgi.service.service import ExperienceService

    # One process of the server: it counts nothing of its own, and reads no location.
    own = replace(settings, metrics=False, geoip_database=None)
    services: list[ExperienceService] = []

    def work() -> None:
        if not services:  # here, so that a store that cannot be reached is tried again
            services.append(ExperienceService.from_settings(own))
        service = services[0]
        latest.compute(settings.data_dir, service.store, service.content)
        if settings.inspector:
            population.compute(
                settings.data_dir,
                service.store,
                service.content,
                service.previews.draft if settings.draft_content else None,
                service.clock(),
            )

    return work


def _end_with(server: int) -> None:
    """End this process, whatever it does, when the server's ended."""
    while os.getppid() == server:
        time.sleep(0.5)
    os._exit(0)
