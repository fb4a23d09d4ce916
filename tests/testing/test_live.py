"""The live server: a harness over HTTP, with its controls, for browsers and SDKs in other languages."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ninetailed_wsgi.testing import Harness, LiveServer, assert_conforms, audience, experience, viewed

HERO = experience("hero", ["hero-b"], audience=audience(viewed("/pricing"), id="pricing-visitors"))


@pytest.fixture
def server() -> Iterator[LiveServer]:
    with Harness([HERO]) as harness, LiveServer(harness) as server:
        yield server


def call(method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> tuple[int, Any, Any]:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "text/plain", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.headers, json.loads(response.read() or "null")
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers, json.loads(refused.read())


def page(message_id: str, path: str = "/pricing") -> dict[str, Any]:
    return {
        "type": "page",
        "channel": "web",
        "messageId": message_id,
        "context": {"library": {"name": "tests", "version": "4.0.0"}},
        "properties": {"path": path, "query": {}, "referrer": "", "search": "", "url": f"https://shop.example{path}"},
    }


def test_the_api_is_served_over_http(server: LiveServer) -> None:
    status, headers, document = call("POST", f"{server.api_url}/profiles/anna", {"events": [page("m-1")]})
    assert (status, headers["Vary"]) == (200, "Origin")
    assert_conforms(document, "profile-response")
    assert document["data"]["experiences"][0]["variants"] == {"hero": "hero-b"}
    assert server.harness.visitor("anna").variant("hero") == "hero-b"


def test_the_clock_is_moved_over_http(server: LiveServer) -> None:
    call("POST", f"{server.api_url}/profiles/anna", {"events": [page("m-1")]})
    moved = call("POST", f"{server.url}/control/clock", {"advance_seconds": 1860})[2]
    assert moved["data"] == {"now": "2026-01-05T12:31:00+00:00"}
    answer = call("POST", f"{server.api_url}/profiles/anna", {"events": [page("m-2")]})[2]
    assert answer["data"]["profile"]["session"]["count"] == 2
    call("POST", f"{server.url}/control/clock", {"now": "2027-01-01T00:00:00Z"})
    assert call("GET", f"{server.url}/control/clock")[2]["data"] == {"now": "2027-01-01T00:00:00+00:00"}


def test_an_outcome_is_forced_and_released_over_http(server: LiveServer) -> None:
    visitor = server.harness.visitor().views("/")
    assert call("POST", f"{server.url}/control/force", {"experience": "experience-hero", "variant": 1})[0] == 200
    assert visitor.variant("hero") == "hero-b"
    assert call("POST", f"{server.url}/control/force", {"experience": "experience-hero", "variant": None})[0] == 200
    assert visitor.variant("hero") == "hero"


def test_content_is_published_over_http(server: LiveServer) -> None:
    assert call("POST", f"{server.url}/control/content", [experience("button", ["button-b"])])[0] == 200
    assert call("POST", f"{server.url}/control/content", {"experiences": [experience("menu", ["menu-b"])]})[0] == 200
    visitor = server.harness.visitor().views("/")
    assert (visitor.variant("button"), visitor.variant("menu")) == ("button-b", "menu-b")


def test_events_are_read_and_everything_is_reset_over_http(server: LiveServer) -> None:
    call("POST", f"{server.api_url}/profiles/anna", {"events": [page("m-1")]})
    events = call("GET", f"{server.url}/control/events")[2]["data"]
    assert [(one["profile"], one["at"], one["event"]["messageId"]) for one in events] == [
        ("anna", "2026-01-05T12:00:00+00:00", "m-1")
    ]
    assert call("POST", f"{server.url}/control/reset")[0] == 200
    assert call("GET", f"{server.url}/control/events")[2]["data"] == []
    assert call("GET", f"{server.api_url}/profiles/anna")[0] == 404


@pytest.mark.parametrize("path", ["/control/events", "/v2/organizations/default/environments/main/profiles/nobody"])
def test_only_pages_of_loopback_origins_and_requests_for_loopback_hosts_are_answered(
    server: LiveServer, path: str
) -> None:
    for origin in ("http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443", "http://shop.localhost"):
        status, headers, _ = call("OPTIONS", server.url + path, headers={"Origin": origin})
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, origin)
        assert "POST" in headers["Access-Control-Allow-Methods"]
        assert call("GET", server.url + path, headers={"Origin": origin})[1]["Access-Control-Allow-Origin"] == origin
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "rebound.evil.example"},
    ):
        for method in ("GET", "OPTIONS"):
            status, answered, document = call(method, server.url + path, headers=headers)
            assert (status, document["error"]["code"]) == (403, "ERR_FORBIDDEN")
            assert "Access-Control-Allow-Origin" not in answered


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("clock", {}, "expected advance_seconds or now"),
        ("clock", {"advance_seconds": "5"}, "expected advance_seconds or now"),
        ("clock", {"advance_seconds": -5}, "a time of at least 0"),
        ("clock", {"advance_seconds": 1e300}, ""),
        ("clock", {"now": "soon"}, "soon"),
        ("clock", b"{", "not valid JSON"),
        ("clock", [], "expected advance_seconds or now"),
        ("force", {"experience": "experience-hro", "variant": 1}, "did you mean 'experience-hero'"),
        ("force", {"experience": "experience-hero", "variant": True}, "expected a variant index"),
        ("force", {"variant": 1}, "expected experience"),
        ("content", {"audiences": 5}, "audiences: found 5"),
    ],
)
def test_a_control_that_makes_no_sense_is_refused_with_a_reason(
    server: LiveServer, path: str, body: Any, message: str
) -> None:
    status, _, document = call("POST", f"{server.url}/control/{path}", body)
    assert (status, message in document["message"]) == (400, True), document
    assert_conforms(document, "error-response")


def test_an_unknown_control_route_names_the_known_ones(server: LiveServer) -> None:
    status, _, document = call("POST", f"{server.url}/control/clok", {})
    assert status == 404
    assert "POST /control/clock" in document["message"]


def test_the_harness_itself_has_no_control_routes(server: LiveServer) -> None:
    assert server.harness.client.call("GET", "/control/clock").status == 404


def test_many_callers_at_once_are_all_served(server: LiveServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        statuses = pool.map(
            lambda number: call("POST", f"{server.api_url}/profiles/v{number % 3}", {"events": [page(f"m-{number}")]})[
                0
            ],
            range(40),
        )
    assert set(statuses) == {200}
    assert len(server.harness.events) == 40


def test_a_site_of_ones_own_can_be_served_with_the_controls(server: LiveServer) -> None:
    def site(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(environ["PATH_INFO"]).encode()]

    with LiveServer(server.harness, site) as other:
        assert call("GET", f"{other.url}/page")[2] == "/page"
        assert call("GET", f"{other.url}/control/clock")[0] == 200


def test_a_closed_server_listens_no_more_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with Harness() as harness:
        with LiveServer(harness) as server:
            assert call("GET", f"{server.url}/health/live")[0] == 200
        with pytest.raises(urllib.error.URLError):
            call("GET", f"{server.url}/health/live")
    # A handler that has answered may take a moment to end.
    assert not any(thread.name.startswith("Thread") for thread in set(threading.enumerate()) - before if _lasts(thread))


def _lasts(thread: threading.Thread) -> bool:
    thread.join(60)
    return thread.is_alive()
