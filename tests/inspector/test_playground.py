"""The playground: any event, trait, place, device and time; what somebody would get, and why; nothing is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.testing import Answer, Harness, audience, experience, located, on_device, performed, trait, viewed
from tests.inspector.test_inspector import get, post, proof_of

SCHEMAS = Schemas()


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    audiences = [
        audience(viewed("/pricing"), id="priced"),
        audience(performed("order"), id="buyers"),
        audience(trait("plan", "pro"), id="pros"),
    ]
    content = [
        *audiences,
        experience("offer", ["offer-b"], id="offer", audience=audiences[0]),
        experience("thanks", ["thanks-b"], id="thanks", audience=audiences[1], sticky=True),
    ]
    with Harness(content, inspector=True) as made:
        yield made


def play(harness: Harness, **fields: str) -> Answer:
    return post(harness.client, "/inspector/playground.json", {"proof": proof_of(get(harness, "find")), **fields})


def changed(answer: Answer) -> dict[str, Any]:
    """Return the side with the changes."""
    SCHEMAS.check("inspector-playground", answer.document)
    side = answer.document["data"]["sides"][1]
    assert isinstance(side, dict)
    return side


def test_a_new_visitor_is_the_same_one_before_and_after_the_changes(harness: Harness) -> None:
    sides = play(harness, event="page", about="/pricing").document["data"]["sides"]
    assert len(sides) == 2
    assert len({side["profile"]["id"] for side in sides}) == 1


def test_each_kind_of_event_has_fields(harness: Harness) -> None:
    assert changed(play(harness, event="page", about="/pricing"))["profile"]["audiences"] == ["priced"]
    assert changed(play(harness, event="track", about="order"))["profile"]["audiences"] == ["buyers"]
    told = changed(play(harness, event="identify", properties='{"plan": "pro"}'))["profile"]
    assert (told["audiences"], told["traits"]) == (["pros"], {"plan": "pro"})
    assert changed(play(harness, event="component", about="hero"))["profile"]["audiences"] == []
    assert changed(play(harness, event="screen", about="Home"))["profile"]["audiences"] == []


@pytest.mark.parametrize(
    "event",
    [
        {"type": "page"},
        {"type": "track", "event": "order"},
        {"type": "identify", "traits": {}},
        {"type": "component", "componentId": "offer-b", "experienceId": "offer", "variantIndex": 1},
        {"type": "component_click", "componentType": "Entry", "componentId": "offer-b", "variantIndex": 1},
        {"type": "screen", "name": "Home"},
        {"type": "group", "groupId": "acme"},
        {"type": "alias", "userId": "anna", "previousId": "x"},
        {"type": "exo_node_view", "entityId": "hero", "entityKind": "Experience"},
        {"type": "exo_node_click", "entityId": "hero", "entityKind": "Fragment"},
        {"type": "exo_node_hover", "entityId": "hero", "entityKind": "Fragment"},
    ],
    ids=lambda event: str(event["type"]),
)
def test_any_event_is_taken_as_json_with_what_is_missing_filled_in(harness: Harness, event: dict[str, Any]) -> None:
    answer = play(harness, events=json.dumps(event))
    if answer.status != 200:  # kinds whose own members are not those
        assert event["type"] in ("component_click", "group", "alias", "exo_node_click", "exo_node_hover"), answer.body
        assert "events[0]." in answer.document["message"]
        return
    assert len(answer.document["data"]["sides"]) == 2


def test_several_events_apply_in_their_order_and_a_sticky_variant_is_kept(harness: Harness) -> None:
    seen = {"type": "component", "componentId": "thanks-b", "experienceId": "thanks", "variantIndex": 1}
    events = [{"type": "track", "event": "order"}, seen]
    side = changed(play(harness, events=json.dumps(events), event="page", about="/pricing"))
    assert side["profile"]["audiences"] == ["buyers", "priced"]
    thanks = next(each for each in side["experiences"] if each["id"] == "thanks")
    assert (thanks["decided_by"], thanks["variantIndex"]) == ("sticky", 1)
    assert thanks["why"] == "The visitor saw this variant before and keeps it, as the experience is sticky."


def test_an_identify_with_a_known_user_joins_what_that_user_did(harness: Harness) -> None:
    harness.visitor("cleo").views("/pricing").identifies("cleo@example.com")
    side = changed(play(harness, event="identify", about="cleo@example.com"))
    assert side["profile"]["audiences"] == ["priced"]


def test_place_device_and_time_decide(harness: Harness) -> None:
    place = {"countryCode": "DE", "city": "Munich", "continent": "EU"}
    side = changed(play(harness, **place, traits='{"plan": "pro"}', at="2026-12-24T18:00Z", device="mobile"))
    assert side["profile"]["location"] == place
    assert side["profile"]["audiences"] == ["pros"]


def test_a_device_and_a_place_decide_also_without_an_event() -> None:
    content = [audience(on_device("mobile"), id="phones"), audience(located(country="DE"), id="germans")]
    with Harness(content, inspector=True) as harness:
        assert changed(play(harness, device="mobile"))["profile"]["audiences"] == ["phones"]
        assert changed(play(harness, device="desktop"))["profile"]["audiences"] == []
        assert changed(play(harness, countryCode="DE"))["profile"]["audiences"] == ["germans"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"event": "dance"}, "event: found 'dance'"),
        ({"device": "toaster"}, "device: found 'toaster'"),
        ({"events": "{"}, "events"),
        ({"events": "[5]"}, "expected an event such as"),
        ({"events": "[" * 500 + "]" * 500}, "events: nested too deeply"),
        ({"events": '{"type": "dance"}'}, "events[0].type"),
        ({"events": '{"type": "page", "messageId": 5}'}, "events[0].messageId"),
        ({"event": "track", "properties": "[]"}, "properties: expected a JSON object"),
        ({"events": json.dumps([{"type": "page"}] * 300)}, "events"),
        ({"at": "soon"}, "preview.at"),
    ],
    ids=lambda given: str(given)[:20],
)
def test_what_is_wrong_is_said_for_people_and_programs(harness: Harness, fields: dict[str, str], wrong: str) -> None:
    answer = play(harness, **fields)
    assert answer.status == 400
    assert wrong in answer.document["message"]
    shown = post(harness.client, "/inspector/playground", {"proof": proof_of(get(harness, "find")), **fields})
    assert shown.status == 400
    assert b'role="alert"' in shown.body


def test_the_form_of_a_large_site_is_taken(harness: Harness) -> None:
    """A browser sends each of its fields, also those that say nothing."""
    empty = {f"{kind}:{'x' * 36}{number}": "" for kind in ("audience", "experience") for number in range(1500)}
    assert changed(play(harness, event="page", about="/pricing", **empty))["profile"]["audiences"] == ["priced"]


def test_nothing_of_it_is_stored(harness: Harness) -> None:
    harness.visitor("dora").views("/pricing").identifies("dora@example.com")
    before = harness.service.store.contents.count(), len(harness.events)  # type: ignore[attr-defined]
    play(harness, event="identify", about="somebody@example.com", properties='{"plan": "pro"}')
    play(harness, visitor="dora@example.com", event="track", about="order")
    assert (harness.service.store.contents.count(), len(harness.events)) == before  # type: ignore[attr-defined]
    assert "buyers" not in harness.client.get("/profiles/dora@example.com").document["data"]["profile"]["audiences"]


def test_it_plays_by_the_rules_that_are_in_force() -> None:
    with Harness([audience(viewed("/pricing"), id="priced")], inspector=True, access="guarded") as harness:
        headers = {"Authorization": f"Bearer {harness.key()}"}
        anna = harness.visitor().views("/pricing")
        common = {"channel": "server", "context": {"library": {"name": "x", "version": "7.0.0"}}}
        identify = {**common, "type": "identify", "messageId": "i", "userId": "anna@example.com", "traits": {}}
        answer = harness.client.post(f"/profiles/{anna.id}", {"events": [identify]}, headers=headers)
        id = answer.document["data"]["profile"]["id"]
        answer = post(harness.client, "/inspector/playground.json", {"visitor": "anna@example.com"}, **headers)
        assert answer.document["data"]["sides"][0]["profile"]["id"] == id
        fields = {"event": "identify", "about": "anna@example.com"}
        told = changed(post(harness.client, "/inspector/playground.json", fields, **headers))
        assert told["profile"]["audiences"] == ["priced"]


def test_the_page_keeps_what_was_filled_in(harness: Harness) -> None:
    fields = {"event": "track", "about": "order", "city": "Munich", "device": "mobile", "properties": '{"a": 1}'}
    text = post(
        harness.client, "/inspector/playground", {"proof": proof_of(get(harness, "find")), **fields}
    ).body.decode()
    assert '<option value="track" selected>' in text
    assert 'value="order"' in text
    assert 'value="Munich"' in text
    assert "<option selected>mobile</option>" in text
    assert "thanks-b" in text or "variant 1" in text
    assert len(text) < 30_000
