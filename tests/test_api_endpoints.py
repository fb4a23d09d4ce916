"""Every endpoint of the API: its envelope, statuses and codes, headers and limits (spec section 1)."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from falcon.testing import Result
from support import (
    NOWHERE,
    TOKYO,
    Api,
    Server,
    component,
    data,
    error,
    event,
    identify,
    of,
    page,
    profile_path,
    refusal,
    track,
)

from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.errors import ProfileOverload, StoreUnavailable
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store.protocol import Document, Fold, OutcomeT, StoreEntry

MakeServer = Callable[..., Server]


# The operations and their envelope


def test_creating_a_profile_answers_the_success_envelope_exactly(api: Api) -> None:
    answer = api.send("/profiles", {"events": [page()]})
    assert answer.status_code == 200
    assert set(answer.json) == {"data", "error", "message"}
    assert answer.json["error"] is None
    assert answer.json["message"] == "ok"
    assert set(answer.json["data"]) == {"profile", "experiences", "changes"}


def test_a_created_profile_has_all_seven_members_and_ids_of_64_hex_characters(api: Api) -> None:
    profile = api.create(page())["profile"]
    assert set(profile) == {"id", "stableId", "random", "audiences", "traits", "location", "session"}
    assert len(profile["id"]) == 64
    assert profile["stableId"] == profile["id"]
    assert profile["audiences"] == []
    assert profile["traits"] == {}
    assert profile["location"] == {}


def test_each_created_profile_is_another_one(api: Api) -> None:
    assert api.create(page())["profile"]["id"] != api.create(page())["profile"]["id"]


def test_a_generated_id_is_64_lowercase_hex_characters_that_nobody_can_guess(make_server: MakeServer) -> None:
    service = ExperienceService(store=make_server().store, content=ContentFolder(None))
    ids = {service.upsert(Environment("o", "e"), None, {"events": [page()]})["profile"]["id"] for _ in range(20)}
    assert len(ids) == 20
    assert all(len(id) == 64 and set(id) <= set("0123456789abcdef") for id in ids)


def test_random_is_a_32_bit_number_divided_by_its_largest_value_and_never_changes(api: Api) -> None:
    first = api.create(page())["profile"]
    assert (first["random"] * 4294967295) == pytest.approx(round(first["random"] * 4294967295), abs=1e-5)
    later = api.update(first["id"], identify("u", {"a": 1}))["profile"]
    assert (later["random"], later["stableId"]) == (first["random"], first["stableId"])
    assert api.create(page())["profile"]["random"] != first["random"]


def test_an_update_of_an_unknown_id_creates_the_profile_under_that_id(api: Api) -> None:
    assert api.update("visitor-1", page())["profile"]["id"] == "visitor-1"
    assert api.profile("visitor-1")["id"] == "visitor-1"


def test_an_update_through_an_alias_answers_the_id_of_the_profile(api: Api) -> None:
    id = api.create(identify("user-1"))["profile"]["id"]
    assert api.update("user-1", identify(traits={"a": 1}))["profile"]["id"] == id
    assert api.profile(id)["traits"] == {"a": 1}


def test_a_get_answers_what_the_last_update_answered(api: Api) -> None:
    updated = api.update("visitor", page(), identify("user", {"name": "Max"}))
    assert api.get("visitor") == updated
    assert api.get("user") == updated


def test_a_get_changes_nothing(api: Api) -> None:
    before = api.update("visitor", page())
    api.clock.pass_(3 * 3_600_000)
    assert api.get("visitor") == before
    assert api.get("visitor") == before


def test_a_deleted_profile_is_gone_with_all_its_aliases(api: Api) -> None:
    api.update("visitor", identify("user-1"), identify("user-2"))
    answer = api.request("DELETE", profile_path("user-1"))
    assert answer.json == {"data": {}, "error": None, "message": "ok"}
    assert [api.knows(name) for name in ("visitor", "user-1", "user-2")] == [False, False, False]


def test_a_deleted_profile_cannot_be_deleted_again(api: Api) -> None:
    api.update("visitor", page())
    api.delete("visitor")
    assert error(api.request("DELETE", "/profiles/visitor"), 404) == "ERR_PROFILE_NOT_FOUND"


def test_a_profile_that_is_created_again_after_its_deletion_starts_from_nothing(api: Api) -> None:
    api.update("visitor", page(), identify("user", {"a": 1}), component("x", 1))
    api.delete("visitor")
    api.clock.pass_(1000)
    assert api.update("visitor", page("/again"))["profile"] == {
        **api.profile("visitor"),
        "traits": {},
        "session": {**api.profile("visitor")["session"], "count": 1, "activeSessionLength": 0},
    }
    assert not api.knows("user")


def test_a_message_id_that_a_deleted_profile_had_seen_is_applied_to_the_new_one(api: Api) -> None:
    sent = identify(traits={"a": 1})
    api.update("visitor", sent)
    api.delete("visitor")
    assert api.update("visitor", sent)["profile"]["traits"] == {"a": 1}


def test_the_batch_endpoint_answers_profiles_and_neither_experiences_nor_changes(api: Api) -> None:
    answer = api.send("/events", {"events": [of("a", page()), of("b", page())]})
    assert set(data(answer)) == {"profiles"}
    assert [profile["id"] for profile in data(answer)["profiles"]] == ["a", "b"]


def test_a_batch_answers_each_profile_once_in_the_order_of_their_first_events(api: Api) -> None:
    profiles = api.batch(of("b", page()), of("a", page()), of("b", identify(traits={"x": 1})))
    assert [(profile["id"], profile["traits"]) for profile in profiles] == [("b", {"x": 1}), ("a", {})]


def test_a_batch_through_an_alias_and_the_id_answers_one_profile(api: Api) -> None:
    api.update("visitor", identify("user"))
    assert [profile["id"] for profile in api.batch(of("user", page()), of("visitor", page()))] == ["visitor"]


def test_the_import_endpoint_answers_no_data_and_applies_the_events(api: Api) -> None:
    answer = api.send("/import/events", {"events": [of("visitor", identify("user", {"a": 1}))]})
    assert answer.json == {"data": {}, "error": None, "message": "ok"}
    assert api.profile("user")["traits"] == {"a": 1}


@pytest.mark.parametrize("path", ["/profiles", "/profiles/some", "/events", "/import/events"])
def test_every_event_type_is_accepted_by_every_endpoint(api: Api, path: str) -> None:
    events = [
        page(),
        track(),
        identify("user"),
        component("x", 0),
        event("screen"),
        event("group"),
        event("alias"),
        event("component_click"),
        event("component_hover"),
    ]
    assert api.send(path, {"events": [of("some", sent) for sent in events]}).status_code == 200


# Statuses and codes


def test_an_unknown_profile_is_404(api: Api) -> None:
    for method in ("GET", "DELETE"):
        answer = api.request(method, "/profiles/nobody")
        assert error(answer, 404) == "ERR_PROFILE_NOT_FOUND"
        assert "nobody" in answer.json["message"]
        assert answer.json["data"] == {}


def test_an_unknown_organization_or_environment_is_404_where_they_are_restricted(make_server: MakeServer) -> None:
    server = make_server(environments=["org/main"])
    assert server.environment("org", "main").create(page())
    for organization, environment in (("org", "other"), ("other", "main"), ("org", "Main"), ("org/main", "x")):
        stranger = server.environment(organization, environment)
        requests: list[tuple[str, str, Any]] = [
            ("POST", "/profiles", {"events": [page()]}),
            ("POST", "/profiles/visitor", {"events": [page()]}),
            ("GET", "/profiles/visitor", None),
            ("DELETE", "/profiles/visitor", None),
            ("POST", "/events", {"events": [of("visitor", page())]}),
            ("POST", "/import/events", {"events": [of("visitor", page())]}),
        ]
        for method, path, body in requests:
            code = error(stranger.request(method, path, json=body) if body else stranger.request(method, path), 404)
            assert code == ("ERR_NOT_FOUND" if "/" in organization else "ERR_CONFIG_NOT_FOUND")


def test_any_organization_and_environment_is_served_by_default(api: Api) -> None:
    assert api.server.environment("whoever", "wherever").create(page())


def test_a_profile_of_another_environment_is_as_unknown_as_any_other(api: Api) -> None:
    api.update("visitor", identify("user"))
    other = api.server.environment()
    there = other.request("GET", "/profiles/visitor")
    assert error(there, 404) == "ERR_PROFILE_NOT_FOUND"
    never = other.request("GET", "/profiles/nobody")
    assert there.json["message"].replace("visitor", "nobody") == never.json["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v2",
        "/v1/organizations/o/environments/e/profiles",
        "/v2/organizations/o/environments/e",
        "/v2/organizations/o/environments/e/profile",
        "/v2/organizations/o/environments/e/import",
        "/v2/organizations/o/environments/e/events/more",
        "/v2/organizations//environments/e/nothing",
        "/health",
        "/" + "x" * 10_000,
        "/\N{PILE OF POO}",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_route_is_404_in_the_envelope(api: Api, method: str, path: str) -> None:
    answer = api.request(method, path, whole_path=True)
    assert error(answer, 404) == "ERR_NOT_FOUND"
    assert len(answer.json["message"]) < 400


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_profile_without_a_name_is_an_unknown_route(api: Api, method: str) -> None:
    body = {"json": {"events": [page()]}} if method == "POST" else {}
    assert error(api.request(method, "/profiles/", **body), 404) == "ERR_NOT_FOUND"


@pytest.mark.parametrize(
    ("path", "methods", "allowed"),
    [
        ("/profiles", ["GET", "PUT", "PATCH", "DELETE", "HEAD"], "POST, OPTIONS"),
        ("/profiles/visitor", ["PUT", "PATCH", "HEAD"], "DELETE, GET, POST, OPTIONS"),
        ("/events", ["GET", "PUT", "DELETE"], "POST, OPTIONS"),
        ("/import/events", ["GET", "PUT", "DELETE"], "POST, OPTIONS"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_are_right(
    api: Api, path: str, methods: Sequence[str], allowed: str
) -> None:
    for method in methods:
        answer = api.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == allowed
        if method != "HEAD":
            assert error(answer, 405) == "ERR_METHOD_NOT_ALLOWED"
            assert method in answer.json["message"]


class BrokenStore:
    """A store that cannot serve, for the reason that a test gives it."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason

    def read(self, key: Key) -> StoreEntry:
        return StoreEntry(None, 0, list)

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        raise self.reason

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        raise self.reason

    def check(self) -> None:
        raise self.reason

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        (ProfileOverload("too many writers"), 429, "ERR_PROFILE_OVERLOAD"),
        (StoreUnavailable("the disk is full"), 503, "ERR_INTERNAL_SERVER_ERROR"),
    ],
)
def test_trouble_of_the_store_is_said_with_its_own_status(
    make_server: MakeServer, reason: Exception, status: int, code: str
) -> None:
    api = make_server(store=BrokenStore(reason)).environment()
    for path in ("/profiles", "/profiles/visitor", "/events", "/import/events"):
        answer = api.send(path, {"events": [of("visitor", page())]})
        assert error(answer, status) == code
        assert answer.json["message"] == str(reason)


def test_a_request_that_may_be_repeated_says_when(make_server: MakeServer) -> None:
    api = make_server(store=BrokenStore(StoreUnavailable("locked"))).environment()
    assert api.send("/profiles", {"events": [page()]}).headers["retry-after"] == "1"


def test_an_unexpected_failure_is_500_and_tells_nothing_of_the_code(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    api = make_server(store=BrokenStore(RuntimeError("secret detail"))).environment()
    with caplog.at_level(logging.DEBUG, "ninetailed_wsgi"):
        answer = api.send("/profiles", {"events": [page()]})
    assert error(answer, 500) == "ERR_INTERNAL_SERVER_ERROR"
    for word in ("Traceback", "secret detail", "RuntimeError", ".py"):
        assert word not in answer.text
    logged = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert len(logged) == 1
    assert answer.headers["traceparent"] in logged[0].getMessage()
    assert "builtins.RuntimeError" in logged[0].getMessage()
    assert "secret detail" not in logged[0].getMessage()  # it may be a visitor's; who asks for DEBUG sees it
    assert "secret detail" in caplog.text


def test_data_files_that_another_process_keeps_locked_are_503_and_nothing_is_stored(make_server: MakeServer) -> None:
    server = make_server()
    api = server.environment()
    api.batch(*(of(f"visitor-{number}", page()) for number in range(20)))
    locks = [sqlite3.connect(file, isolation_level=None) for file in server.folder.glob("*/cache.db")]
    assert len(locks) == 2
    try:
        for lock in locks:
            lock.execute("BEGIN IMMEDIATE")
        answer = api.update_answer("visitor-1", identify(traits={"lost": True}))
        assert error(answer, 503) == "ERR_INTERNAL_SERVER_ERROR"
        assert api.profile("visitor-1")["traits"] == {}
    finally:
        for lock in locks:
            lock.close()
    assert api.update("visitor-1", identify(traits={"kept": True}))["profile"]["traits"] == {"kept": True}


# The query


def test_any_other_type_than_preflight_is_400(api: Api) -> None:
    for path in ("/profiles", "/profiles/visitor"):
        for kind in ("", "Preflight", "preflight ", "real", "x" * 10_000, "\N{GRINNING FACE}"):
            message = refusal(api.send(path, {"events": [page()]}, params={"type": kind}))
            assert message.startswith("query.type: ")
            assert '"preflight"' in message
            assert len(message) < 300
    assert not api.knows("visitor")


def test_the_locale_names_places_in_the_language_of_the_visitor(api: Api) -> None:
    def city(**options: Any) -> str:
        found: str = api.create(page(), features=["location"], remote_addr=TOKYO, **options)["profile"]["location"][
            "city"
        ]
        return found

    assert city() == "Tokyo"
    assert city(params={"locale": "de"}) == "Tokio"
    assert city(params={"locale": "de-AT"}) == "Tokio"
    assert city(params={"locale": "ja"}) == "東京"
    assert city(params={"locale": "sv"}) == "Tokyo"


@pytest.mark.parametrize("locale", ["", " ", "-", "x" * 10_000, "de_AT.UTF-8", "../etc", "\0", "\N{GRINNING FACE}"])
def test_a_locale_that_is_none_means_english(api: Api, locale: str) -> None:
    answered = api.create(page(), features=["location"], remote_addr=TOKYO, params={"locale": locale})
    assert answered["profile"]["location"]["city"] in ("Tokyo", "Tokio")


def test_unknown_members_of_the_query_are_tolerated(api: Api) -> None:
    assert api.create(page(), params={"foo": "bar", "locale": "en", "debug": ""})


# The body


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "text/plain",
        "text/plain;charset=UTF-8",
        "text/plain; charset=utf-8",
        "TEXT/PLAIN",
        None,
    ],
)
def test_a_body_is_json_whichever_media_type_says_so(api: Api, media_type: str | None) -> None:
    body = {"events": [of("jürgen", identify(traits={"städte": ["Köln", "東京"]}))]}
    assert data(api.send("/profiles/someone", body, media_type=media_type))["profile"]["traits"] == {
        "städte": ["Köln", "東京"]
    }
    assert data(api.send("/events", body, media_type=media_type))["profiles"][0]["id"] == "jürgen"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"features": []},
        {"features": ["location"]},
        {"unknown": {"member": 1}},
        {"features": ["ip-enrichment"]},
        {"features": ["location", "ip-enrichment"]},
    ],
)
def test_options_are_accepted(api: Api, options: dict[str, Any]) -> None:
    assert data(api.send("/profiles", {"events": [page()], "options": options}))


@pytest.mark.parametrize("path", ["/events", "/import/events"])
@pytest.mark.parametrize("options", [{}, {"features": ["location"]}, {"features": ["unknown"]}, None, "any"])
def test_the_batch_endpoints_accept_options_and_ignore_them(api: Api, path: str, options: Any) -> None:
    answer = api.send(path, {"events": [of("visitor", page())], "options": options}, remote_addr=TOKYO)
    assert answer.status_code == 200
    assert api.profile("visitor")["location"] == {}


def test_unknown_members_anywhere_are_tolerated(api: Api) -> None:
    sent = page(
        context={"new": 1, "page": {"path": "/", "new": [1]}, "app": {"name": "a", "version": "1", "new": {}}},
        new={"deep": [{"er": None}]},
        integrations={"All": True},
        properties={"nested": {"a": [1, {"b": None}]}, "nothing": None},
    )
    assert data(api.send("/profiles", {"events": [sent], "sentAt": "never", "batch": [1]}))


def test_a_preflight_answers_the_profile_and_stores_nothing(api: Api) -> None:
    answered = api.update("visitor", page(), identify("user", {"a": 1}), params={"type": "preflight"})
    assert answered["profile"]["traits"] == {"a": 1}
    assert answered["profile"]["session"]["count"] == 1
    assert not api.knows("visitor")
    assert not api.knows("user")


def test_the_id_that_a_preflight_answers_is_created_by_a_later_real_request(api: Api) -> None:
    answered = api.create(page(), params={"type": "preflight"})["profile"]
    assert not api.knows(answered["id"])
    created = api.update(answered["id"], page())["profile"]
    assert (created["id"], created["stableId"], created["random"]) == (
        answered["id"],
        answered["stableId"],
        answered["random"],
    )


# Limits


def identifies(number: int) -> list[dict[str, Any]]:
    return [identify(traits={f"trait-{index}": index}) for index in range(number)]


def tracks(number: int) -> list[dict[str, Any]]:
    return [track() for _ in range(number)]


def send_all(api: Api, path: str, events: Sequence[dict[str, Any]], names: Sequence[str] = ("visitor",)) -> Result:
    events = [of(names[index % len(names)], sent) for index, sent in enumerate(events)]
    return api.send(path, {"events": events})


LIMITED = ["/profiles", "/profiles/visitor", "/events", "/import/events"]


@pytest.mark.parametrize("path", LIMITED)
def test_200_events_are_accepted(api: Api, path: str) -> None:
    assert send_all(api, path, tracks(200)).status_code == 200


@pytest.mark.parametrize("path", LIMITED)
def test_201_events_are_refused_and_none_is_stored(api: Api, path: str) -> None:
    message = refusal(send_all(api, path, [identify(traits={"a": 1}), *tracks(200)]))
    assert "events: found a list of 201 members" in message
    assert "200" in message
    assert not api.knows("visitor")


@pytest.mark.parametrize("path", LIMITED)
def test_no_events_at_all_are_refused(api: Api, path: str) -> None:
    assert "events: found an empty list" in refusal(api.send(path, {"events": []}))


@pytest.mark.parametrize("path", LIMITED)
def test_50_identify_events_are_accepted(api: Api, path: str) -> None:
    assert send_all(api, path, [*identifies(50), *tracks(150)]).status_code == 200
    if path != "/profiles":
        assert len(api.profile("visitor")["traits"]) == 50


@pytest.mark.parametrize("path", LIMITED)
def test_51_identify_events_are_refused_and_none_is_stored(api: Api, path: str) -> None:
    message = refusal(send_all(api, path, [*tracks(3), *identifies(51)]))
    assert "identify" in message
    assert "50" in message
    assert not api.knows("visitor")


@pytest.mark.parametrize("path", ["/events", "/import/events"])
def test_50_profiles_in_one_batch_are_accepted(api: Api, path: str) -> None:
    assert send_all(api, path, tracks(200), [f"visitor-{index}" for index in range(50)]).status_code == 200
    assert api.knows("visitor-49")


@pytest.mark.parametrize("path", ["/events", "/import/events"])
def test_51_profiles_in_one_batch_are_refused_and_none_is_stored(api: Api, path: str) -> None:
    names = [f"visitor-{index}" for index in range(51)]
    message = refusal(send_all(api, path, tracks(51), names))
    assert "51" in message
    assert "50" in message
    assert "anonymousId" in message
    assert not any(api.knows(name) for name in names)


def test_one_bad_event_among_good_ones_stores_none_of_them(api: Api) -> None:
    bad = identify(traits={})
    bad["traits"] = []
    message = refusal(api.send("/events", {"events": [of("a", page()), of("b", identify("user")), of("c", bad)]}))
    assert "events[2].traits" in message
    assert not any(api.knows(name) for name in ("a", "b", "c", "user"))


# CORS


def test_a_cors_preflight_is_204_with_methods_headers_and_a_max_age(api: Api) -> None:
    for path in ("/profiles", "/profiles/visitor", "/profiles/a%2Fb", "/events", "/import/events"):
        asked = {"Origin": URL_OF_SITE, "Access-Control-Request-Method": "POST"}
        answer = api.request("OPTIONS", path, headers=asked)
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == "*"
        assert listed(answer, "access-control-allow-methods") == ["DELETE", "GET", "OPTIONS", "POST"]
        assert listed(answer, "access-control-allow-headers") == [
            "Authorization",
            "Content-Type",
            "If-None-Match",
            "X-Force-IP",
        ]
        assert int(answer.headers["access-control-max-age"]) > 0
        assert "access-control-allow-credentials" not in answer.headers


URL_OF_SITE = "https://shop.example"


def listed(answer: Result, header: str) -> list[str]:
    return sorted(answer.headers[header].split(", "))


def test_every_origin_may_read_every_answer_by_default(api: Api) -> None:
    for answer in every_kind_of_answer(api, {"Origin": URL_OF_SITE}):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers


def test_only_configured_origins_may_read_answers(make_server: MakeServer) -> None:
    api = make_server(cors_origins=(URL_OF_SITE, "https://other.example")).environment()
    for answer in every_kind_of_answer(api, {"Origin": URL_OF_SITE}):
        assert answer.headers["access-control-allow-origin"] == URL_OF_SITE
        assert "Origin" in answer.headers["vary"]
    for origin in ("https://evil.example", "null", URL_OF_SITE + ".evil.example", "http://shop.example", ""):
        for answer in every_kind_of_answer(api, {"Origin": origin}):
            assert "access-control-allow-origin" not in answer.headers
            assert "Origin" in answer.headers["vary"]


def every_kind_of_answer(api: Api, headers: dict[str, str]) -> list[Result]:
    """An answer of each status that a client can bring about."""
    good = {"events": [of("visitor", page())]}
    return [
        api.send("/profiles", good, headers=headers),
        api.send("/events", good, headers=headers),
        api.request("OPTIONS", "/profiles", headers=headers),
        api.request("GET", "/profiles/nobody", headers=headers),
        api.send("/profiles", b"rubbish", headers=headers),
        api.request("POST", "/profiles", headers={**headers, "Content-Length": "99999999"}),
        api.request("GET", "/nowhere", headers=headers, whole_path=True),
        api.request("PUT", "/profiles", headers=headers),
        api.request("GET", "/health/live", headers=headers, whole_path=True),
        api.request("GET", "/openapi.json", headers=headers, whole_path=True),
    ]


def test_the_answers_above_are_of_every_kind(api: Api) -> None:
    assert {answer.status_code for answer in every_kind_of_answer(api, {})} == {200, 204, 400, 404, 405, 413}


# Trace context


def test_a_given_traceparent_is_continued_by_every_answer(api: Api) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for answer in every_kind_of_answer(api, {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}):
        version, answered, parent, flags = answer.headers["traceparent"].split("-")
        assert (version, answered, flags) == ("00", trace, "01")
        assert parent != "00f067aa0ba902b7"


def test_a_trace_that_is_not_sampled_stays_so(api: Api) -> None:
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    assert api.request("GET", "/profiles/x", headers={"traceparent": given}).headers["traceparent"].endswith("-00")


def test_every_answer_without_a_given_traceparent_has_one_of_its_own(api: Api) -> None:
    answers = every_kind_of_answer(api, {})
    assert len({answer.headers["traceparent"].split("-")[1] for answer in answers}) == len(answers)


@pytest.mark.parametrize(
    "rubbish",
    [
        "",
        "rubbish",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "0" * 50_000,
    ],
)
def test_a_traceparent_that_is_none_is_ignored(api: Api, rubbish: str) -> None:
    answered = api.request("GET", "/profiles/x", headers={"traceparent": rubbish}).headers["traceparent"]
    assert "4bf92f3577b34da6a3ce929d0e0e4736" not in answered.lower()


def test_a_traceparent_of_a_later_version_is_continued(api: Api) -> None:
    given = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"
    answered = api.request("GET", "/profiles/x", headers={"traceparent": given}).headers["traceparent"]
    assert answered.startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")


# Health and description


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_a_service_that_can_serve_says_so(api: Api, path: str) -> None:
    assert data(api.request("GET", path, whole_path=True)) == {}
    head = api.request("HEAD", path, whole_path=True)
    assert (head.status_code, head.content) == (200, b"")


def test_the_log_says_why_requests_are_answered_503_once_for_many(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    api = make_server(store=BrokenStore(StoreUnavailable("the disk is full"))).environment()
    answers = [api.send("/profiles", {"events": [page()]}) for _ in range(5)]
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    traceparent = answers[0].headers["traceparent"]
    assert said == [f"requests are answered 503: the disk is full; traceparent {traceparent}"]


def test_readiness_is_503_with_the_reason_while_the_store_cannot_serve_and_the_process_lives(
    make_server: MakeServer,
) -> None:
    api = make_server(store=BrokenStore(StoreUnavailable("the data folder was removed"))).environment()
    answer = api.request("GET", "/health/ready", whole_path=True)
    assert error(answer, 503) == "ERR_INTERNAL_SERVER_ERROR"
    assert answer.json["message"] == "the data folder was removed"
    assert data(api.request("GET", "/health/live", whole_path=True)) == {}


def test_the_api_describes_itself(api: Api) -> None:
    answer = api.request("GET", "/openapi.json", whole_path=True)
    document = answer.json
    assert document["openapi"].startswith("3.1")
    prefix = "/v2/organizations/{organizationId}/environments/{environmentSlug}"
    paths = {path: {*item} & {"get", "post", "delete"} for path, item in document["paths"].items()}
    assert paths[prefix + "/profiles"] == {"post"}
    assert paths[prefix + "/events"] == {"post"}
    assert paths[prefix + "/import/events"] == {"post"}
    assert {"get", "post", "delete"} in [methods for path, methods in paths.items() if path.startswith(prefix)]
    assert document["components"]["schemas"].keys() >= {
        name for name in Schemas().documents if name in ("profile", "event-page", "error-response")
    }


def test_no_request_needs_or_looks_at_an_authorization_header(api: Api) -> None:
    assert api.create(page(), headers={"Authorization": "Bearer rubbish"}, remote_addr=NOWHERE)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_where_explain_is_served_it_can_only_be_read(make_server: Callable[..., Server], method: str) -> None:
    explaining = make_server(explain=True).environment()
    explaining.update("visitor", page())
    answer = explaining.request(method, "/profiles/visitor/explain")
    assert error(answer, 405) == "ERR_METHOD_NOT_ALLOWED"
    assert answer.headers["allow"] == "GET, OPTIONS"


def test_where_explain_is_not_served_an_id_may_end_like_it(api: Api) -> None:
    assert api.update("visitor/explain", page())["profile"]["id"] == "visitor/explain"
    api.delete("visitor/explain")
