"""What all sources together know about the company of a visitor's address, as traits (spec section 10)."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from ninetailed_wsgi.enrichment.company_cache import CompanyCache
from ninetailed_wsgi.enrichment.source import CompanySource


class Companies:
    """Asks every source about an address; no request waits for a remote source.

    Args:
        sources: the sources.
        cache: stores the answers of remote sources; None: no cache.
        key: returns the key for digests; the cache stores answers under a digest, never under the address.

    Attributes:
        sources: as above.
    """

    def __init__(
        self, sources: Iterable[CompanySource], cache: CompanyCache | None = None, key: Callable[[], bytes] = bytes
    ) -> None:
        self.sources = tuple(sources)
        self._cache = cache
        self._key = key

    def companies(self, address: str, *, asks: bool) -> list[tuple[CompanySource, Mapping[str, Any]]]:
        """Return each source that knows the company of an address now, with its answer.

        Args:
            asks: whether a remote source may be asked, for later requests; otherwise only its cache is read.
        """
        answers = [(source, source.company(address, asks=asks)) for source in self.sources]
        return [(source, company) for source, company in answers if company]

    def digest(self, address: str) -> str:
        """Return the cache key of an address; empty if nothing is cached."""
        return digest_of(self._key, address) if self._cache and self.sources else ""

    def forget(self, digests: Collection[str]) -> None:
        """Delete what the cache has under these digests."""
        if self._cache and digests:
            self._cache.forget(digests)


@lru_cache(maxsize=4096)  # a visitor comes with several requests; parsing takes 10 microseconds
def public_ipv4(address: str) -> IPv4Address | None:
    """Return a public IPv4 address, which may be written as IPv6; None for any other text."""
    try:
        parsed: IPv4Address | IPv6Address | None = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address):
        parsed = parsed.ipv4_mapped
    return parsed if parsed is not None and parsed.is_global and not parsed.is_multicast else None


def digest_of(key: Callable[[], bytes], address: str) -> str:
    """Return the cache key of a public IPv4 address, a keyed hash; empty for any other address."""
    public = public_ipv4(address)
    return "" if public is None else hmac.new(key(), b"company of " + public.packed, sha256).hexdigest()[:32]
