"""The traits that sources provide about the visitor's company, and when to look them up (spec section 10)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

FEATURE = "ip-enrichment"

MOST_DIGESTS = 8
"""Digests that a profile keeps, of the visitor's latest addresses."""


class Company(NamedTuple):
    """What is known about a visitor's company.

    Attributes:
        traits: by name; empty if nothing is known.
        origins: where each trait comes from, in words.
        digest: the key under which the sources cache it, so that an erasure can delete it there; empty if not cached.
    """

    traits: Mapping[str, Mapping[str, Any]]
    origins: Mapping[str, str]
    digest: str = ""


def wants_company(events: Iterable[Mapping[str, Any]], features: Collection[str]) -> bool:
    """Return whether to look up the company: the request asks for it, and no event denies consent."""
    return FEATURE in features and not any(_denies(event["context"]) for event in events)


def employ(record: dict[str, Any], company: Company) -> dict[str, Any]:
    """Return the company traits to set in a profile, and note the company's digest in the record.

    A trait that the visitor or the site set stays: a source replaces only traits that a source set. In the record,
    ``enriched`` maps these traits to their origins, and ``networks`` lists the digests under which they are cached.
    """
    if company.digest:
        digests = [digest for digest in record.get("networks", ()) if digest != company.digest]
        record["networks"] = [*digests, company.digest][-MOST_DIGESTS:]
    traits, enriched = record["traits"], record.get("enriched", {})
    return {name: value for name, value in company.traits.items() if name in enriched or name not in traits}


def origins(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the origin of each trait of a profile that a source set, by name."""
    return {name: origin for name, origin in record.get("enriched", {}).items() if name in record["traits"]}


def note_origins(record: dict[str, Any], names: Iterable[str], sources: Mapping[str, str]) -> None:
    """Record the origin of traits that were just set; those not in ``sources`` come from the visitor or the site."""
    before = record.get("enriched")
    if not sources and not before:
        return
    enriched = {**(before or {})}
    for name in names:
        enriched.pop(name, None)
    enriched.update(sources)
    record.pop("enriched", None)
    if enriched:
        record["enriched"] = enriched


def joined(merged: dict[str, Any], older: Mapping[str, Any], newer: Mapping[str, Any]) -> None:
    """Merge what two profiles note. A trait's origin comes from the profile whose value the merged profile has."""
    networks = list(dict.fromkeys([*older.get("networks", ()), *newer.get("networks", ())]))[-2 * MOST_DIGESTS :]
    enriched = {
        name: origin
        for record in (older, newer)
        for name, origin in record.get("enriched", {}).items()
        if merged["traits"].get(name) == record["traits"].get(name)
    }
    for member, value in (("networks", networks), ("enriched", enriched)):
        merged.pop(member, None)
        if value:
            merged[member] = value


def _denies(context: Mapping[str, Any]) -> bool:
    gdpr = context.get("gdpr")
    return isinstance(gdpr, dict) and gdpr.get("isConsentGiven") is False
