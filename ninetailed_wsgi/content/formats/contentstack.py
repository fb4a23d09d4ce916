"""Reads entries of Contentstack: files exported by its CLI, and answers of its Delivery API (spec section 7).

An export has a file for each content type and locale, with entries by ``uid``; an answer has a list of ``entries``.
References are lists of ``{uid, _content_type_uid}`` or of whole entries. An experience's id is its ``uid``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ninetailed_wsgi.content.entries import Content
from ninetailed_wsgi.content.formats.contentful import read_delivery
from ninetailed_wsgi.content.formats.foreign import ForeignEntry, entry, link, objects, unique


def is_contentstack(document: object) -> bool:
    """Return whether a document is an export or an answer of Contentstack, or a list of its entries."""
    if isinstance(document, dict) and isinstance(document.get("entries"), list):
        return _have_uids(document["entries"])
    if isinstance(document, list):
        return _have_uids(document)
    return (
        isinstance(document, dict)
        and _have_uids(document.values())
        and all(value["uid"] == uid for uid, value in document.items())
    )


def read_contentstack(document: object, file: str, locale: str | None, *, drafts: bool = False) -> Content:
    """Read a document of Contentstack; arguments as for `read_delivery`."""
    nodes = [ForeignEntry(one["uid"], one) for one in objects(document) if isinstance(one.get("uid"), str)]
    items = [entry(node, _fields(node), published=node.fields.get("publish_details") != []) for node in unique(nodes)]
    return read_delivery({"items": items}, file, locale, drafts=drafts)


def _have_uids(entries: Iterable[object]) -> bool:
    rows = list(entries)
    return bool(rows) and all(isinstance(one, dict) and isinstance(one.get("uid"), str) for one in rows)


def _fields(node: ForeignEntry) -> dict[str, Any]:
    fields = {name: value for name, value in node.fields.items() if name.startswith("nt_")}
    if node.kind == "nt_experience":
        audiences = _references(fields.get("nt_audience"))
        fields["nt_experience_id"] = node.id
        fields["nt_audience"] = audiences[0] if audiences else None
        fields["nt_config"] = _config(fields.get("nt_config"))
    if "nt_experiences" in fields:
        fields["nt_experiences"] = _references(fields["nt_experiences"])
    return fields


def _references(value: object) -> list[Any]:
    """Turn references into links; anything else stays, so that it is reported later."""
    targets = value if isinstance(value, list) else [] if value is None else [value]
    return [link(one["uid"]) if isinstance(one, dict) and isinstance(one.get("uid"), str) else one for one in targets]


def _config(config: Any) -> Any:
    """Use the ``blockId`` of a page's blocks, which are not entries, as their id."""
    if not isinstance(config, dict) or not isinstance(config.get("components"), list):
        return config
    return {**config, "components": [_component(component) for component in config["components"]]}


def _component(component: Any) -> Any:
    if not isinstance(component, dict):
        return component
    variants = component.get("variants")
    variants_with_names = [_with_name(variant) for variant in variants] if isinstance(variants, list) else variants
    return {**component, "baseline": _with_name(component.get("baseline")), "variants": variants_with_names}


def _with_name(holder: Any) -> Any:
    if isinstance(holder, Mapping) and "id" not in holder and isinstance(holder.get("blockId"), str):
        return {**holder, "id": holder["blockId"]}
    return holder
