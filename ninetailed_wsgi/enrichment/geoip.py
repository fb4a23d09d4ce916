"""The location of an address: place names from a local MaxMind database that may be replaced while it is in use.

Source: spec section 4 and the MaxMind DB format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ninetailed_wsgi.enrichment.maxmind import HAS_C_EXTENSION, WITHOUT_C_EXTENSION, DatabaseKind, MaxMindDatabase
from ninetailed_wsgi.enrichment.maxmind import member as _map
from ninetailed_wsgi.enrichment.maxmind import text as _text

__all__ = ["HAS_C_EXTENSION", "WITHOUT_C_EXTENSION", "LocationDatabase"]

# Databases whose records have the members of a City record; Country databases have only some of them.
ACCEPTED_TYPES = ("City", "Enterprise", "Country")
_EXPECTED = 'expected a City database such as GeoLite2-City or GeoIP2-City ("Enterprise" and "Country" also work)'

Place = dict[str, Any]


class LocationDatabase(MaxMindDatabase):
    """Finds the place of an address in a MaxMind City, Enterprise or Country database (spec section 4).

    Arguments and errors are those of `MaxMindDatabase`.
    """

    def __init__(self, path: str | Path, *, check_every: float = 1.0) -> None:
        super().__init__(path, _KIND, check_every=check_every)

    def lookup(self, ip: str, locale: str) -> tuple[Place, Place]:
        """Find the place of an address, named in the visitor's language and in English.

        Args:
            ip: an IPv4 or IPv6 address as text; an IPv4 address inside an IPv6 one is looked up as IPv4.
            locale: untrusted text such as ``de-AT``; a name falls back to ``de``, then ``en``.

        Returns:
            Two dicts with the known members of ``coordinates`` (``latitude``, ``longitude`` in degrees), ``city``,
            ``postalCode``, ``region``, ``regionCode``, ``country``, ``countryCode``, ``continent``, ``timezone``: the
            first with names by locale, the second with English names for audience rules. Both are empty if nothing is
            known. All callers share the dicts: do not change them. Never raises.
        """
        return self.answer(ip, locale[:64] if isinstance(locale, str) else "") or ({}, {})


def _places(record: object, locale: str) -> tuple[Place, Place]:
    if not isinstance(record, dict):
        return {}, {}
    english = _place(record)
    tags = _tags_of(locale)
    if tags == _ENGLISH:
        return english, english
    return {**english, **_names(record, tags)}, english


class _Tags(NamedTuple):
    """The names to try: exact tags, the most precise first; then any variant of the language; then English."""

    exact: tuple[str, ...]
    variants: str


_ENGLISH = _Tags(("en",), "en-")


@lru_cache(maxsize=512)
def _tags_of(locale: str) -> _Tags:
    """Turn untrusted text into language tags as MaxMind spells them, such as ``pt-BR``, ``zh-CN``."""
    parts = re.findall("[A-Za-z0-9]+", locale)[:4]
    if not parts:
        return _ENGLISH
    language = parts[0].lower()
    # Scripts are spelled like Hans, countries like BR.
    parts = [language, *(part.title() if len(part) == 4 else part.upper() for part in parts[1:])]
    exact = tuple("-".join(parts[:length]) for length in range(len(parts), 0, -1))
    return _Tags(exact, f"{language}-")


def _name(names: object, tags: _Tags) -> str | None:
    if not isinstance(names, dict):
        return None
    for tag in tags.exact:
        if name := _text(names.get(tag)):
            return name
    for tag in names:
        if tag.startswith(tags.variants) and (name := _text(names[tag])):
            return name
    return _text(names.get("en"))


def _names(record: Mapping[str, Any], tags: _Tags) -> Place:
    """Return the three members that have a name in each language."""
    names = {
        "city": _name(_map(record, "city").get("names"), tags),
        "region": _name(_region(record).get("names"), tags),
        "country": _name(_map(record, "country").get("names"), tags),
    }
    return {member: name for member, name in names.items() if name}


def _place(record: Mapping[str, Any]) -> Place:
    """Return all members that a City record has, with English names."""
    location = _map(record, "location")
    values = {
        "coordinates": _coordinates(location),
        "postalCode": _text(_map(record, "postal").get("code")),
        "regionCode": _text(_region(record).get("iso_code")),
        "countryCode": _two_letters(_map(record, "country").get("iso_code")),
        "continent": _two_letters(_map(record, "continent").get("code")),
        "timezone": _text(location.get("time_zone")),
    }
    place = {member: value for member, value in values.items() if value}
    place.update(_names(record, _ENGLISH))
    return place


def _coordinates(location: Mapping[str, Any]) -> dict[str, float] | None:
    latitude, longitude = location.get("latitude"), location.get("longitude")
    for degrees in (latitude, longitude):
        if isinstance(degrees, bool) or not isinstance(degrees, int | float) or not math.isfinite(degrees):
            return None
    return {"latitude": latitude, "longitude": longitude}  # type: ignore[dict-item]


def _region(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first subdivision, which is the largest: England, not the county."""
    subdivisions = record.get("subdivisions")
    if isinstance(subdivisions, list) and subdivisions and isinstance(subdivisions[0], dict):
        return subdivisions[0]
    return {}


def _two_letters(value: object) -> str | None:
    # The official SDK throws an error for a code of another form.
    return value if isinstance(value, str) and len(value) == 2 and value.isascii() and value.isalpha() else None


_KIND = DatabaseKind("geoip_database", ACCEPTED_TYPES, _EXPECTED, "location", _places)
