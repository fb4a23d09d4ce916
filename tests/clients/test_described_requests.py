"""Requests of clients that cannot run here, written by hand from published descriptions: not captured from a client.

Every answer is held against what the client demands of it (``fixtures/cases/clients``), where that is known.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from support import DEMO_GEO, TOKYO

from ninetailed_wsgi.testing import Answer, Client, Harness, audience, experience, experience_replacement, flag, trait
from tests.clients.generations import refusals


def greeting(trait_name: str) -> dict[str, Any]:
    """A sticky experience for visitors with this trait."""
    payers = audience(trait(trait_name), id="payers")
    return experience("greeting", ["greeting-b"], audience=payers, sticky=True, id="greeting")


CONTENT = [
    experience("hero", ["hero-b"], id="hero"),
    experience("banner", [None], id="quiet"),
    greeting("plan"),
    experience(None, (), experience_replacement("home", control="home-a", variants=["home-b"]), id="home"),
    flag("theme", control="light", variants=["dark"]),
]


@dataclass(frozen=True)
class Sender:
    """A client and what marks its requests."""

    name: str
    library: str
    version: str
    channel: str
    routes: str
    how: str
    plain: bool = True

    @property
    def is_newest(self) -> bool:
        return self.routes == "spaces"

    def event(self, type: str, **members: Any) -> dict[str, Any]:
        """An event with the members that every event of this client has."""
        context: dict[str, Any] = {"library": {"name": self.library, "version": self.version}, "locale": "en-US"}
        if self.how == "schema":
            context |= {"campaign": {}, "gdpr": {"isConsentGiven": True}}
        if self.channel == "mobile":
            context |= {"app": {"name": "shop", "version": "1.0.0"}, "screen": {"name": "Home"}}
        now = "2024-01-01T12:00:00.000Z"
        times = {"originalTimestamp": now, "sentAt": now, "timestamp": now} if self.how == "schema" else {}
        return {
            "type": type,
            "channel": self.channel,
            "context": context,
            "messageId": str(uuid.uuid4()),
            **times,
            **members,
        }

    def view(self) -> dict[str, Any]:
        """What it sends first: a screen of an app, a page of a site."""
        if self.channel == "mobile":
            return self.event("screen", name="Home", properties={"name": "Home"})
        page = {"path": "/tea", "query": {}, "referrer": "", "search": "", "url": "https://shop.example/tea"}
        return self.event("page", properties={**page, "title": "Tea"})


NEWEST = [
    Sender(f"optimization 2.x, {kind}", f"@contentful/optimization-{library}", "2.0.0", channel, "spaces", "schema")
    for kind, library, channel in (
        ("web", "web", "web"),
        ("Node", "node", "server"),
        ("React Native", "react-native", "mobile"),
        ("iOS", "ios", "mobile"),
        ("Android", "android", "mobile"),
    )
]
OLDER = Sender("optimization 1.x", "@contentful/optimization-web", "1.3.0", "web", "organizations", "schema")
RUDDERSTACK = Sender("RudderStack", "RudderStack", "1.0.0", "server", "organizations", "request", plain=False)
PLAIN = Sender("plain HTTP", "curl", "8.0.0", "server", "organizations", "request", plain=False)
SENDERS = [*NEWEST, OLDER, PLAIN]


def of(senders: list[Sender], *operations: str) -> Any:
    """Run a test for each of these senders, and say which operation it proves."""
    marked = [
        pytest.param(one, id=one.name, marks=pytest.mark.client(one.name, *operations, how=one.how)) for one in senders
    ]
    return pytest.mark.parametrize("sender", marked)


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness(CONTENT, location=DEMO_GEO) as made:
        yield made


class Wire:
    """Sends a client's requests to the routes that it uses and lets its schema read the answers."""

    def __init__(self, harness: Harness, sender: Sender) -> None:
        self._client: Client = harness.space_client if sender.is_newest else harness.client
        self._sender = sender

    def __call__(self, path: str, *events: dict[str, Any], **options: Any) -> Any:
        media_type = "text/plain" if self._sender.plain and path != "/events" else "application/json"
        body = {"events": [*events], "options": {"features": ["ip-enrichment", "location"]}}
        return self._read("POST", path, self._client.post(path, body, headers={"Content-Type": media_type}, **options))

    def get(self, path: str) -> Any:
        return self._read("GET", path, self._client.get(path))

    def _read(self, method: str, path: str, answer: Answer) -> Any:
        assert answer.status == 200, answer.body
        assert refusals(self._sender.routes, method, path, answer.status, answer.document) == []
        return answer.document["data"]


@of(SENDERS, "create", "update", "flags", "hidden variants")
def test_a_visitor_is_created_updated_and_gets_variants_and_flags(harness: Harness, sender: Sender) -> None:
    wire = Wire(harness, sender)
    created = wire("/profiles", sender.view())
    id = created["profile"]["id"]
    updated = wire(f"/profiles/{id}", sender.event("track", event="added", properties={"sku": "tea-1"}))
    assert updated["profile"]["id"] == id
    chosen = {each["experienceId"]: each["variants"] for each in updated["experiences"]}
    assert (chosen["hero"], chosen["quiet"]) == ({"hero": "hero-b"}, {"banner": ""})
    assert [each["value"] for each in updated["changes"] if each["type"] == "Variable"] == ["dark"]


@of(SENDERS, "identify", "merge")
def test_two_devices_of_one_user_become_one_profile(harness: Harness, sender: Sender) -> None:
    wire = Wire(harness, sender)
    ids = [wire("/profiles", sender.view())["profile"]["id"] for _ in "12"]
    assert ids[0] != ids[1]
    merged = [
        wire(f"/profiles/{id}", sender.event("identify", userId="jo", traits={"plan": "pro"}))["profile"] for id in ids
    ]
    assert {profile["id"] for profile in merged} == {ids[0]}
    assert wire.get(f"/profiles/{ids[1]}")["profile"]["traits"] == {"plan": "pro"}


@of(SENDERS, "preflight")
def test_a_preflight_stores_nothing_and_its_replay_is_the_visitor_that_it_foresaw(
    harness: Harness, sender: Sender
) -> None:
    wire, event = Wire(harness, sender), sender.view()
    told = wire("/profiles?type=preflight", event)
    assert harness.events == []
    real = wire("/profiles", event)
    assert (real["profile"]["id"], real["experiences"]) == (told["profile"]["id"], told["experiences"])


@of([*NEWEST, OLDER, PLAIN, RUDDERSTACK], "batch")
def test_a_batch_creates_and_updates_each_visitor_that_it_names(harness: Harness, sender: Sender) -> None:
    wire = Wire(harness, sender)
    events = [{**sender.view(), "anonymousId": name} for name in ("a", "b", "a")]
    identify = {**sender.event("identify", userId="", traits={"plan": "pro"}), "anonymousId": "a"}
    profiles = wire("/events", *events, identify)["profiles"]
    assert [(profile["id"], profile["traits"]) for profile in profiles] == [("a", {"plan": "pro"}), ("b", {})]


@pytest.mark.client("RudderStack", "create", "identify", "merge", how="request")
def test_rudderstack_creates_and_identifies_through_batches(harness: Harness) -> None:
    wire, sender = Wire(harness, RUDDERSTACK), RUDDERSTACK
    for name in ("phone", "laptop"):
        wire("/events", {**sender.event("identify", userId="jo", traits={"plan": "pro"}), "anonymousId": name})
    assert wire.get("/profiles/laptop")["profile"]["id"] == "phone"


@of(SENDERS, "sticky")
def test_a_sticky_view_keeps_the_variant_when_the_visitor_leaves_the_audience(harness: Harness, sender: Sender) -> None:
    wire = Wire(harness, sender)
    id = wire("/profiles", sender.event("identify", userId="", traits={"plan": "pro"}))["profile"]["id"]
    seen: dict[str, Any] = {"experienceId": "greeting", "componentId": "greeting-b", "componentType": "Entry"}
    if sender.is_newest:
        seen |= {"viewId": str(uuid.uuid4()), "viewDurationMs": 0}
    wire(f"/profiles/{id}", sender.event("component", variantIndex=1, **seen))
    harness.publish(greeting("another trait"))
    chosen = wire.get(f"/profiles/{id}")["experiences"]
    assert [each["variantIndex"] for each in chosen if each["experienceId"] == "greeting"] == [1]


@of(SENDERS, "locale")
def test_the_locale_chooses_the_language_of_places(harness: Harness, sender: Sender) -> None:
    wire = Wire(harness, sender)
    location = wire("/profiles?locale=ja", sender.view(), address=TOKYO)["profile"]["location"]
    assert location["country"] == "日本"


@of(SENDERS, "consent")
def test_an_event_that_the_client_sends_without_consent_is_applied(harness: Harness, sender: Sender) -> None:
    event = sender.view()
    event["context"]["gdpr"] = {"isConsentGiven": False}
    assert Wire(harness, sender)("/profiles", event)["profile"]["session"]["count"] == 1


@of(SENDERS, "reset")
def test_after_a_reset_the_next_event_begins_another_visitor(harness: Harness, sender: Sender) -> None:
    wire = Wire(harness, sender)
    before, after = (wire("/profiles", sender.view())["profile"] for _ in "12")
    assert before["id"] != after["id"]


@of(NEWEST, "entity variants")
def test_the_newest_clients_are_told_which_variant_of_an_entity_to_ask_for(harness: Harness, sender: Sender) -> None:
    wire = Wire(harness, sender)
    id = wire("/profiles", sender.view())["profile"]["id"]
    node = {"entityId": "home", "entityKind": "Experience", "optimizationId": "home", "variantId": "home-b"}
    view = {"viewId": str(uuid.uuid4()), "viewDurationMs": 2000, "variantIndex": 1, "entryIds": [], "parameters": {}}
    changes = wire(f"/profiles/{id}", sender.event("exo_node_view", **node, **view))["changes"]
    assert [each for each in changes if each["type"] == "Experience"] == [
        {
            "type": "Experience",
            "id": "home",
            "variantId": "home-b",
            "meta": {"optimizationId": "home", "variantIndex": 1},
        }
    ]


@of(SENDERS, "insights")
def test_a_view_of_a_variant_that_is_sent_to_insights_counts_once(harness: Harness, sender: Sender) -> None:
    wire = Wire(harness, sender)
    id = wire("/profiles", sender.view())["profile"]["id"]
    seen = {"componentType": "Entry", "componentId": "hero-b", "experienceId": "hero", "variantIndex": 1}
    view = sender.event("component", **seen, viewId=str(uuid.uuid4()), viewDurationMs=1500)
    prefix = (
        "/v2/spaces/default/environments/main" if sender.is_newest else "/v1/organizations/default/environments/main"
    )
    for _ in "12":  # SDKs send again what they do not know to have arrived
        body = [{"profile": {"id": id}, "events": [view]}]
        assert Client(harness.app, prefix).post("/events", body, headers={"Content-Type": "text/plain"}).status == 204
    [phase] = harness.service.record(harness.environment, id)["exposures"]["hero"].values()
    assert (phase["index"], phase["views"]) == (1, 1)
