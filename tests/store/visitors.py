"""Visitors of a store, as requests of several processes make and merge them, and what has to hold of their names."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from support import START, Clock, milliseconds

from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import ProfileNotFound
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import KeptStore, Store

MakeStore = Callable[..., KeptStore]
WHERE = Environment("org", "main")
NOW = milliseconds(START)
MINUTE = 60_000


def serving(store: Store) -> ExperienceService:
    """A process that serves from a store; ids are random, so that two processes never make the same."""
    return ExperienceService(
        store=store, content=ContentFolder(None), clock=Clock(), new_session_id=lambda: str(uuid.uuid4())
    )


def send(store: Store, name: str | None, *events: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = serving(store).upsert(WHERE, name, {"events": [*events]})["profile"]
    return answer


def send_batch(store: Store, *events: dict[str, Any]) -> list[dict[str, Any]]:
    return serving(store).upsert_many(WHERE, {"events": [*events]})


def delete(store: Store, name: str) -> bool:
    try:
        serving(store).delete(WHERE, name)
    except ProfileNotFound:
        return False
    return True


def found(store: Store, name: str) -> identity.Owner:
    return identity.resolve(store, WHERE.key(name))


def at(minutes: int, event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "timestamp": NOW - 600 * MINUTE + minutes * MINUTE}


def whole(store: Store, name: str) -> dict[str, Any]:
    """All that counts of the profile that a name leads to."""
    record = found(store, name).record
    assert record is not None, f"{name} leads to no profile"
    history = store.read(WHERE.key(record["id"])).history()
    return {
        "id": record["id"],
        "aliases": sorted(record["aliases"]),
        "traits": record["traits"],
        "sessions": profile.answer(record, [])["session"]["count"],
        "messages": sorted(event["messageId"] for _, _, event in history),
    }


def assert_sound(store: Store) -> None:
    """Every document is a profile or a pointer straight at one that lists it, and every alias leads to its profile."""
    documents = dict(store.documents())
    listed: list[str] = []
    for key, document in documents.items():
        assert "into" not in document, f"{key.name} is still marked"
        if "to" in document:
            listing = documents[key._replace(name=document["to"])].get("aliases", [])
            assert key.name in listing, f"{key.name} points to {document['to']}, which does not list it"
        else:
            listed += document["aliases"]
            assert document["id"] == key.name
            for alias in document["aliases"]:
                assert found(store, alias).key == key, f"{alias} is listed by {key.name} and does not lead there"
    assert len(listed) == len(set(listed)), "an alias is listed by two profiles"


def assert_one_visitor(store: Store, names: Sequence[str], messages: Sequence[str]) -> None:
    """All names lead to one profile, in which each of the messages happened exactly once."""
    assert len({found(store, name).key for name in names}) == 1
    assert_sound(store)
    assert Counter(whole(store, names[0])["messages"]) == Counter(messages)
    assert sum("to" not in document for _, document in store.documents()) == 1


def ids(*requests: Sequence[dict[str, Any]]) -> list[str]:
    return [event["messageId"] for events in requests for event in events]
