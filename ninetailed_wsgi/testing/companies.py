"""Companies made from a dict: whose networks the addresses of a test are in."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

from ninetailed_wsgi.enrichment.source import CompanySource

Networks: TypeAlias = list[tuple[IPv4Network | IPv6Network, Mapping[str, Any]]]

_ORIGINS = {"albacross": "Albacross", "company": "the company database"}
_EXPECTED = 'the name of a company, its members, or {"albacross": {...}, "company": {...}}'


class Companies:
    """Answers whose network an address is in, as a company database and Albacross do, both at once.

    Args:
        networks: a network or address to its company: ``"Acme"``; the members of the trait ``company`` (``{"name":
            "Acme", "domain": "acme.example", "asn": 64500, "kind": "business"}``); or the traits themselves:
            ``{"albacross": {"name": "Acme", "country": "Germany"}}``. The smallest network with an address counts.

    Attributes:
        sources: one for each trait.

    Raises:
        ValueError: one line for each bad network or company, all of them at once.
    """

    def __init__(self, networks: Mapping[str, str | Mapping[str, Any]]) -> None:
        by_trait: dict[str, Networks] = {trait: [] for trait in _ORIGINS}
        problems: list[str] = []
        for network, traits in networks.items():
            try:
                for trait, company in _traits(traits).items():
                    by_trait[trait].append((ip_network(network), company))
            except ValueError as error:
                problems.append(f"{network!r}: {error}")
        if problems:
            raise ValueError("\n".join(problems))
        self.sources: list[CompanySource] = [
            _Source(trait, networks_of_trait) for trait, networks_of_trait in by_trait.items()
        ]


class _Source:
    """A `CompanySource` of one trait."""

    def __init__(self, trait: str, networks: Networks) -> None:
        self.trait = trait
        self.origin = _ORIGINS[trait]
        self._networks = sorted(networks, key=lambda row: row[0].prefixlen, reverse=True)

    def company(self, address: str, *, asks: bool) -> Mapping[str, Any]:
        """Return the company of an address; empty if it has none."""
        try:
            parsed = ip_address(address)
        except ValueError:
            return {}
        if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        return next((company for network, company in self._networks if parsed in network), {})

    def follow(self) -> None:
        """Do nothing: there is no file."""


def _traits(traits: str | Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    if isinstance(traits, str) and traits:
        return {"company": {"name": traits}}
    if not isinstance(traits, Mapping) or not traits:
        raise ValueError(f"found {traits!r}, expected {_EXPECTED}")
    if traits.keys() <= _ORIGINS.keys():
        if wrong := [trait for trait, company in traits.items() if not isinstance(company, Mapping)]:
            raise ValueError(f"{wrong[0]}: found {traits[wrong[0]]!r}, expected the members of a company")
        return traits
    return {"company": traits}
