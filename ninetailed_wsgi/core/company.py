"""The traits that sources make of the visitor's company, and the wish for them (spec section 10)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

FEATURE = "ip-enrichment"

MOST_DIGESTS = 8
"""Digests that a profile notes; a visitor's last addresses."""


class Company(NamedTuple):
    """What is known of a visitor's company.

    Attributes:
        traits: by name; empty where nothing is known.
        origins: where each of them comes from, in words.
        digest: under what a source keeps it, so that an erasure reaches that; empty: nothing is kept.
    """

    traits: Mapping[str, Mapping[str, Any]]
    origins: Mapping[str, str]
    digest: str = ""


def wants_company(events: Iterable[Mapping[str, Any]], features: Collection[str]) -> bool:
    """Return whether to look up the company: it is asked for, and no event says that consent is not given."""
    return FEATURE in features and not any(_denies(event["context"]) for event in events)


def employ(record: dict[str, Any], company: Company) -> dict[str, Any]:
    """Return the traits of a profile with those of the company.

    A trait that the visitor or the site set stays: only what came from a source before is replaced. The record notes
    which traits came from which source, as ``enriched``, and as ``networks`` under what they are kept.
    """
    if company.digest:
        digests = [digest for digest in record.get("networks", ()) if digest != company.digest]
        record["networks"] = [*digests, company.digest][-MOST_DIGESTS:]
    traits, enriched = record["traits"], record.get("enriched", {})
    return {name: value for name, value in company.traits.items() if name in enriched or name not in traits}


def origins(record: Mapping[str, Any]) -> dict[str, str]:
    """Return where the traits of a profile come from that a source made, by their names."""
    return {name: origin for name, origin in record.get("enriched", {}).items() if name in record["traits"]}


def note_origins(record: dict[str, Any], names: Iterable[str], sources: Mapping[str, str]) -> None:
    """Note for traits that were just set which source made each; none: the visitor or the site."""
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
    """Join what two profiles note; of a trait's origin that of the profile whose value the merged one has."""
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
