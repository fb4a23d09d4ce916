"""What the inspector reads from a store besides profiles: how much it holds, and which names a profile has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ninetailed_wsgi.core import session
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.store.protocol import Document, Store

_USER_IDS_SHOWN, _TRAITS_SHOWN, _LONGEST = 2, 5, 60


def footprint(store: Store) -> str:
    """Return how much space a store takes, in a few words; empty if the store does not say."""
    contents = getattr(store, "contents", None)
    return str(contents.footprint()) if contents is not None else ""


def other_names(
    store: Store, where: Environment, record: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the names that lead to a visitor besides the profile's id.

    Args:
        record: what `ExperienceService.record` returns.
        events: its events, oldest first.

    Returns:
        ``name``, ``kind`` (``user``: a user id; ``profile``: a profile that became part of this one) and ``at``: when
        the visitor was first identified by it (ms), None if the history does not say.
    """
    document = store.read(where.key(record["profile"]["id"])).document or {}
    merged = set(document.get("merged", ()))
    since: dict[str, int] = {}
    for each in events:
        if each["event"]["type"] == "identify":
            since.setdefault(str(each["event"].get("userId") or ""), each["at"])
    return [
        {"name": name, "kind": "profile" if name in merged else "user", "at": since.get(name)}
        for name in dict.fromkeys([*record["aliases"], *document.get("merged", ())])
    ]


def summary(record: Document, trait: str) -> dict[str, Any]:
    """Return by what a person recognizes a visitor in a list, from the record alone: no history is read.

    Its ``userIds`` and ``traits`` are the first ones, with this trait in front; lists and objects are left out.
    """
    traits = {name: value for name, value in record["traits"].items() if isinstance(value, str | int | float)}
    if trait in traits:
        traits = {trait: traits[trait], **traits}
    sessions = session.answer(record["session"])
    return {
        "profileId": record["id"],
        "lastActivity": record["updated"],
        "location": {name: record["location"][name] for name in ("city", "country") if name in record["location"]},
        "device": record["device"],
        "sessions": sessions["count"],
        "landingPage": shorten(sessions["landingPage"]["path"], _LONGEST),
        "userIds": [shorten(name, _LONGEST) for name in record["aliases"][:_USER_IDS_SHOWN]],
        "traits": {
            shorten(name, _LONGEST): shorten(value, _LONGEST) if isinstance(value, str) else value
            for name, value in [*traits.items()][:_TRAITS_SHOWN]
        },
    }
