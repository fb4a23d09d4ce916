"""What a request's address says about its visitor: where they are, and which company's network they use."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from ninetailed_wsgi.core.company import Company, wants_company
from ninetailed_wsgi.core.location import wants_lookup
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.enrichment.companies import Companies
from ninetailed_wsgi.enrichment.company_cache import CompanyCache
from ninetailed_wsgi.enrichment.source import CompanySource, LocationSource
from ninetailed_wsgi.service.folding import NO_FACTS, AddressFacts
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import KeptStore, Store


def companies_of(settings: Settings, store: KeptStore, database: CompanySource | None, key: str) -> Companies:
    """Return the sources of company data that these settings name.

    Args:
        store: the store of the profiles; its key hashes addresses.
        database: the local database of companies; None: there is none.
        key: the key of Albacross; empty: Albacross is not asked.
    """
    cache = CompanyCache(settings.data_dir, time.time)
    sources: list[CompanySource] = [database] if database else []
    if key:
        # Imported here because it loads the modules for HTTP and TLS.
        from ninetailed_wsgi.enrichment.albacross import Albacross

        sources.append(Albacross(settings.albacross_url, key, cache, store.id_key))
    return Companies(sources, cache, store.id_key)


class Addresses:
    """Asks the configured sources about the address of a request.

    Args:
        location: the location database; None: there is none.
        companies: the sources of company data; None: there are none.
    """

    def __init__(self, location: LocationSource | None, companies: Companies | None) -> None:
        self._location = location
        self._companies = companies

    def look_up(self, address: str | None, locale: str, body: Mapping[str, Any], *, asks: bool) -> AddressFacts:
        """Return where an address is and what is known about its company now.

        Args:
            address: the address of the request; None: it has none.
            locale: the language of the visitor's place names.
            body: the events and options of the request (spec sections 4 and 10).
            asks: whether remote sources may be asked, so that a later request has their answer.
        """
        if not address:
            return NO_FACTS
        events, features = body["events"], (body.get("options") or {}).get("features") or ()
        location = None
        if self._location and wants_lookup(events, features):
            location = self._location.lookup(address, locale)
        if not (self._companies and self._companies.sources and wants_company(events, features)):
            return AddressFacts(location)
        companies = self._companies.companies(address, asks=asks)
        traits = {source.trait: company for source, company in companies}
        origins = {source.trait: source.origin for source, _ in companies}
        return AddressFacts(location, Company(traits, origins, self._companies.digest(address)))

    def state(self) -> tuple[float, bool] | None:
        """Return the state of the location database, like `LocationSource.state`; None without a database."""
        return self._location.state() if self._location else None

    def digests(self, store: Store, key: Key) -> list[str]:
        """Return the digests under which company data of the visitor with this id or alias is stored."""
        record = identity.resolve(store, key).record if self._companies else None
        return list(record.get("networks", ())) if record else []

    def forget(self, digests: Iterable[str]) -> None:
        """Delete the company data that is stored under these digests."""
        if self._companies is not None:
            self._companies.forget(list(digests))
