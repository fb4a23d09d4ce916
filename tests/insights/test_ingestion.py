"""Insights over HTTP: what is answered, what is stored, and what no request can change (spec section 11)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ninetailed_wsgi.core.events import ServedComponent
from ninetailed_wsgi.insights.ingestion import expose
from ninetailed_wsgi.testing import Harness, Visitor, audience, experience, metric, trait

HERO = experience("hero", ["hero-b"], distribution=[0.5, 0.5], id="hero-test", metric="purchase")
CONTENT = [HERO, metric("purchase", name="purchase")]


def view(visitor: Visitor, message: str = "m1", **members: Any) -> dict[str, Any]:
    index = visitor.variant_index(HERO) or 0
    return {
        "type": "component",
        "channel": "web",
        "messageId": message,
        "context": {"library": {"name": "Ninetailed Insights", "version": "7.17.0"}},
        "componentType": "Entry",
        "componentId": ("hero", "hero-b")[index],
        "experienceId": "hero-test",
        "variantIndex": index,
        **members,
    }


def post(harness: Harness, profile: str | None, *events: Any) -> int:
    return harness.insights.post("/events", [{"profile": {"id": profile}, "events": list(events)}]).status


def numbers(harness: Harness) -> list[tuple[int, int, int]]:
    variants = harness.results(HERO)["variants"]
    return [(variant["visitors"], variant["views"], variant["clicks"]) for variant in variants]


@pytest.mark.ninetailed(content=CONTENT)
def test_a_view_is_answered_204_and_counted_once_for_all_its_heartbeats(ninetailed: Harness) -> None:
    visitor = ninetailed.visitor("anna").views("/")
    beats = [view(visitor, f"m{n}", viewId="v", viewDurationMs=n * 1000) for n in range(25)]
    assert post(ninetailed, "anna", *beats) == 204
    assert post(ninetailed, "anna", *beats) == 204
    index = visitor.variant_index(HERO)
    assert numbers(ninetailed)[index or 0] == (1, 1, 0)
    entry = ninetailed.service.record(ninetailed.environment, "anna")["exposures"]["hero-test"]["1:0.5/0.5"]
    assert entry["longest"] == 24_000


@pytest.mark.ninetailed(content=CONTENT)
def test_a_request_is_one_write_whatever_it_holds(ninetailed: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    visitor = ninetailed.visitor("anna").views("/")
    events = [view(visitor, f"m{n}", viewId=f"v{n % 5}") for n in range(100)]
    updates: list[Any] = []
    update = ninetailed.service.store.update
    monkeypatch.setattr(
        ninetailed.service.store, "update", lambda keys, fold: updates.append(keys) or update(keys, fold)
    )
    assert post(ninetailed, "anna", *events) == 204
    assert [list(keys) for keys in updates] == [[ninetailed.environment.key("anna")]]


@pytest.mark.ninetailed(content=CONTENT)
def test_it_touches_neither_session_nor_traits_nor_history(ninetailed: Harness) -> None:
    visitor = ninetailed.visitor("anna").views("/").identifies(plan="pro")
    before = ninetailed.service.record(ninetailed.environment, "anna", events=True)
    visitor.waits(hours=2)
    assert post(ninetailed, "anna", view(visitor)) == 204
    after = ninetailed.service.record(ninetailed.environment, "anna", events=True)
    assert after.pop("exposures") != before.pop("exposures")
    assert after == before


@pytest.mark.ninetailed(content=CONTENT)
def test_an_unknown_or_deleted_visitor_is_never_made(ninetailed: Harness) -> None:
    visitor = ninetailed.visitor("anna").views("/")
    event = view(visitor)
    assert post(ninetailed, "nobody", event) == 204
    assert ninetailed.client.delete("/profiles/anna").status == 200
    assert post(ninetailed, "anna", event) == 204
    assert [ninetailed.client.get(f"/profiles/{name}").status for name in ("nobody", "anna")] == [404, 404]


@pytest.mark.ninetailed(content=CONTENT)
def test_an_alias_and_a_merged_id_lead_to_the_profile(ninetailed: Harness) -> None:
    anna = ninetailed.visitor("anna").views("/").identifies("user-1")
    ninetailed.visitor("phone").views("/").identifies("user-1")
    for message, name in enumerate(("anna", "user-1", "phone")):
        assert post(ninetailed, name, view(anna, f"m{message}")) == 204
    assert numbers(ninetailed)[anna.variant_index(HERO) or 0] == (1, 3, 0)


@pytest.mark.ninetailed(content=CONTENT)
@pytest.mark.parametrize(
    "body",
    [
        {},
        [[]],
        [5],
        [{}],
        [{"profile": {}, "events": []}],
        [{"profile": {"id": 5}, "events": []}],
        [{"profile": [], "events": []}],
        [{"profile": {"id": "anna"}}],
        [{"profile": {"id": "anna"}, "events": {}}],
        None,
    ],
)
def test_a_wrong_outer_form_is_refused(ninetailed: Harness, body: Any) -> None:
    answer = ninetailed.insights.post("/events", body)
    assert (answer.status, answer.document["error"]["code"]) == (400, "ERR_INVALID_DATA")


@pytest.mark.ninetailed(content=CONTENT)
def test_single_events_that_mean_nothing_are_left_out(ninetailed: Harness) -> None:
    visitor = ninetailed.visitor("anna").views("/")
    good = view(visitor, "good")
    bad: list[Any] = [
        [],
        5,
        None,
        "x" * 65_536,
        {},
        {"type": "page"},
        {**good, "messageId": ""},
        {**good, "context": 1},
    ]
    bad += [{**good, "timestamp": "yesterday"}, {**good, "viewDurationMs": -1}, {**good, "viewDurationMs": 1e300}]
    assert post(ninetailed, "anna", *bad) == 204
    assert numbers(ninetailed) == [(0, 0, 0), (0, 0, 0)]
    assert post(ninetailed, "anna", *bad, good) == 204
    assert numbers(ninetailed)[visitor.variant_index(HERO) or 0] == (1, 1, 0)


@pytest.mark.ninetailed(content=CONTENT)
def test_more_than_a_thousand_events_are_too_many(ninetailed: Harness) -> None:
    visitor = ninetailed.visitor("anna").views("/")
    assert post(ninetailed, "anna", *[view(visitor)] * 1001) == 413
    assert numbers(ninetailed) == [(0, 0, 0), (0, 0, 0)]


@pytest.mark.ninetailed(content=CONTENT)
def test_fifty_experiences_are_kept_the_newest_reports(ninetailed: Harness) -> None:
    many = [experience(f"b{n}", [f"v{n}"], id=f"e{n}") for n in range(55)]
    ninetailed.publish(*many)
    visitor = ninetailed.visitor("anna").views("/")
    for each in many:
        visitor.sees(each)
    exposures = ninetailed.service.record(ninetailed.environment, "anna")["exposures"]
    assert list(exposures) == [f"e{n}" for n in range(5, 55)]


@pytest.mark.ninetailed(content=CONTENT)
def test_conversions_count_when_their_events_have_left_the_history(ninetailed: Harness) -> None:
    visitor = ninetailed.visitor("anna").views("/").sees(HERO).buys(total=1)
    page = {"type": "page", "channel": "web", "context": {"library": {"name": "x", "version": "1.0.0"}}}
    properties = {"path": "/", "query": {}, "referrer": "", "search": "", "url": ""}
    for batch in range(3):
        events = [{**page, "messageId": f"{batch}-{n}", "properties": properties} for n in range(200)]
        assert ninetailed.client.post("/profiles/anna", {"events": events}).status == 200
    assert ninetailed.results(HERO)["variants"][visitor.variant_index(HERO) or 0]["conversions"] == 1


@pytest.mark.ninetailed(content=CONTENT)
def test_a_metric_that_is_new_counts_the_history_of_visitors_who_do_not_come_back(ninetailed: Harness) -> None:
    visitor = ninetailed.visitor("anna").views("/").sees(HERO).tracks("signed_up")
    ninetailed.publish(metric("signed_up"))
    result = ninetailed.results(HERO, "metric-signed_up")
    assert result["variants"][visitor.variant_index(HERO) or 0]["conversions"] == 1


def test_visitors_outside_the_traffic_are_the_holdout() -> None:
    pro = audience(trait("plan", "pro"), id="pros")
    half = experience("hero", ["hero-b"], distribution=[0.5, 0.5], traffic=0.5, id="hero-test", audience=pro)
    with Harness([half, metric("purchase")]) as harness:
        for n in range(20):
            visitor = harness.visitor(f"v{n}").identifies(plan="pro" if n % 2 else "free")
            event = view(visitor, experienceId="", componentId="hero", variantIndex=0)
            if visitor.variant_index(half) is None:
                assert post(harness, visitor.id, event) == 204
        outside = [n for n in range(1, 20, 2) if harness.visitor(f"v{n}").variant_index(half) is None]
        assert harness.results(half)["holdout"] == {"visitors": len(outside), "conversions": 0}
        assert len(outside) > 0


@pytest.mark.ninetailed(content=CONTENT)
def test_the_route_of_the_newest_sdk_reaches_the_same_profiles(ninetailed: Harness) -> None:
    visitor = ninetailed.visitor("anna").views("/")
    client = type(ninetailed.insights)(ninetailed.app, "/v2/spaces/default/environments/main")
    body = [{"profile": {"id": "anna"}, "events": [view(visitor)]}]
    assert client.post("/events", body).status == 204
    assert numbers(ninetailed)[visitor.variant_index(HERO) or 0] == (1, 1, 0)


NESTED = b"[" * 500 + b"]" * 500
EVENTS = b'[{"profile":{"id":"anna"},"events":[%s]}]'


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b" " * 65_536, 400),
        (b"[" * 65_536, 400),
        (b"[[]]" * 16_384, 400),
        (b"[" + b"[]," * 20_000 + b"[]]", 400),
        (EVENTS % b",".join([b"null"] * 1000), 204),
        (EVENTS % b",".join([b"[[]]"] * 1000), 204),
        (EVENTS % NESTED, 204),
        (EVENTS % (b'{"type":"component","context":%s}' % NESTED), 204),
        (EVENTS % (b"[" * 5000 + b"]" * 5000), 400),
        (EVENTS % b'{"type":"component","messageId":"\\ud800"}', 400),
    ],
)
@pytest.mark.ninetailed(content=CONTENT)
def test_nothing_of_any_size_or_depth_changes_a_number(ninetailed: Harness, body: bytes, status: int) -> None:
    ninetailed.visitor("anna").views("/")
    before = ninetailed.service.record(ninetailed.environment, "anna")
    assert ninetailed.insights.post("/events", body).status == status
    assert ninetailed.service.record(ninetailed.environment, "anna") == before


@pytest.mark.ninetailed(content=CONTENT)
def test_heartbeats_and_views_without_end_are_kept_in_bounded_space(ninetailed: Harness) -> None:
    visitor = ninetailed.visitor("anna").views("/")
    event = view(visitor)
    sizes = []
    for turn in range(10):
        beats = [{**event, "messageId": f"b{turn}-{n}", "viewId": "v", "viewDurationMs": n} for n in range(1000)]
        assert post(ninetailed, "anna", *beats) == 204
    assert numbers(ninetailed)[visitor.variant_index(HERO) or 0] == (1, 1, 0)
    for turn in range(10):
        views = [{**event, "messageId": f"w{turn}-{n}", "viewId": f"v{turn}-{n}"} for n in range(1000)]
        assert post(ninetailed, "anna", *views) == 204
        record = ninetailed.service.store.read(ninetailed.environment.key("anna")).document
        sizes.append(len(orjson.dumps(record)))
    assert max(sizes) < sizes[0] + 100


def test_a_strangers_profile_id_makes_nobody_and_changes_nobody() -> None:
    with Harness(CONTENT, access="guarded") as harness:
        visitor = harness.visitor().views("/")
        key = {"Authorization": f"Bearer {harness.key()}"}
        identified = {**view(visitor), "type": "identify", "userId": "anna@shop.example", "traits": {}}
        assert harness.client.post(f"/profiles/{visitor.id}", {"events": [identified]}, headers=key).status == 200
        for id in ("anna@shop.example", "f" * 64, "nobody", "x" * 70_000):
            assert post(harness, id, view(visitor)) == 204
            assert numbers(harness) == [(0, 0, 0), (0, 0, 0)]
        assert len(list(harness.service.store.documents())) == 3  # the profile, its former id, its user id


def test_a_former_id_of_somebody_who_logged_in_reports_nothing_once_its_time_is_over() -> None:
    with Harness(CONTENT, access="guarded") as harness:
        planted = harness.visitor().views("/")
        former, reported = str(planted.id), view(planted)
        proof = {"nt_identity": harness.identity_token("anna")}
        login = {**reported, "messageId": "login", "type": "identify", "userId": "anna", "traits": proof}
        assert harness.client.post(f"/profiles/{former}", {"events": [login]}).status == 200
        harness.clock.advance(seconds=61)
        assert post(harness, former, reported) == 204
        expose(harness.service, harness.environment, former, [ServedComponent("hero", "hero-test", 0)], guarded=True)
        assert numbers(harness) == [(0, 0, 0), (0, 0, 0)]
