"""Writes content in formats for other software: the generic form of the SDK's mappers, and Contentful's import.

Rules are written as the authoring tool stores them, with counts and values as text and all members present, because
the hosted service reportedly ignores other forms. Source: spec section 7.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from ninetailed_wsgi.authoring.audiences import stored_rules
from ninetailed_wsgi.content.entries import (
    AudienceEntry,
    Content,
    ExperienceEntry,
    MergeTagEntry,
    MetricEntry,
    Reference,
)

LOCALE = "en-US"
"""The locale in which fields are written; the import requires it to be the default locale of the space."""

_Entry = TypeVar("_Entry", AudienceEntry, ExperienceEntry, MergeTagEntry, MetricEntry)
_SOUND_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def as_generic(content: Content) -> dict[str, Any]:
    """Return content in the generic form, without duplicates."""
    ids = {audience.entry: audience.id for audience in content.audiences}
    experience_ids = {experience.entry: experience.id for experience in content.experiences}
    document: dict[str, list[dict[str, Any]]] = {
        "audiences": [
            {"id": one.id, "name": one.name, "rules": stored_rules(one.rules)} for one in _unique(content.audiences)
        ],
        "experiences": [
            {
                "id": one.id,
                "name": one.name,
                "type": one.type,
                "audience": None if one.audience is None else {"id": _public(one.audience, ids)},
                "config": one.config,
                "variants": [{"id": id} for id in _variants(one.config)],
            }
            for one in _unique(content.experiences)
        ],
        "mergeTags": [
            {"id": one.id, "name": one.name, "fallback": one.fallback} for one in _unique(content.merge_tags)
        ],
        "entries": [
            {"id": one.entry, "nt_experiences": [_public(each, experience_ids) for each in one.experiences]}
            for one in content.baselines
        ],
        "metrics": _metrics(content),
    }
    return {name: items for name, items in document.items() if items}


def as_contentful(content: Content) -> dict[str, Any]:
    """Return content as a space export, which ``contentful space import`` accepts.

    It lacks the order of an entry's experiences, which Contentful keeps on the site's own entry, and the entries that
    are variants. Metrics are beside the entries, where the import ignores them and this software reads them.
    """
    audience_ids = {reference: _entry_id(one) for one in content.audiences for reference in _names(one)}
    entries = [
        *(_entry(_entry_id(one), "nt_audience", _audience(one)) for one in _unique(content.audiences)),
        *(
            _entry(_entry_id(one), "nt_experience", _experience(one, audience_ids))
            for one in _unique(content.experiences)
        ),
        *(_entry(_entry_id(one), "nt_mergetag", _merge_tag(one)) for one in _unique(content.merge_tags)),
    ]
    metrics = _metrics(content)
    locale = {"name": "English (United States)", "code": LOCALE, "default": True, "fallbackCode": None}
    return {"entries": entries, "locales": [locale], **({"metrics": metrics} if metrics else {})}


def _audience(audience: AudienceEntry) -> dict[str, Any]:
    return {"nt_name": audience.name, "nt_rules": stored_rules(audience.rules), "nt_audience_id": audience.id}


def _experience(experience: ExperienceEntry, audience_ids: Mapping[Reference, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "nt_name": experience.name,
        "nt_type": experience.type,
        "nt_config": experience.config,
        "nt_experience_id": experience.id,
        "nt_variants": [_link(id) for id in _variants(experience.config)],
    }
    if experience.audience is not None:
        fields["nt_audience"] = _link(audience_ids.get(experience.audience, experience.audience.target))
    return fields


def _merge_tag(tag: MergeTagEntry) -> dict[str, Any]:
    return {"nt_name": tag.name, "nt_fallback": tag.fallback, "nt_mergetag_id": tag.id}


def _entry(id: str, kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        # The import publishes entries with a publishedVersion; publishing increases the version by one.
        "sys": {
            "id": id,
            "type": "Entry",
            "publishedVersion": 1,
            "version": 2,
            "contentType": {"sys": {"type": "Link", "linkType": "ContentType", "id": kind}},
        },
        "fields": {name: {LOCALE: value} for name, value in fields.items() if value is not None},
    }


def _link(id: str) -> dict[str, Any]:
    return {"sys": {"type": "Link", "linkType": "Entry", "id": id}}


def _metrics(content: Content) -> list[dict[str, Any]]:
    members = ("id", "name", "type", "event", "property", "direction")
    return [
        {member: getattr(one, member) for member in members if getattr(one, member) is not None}
        for one in _unique(content.metrics)
    ]


def _entry_id(entry: AudienceEntry | ExperienceEntry | MergeTagEntry) -> str:
    """Return an id that Contentful accepts for an entry: its own id, or else one derived only from it."""
    if _SOUND_ID.fullmatch(entry.entry):
        return entry.entry
    name = re.sub(r"[^A-Za-z0-9._-]", "-", entry.entry)[:50]
    return f"{name}-{hashlib.sha256(entry.entry.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def _names(audience: AudienceEntry) -> tuple[Reference, Reference]:
    return Reference("entry", audience.entry), Reference("id", audience.id)


def _public(reference: Reference, ids: Mapping[str, str]) -> str:
    return ids.get(reference.target, reference.target) if reference.by == "entry" else reference.target


def _variants(config: object) -> list[str]:
    """Return the ids of the entries that are shown instead of a baseline, without duplicates."""
    components = _objects(config.get("components")) if isinstance(config, dict) else []
    replacements = [one for one in components if one.get("type") in (None, "EntryReplacement")]
    variants = [variant for one in replacements for variant in _objects(one.get("variants"))]
    return list(
        dict.fromkeys(
            variant["id"] for variant in variants if variant.get("id") and variant.get("hidden") not in (True, "true")
        )
    )


def _objects(items: Any) -> list[dict[str, Any]]:
    """Return the objects of a list; a bare object counts as a list of one, as it is read."""
    return [one for one in ([items] if isinstance(items, dict) else items or ()) if isinstance(one, dict)]


def _unique(entries: Iterable[_Entry]) -> list[_Entry]:
    unique: dict[str, _Entry] = {}
    for one in entries:
        unique.setdefault(one.id, one)
    return list(unique.values())
