"""Writes a catalog's audiences and experiences as entries of Contentful's Delivery API, with links resolved in place.

The vendor's mappers and preview panels take this form as input (spec section 13).
"""

from __future__ import annotations

from typing import Any

from ninetailed_wsgi.content.compiling import Catalog, ListedAudience, ListedExperience

DeliveryEntry = dict[str, Any]


def delivery(catalog: Catalog) -> dict[str, list[DeliveryEntry]]:
    """Return ``audiences`` and ``experiences``, in the order of the content."""
    audiences = {each.id: _audience(each) for each in catalog.audience_list}
    return {
        "audiences": list(audiences.values()),
        "experiences": [_experience(each, audiences, catalog) for each in catalog.experience_list],
    }


def _audience(audience: ListedAudience) -> DeliveryEntry:
    fields = {"nt_name": audience.name, "nt_audience_id": audience.id, "nt_rules": audience.rules}
    return _entry(audience.entry or audience.id, "nt_audience", fields)


def _experience(experience: ListedExperience, audiences: dict[str, DeliveryEntry], catalog: Catalog) -> DeliveryEntry:
    compiled = next(each for each in catalog.experiences.experiences if each.id == experience.id)
    variant_ids = dict.fromkeys(id for part in compiled.replacements for id in part.variants if id)
    fields: dict[str, Any] = {
        "nt_name": experience.name,
        "nt_experience_id": experience.id,
        "nt_type": experience.type,
        "nt_config": experience.config,
        # The content has only the ids of the variants.
        "nt_variants": [{"sys": {"type": "Entry", "id": id}, "fields": {}} for id in variant_ids],
    }
    if experience.audience is not None:
        fields["nt_audience"] = audiences[experience.audience]
    return _entry(experience.entry or experience.id, "nt_experience", fields)


def _entry(id: str, content_type: str, fields: dict[str, Any]) -> DeliveryEntry:
    link = {"sys": {"type": "Link", "linkType": "ContentType", "id": content_type}}
    return {"sys": {"type": "Entry", "id": id, "contentType": link}, "fields": fields}
