"""The forms an entry can have in a page: Contentful's JSON, the generic form, objects of Contentful's Python client.

Objects are recognized by their attributes, so the client is not imported: an entry has a mapping ``sys`` and a method
``fields``; a link has only ``sys``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WITHOUT_SYS = (str, bytes, int, float, list, tuple, type(None))


def sys_of(entry: Any) -> Mapping[str, Any] | None:
    """Return the ``sys`` of an entry or link; None if it has none."""
    if isinstance(entry, _WITHOUT_SYS):
        return None
    sys = entry.get("sys") if isinstance(entry, Mapping) else getattr(entry, "sys", None)
    return sys if isinstance(sys, Mapping) else None


def id_of(entry: Any) -> str | None:
    """Return the id of an entry or of a link to one; an id itself is returned as it is."""
    if isinstance(entry, str):
        return entry
    sys = sys_of(entry)
    id = sys.get("id") if sys is not None else entry.get("id") if isinstance(entry, Mapping) else None
    return id if isinstance(id, str) else None


def members_of(entry: Any) -> Mapping[str, Any]:
    """Return the fields of an entry in any form; empty for a link and for anything else."""
    if isinstance(entry, str):
        return {}
    if isinstance(entry, Mapping):
        fields = entry.get("fields")
        return fields if isinstance(fields, Mapping) else entry
    fields = _fields_of_object(entry)
    return {} if fields is None else fields


def is_link(entry: Any) -> bool:
    """Return whether this only names an entry, without its fields."""
    if isinstance(entry, Mapping):
        return "sys" in entry and "fields" not in entry
    return sys_of(entry) is not None and _fields_of_object(entry) is None


def _fields_of_object(entry: Any) -> Mapping[str, Any] | None:
    if sys_of(entry) is None:
        return None
    fields = getattr(entry, "fields", None)
    members = fields() if callable(fields) else fields
    return members if isinstance(members, Mapping) else None
