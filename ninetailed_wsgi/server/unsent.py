"""Looks for metrics whose event nobody has sent: most often its name is misspelled (spec section 12)."""

from __future__ import annotations

from itertools import islice

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core import metrics
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Store

PROFILES = 20_000
"""Profiles of an environment that are looked at, at most."""


def unsent_metrics(store: Store, environment: Environment | None, catalog: Catalog) -> list[str]:
    """Return a line for each metric whose event none of the profiles has sent; reads only, and at most 20,000 of them.

    Args:
        environment: None: all of them.
        catalog: its content.
    """
    keys = {metric.key for metric in catalog.metrics.metrics}
    where = environment or (None, None)
    looked_at = 0
    for key, document in islice(store.documents(*where), PROFILES) if keys else ():
        if not identity.is_profile(document):
            continue
        looked_at += 1
        if catalog.metrics.missing(document):
            catalog.metrics.recount(document, store.read(key).history())
        keys -= metrics.events_counted(document)
        if not keys:
            return []
    people = f"none of {looked_at:,} profiles" if looked_at else "nobody"
    return [
        f'note: metric {metric.id}: {people} has sent its event "{metric.event}"'
        for metric in catalog.metrics.metrics
        if metric.key in keys
    ]
