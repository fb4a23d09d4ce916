"""A preflight merges and claims without storing anything."""

from __future__ import annotations

import pytest
from parties import contents
from support import Clock, identify, page, track
from visitors import WHERE, MakeStore, send, serving

from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.overlay import Overlay
from ninetailed_wsgi.store.protocol import KeptStore


@pytest.fixture
def kept(make_kept: MakeStore) -> KeptStore:
    # A bound that no test reaches: what is tested here is not who gives up first.
    return make_kept(shards=1, timeout=30.0)


def test_a_preflight_of_any_kind_stores_nothing(kept: KeptStore) -> None:
    send(kept, "a", page(), identify("user", {"a": 1}))
    send(kept, "b", page(), identify("mail", {"b": 1}))
    before = contents(kept)
    service = serving(kept)
    for name in ("a", "b", "user", "unknown", None):
        for events in ([page()], [identify("user")], [identify("mail"), track()], [identify("new"), identify("user")]):
            service.upsert(WHERE, name, {"events": events}, preflight=True)
    assert contents(kept) == before


def test_a_preflight_that_merges_answers_what_the_request_then_answers(make_kept: MakeStore, kept: KeptStore) -> None:
    send(kept, "a", page(), identify("user", {"a": 1}))
    send(kept, "b", page(), identify("mail", {"b": 1}))
    events = [track(), identify("user", {"c": 1}), page("/x")]
    answers = [
        ExperienceService(store=kept, content=ContentFolder(None), clock=Clock(), new_session_id=lambda: "s").upsert(
            WHERE, "b", {"events": events}, preflight=preflight
        )
        for preflight in (True, True, False)
    ]
    assert answers[0] == answers[1] == answers[2]


def test_an_overlay_can_be_merged_in_and_the_store_below_stays_as_it_was(kept: KeptStore) -> None:
    send(kept, "a", page(), identify("user"))
    send(kept, "b", page())
    before, overlay = contents(kept), Overlay(kept)
    identity.merge(overlay, WHERE.key("b"), WHERE.key("a"))
    assert identity.resolve(overlay, WHERE.key("b")).key == WHERE.key("a")
    assert len(overlay.read(WHERE.key("a")).history()) == 3
    assert identity.delete(overlay, WHERE.key("user"))
    assert list(overlay.documents()) == []
    assert contents(kept) == before
