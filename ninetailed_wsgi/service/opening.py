"""Opens what a service works on, as the settings describe it: its store, its queue, its sources, its limits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.enrichment.device import compile_patterns
from ninetailed_wsgi.operations.metrics import process_metrics
from ninetailed_wsgi.service.addresses import companies_of
from ninetailed_wsgi.service.merge_turns import MergeTurns
from ninetailed_wsgi.service.sources import Sources
from ninetailed_wsgi.service.turns import Turns
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.opening import open_store
from ninetailed_wsgi.store.protocol import KeptStore

if TYPE_CHECKING:
    from ninetailed_wsgi.service.live import Live


def opened(settings: Settings, sources: Sources | None = None) -> dict[str, Any]:
    """Return the arguments of `ExperienceService` that these settings describe.

    Args:
        sources: the sources that were read before this process was forked; None: they are read now.

    Raises:
        SettingsError: names what cannot be used.
    """
    sources = sources or Sources.read(settings)
    sources.follow()
    store, queue = open_store(settings)
    compile_patterns()
    return {
        "store": store,
        "content": sources.content,
        "location": sources.location,
        "queue": queue,
        "environments": [Environment.parse(pair) for pair in settings.environments],
        "max_traits_bytes": settings.max_traits_bytes,
        "history_bytes": settings.history_bytes,
        "masked_query_parameters": settings.masked_query_parameters,
        "metrics": process_metrics() if settings.metrics else None,
        "turns": Turns(settings.profile_concurrency, settings.store_timeout),
        "merges": MergeTurns(settings.threads, settings.store_timeout),
        "id_key": store.id_key,
        "draft": sources.draft,
        "companies": companies_of(settings, store, sources.company_database, sources.albacross_key),
        "live": _live(store) if settings.inspector else None,
    }


def _live(store: KeptStore) -> Live:
    from ninetailed_wsgi.service.live import Live  # only needed with the inspector

    return Live(lambda: store.arrivals, lambda: time.time_ns() // 1_000_000)
