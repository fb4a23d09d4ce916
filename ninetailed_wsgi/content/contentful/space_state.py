"""The state of a space: of each entry, only what affects decisions; pure, without I/O (spec section 18)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

_FORMAT = 1
_BY_ID = ("nt_audience", "nt_experience", "nt_mergetag", "nt_metric")
FIELDS: Mapping[str, tuple[str, ...]] = {
    "nt_audience": ("nt_name", "nt_rules", "nt_audience_id"),
    "nt_experience": ("nt_name", "nt_type", "nt_config", "nt_audience", "nt_experience_id"),
    "nt_mergetag": ("nt_name", "nt_fallback", "nt_mergetag_id"),
    "nt_metric": ("nt_name", "nt_metric_id", "nt_type", "nt_event", "nt_property", "nt_direction"),
}
"""The fields that are read of each content type; of all other types, only ``nt_experiences``."""

EXPERIENCES_FIELD = "nt_experiences"

DEEPEST = 220
"""Levels of a field that are kept: more than can be served, so that excess is reported, but few enough for a copy."""


@dataclass(frozen=True, slots=True)
class SpaceState:
    """What is known of a space at one moment.

    Attributes:
        entries: the kept parts of the entries, by id, in the form of the Delivery API with values by locale.
        locales: the locales of the space, with ``code``, ``default`` and ``fallbackCode``.
        content_types: the content types of personalization in the space; None: not read, because there are entries.
        token: where the next synchronization begins; None: it reads everything.
    """

    entries: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    locales: tuple[Mapping[str, Any], ...] = ()
    content_types: tuple[str, ...] | None = None
    token: str | None = None

    def with_items(self, items: Iterable[object], token: str | None) -> SpaceState:
        """Return the state after one or more pages of a synchronization."""
        entries = dict(self.entries)
        for item in items:
            if not (id := entry_id(item)) or not isinstance(item, dict):
                continue
            type = item["sys"].get("type")
            entry = picked(item) if type == "Entry" else None
            if entry is not None:
                entries[id] = entry
            elif type in ("Entry", "DeletedEntry"):  # an asset may have the id of an entry
                entries.pop(id, None)
        return replace(self, entries=entries, token=token)

    def digest(self) -> str:
        """Return a digest of everything but the token: equal states serve the same."""
        return hashlib.sha256(self._body()).hexdigest()

    def _body(self) -> bytes:
        entries = [self.entries[id] for id in sorted(self.entries)]
        body = {"locales": self.locales, "contentTypes": self.content_types, "entries": entries}
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def picked(item: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the kept part of an entry; None if it does not affect decisions."""
    fields = item.get("fields")
    kind = content_type(item)
    if not isinstance(fields, dict) or not kind:
        return None
    names = FIELDS.get(kind, (EXPERIENCES_FIELD,))
    selection = {name: _pruned(fields[name], DEEPEST) for name in names if name in fields}
    if kind not in FIELDS and not _lists_experiences(selection.get(EXPERIENCES_FIELD)):
        return None
    sys = {"id": item["sys"]["id"], "type": "Entry", "contentType": {"sys": {"id": kind}}}
    return {"sys": sys, "fields": selection}


def _pruned(value: object, levels: int) -> object:
    if isinstance(value, dict):
        return {name: _pruned(inner, levels - 1) for name, inner in value.items()} if levels else None
    if isinstance(value, list):
        return [_pruned(inner, levels - 1) for inner in value] if levels else None
    return value


def entry_id(item: object) -> str:
    """Return the id of an entry, or an empty text."""
    sys = item.get("sys") if isinstance(item, dict) else None
    id = sys.get("id") if isinstance(sys, dict) else None
    return id if isinstance(id, str) else ""


def content_type(item: Mapping[str, Any]) -> str:
    """Return the id of an entry's content type, or an empty text."""
    link = item["sys"].get("contentType")
    target = link.get("sys") if isinstance(link, dict) else None
    id = target.get("id") if isinstance(target, dict) else None
    return id if isinstance(id, str) else ""


def _lists_experiences(values: object) -> bool:
    return any(values.values()) if isinstance(values, dict) else bool(values)


def personalization(content_types: Iterable[str]) -> tuple[str, ...]:
    """Return those content types that this software reads as a whole."""
    present = frozenset(content_types)
    return tuple(kind for kind in _BY_ID if kind in present)


# The copy in the data folder: a line that describes it, then the state.


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a copy.

    Attributes:
        of: the space of the copy, as the follower names it.
        at: when the copy was written, in seconds since the epoch.
        sha256: the hash of what follows, equal to `SpaceState.digest`.
        token: as in `SpaceState.token`.
    """

    of: str
    at: float
    sha256: str
    token: str | None


def packed(state: SpaceState, of: str, at: float) -> bytes:
    """Return a state as the bytes of a copy."""
    body = state._body()
    digest = hashlib.sha256(body).hexdigest()
    header = {"format": _FORMAT, "of": of, "at": at, "sha256": digest, "token": state.token}
    return orjson.dumps(header) + b"\n" + body


def header(line: bytes) -> Header | None:
    """Read the first line of a copy; None if it is damaged or has another format."""
    try:
        read = orjson.loads(line)
        if read["format"] == _FORMAT and (read["token"] is None or isinstance(read["token"], str)):
            return Header(str(read["of"]), float(read["at"]), str(read["sha256"]), read["token"])
    except (ValueError, KeyError, TypeError):
        pass
    return None


def unpacked(copy: bytes) -> tuple[Header, SpaceState] | None:
    """Read a copy; None if it is damaged."""
    line, _, body = copy.partition(b"\n")
    copy_header = header(line)
    if copy_header is None or copy_header.sha256 != hashlib.sha256(body).hexdigest():
        return None
    state = orjson.loads(body)
    types = state["contentTypes"]
    return copy_header, SpaceState(
        entries={entry["sys"]["id"]: entry for entry in state["entries"]},
        locales=tuple(state["locales"]),
        content_types=None if types is None else tuple(types),
        token=copy_header.token,
    )
