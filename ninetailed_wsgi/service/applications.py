"""Makes the application of a request's events: stored, kept to itself for a preflight, or guarded."""

from __future__ import annotations

from collections.abc import Collection

from ninetailed_wsgi.content import Catalog, ContentSource
from ninetailed_wsgi.core.location import Located
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.service.access import Terms
from ninetailed_wsgi.service.application import Application
from ninetailed_wsgi.service.folding import Conditions
from ninetailed_wsgi.service.guarded import GuardedApplication
from ninetailed_wsgi.service.profile_ids import ProfileIds
from ninetailed_wsgi.store.overlay import Overlay
from ninetailed_wsgi.store.protocol import Store

ANY_TERMS = Terms()
"""Those of the mode ``open``."""


class Applications:
    """Makes applications on one store.

    Args:
        store: where profiles are kept.
        content: where published audiences and experiences come from.
        ids: makes the ids of new profiles.
        conditions: what holds for every request; its label is the environment's.
        environments: those that metrics name. Clients can name any; only those of the options are as many as the
            operator wants.
    """

    def __init__(
        self,
        store: Store,
        content: ContentSource,
        ids: ProfileIds,
        conditions: Conditions,
        environments: Collection[Environment],
    ) -> None:
        self._store = store
        self._content = content
        self._ids = ids
        self._conditions = conditions
        self._labeled = {each: conditions._replace(label=str(each)) for each in environments}
        self._unmetered = conditions._replace(metrics=None)

    def stored(
        self, environment: Environment, location: Located | None = None, catalog: Catalog | None = None
    ) -> Application:
        """Return one that stores what its events make of profiles; ``catalog`` None: what is published now decides."""
        conditions = self._labeled.get(environment, self._conditions)
        return Application(self._store, catalog or self._content.catalog(*environment), conditions, location)

    def preflight(
        self, environment: Environment, location: Located | None = None, catalog: Catalog | None = None
    ) -> Application:
        """Return one that stores nothing."""
        catalog = catalog or self._content.catalog(*environment)
        return Application(Overlay(self._store), catalog, self._unmetered, location)

    def on(
        self,
        terms: Terms,
        environment: Environment,
        now: int,
        preflight: bool = False,
        location: Located | None = None,
        catalog: Catalog | None = None,
        *,
        renames: bool = True,
    ) -> Application:
        """Return one that applies events at this time (ms) on these terms.

        Args:
            renames: whether the caller learns of a new id.
        """
        if not terms.guarded:
            return (self.preflight if preflight else self.stored)(environment, location, catalog)
        return GuardedApplication(
            Overlay(self._store) if preflight else self._store,
            catalog or self._content.catalog(*environment),
            self._unmetered if preflight else self._labeled.get(environment, self._conditions),
            location,
            issued=lambda key: self._ids.certifies(environment, key.name),
            new_key=lambda: environment.key(self._ids.make(environment)),
            now=now,
            renames=renames,
            begin=None if preflight else terms.begin,
        )
