"""Rewrites entries of other systems and of GraphQL as answers of the Delivery API, which `contentful` reads.

`contentstack` and `graphql` share this module: it detects what each entry is, and writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

AUTHORED = frozenset({"nt_rules", "nt_config"})
"""Members with free-form documents of authors: nothing inside them is an entry."""

_TELLTALES = {
    "nt_config": "nt_experience",
    "nt_type": "nt_experience",
    "nt_rules": "nt_audience",
    "nt_mergetag_id": "nt_mergetag",
    "nt_experiences": "page",
}


class ForeignEntry(NamedTuple):
    """An entry of another system: its id, and its fields with the names of the Delivery API."""

    id: str
    fields: Mapping[str, Any]

    @property
    def kind(self) -> str | None:
        """Return the kind of entry, judged by its fields; None if it does not affect decisions."""
        return next((kind for field, kind in _TELLTALES.items() if field in self.fields), None)


def entry(node: ForeignEntry, fields: Mapping[str, Any], *, published: bool = True) -> dict[str, Any]:
    """Return an entry as the Delivery API answers it, or an unpublished one as the management API does."""
    sys = {"id": node.id, "type": "Entry", "contentType": {"sys": {"id": node.kind}}, "locale": "*"}
    return {"sys": sys if published else {**sys, "version": 1}, "fields": dict(fields)}


def link(id: str) -> dict[str, Any]:
    """Return a link to an entry."""
    return {"sys": {"type": "Link", "linkType": "Entry", "id": id}}


def objects(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield every object in a document, outermost first, except those inside free-form documents of authors."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += reversed(one)
        elif isinstance(one, dict):
            yield one
            waiting += [inner for name, inner in one.items() if not AUTHORED.intersection((name, _snake(name)))]


def unique(nodes: Iterable[ForeignEntry]) -> list[ForeignEntry]:
    """Return the nodes that affect decisions; of several with the same id and kind, the one with the most fields."""
    by_id: dict[tuple[str, str], ForeignEntry] = {}
    for node in nodes:
        if (kind := node.kind) is not None:
            first = by_id.get((kind, node.id))
            if first is None or len(node.fields) > len(first.fields):
                by_id[kind, node.id] = node
    return list(by_id.values())


def _snake(name: object) -> str:
    return {"ntRules": "nt_rules", "ntConfig": "nt_config"}.get(str(name), "")
