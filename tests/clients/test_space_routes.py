"""The newest clients' routes: the same profiles under another name, their events, and preflights that are replayed."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import Server, identify, page

from ninetailed_wsgi import Ninetailed
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.testing import (
    Answer,
    Client,
    Harness,
    audience,
    experience,
    experience_replacement,
    flag,
    fragment_replacement,
    trait,
)

HOME = experience(None, (), experience_replacement("home", control="home-a", variants=["home-b"]), sticky=True)


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness([HOME, flag("theme", control="light", variants=["dark"])]) as made:
        yield made


def spaces(harness: Harness, space: str = "default", environment: str = "main") -> Client:
    return Client(harness.app, f"/v3/spaces/{space}/environments/{environment}")


def data(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    return answer.document["data"]


def node(kind: str, **members: Any) -> dict[str, Any]:
    view = page(messageId=str(uuid.uuid4()))
    return {**view, "type": f"exo_node_{kind}", "entityId": "home", "entityKind": "Experience", **members}


# Names


def test_a_profile_is_the_same_under_either_prefix(harness: Harness) -> None:
    data(harness.client.post("/profiles/anna", {"events": [identify(traits={"plan": "pro"})]}))
    assert data(harness.space_client.get("/profiles/anna"))["profile"]["traits"] == {"plan": "pro"}
    data(harness.space_client.post("/events", {"events": [{**page(), "anonymousId": "anna"}]}))
    data(harness.space_client.post("/import/events", {"events": [{**page(), "anonymousId": "bert"}]}))
    assert data(harness.client.get("/profiles/bert"))["profile"]["id"] == "bert"
    assert data(harness.space_client.delete("/profiles/anna")) == {}
    assert harness.client.get("/profiles/anna").status == 404


def test_a_space_is_joined_to_an_environment_that_is_named_differently() -> None:
    with Harness(spaces="x7f/master=default/main, x7f/draft=default/other") as harness:
        data(harness.client.post("/profiles/anna", {"events": [page()]}))
        assert data(spaces(harness, "x7f", "master").get("/profiles/anna"))["profile"]["id"] == "anna"
        assert data(spaces(harness).get("/profiles/anna"))["profile"]["id"] == "anna"
        for space, environment in (("x7f", "main"), ("x7f", "draft"), ("nobody", "main")):
            answer = spaces(harness, space, environment).get("/profiles/anna")
            assert (answer.status, answer.document["error"]["code"]) == (404, "ERR_CONFIG_NOT_FOUND")


@pytest.mark.parametrize("wrong", ["a/b", "a/b=c", "a=c/d", "a/b=c/d=e/f", "a/b=c/d, a/b=e/f", "/=/"])
def test_a_join_that_cannot_be_read_is_refused_with_its_form(wrong: str) -> None:
    with pytest.raises(SettingsError, match="spaces"):
        Settings(spaces=wrong)


def test_the_routes_are_served_inside_a_site(harness: Harness) -> None:
    site = harness.mount(lambda environ, start: [b""], prefix="/nt")
    assert isinstance(site, Ninetailed)
    client = Client(site, "/nt/v3/spaces/default/environments/main")
    assert data(client.post("/profiles", {"events": [page()]}))["changes"][0]["type"] == "Experience"


def test_a_request_is_counted_under_the_template_of_its_own_route(tmp_path: Path) -> None:
    server = Server(tmp_path, metrics=True)
    client = Client(server.app)
    data(client.post("/v3/spaces/s/environments/e/profiles", {"events": [page()]}))
    events = [{"profile": {"id": "a"}, "events": [{}, {}]}]
    assert client.post("/v2/spaces/s/environments/e/events", events).status == 204
    text = client.get("/metrics").body.decode()
    server.close()
    route = 'route="/v3/spaces/{organization}/environments/{environment}/profiles"'
    assert f'ninetailed_requests_total{{method="POST",{route},status="200"}}' in text
    assert 'route="/v2/spaces/{organization}/environments/{environment}/events"' in text
    assert "ninetailed_insights_events_total" in text


def test_a_preflight_of_a_browser_is_answered_on_every_space_route(harness: Harness) -> None:
    for path in ("/v3/spaces/s/environments/e/profiles", "/v2/spaces/s/environments/e/events"):
        assert harness.client.call("OPTIONS", path, headers={"Origin": "http://localhost:3000"}).status == 204


def test_explain_says_which_variant_of_an_entity_is_shown(harness: Harness) -> None:
    visitor = harness.visitor("anna").views("/")
    assert [each["variants"] for each in harness.explain(visitor)["experiences"] if each["variants"]] == [
        {"home": "home-b"}
    ]
    assert "home shows home-b" in harness.why(visitor)


def test_explain_of_an_entity_is_the_same_under_either_prefix() -> None:
    with Harness([HOME, flag("theme", control="light", variants=["dark"])], explain=True) as harness:
        data(harness.client.post("/profiles/anna", {"events": [page()]}))
        answers = [data(client.get("/profiles/anna/explain")) for client in (harness.client, harness.space_client)]
        assert answers[0] == answers[1]
        (home,) = [each for each in answers[0]["experiences"] if each["id"] == HOME["id"]]
        assert (home["variantIndex"], home["variants"], home["sticky_index"]) == (1, {"home": "home-b"}, None)
        seen = node("view", optimizationId=HOME["id"], variantId="home-a", variantIndex=0)
        data(harness.space_client.post("/profiles/anna", {"events": [seen]}))
        for client in (harness.client, harness.space_client):
            experiences = data(client.get("/profiles/anna/explain"))["experiences"]
            (home,) = [each for each in experiences if each["id"] == HOME["id"]]
            assert (home["decided_by"], home["variants"]) == ("sticky", {"home": "home-a"})


# What is chosen


def test_only_the_space_routes_tell_of_entities(harness: Harness) -> None:
    data(harness.client.post("/profiles/anna", {"events": [page()]}))
    older, newest = (data(client.get("/profiles/anna")) for client in (harness.client, harness.space_client))
    assert [change["type"] for change in older["changes"]] == ["Variable"]
    assert [change["type"] for change in newest["changes"]] == ["Experience", "Variable"]
    assert older["experiences"] == newest["experiences"]


def test_a_visitor_of_the_harness_is_told_the_variant_of_an_entity(harness: Harness) -> None:
    harness.publish(experience(None, (), fragment_replacement("teaser", control="t-a", variants=[None])))
    visitor = harness.visitor().views("/")
    assert visitor.experience_variant("home") == "home-b"
    assert visitor.experience_variant("teaser") == ""
    assert visitor.experience_variant("unknown") is None


def test_a_node_view_keeps_what_was_seen_in_create_update_and_batch(harness: Harness) -> None:
    harness.publish({**HOME, "audience": dict(audience(trait("plan"), id="payers"))})
    seen = node("view", optimizationId=HOME["id"], variantId="home-a", variantIndex=0, viewId="v", viewDurationMs=1)
    created = data(harness.space_client.post("/profiles", {"events": [seen]}))["profile"]["id"]
    data(harness.space_client.post("/profiles/anna", {"events": [seen]}))
    data(harness.space_client.post("/events", {"events": [{**seen, "anonymousId": "bert"}]}))
    for name in (created, "anna", "bert"):
        chosen = data(harness.space_client.get(f"/profiles/{name}"))["experiences"]
        assert [each["variantIndex"] for each in chosen if each["experienceId"] == HOME["id"]] == [0]


@pytest.mark.parametrize("path", ["/profiles/anna", "/events", "/import/events"])
def test_of_two_views_in_one_request_the_earlier_one_is_kept(harness: Harness, path: str) -> None:
    seen = []
    for variant in ("home-a", "home-b"):
        at = harness.clock.now.isoformat()
        seen.append(node("view", optimizationId=HOME["id"], variantId=variant, anonymousId="anna", timestamp=at))
        harness.clock.advance(minutes=1)
    data(harness.space_client.post(path, {"events": seen[::-1]}))
    chosen = data(harness.space_client.get("/profiles/anna"))["experiences"]
    assert [each["variantIndex"] for each in chosen if each["experienceId"] == HOME["id"]] == [0]


@pytest.mark.parametrize(
    "members",
    [{"entityId": None}, {"entityKind": "Slot"}, {"viewDurationMs": 1.5}, {"viewDurationMs": -1}, {"entryIds": [5]},
     {"variantIndex": "1"}, {"parameters": []}, {"optimizationId": 7}, {"viewId": {}}],
)  # fmt: skip
def test_a_node_view_with_a_wrong_member_is_refused_with_its_name(harness: Harness, members: dict[str, Any]) -> None:
    answer = harness.space_client.post("/profiles", {"events": [node("view", **members)]})
    assert answer.status == 400
    assert f"events[0].{next(iter(members))}" in answer.document["message"]


# Insights


@pytest.mark.parametrize("body", [{}, [5], [{"profile": {}}], [{"events": {}}], b"["])
def test_an_insights_body_of_another_shape_is_refused(harness: Harness, body: Any) -> None:
    client = Client(harness.app, "/v2/spaces/default/environments/main")
    assert client.post("/events", body).status == 400


def test_insights_events_are_accepted_and_store_nothing(harness: Harness) -> None:
    client = Client(harness.app, "/v2/spaces/default/environments/main")
    batch = [{"profile": {"id": "anna"}, "events": [node("view"), {"type": "whatever"}]}]
    answer = client.post("/events", batch, headers={"Content-Type": "text/plain"})
    assert (answer.status, answer.body) == (204, b"")
    assert harness.client.get("/profiles/anna").status == 404
    assert harness.events == []
    assert client.post("/events", [{"profile": {"id": "anna"}, "events": [{}] * 1001}]).status == 413


# In the host site


def shown_page(harness: Harness, **options: Any) -> dict[str, Any]:
    """What a page gets that views itself and then asks."""
    told: dict[str, Any] = {}

    def site(environ: dict[str, Any], start: Any) -> list[bytes]:
        visitor = environ["ninetailed.visitor"]
        visitor.page()
        told.update(
            variant=visitor.experience_variant("home"),
            nobody=visitor.experience_variant("unknown"),
            changes=visitor.changes,
            classic=json.loads(visitor.handoff()),
            newest=json.loads(visitor.handoff(version=3)),
        )
        start("200 OK", [])
        return [b""]

    Client(harness.mount(site, **options)).get("/")
    return told


@pytest.mark.parametrize(("preflight", "owner"), [(False, "skip"), (True, "emit")])
def test_a_page_hands_the_newest_sdk_its_state_and_says_who_sends_the_page_event(
    harness: Harness, preflight: bool, owner: str
) -> None:
    told = shown_page(harness, preflight=preflight)
    newest = told["newest"]
    assert set(newest) == {"state", "cache", "hydration", "initialPageEvent"}
    assert (newest["cache"], newest["initialPageEvent"]) == ({"scope": "private-request"}, owner)
    assert set(newest["state"]) == {"profile", "changes", "selectedOptimizations"}
    assert [each["type"] for each in newest["state"]["changes"]] == ["Experience", "Variable"]


def test_a_page_asks_for_the_variant_of_an_entity_and_the_classic_sdk_is_not_told_of_it(harness: Harness) -> None:
    told = shown_page(harness)
    assert (told["variant"], told["nobody"]) == ("home-b", None)
    assert [each["type"] for each in told["changes"]] == ["Variable"]
    assert told["classic"]["changes"] == told["changes"]


def test_a_flag_whose_value_is_a_list_is_a_list_for_a_page_and_wrapped_for_clients(harness: Harness) -> None:
    harness.publish(flag("sizes", control=[], variants=[[1, 2]]))
    visitor = harness.visitor().views("/")
    assert visitor.flag("sizes") == [1, 2]
    assert {"value": [1, 2]} in [change["value"] for change in visitor.changes]
