"""Makes the application of a request's events: stored, kept to itself for a preflight, or guarded."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from ninetailed_wsgi.content import Catalog, ContentSource
from ninetailed_wsgi.core.company import Company
from ninetailed_wsgi.core.ids import NewIds
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.service.access import Terms
from ninetailed_wsgi.service.addresses import NOTHING, AddressFacts
from ninetailed_wsgi.service.application import Application
from ninetailed_wsgi.service.folding import Conditions
from ninetailed_wsgi.service.guarded import GuardedApplication
from ninetailed_wsgi.service.profile_ids import ProfileIds
from ninetailed_wsgi.store.overlay import Overlay
from ninetailed_wsgi.store.protocol import Store


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

    def for_storage(
        self,
        environment: Environment,
        facts: AddressFacts = NOTHING,
        catalog: Catalog | None = None,
        new: NewIds | None = None,
    ) -> Application:
        """Return one that stores what its events make of profiles; ``catalog`` None: what is published now decides."""
        conditions = self._labeled.get(environment, self._conditions) if self._labeled else self._conditions
        if new or facts.company:
            conditions = _of_request(conditions, new, facts.company)
        return Application(self._store, catalog or self._content.catalog(*environment), conditions, facts.location)

    def preflight(
        self,
        environment: Environment,
        facts: AddressFacts = NOTHING,
        catalog: Catalog | None = None,
        new: NewIds | None = None,
    ) -> Application:
        """Return one that stores nothing."""
        catalog = catalog or self._content.catalog(*environment)
        return Application(
            Overlay(self._store), catalog, _of_request(self._unmetered, new, facts.company), facts.location
        )

    def reading(self, environment: Environment, catalog: Catalog | None = None) -> Application:
        """Return one that reads profiles; with other content than what is published it does not store its counts."""
        return self.for_storage(environment) if catalog is None else self.preflight(environment, NOTHING, catalog)

    def on(
        self,
        terms: Terms,
        environment: Environment,
        now: int,
        preflight: bool = False,
        facts: AddressFacts = NOTHING,
        catalog: Catalog | None = None,
        *,
        renames: bool = True,
        new: NewIds | None = None,
    ) -> Application:
        """Return one that applies events at this time (ms) on these terms.

        Args:
            told: by the address of the request.
            renames: whether the caller learns of a new id.
            new: makes the ids of new profiles and sessions; None: they are made here.
        """
        if not terms.guarded:
            return (self.preflight if preflight else self.for_storage)(environment, facts, catalog, new)
        new_id = new.profile if new else partial(self._ids.make, environment)
        conditions = self._unmetered if preflight else self._labeled.get(environment, self._conditions)
        return GuardedApplication(
            Overlay(self._store) if preflight else self._store,
            catalog or self._content.catalog(*environment),
            _of_request(conditions, new, facts.company),
            facts.location,
            issued=lambda key: self._ids.certifies(environment, key.name),
            new_key=lambda: environment.key(new_id()),
            now=now,
            renames=renames,
            allowance=None if preflight else terms.allowance,
        )


def _of_request(conditions: Conditions, new: NewIds | None, company: Company | None) -> Conditions:
    if company:
        conditions = conditions._replace(company=company)
    return conditions._replace(new_session_id=new.session) if new else conditions
