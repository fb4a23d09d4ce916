"""The official client works unchanged: its events are accepted, and its own schemas accept every answer."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.sdk.client import Sdk
from tests.serving import GEO, ROOT, Server, serving

SHOP = ROOT / "fixtures" / "spaces" / "shop.json"
TOKYO = "192.0.2.7"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)
DESKTOP = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
LONG_AGO = 1_700_000_000_000  # milliseconds since the epoch

CLIENT = "experience.js-shared 7.26"

_numbers = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sdk")
    with serving(folder, "--geoip-database", str(GEO), "--content", str(SHOP), "--store-timeout", "0.4") as running:
        yield running


@pytest.fixture
def sdk(server: Server, ask: Callable[[dict[str, Any]], dict[str, Any]]) -> Sdk:
    return Sdk(ask, server.url)


def context(url: str = "https://shop.example/tea?utm_source=letter&size=2", agent: str = DESKTOP) -> dict[str, Any]:
    """What a page says of itself, as the browser's part of the SDK collects it."""
    document = {"title": "Tea"}
    return {"url": url, "referrer": "https://www.example/", "locale": "en", "userAgent": agent, "document": document}


def built(name: str, at: int | None = None, also: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    """An event that the SDK's own function ``name`` builds, of now; ``also`` are members added afterwards."""
    now = time.time_ns() // 1_000_000
    fields = {
        "messageId": f"message-{next(_numbers)}",
        "timestamp": at or now,
        "ctx": context(),
        "properties": {},
        **given,
    }
    return {"build": name, "with": fields, "also": also or {}}


def page(url: str = "https://shop.example/", **given: Any) -> dict[str, Any]:
    return built("buildPageEvent", **{"ctx": context(url), **given})


def identify(user_id: str = "", **traits: Any) -> dict[str, Any]:
    return built("buildIdentifyEvent", userId=user_id, traits=traits)


# Create, update, get


@pytest.mark.client(CLIENT, "create", how="client")
def test_create_answers_a_profile_with_a_generated_id(sdk: Sdk) -> None:
    profile = sdk.call("createProfile", page("https://shop.example/tea?size=2"))["profile"]
    assert len(profile["id"]) == 64
    assert set(profile["id"]) <= set("0123456789abcdef")
    assert profile["stableId"] == profile["id"]
    assert 0 <= profile["random"] <= 1
    session = profile["session"]
    assert UUID(session["id"])
    assert (session["count"], session["isReturningVisitor"]) == (1, False)
    assert session["landingPage"] == {
        "path": "/tea",
        "query": {"size": "2"},
        "referrer": "https://www.example/",
        "search": "?size=2",
        "url": "https://shop.example/tea?size=2",
    }


@pytest.mark.client(CLIENT, "update", "identify", how="client")
def test_update_keeps_the_profile_and_adds_to_it(sdk: Sdk) -> None:
    profile = sdk.call("createProfile", page())["profile"]
    updated = sdk.call("updateProfile", identify(name="Jo", plan="free"), profile_id=profile["id"])["profile"]
    again = sdk.call("updateProfile", identify(plan="member"), profile_id=profile["id"])["profile"]
    assert updated["traits"] == {"name": "Jo", "plan": "free"}
    assert again["traits"] == {"name": "Jo", "plan": "member"}
    assert again["id"] == updated["id"] == profile["id"]
    assert again["random"] == profile["random"]


def test_an_update_of_an_id_that_nobody_has_creates_that_profile(sdk: Sdk) -> None:
    assert sdk.call("updateProfile", page(), profile_id="visitor-1")["profile"]["id"] == "visitor-1"
    assert sdk.call("getProfile", profile_id="visitor-1")["profile"]["id"] == "visitor-1"


def test_upsert_creates_without_an_id_and_updates_with_one(sdk: Sdk) -> None:
    profile = sdk.call("upsertProfile", page())["profile"]
    assert sdk.call("upsertProfile", identify(a=1), profile_id=profile["id"])["profile"]["id"] == profile["id"]


def test_get_answers_what_the_last_update_answered(sdk: Sdk) -> None:
    answered = sdk.call("createProfile", page(), identify(name="Jo"), built("buildTrackEvent", event="add_to_cart"))
    assert sdk.call("getProfile", profile_id=answered["profile"]["id"]) == answered


@pytest.mark.parametrize("user_id", ["jo@shop.example", "Jo Doe", "Zoë", "狐狸", "a/b", "user?1", "user#1"])
def test_an_identified_visitor_is_found_by_the_user_id(sdk: Sdk, user_id: str) -> None:
    profile = sdk.call("createProfile", page(), identify(user_id, name="Jo"))["profile"]
    assert sdk.call("getProfile", profile_id=user_id)["profile"] == profile


@pytest.mark.client(CLIENT, "merge", how="client")
def test_a_visitor_identified_on_a_second_device_gets_the_first_profile(sdk: Sdk) -> None:
    first = sdk.call("createProfile", page(), identify("user-7", name="Jo"))["profile"]
    second = sdk.call("createProfile", page())["profile"]
    merged = sdk.call("updateProfile", identify("user-7"), profile_id=second["id"])["profile"]
    assert merged["id"] == first["id"]
    assert merged["traits"] == {"name": "Jo"}
    assert sdk.call("getProfile", profile_id=second["id"])["profile"]["id"] == first["id"]


def test_traits_of_every_json_type_come_back_as_they_were_sent(sdk: Sdk) -> None:
    traits = {"text": "ä", "yes": True, "none": None, "number": 1.5, "list": [1, [2], {"a": None}], "deep": {"a": {}}}
    assert sdk.call("createProfile", identify(**traits))["profile"]["traits"] == traits


def test_every_kind_of_event_that_the_client_builds_is_accepted_in_one_request(sdk: Sdk) -> None:
    seen = {"componentType": "Entry", "componentId": "hero", "experienceId": "hero-test", "variantIndex": 1}
    events = [
        page(),
        built("buildTrackEvent", event="add_to_cart", properties={"price": 3, "nested": {"gift": None}}),
        identify("", name="Jo"),
        built("buildComponentViewEvent", **seen, viewDurationMs=2000, viewId="view"),
        built("buildComponentViewEvent", componentId="hero"),
        built("buildComponentClickEvent", **seen),
        built("buildComponentHoverEvent", **seen, hoverId="hover", hoverDurationMs=300),
    ]
    profile = sdk.call("createProfile", *events)["profile"]
    assert profile["session"]["landingPage"]["path"] == "/"
    assert "cart-abandoners" in profile["audiences"]


@pytest.mark.parametrize("url", ["", "/relative", "not an address"])
def test_a_page_whose_address_the_client_cannot_parse_is_accepted(sdk: Sdk, url: str) -> None:
    assert sdk.call("createProfile", page(url))["profile"]["session"]["landingPage"]["path"] == ""


def test_old_events_make_the_sessions_of_their_time(sdk: Sdk) -> None:
    minute = 60_000
    times = [0, 10 * minute, 60 * minute, 65 * minute]
    session = sdk.call("createProfile", *[page(at=LONG_AGO + after) for after in times])["profile"]["session"]
    assert (session["count"], session["isReturningVisitor"]) == (2, True)
    assert session["activeSessionLength"] == 300
    assert session["averageSessionLength"] == 450


# How it is sent


@pytest.mark.parametrize(("plain", "content_type"), [(True, "text/plain"), (False, "application/json")])
def test_plain_text_and_json_are_treated_alike(sdk: Sdk, plain: bool, content_type: str) -> None:
    outcome = sdk.try_to("createProfile", page(), identify(name="Jo"), options={"plainText": plain})
    assert outcome.sent[0]["headers"]["Content-Type"] == content_type
    assert outcome.answer["profile"]["traits"] == {"name": "Jo"}


def test_a_location_is_resolved_only_where_the_feature_is_enabled(sdk: Sdk) -> None:
    without = sdk.call("createProfile", page())["profile"]["location"]
    with_it = sdk.call("createProfile", page(), options={"enabledFeatures": ["location"]})["profile"]["location"]
    assert without == {}
    assert with_it == {
        "coordinates": {"latitude": 52.5244, "longitude": 13.4105},
        "city": "Berlin",
        "postalCode": "10115",
        "region": "Land Berlin",
        "regionCode": "BE",
        "country": "Germany",
        "countryCode": "DE",
        "continent": "EU",
        "timezone": "Europe/Berlin",
    }


def test_the_ip_option_says_whose_location_is_meant(sdk: Sdk) -> None:
    outcome = sdk.try_to("createProfile", page(), options={"enabledFeatures": ["location"], "ip": TOKYO})
    assert outcome.sent[0]["headers"]["X-Force-IP"] == TOKYO
    assert outcome.answer["profile"]["location"]["city"] == "Tokyo"


@pytest.mark.client(CLIENT, "locale", how="client")
@pytest.mark.parametrize(("locale", "country"), [("en", "Japan"), ("ja", "日本"), ("fr-CA", "Japon"), ("xx", "Japan")])
def test_the_locale_option_chooses_the_language_of_places(sdk: Sdk, locale: str, country: str) -> None:
    options = {"enabledFeatures": ["location"], "ip": TOKYO, "locale": locale}
    assert sdk.call("createProfile", page(), options=options)["profile"]["location"]["country"] == country


def test_a_location_that_the_site_gives_wins_over_the_resolved_one(sdk: Sdk) -> None:
    event = page(location={"city": "Potsdam", "countryCode": ""})
    location = sdk.call("createProfile", event, options={"enabledFeatures": ["location"]})["profile"]["location"]
    assert (location["city"], location["countryCode"]) == ("Potsdam", "DE")


def test_features_that_this_server_does_not_have_are_no_error(sdk: Sdk) -> None:
    assert sdk.call("createProfile", page(), options={"enabledFeatures": ["ip-enrichment", "location"]})["profile"]


@pytest.mark.client(CLIENT, "preflight", how="client")
def test_a_preflight_stores_nothing_and_the_real_request_creates_the_id_it_answered(sdk: Sdk) -> None:
    event = page()
    foreseen = sdk.call("createProfile", event, options={"preflight": True})
    missing = sdk.try_to("getProfile", profile_id=foreseen["profile"]["id"])
    assert missing.received[0]["status"] == 404
    real = sdk.call("updateProfile", event, profile_id=foreseen["profile"]["id"])
    assert without_session_id(real) == without_session_id(foreseen)


def test_a_preflight_of_a_known_profile_answers_what_the_real_request_answers(sdk: Sdk) -> None:
    profile = sdk.call("createProfile", page(), identify(plan="free"))["profile"]
    event = identify(plan="member")
    foreseen = sdk.call("updateProfile", event, profile_id=profile["id"], options={"preflight": True})
    assert foreseen["profile"]["traits"] == {"plan": "member"}
    assert sdk.call("getProfile", profile_id=profile["id"])["profile"] == profile
    assert sdk.call("updateProfile", event, profile_id=profile["id"]) == foreseen


def without_session_id(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without the one member that is made anew for each session."""
    session = {name: value for name, value in answer["profile"]["session"].items() if name != "id"}
    return {**answer, "profile": {**answer["profile"], "session": session}}


# Many profiles


@pytest.mark.client(CLIENT, "batch", how="client")
def test_a_batch_answers_the_profiles_of_all_visitors(sdk: Sdk) -> None:
    visitors = [f"batch-{index % 3}" for index in range(9)]
    events = [page(also={"anonymousId": visitor}) for visitor in visitors]
    outcome = sdk.try_to("upsertManyProfiles", *events, options={"enabledFeatures": ["location"]})
    assert outcome.sent[0]["headers"]["Content-Type"] == "application/json"
    assert [profile["id"] for profile in outcome.answer] == ["batch-0", "batch-1", "batch-2"]
    assert [profile["location"] for profile in outcome.answer] == [{}, {}, {}]
    assert sdk.call("getProfile", profile_id="batch-1")["profile"] == outcome.answer[1]


def test_a_batch_as_plain_text_is_treated_alike(sdk: Sdk) -> None:
    event = page(also={"anonymousId": "plain"})
    assert sdk.call("upsertManyProfiles", event, options={"plainText": True})[0]["id"] == "plain"


def test_two_hundred_events_are_taken_in_one_batch_and_one_more_is_refused(sdk: Sdk) -> None:
    events = [page(also={"anonymousId": f"many-{index % 50}"}) for index in range(201)]
    assert len(sdk.call("upsertManyProfiles", *events[:200])) == 50
    assert sdk.try_to("upsertManyProfiles", *events).received[0]["status"] == 400


# What goes wrong


@pytest.mark.parametrize(
    ("call", "reason"),
    [("getProfile", "Get Profile request failed"), ("createProfile", "Create Profile request failed")],
)
def test_an_error_quotes_status_and_traceparent_and_is_not_tried_again(sdk: Sdk, call: str, reason: str) -> None:
    outcome = sdk.try_to(call, profile_id="nobody")  # create without an event is refused
    status = {"getProfile": "404] Not Found", "createProfile": "400] Bad Request"}[call]
    [received] = outcome.received
    assert outcome.error is not None
    assert outcome.error["message"] == (
        f'{reason} with status: "[{status} - traceparent: {received["traceparent"]}". This request is not retryable'
    )
    assert received["traceparent"].count("-") == 3
    assert "Retrying" not in "".join(outcome.log)


def test_a_store_that_cannot_serve_is_503_which_the_client_takes_for_retryable(sdk: Sdk, server: Server) -> None:
    sdk.call("updateProfile", page(), profile_id="waiting")
    with locked(server.printed.parent / "data"):
        outcome = sdk.try_to("updateProfile", page(), profile_id="waiting")
        assert {received["status"] for received in outcome.received} == {503}
        assert outcome.error is not None
        assert "[503] Service Unavailable" in outcome.error["message"]
        assert any("Retrying (attempt 1)" in line for line in outcome.log)
    assert sdk.call("updateProfile", page(), profile_id="waiting")["profile"]["id"] == "waiting"


@contextlib.contextmanager
def locked(data: Path) -> Iterator[None]:
    """Keep every other process from writing to the store."""
    with contextlib.ExitStack() as stack:
        files = sorted(data.glob("*/*.db"))
        assert files
        for file in files:
            connection = stack.enter_context(contextlib.closing(sqlite3.connect(file, isolation_level=None)))
            connection.execute("PRAGMA busy_timeout = 20000")
            connection.execute("BEGIN IMMEDIATE")
            stack.callback(connection.execute, "ROLLBACK")
        yield


# Experiences and changes, of the made-up shop


def with_index(sdk: Sdk, experience: str, index: int, *events: dict[str, Any]) -> dict[str, Any]:
    """The answer to the first of many visitors who gets this variant of an experience."""
    for number in range(200):
        answer = sdk.call("updateProfile", *events, profile_id=f"{experience}-{number}", options={"preflight": True})
        if any((e["experienceId"], e["variantIndex"]) == (experience, index) for e in answer["experiences"]):
            return dict(answer)
    raise AssertionError(f"nobody gets variant {index} of {experience}")


def values(answer: dict[str, Any]) -> dict[str, Any]:
    return {change["key"]: change["value"] for change in answer["changes"]}


@pytest.mark.client(CLIENT, "flags", how="client")
@pytest.mark.parametrize(("index", "text", "guest"), [(0, "Buy", False), (1, "Order now", True)])
def test_flags_that_are_text_and_boolean_are_accepted_control_included(
    sdk: Sdk, index: int, text: str, guest: bool
) -> None:
    answer = with_index(sdk, "checkout-flags", index, page())
    assert values(answer) == {"checkout-button": text, "guest-checkout": guest}
    meta = {"experienceId": "checkout-flags", "variantIndex": index}
    assert [(change["type"], change["meta"]) for change in answer["changes"]] == [("Variable", meta)] * 2


def test_a_flag_that_is_a_number_is_accepted(sdk: Sdk) -> None:
    answer = sdk.call("createProfile", built("buildTrackEvent", event="add_to_cart"))
    assert values(answer)["free-shipping-from"] == 30


def test_a_flag_that_is_an_object_is_accepted(sdk: Sdk) -> None:
    answer = sdk.call("createProfile", page(ctx=context(agent=PHONE)))
    assert values(answer)["theme"] == {"density": "dense", "columns": 1}


@pytest.mark.client(CLIENT, "hidden variants", how="client")
def test_a_hidden_variant_is_accepted(sdk: Sdk) -> None:
    order = built("buildTrackEvent", event="order_completed", properties={"total": 120})
    chosen = {each["experienceId"]: each for each in sdk.call("createProfile", order)["experiences"]}
    assert chosen["quiet-spenders"] == {
        "experienceId": "quiet-spenders",
        "variantIndex": 1,
        "variants": {"banner": ""},
        "sticky": False,
    }


@pytest.mark.client(CLIENT, "sticky", how="client")
def test_a_sticky_variant_stays_after_the_visitor_saw_it_and_left_the_audience(sdk: Sdk) -> None:
    profile_id = sdk.call("createProfile", identify(plan="member"))["profile"]["id"]
    chosen = greeting(sdk.call("getProfile", profile_id=profile_id))
    assert chosen["sticky"] is True
    other = 3 - chosen["variantIndex"]
    seen = built("buildComponentViewEvent", experienceId="member-greeting", variantIndex=other, componentId="greeting")
    left = sdk.call("updateProfile", seen, identify(plan="none"), profile_id=profile_id)
    assert "members" not in left["profile"]["audiences"]
    assert greeting(left)["variantIndex"] == other


def greeting(answer: dict[str, Any]) -> dict[str, Any]:
    [found] = [each for each in answer["experiences"] if each["experienceId"] == "member-greeting"]
    return dict(found)


def test_experiences_changes_and_audiences_are_sorted_by_id_ignoring_case(sdk: Sdk) -> None:
    order = built("buildTrackEvent", event="order_completed", properties={"total": 120})
    pricing = [page("https://shop.example/pricing", ctx=context("https://shop.example/pricing", PHONE)) for _ in "12"]
    answer = sdk.call("createProfile", *pricing, order, identify("user-9", plan="member"))
    ids = [each["experienceId"] for each in answer["experiences"]]
    assert len(ids) >= 5
    assert ids == sorted(ids, key=str.lower)
    flags = [change["meta"]["experienceId"] for change in answer["changes"]]
    assert flags == sorted(flags, key=str.lower)
    audiences = answer["profile"]["audiences"]
    assert len(audiences) >= 3
    assert audiences == sorted(audiences, key=str.lower)


def test_what_the_client_sends_is_what_its_functions_built(sdk: Sdk) -> None:
    outcome = sdk.try_to("createProfile", page(), options={"enabledFeatures": ["location"]})
    body = json.loads(outcome.sent[0]["body"])
    assert body["options"] == {"features": ["location"]}
    assert body["events"][0]["context"]["campaign"] == {}
    assert body["events"][0]["context"]["library"]["version"] == "7.26.0"
