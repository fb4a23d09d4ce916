"""The profile record: how it begins, how an event changes it, how two of them become one, and what the API answers.

The record is a JSON object, stored as it is. Its members: ``id``, ``stable_id``, ``aliases``, ``merged`` (ids of the
profiles that became part of it), ``traits``, ``location``, ``location_en`` (only where the names in English differ),
``session``, ``device``, ``updated`` (time of the newest event, ms), ``seen`` (keys of the message ids already applied,
oldest first, concatenated in one text), ``sticky`` (experience id to variant index), ``counts`` (what the audience
rules count), ``born`` (the id of its first session; it differs if a profile is created under the id of a deleted one),
``arrived`` (when its first event arrived, ms; older versions did not store it),
``user``, ``vouched``, ``until`` (only in the mode ``guarded``, see service/guarded.py),
``import`` (only if an import was applied: the number of the last batch, and which of its events, as the bits of a
hexadecimal number), ``trait_times`` (only if traits were set, and not by an older version: see `_set_traits`),
``enriched`` and ``networks`` (see company.py),
``exposures`` and ``reported`` (see exposures.py), ``conversions`` (see metrics.py), ``sizes`` (see retention.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from ninetailed_wsgi.core import company, exposures, metrics, retention, session
from ninetailed_wsgi.core.audiences import Facts
from ninetailed_wsgi.core.company import Company
from ninetailed_wsgi.core.copies import copy_of
from ninetailed_wsgi.core.events import MESSAGE_KEY_LENGTH, Event
from ninetailed_wsgi.core.experiences import hash_fraction
from ninetailed_wsgi.core.location import given_members

SEEN_KEPT = 200
"""Message ids remembered: as many as one request may contain, so that a repeated request is always recognized."""

SEEN_KEPT_MORE = 100
"""Additional message ids for each of at most ten merged profiles: their order across profiles is unknown."""

TRAITS_BYTES = 65_536
"""Maximum bytes of a profile's traits as JSON; a merge exceeds them only if one of the profiles already did."""

NAMES_BYTES = 65_536
"""Maximum bytes of a profile's aliases as JSON, and of its absorbed profiles' ids: about 970 generated ids."""

TRAIT_TIMES = 100
"""Traits whose time is stored individually; all others share one time."""

_SEEN_EXPERIENCE = {"component": "experienceId", "exo_node_view": "optimizationId"}
"""Types of events that store a sticky assignment, and the member that names the experience (spec sections 2 and 6)."""

Record = dict[str, Any]


def new_record(profile_id: str) -> Record:
    """Return a profile without events. Its ``stableId`` is its id, so the visitor's variants are known in advance."""
    return {
        "id": profile_id,
        "stable_id": profile_id,
        "aliases": [],
        "merged": [],
        "traits": {},
        "location": {},
        "session": session.new_session(),
        "device": "unknown",
        "updated": 0,
        "seen": "",
        "sticky": {},
        "counts": {},
    }


def draft(record: Record) -> Record:
    """Return a copy to which events may be applied.

    Events change only the record itself and the members copied here. They replace the values inside these members
    instead of changing them, so those stay shared.
    """
    copy = record.copy()
    copy["session"] = record["session"].copy()
    copy["counts"] = record["counts"].copy()
    if "conversions" in record:
        copy["conversions"] = record["conversions"].copy()
    return copy


def has_seen(record: Record, event: Event) -> bool:
    """Return whether this event, or another one with its message id, was already applied to the profile."""
    if event.imported and _was_imported(record, *event.imported):
        return True
    keys: str = record["seen"]
    key = event.key
    if key not in keys:
        return False
    index = keys.find(key)
    while index >= 0 and index % MESSAGE_KEY_LENGTH:
        index = keys.find(key, index + 1)
    return index >= 0


def apply(
    record: Record,
    event: Event,
    new_session_id: Callable[[], str],
    sticky: Mapping[str, Mapping[str, int]] = {},
    most_traits: int = TRAITS_BYTES,
) -> int:
    """Apply one event to the profile: traits, session, location, device, assignments (spec sections 2 to 4 and 6).

    ``sticky`` maps each experience whose first assignment is kept to the indices of its variants by id. If all traits
    together would exceed ``most_traits`` bytes, the event's traits are left out and the excessive size is returned;
    otherwise 0.
    """
    body, at = event.body, event.at
    surplus = 0
    kind = body["type"]
    if kind == "identify":
        if body["traits"]:
            surplus = _set_traits(record, body["traits"], at, most_traits)
        if event.user_id and event.user_id != record["id"] and event.user_id not in record["aliases"]:
            record["aliases"] = with_alias(record, event.user_id)
    elif kind in _SEEN_EXPERIENCE:
        _keep_assignment(record, body, sticky)
    session.touch(record["session"], at, body if kind == "page" else None, new_session_id)
    if "born" not in record:
        record.update(born=record["session"]["id"], arrived=event.arrived)
    late = at < record["updated"]
    if not late:
        record["updated"] = at
        if event.device is not None:
            record["device"] = event.device
    if body["context"].get("location") and (members := given_members(body)):
        _add_location(record, members, late)
    record["seen"] = _latest(record["seen"] + event.key, len(record["merged"]))
    if event.imported:
        batch, index = event.imported
        record["import"] = [batch, f"{_imported(record, batch) | 1 << index:x}"]
    return surplus


def _keep_assignment(record: Record, body: Mapping[str, Any], sticky: Mapping[str, Mapping[str, int]]) -> None:
    """Keep the variant that a visitor saw of an experience, if the experience is sticky and none is kept yet."""
    experience = _text(body.get(_SEEN_EXPERIENCE[body["type"]]))
    if experience in sticky and experience not in record["sticky"]:
        index = body.get("variantIndex", sticky[experience].get(_text(body.get("variantId"))))
        if index is not None:
            record["sticky"] = {**record["sticky"], experience: int(index)}  # JSON may write 1 as 1.0


def _add_location(record: Record, members: Mapping[str, Any], late: bool) -> None:
    """Add the location that an event gives; a late event may add unknown values, but replaces none."""
    location, english = record["location"], english_location(record)
    if late:
        _set_location(record, {**members, **location}, {**members, **english})
    else:
        _set_location(record, {**location, **members}, {**english, **members})


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def enrich(record: Record, employer: Company, at: int, most: int = TRAITS_BYTES) -> None:
    """Set the traits of the visitor's company as of a time (ms), unless all traits would exceed the limit."""
    traits = company.employ(record, employer)
    if any(record["traits"].get(name) != value for name, value in traits.items()):
        _set_traits(record, traits, at, most, employer.origins)


def _set_traits(
    record: Record, traits: Mapping[str, Any], at: int, most: int, origins_: Mapping[str, str] = MappingProxyType({})
) -> int:
    """Set traits as of a time (ms), except those that a later event has set (spec section 2).

    If all traits as JSON would exceed ``most`` bytes, nothing is set and their size is returned; otherwise 0.

    ``trait_times`` is ``[common, {name: time}]``: the most common time at which traits were set, and the times that
    differ. So traits that are always set together cost one number. A record of an older version has no times, and any
    event sets its traits.
    """
    times = _trait_times(record, 0)
    latest = {name: copy_of(value) for name, value in traits.items() if at >= times.get(name, 0)}
    after = {**record["traits"], **latest}
    surplus = excess(record["traits"], after, most) if latest else 0
    if latest and not surplus:
        record["traits"] = after
        _keep_trait_times(record, {**times, **dict.fromkeys(latest, at)})
        company.note_origins(record, latest, {name: origins_[name] for name in latest if name in origins_})
    return surplus


def _trait_times(record: Record, unknown: int) -> dict[str, int]:
    """Return when each trait was set."""
    common, others = record.get("trait_times", (unknown, {}))
    return {name: others.get(name, common) for name in record["traits"]}


def _keep_trait_times(record: Record, times: Mapping[str, int]) -> None:
    """Store when traits were set; at most `TRAIT_TIMES` times that differ from the common one, the latest."""
    if not record["traits"]:
        return
    common = Counter(times.values()).most_common(1)[0][0]
    others = {name: at for name, at in times.items() if at != common and name in record["traits"]}
    if len(others) > TRAIT_TIMES:
        latest = sorted(others, key=others.__getitem__)[-TRAIT_TIMES:]
        others = {name: others[name] for name in latest}
    record["trait_times"] = [common, others]


def excess(before: Mapping[str, Any], traits: Mapping[str, Any], most: int) -> int:
    """Return the bytes of a profile's traits as JSON if they exceed the limit and the size of ``before``.

    Otherwise return 0.
    """
    size = len(orjson.dumps(traits))
    return size if size > most and size > len(orjson.dumps(before)) else 0


def merged_traits(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the traits of two profiles: the newer values, and the older ones that still fit in `TRAITS_BYTES`."""
    traits = {**older, **newer}
    sizes = [len(orjson.dumps(part)) for part in (older, newer)]
    if len(orjson.dumps(traits)) > (most := max(TRAITS_BYTES, *sizes)):
        room = most - (sizes[1] if newer else 1)
        for name in [name for name in older if name not in newer]:
            size = len(orjson.dumps({name: older[name]})) - 1  # one brace stands for the comma
            if size > room:
                del traits[name]
            else:
                room -= size
    return traits


def _with_later(older: Mapping[str, Any], newer: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """Return the newer profile's traits with the named traits of the older one, which were set later, if they fit."""
    if not names:
        return newer
    traits = {**newer, **{name: older[name] for name in names}}
    return newer if excess(newer, traits, TRAITS_BYTES) else traits


def with_alias(record: Record, name: str) -> list[str]:
    """Return the aliases of a record that now lists one more, within `NAMES_BYTES`."""
    return _bounded([*record["aliases"], name], record["merged"])


def _bounded(aliases: list[str], merged: Collection[str] = ()) -> list[str]:
    """Return the names that fit in `NAMES_BYTES`, always with the last; the oldest absorbed ids are dropped first."""
    surplus = len(orjson.dumps(aliases)) - NAMES_BYTES
    if surplus <= 0:
        return aliases
    absorbed = set(merged)
    dropped = set()
    for alias in sorted(aliases[:-1], key=lambda alias: alias not in absorbed):
        if surplus <= 0:
            break
        dropped.add(alias)
        surplus -= len(orjson.dumps(alias)) + 1
    return [alias for alias in aliases if alias not in dropped]


def _was_imported(record: Record, batch: int, index: int) -> bool:
    """Return whether this event of an imported batch was already applied to the profile.

    Batches are applied one after the other, in the order of their numbers. So if a later batch has applied an event
    here, this batch is complete: its consumer stalled, and another one took over.
    """
    last: int = record.get("import", (0,))[0]
    return batch < last or bool(_imported(record, batch) >> index & 1)


def _imported(record: Record, batch: int) -> int:
    """Return which events of an imported batch were applied to the profile, bit n for event n; none is forgotten."""
    last, places = record.get("import", (0, "0"))
    return int(places, 16) if last == batch else 0


def locate(record: Record, located: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Replace the location with the database's result, if any: names in the request's locale, and in English."""
    if located[0]:
        _set_location(record, *located)


def english_location(record: Record) -> dict[str, Any]:
    """Return the location with English names, which audience rules compare with."""
    location: dict[str, Any] = record.get("location_en") or record["location"]
    return location


def merge(canonical: Record, other: Record) -> Record:
    """Merge two profiles of one visitor; ``canonical`` keeps its id, stable id and assignments (spec section 3).

    The caller recomputes the counts from the joined history.
    """
    older, newer = sorted((canonical, other), key=lambda record: record["updated"])
    before, after = (_trait_times(record, record["updated"]) for record in (older, newer))
    earlier = {name for name, at in after.items() if at < before.get(name, 0)}
    aliases = [*canonical["aliases"], other["id"], *other["aliases"]]
    parts = [*canonical["merged"], *other["merged"], other["id"]]
    merged = {
        **canonical,
        "aliases": _bounded([alias for alias in dict.fromkeys(aliases) if alias != canonical["id"]], parts[:-1]),
        "merged": _bounded(parts),
        "traits": merged_traits(older["traits"], _with_later(older["traits"], newer["traits"], earlier)),
        "session": session.merge(canonical["session"], other["session"]),
        "device": newer["device"],
        "updated": newer["updated"],
        "seen": _latest(canonical["seen"] + other["seen"], len(parts)),
        "sticky": {**other["sticky"], **canonical["sticky"]},
        "counts": {},
    }
    _keep_trait_times(merged, {name: max(before.get(name, 0), after.get(name, 0)) for name in merged["traits"]})
    for member, joined in (
        ("exposures", exposures.merged(canonical.get("exposures", {}), other.get("exposures", {}))),
        ("reported", exposures.merged_reports(canonical.get("reported", ""), other.get("reported", ""))),
        ("conversions", metrics.merged(canonical.get("conversions"), other.get("conversions"))),
    ):
        merged.pop(member, None)
        if joined:
            merged[member] = joined
    if batch := max(record.get("import", (0,))[0] for record in (canonical, other)):
        # Batches are applied one after the other, so only the last one can have unapplied events.
        merged["import"] = [batch, f"{_imported(canonical, batch) | _imported(other, batch):x}"]
    company.joined(merged, older, newer)
    _join_identity(merged, canonical, other)
    located = newer if newer["location"] else older
    _set_location(merged, located["location"], english_location(located))
    return merged


def _join_identity(merged: Record, canonical: Record, other: Record) -> None:
    """Merge what the mode ``guarded`` stores: the user, the aliases vouched for, and when each name ends."""
    if user := canonical.get("user") or other.get("user"):
        merged["user"] = user
    both = dict.fromkeys((*canonical.get("vouched", ()), *other.get("vouched", ())))
    if names_ := [name for name in both if name in merged["aliases"]]:
        merged["vouched"] = names_
    if until := {**other.get("until", {}), **canonical.get("until", {})}:
        merged["until"] = until


def answer(record: Record, audiences: list[str]) -> dict[str, Any]:
    """Return the profile as the API answers it."""
    return {
        "id": record["id"],
        "stableId": record["stable_id"],
        # Derived from the id, so a preflight and the real request answer the same.
        "random": hash_fraction("random-" + record["stable_id"]),
        "audiences": audiences,
        "traits": record["traits"],
        "location": record["location"],
        "session": session.answer(record["session"]),
    }


def _latest(keys: str, merged: int) -> str:
    return keys[-(SEEN_KEPT + SEEN_KEPT_MORE * min(merged, 10)) * MESSAGE_KEY_LENGTH :]


def facts(record: Record, next_ordinal: int, now: int) -> Facts:
    """Return what audience rules read of a profile that has had ``next_ordinal`` events, at the time ``now`` (ms)."""
    # PERF: positional arguments, because keywords would cost a dict.
    return Facts(
        record["traits"],
        english_location(record),
        session.count(record["session"]),
        record["device"],
        record["counts"],
        now,
        next_ordinal,
        retention.first_ordinal(record),
    )


def _set_location(record: Record, location: Mapping[str, Any], english: Mapping[str, Any]) -> None:
    record["location"] = location
    if english == location:
        record.pop("location_en", None)
    else:
        record["location_en"] = english
