"""A location database made from a dict: the places of a test's addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

from ninetailed_wsgi.core.location import COUNTRY_CODES, TEXT_MEMBERS

Place: TypeAlias = dict[str, Any]

_EXPECTED = 'text such as "Berlin, DE" or "DE", or the members of a location'


class LocationWrapper:
    """Wraps any object with a ``lookup`` as a `LocationSource`."""

    def __init__(self, places: Any) -> None:
        self.lookup = places.lookup

    def follow(self) -> None:
        """Do nothing: no database file is known."""

    def state(self) -> None:
        """Return nothing: no database file is known."""


class Locations:
    """Answers which place an address belongs to, as :class:`~ninetailed_wsgi.enrichment.geoip.LocationDatabase` does.

    Args:
        places: a network or address to its place: ``"Berlin, DE"``, ``"DE"``, or the members as the API answers them
            (``{"city": "Berlin", "country": "Germany", "countryCode": "DE", "continent": "EU", ...}``, spec section 4).
            Text adds nothing to these members: a rule on the country's name needs the member ``country``. The
            smallest network that contains an address counts.

    Raises:
        ValueError: one line for each bad network or place, all of them at once.
    """

    def __init__(self, places: Mapping[str, str | Mapping[str, Any]]) -> None:
        networks: list[tuple[IPv4Network | IPv6Network, Place]] = []
        problems: list[str] = []
        for network, place in places.items():
            try:
                networks.append((ip_network(network), _place(place)))
            except ValueError as error:
                problems.append(f"{network!r}: {error}")
        if problems:
            raise ValueError("\n".join(problems))
        self._networks = sorted(networks, key=lambda row: row[0].prefixlen, reverse=True)

    def lookup(self, ip: str, locale: str) -> tuple[Place, Place]:
        """Return the place of an address twice, as names have no languages here; empty places if it is unknown."""
        place = next(self._holding(ip), {})
        return dict(place), dict(place)

    def follow(self) -> None:
        """Do nothing: no database file is known."""

    def state(self) -> None:
        """Return nothing: no database file is read."""

    def _holding(self, ip: str) -> Iterator[Place]:
        try:
            address = ip_address(ip)
        except ValueError:
            return
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        for network, place in self._networks:
            if address in network:
                yield place


def _place(place: str | Mapping[str, Any]) -> Place:
    if isinstance(place, str):
        return _read(place)
    members = (*TEXT_MEMBERS, "coordinates")
    if not isinstance(place, Mapping) or not place:
        raise ValueError(f"found {place!r}, expected {_EXPECTED}")
    if unknown := [str(member) for member in place if member not in members]:
        raise ValueError(f"found the member {unknown[0]!r}, expected only {', '.join(members)}")
    if place.get("countryCode", "DE") not in COUNTRY_CODES:
        raise ValueError(f"countryCode: found {place['countryCode']!r}, expected two capital letters of ISO 3166-1")
    return dict(place)


def _read(text: str) -> Place:
    city, _, code = (part.strip() for part in text.rpartition(","))
    if code not in COUNTRY_CODES:
        raise ValueError(f"found {text!r}, expected {_EXPECTED}")
    return {"city": city, "countryCode": code} if city else {"countryCode": code}
