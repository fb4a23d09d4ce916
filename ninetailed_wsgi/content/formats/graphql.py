"""Reads answers of the GraphQL APIs of Contentful and Contentstack (spec section 7).

Contentful names a field ``ntConfig`` and a list ``ntExperiencesCollection {items}``, with the id in ``sys``.
Contentstack names them ``nt_config`` and ``nt_experiencesConnection {edges {node}}``, with the id in ``system``. A
query must ask for the audiences' ``ntRules``, because nothing can be decided without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ninetailed_wsgi.content.entries import Content, refusal
from ninetailed_wsgi.content.formats.contentful import read_delivery
from ninetailed_wsgi.content.formats.foreign import ForeignEntry, entry, link, objects, unique

_LISTS = re.compile(r"(Collection|Connection)$")
_OWN = re.compile(r"nt[A-Z_]|all_nt_")


def is_graphql(document: object) -> bool:
    """Return whether a document is a GraphQL answer, or only its data, with members of personalization."""
    if not isinstance(document, dict):
        return False
    if isinstance(document.get("data"), dict) or ("errors" in document and document.get("data", "") is None):
        return True
    return any(_LISTS.search(str(name)) and isinstance(value, dict) for name, value in document.items())


def read_graphql(document: Mapping[str, Any], file: str, locale: str | None, *, drafts: bool = False) -> Content:
    """Read a GraphQL answer; arguments as for `read_delivery`."""
    data = document.get("data", document)
    if not isinstance(data, dict):
        return refusal(file, "is an answer of GraphQL without data: its errors say why the query failed")
    nodes = unique(_nodes(data))
    if not nodes and not any(_OWN.match(str(name)) for one in objects(data) for name in one):
        return refusal(file, "is an answer of GraphQL without any field of personalization (ntConfig, ntRules)")
    audiences = {str(node.fields.get("nt_audience_id")): node.id for node in nodes if node.kind == "nt_audience"}
    items = [entry(node, _fields(node, audiences)) for node in nodes]
    return read_delivery({"items": items}, file, locale, drafts=drafts)


def _nodes(data: Mapping[str, Any]) -> Iterable[ForeignEntry]:
    for one in objects(data):
        fields = {_field(name): _list(value) for name, value in one.items() if re.match("nt[A-Z_]", name)}
        if fields and (id := _id(one, fields)):
            yield ForeignEntry(id, fields)


def _field(name: str) -> str:
    plain = _LISTS.sub("", name)
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", plain)


def _list(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("items"), list):
        return value["items"]
    if isinstance(value, dict) and isinstance(value.get("edges"), list):
        return [edge.get("node") if isinstance(edge, dict) else edge for edge in value["edges"]]
    return value


def _id(one: Mapping[str, Any], fields: Mapping[str, Any]) -> str | None:
    """Return the id of an entry, or its public id if the query did not ask for the entry's id."""
    for holder, member in (("sys", "id"), ("system", "uid"), ("system", "id")):
        inner = one.get(holder)
        if isinstance(inner, dict) and isinstance(inner.get(member), str):
            return str(inner[member])
    public = (fields.get(name) for name in ("nt_experience_id", "nt_audience_id", "nt_mergetag_id"))
    return next((id for id in public if isinstance(id, str) and id), None)


def _fields(node: ForeignEntry, audiences: Mapping[str, str]) -> dict[str, Any]:
    fields = dict(node.fields)
    if node.kind == "nt_experience":
        fields.setdefault("nt_experience_id", node.id)
        audience = fields.get("nt_audience")
        audience = (audience[0] if audience else None) if isinstance(audience, list) else audience
        fields["nt_audience"] = _link(audience, audiences)
    if isinstance(fields.get("nt_experiences"), list):
        fields["nt_experiences"] = [_link(one, {}) for one in fields["nt_experiences"] if one is not None]
    return fields


def _link(one: Any, audiences: Mapping[str, str]) -> Any:
    """Return a link to an entry that the answer names by its own id or by its public id."""
    if not isinstance(one, dict):
        return one
    fields = {_field(name): value for name, value in one.items()}
    public = fields.get("nt_audience_id")
    if isinstance(public, str) and public in audiences:
        return link(audiences[public])
    id = _id(one, fields)
    return one if id is None else link(id)
