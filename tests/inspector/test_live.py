"""The live page: what comes in, with the decision and why, while somebody watches; else nothing is written."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from serving import serving, wait_until

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.service import live
from ninetailed_wsgi.testing import Client, Harness, audience, experience, viewed
from tests.inspector.test_inspector import HOSTILE, get, post, proof_of

SCHEMAS = Schemas()
READERS = audience(viewed("/journal"), id="readers", name="Readers")
CONTENT = [experience("hero", ["hero-b"], id="hero", name="Hero", audience=READERS)]
COMMON = {"channel": "web", "context": {"library": {"name": "x", "version": "7.0.0"}}}


def page(message: str, path: str = "/journal") -> dict[str, Any]:
    seen = {"path": path, "query": {}, "referrer": "", "search": "", "url": path}
    return {**COMMON, "type": "page", "messageId": message, "properties": seen}


def looks(harness: Harness, **fields: str) -> dict[str, Any]:
    """Look once, as a program does."""
    if fields:
        proof = proof_of(get(harness, "live"))
        answer = post(harness.client, "/inspector/live.json", {"proof": proof, **fields})
    else:
        answer = get(harness, "live.json")
    SCHEMAS.check("inspector-live", answer.document)
    data = answer.document["data"]
    assert isinstance(data, dict)
    return data


@pytest.fixture
def watched() -> Any:
    with Harness(CONTENT, inspector=True) as harness:
        assert looks(harness) == {"watching": False, "missed": 0, "arrivals": []}
        yield harness


def test_nothing_is_written_unless_somebody_watches(tmp_path: Path) -> None:
    with Harness(CONTENT, inspector=True) as harness:
        asked = 0
        store = harness.service.store

        class Counted:
            def watched_until(self) -> int:
                nonlocal asked
                asked += 1
                return int(store.arrivals.watched_until())  # type: ignore[attr-defined]

            def add(self, arrival: bytes) -> None:
                raise AssertionError("nobody watches")

        harness.service.live._arrivals = Counted  # type: ignore[union-attr, assignment]
        before = sorted(harness.settings.data_dir.rglob(".arrivals*"))
        for number in range(50):
            assert harness.client.post("/profiles", {"events": [page(f"m{number}")]}).status == 200
            assert harness.client.post("/profiles", {"events": [{}]}).status == 400
        assert sorted(harness.settings.data_dir.rglob(".arrivals*")) == before == []
        assert asked == 1, "others are asked once a second"
        harness.clock.advance(seconds=1)
        harness.client.post("/profiles", {"events": [page("later")]})
        assert asked == 2


def test_without_the_inspector_a_service_knows_nothing_of_it() -> None:
    with Harness(CONTENT) as harness:
        assert harness.service.live is None


def test_a_page_view_is_shown_with_what_was_decided_and_why(watched: Harness) -> None:
    made = watched.client.post("/profiles", {"events": [page("m")]}).document["data"]["profile"]["id"]
    (arrival,) = looks(watched)["arrivals"]
    assert (arrival["source"], arrival["profileId"], arrival["refused"]) == ("request", made, None)
    assert arrival["events"] == [{"type": "page", "what": "/journal"}]
    assert arrival["audiences"] == ["Readers"]
    assert arrival["experiences"] == [
        {
            "id": "hero",
            "name": "Hero",
            "variantIndex": 1,
            "why": 'In the audience "Readers": all who take part get this variant.',
        }
    ]
    text = get(watched, "live").body.decode()
    assert "/journal" in text
    assert "all who take part get this variant" in text
    assert f"/inspector/visitors/{made}" in text


def test_every_way_in_is_shown_and_what_is_refused_says_why(watched: Harness) -> None:
    client = watched.client
    client.post("/profiles?type=preflight", {"events": [page("1")]})
    client.post("/profiles/anna", {"events": [page("2")], "preview": {"experiences": {"hero": 0}}})
    client.post("/events", {"events": [{**page("3"), "anonymousId": "bob"}, {**page("4"), "anonymousId": "cleo"}]})
    client.post("/profiles/dora", {"events": [{**page("5"), "messageId": 5}]})
    client.post("/profiles", {"events": []})
    view = {**COMMON, "type": "component", "componentType": "Entry", "componentId": "hero-b", "messageId": "6",
            "experienceId": "hero", "variantIndex": 1}  # fmt: skip
    watched.insights.post("/events", [{"profile": {"id": "bob"}, "events": [view, {"type": "odd"}]}])
    watched.insights.post("/events", [{"profile": {"id": "nobody"}, "events": [view]}])
    arrivals = looks(watched)["arrivals"][::-1]
    told = [(each["source"], each["profileId"]) for each in arrivals]
    assert told[1:] == [("preview", "anna"), ("batch", "bob"), ("batch", "cleo"), ("request", "dora"),
                        ("request", ""), ("insights", "bob"), ("insights", "nobody")]  # fmt: skip
    assert told[0][0] == "preflight"
    assert arrivals[1]["experiences"][0]["why"] == "This preview shows it, whatever the rules say."
    assert "events[0].messageId: found the number 5" in arrivals[4]["refused"]
    assert arrivals[5]["refused"].startswith("400: ")
    assert arrivals[6]["outcome"] == "1 left out: not valid, 1 accepted"
    assert arrivals[6]["events"][0] == {"type": "component", "what": "hero-b, variant 1"}
    assert arrivals[7]["outcome"] == "1 left out: nobody has this profile id"
    text = get(watched, "live").body.decode()
    assert "Refused" in text


def test_pages_of_a_site_are_shown_too_and_what_they_record_wrongly(watched: Harness) -> None:
    def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        visitor = visitor_of(environ)
        visitor.page()
        visitor.track("order", price=9)
        shown = str(visitor.variant("hero")).encode()
        start_response("200 OK", [("Content-Type", "text/html")])
        return [shown]

    client = Client(watched.mount(site))
    assert client.call("GET", "/journal").body == b"hero-b"
    arrivals = looks(watched)["arrivals"]
    assert [event["type"] for each in arrivals for event in each["events"]].count("track") == 1
    assert {each["source"] for each in arrivals} <= {"request", "preflight"}


def test_the_panel_of_a_page_asks_why_and_nothing_comes_in(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret " * 8)

    def site(environ: Any, start_response: Any) -> list[bytes]:
        visitor_of(environ).page()
        start_response("200 OK", [("Content-Type", "text/html")])
        return [f"<html><body>{visitor_of(environ).variant('hero')}</body></html>".encode()]

    with Harness(CONTENT, inspector=True, identity_secret_file=secret) as harness:
        looks(harness)
        client = Client(harness.mount(site, panel=lambda environ: True))
        assert b'id="ninetailed-panel"' in client.call("GET", "/journal").body
        assert [each["source"] for each in looks(harness)["arrivals"]] == ["request"]


def test_a_filter_keeps_what_fits(watched: Harness) -> None:
    for name, path in (("anna", "/journal"), ("bob", "/Pricing")):
        watched.visitor(name).views(path)
    watched.visitor("bob").tracks("order")
    watched.visitor("bob").identifies("bob@example.com")

    def fitting(**fields: str) -> list[list[str]]:
        return [[event["what"] for event in each["events"]] for each in looks(watched, **fields)["arrivals"]]

    assert fitting(type="track") == [["order"]]
    assert fitting(text="pRIC") == [["/Pricing"]]
    assert fitting(visitor="an") == [["/journal"]]
    assert len(fitting(visitor="bob@example.com")) == 3
    assert fitting(type="page", text="journal", visitor="bob") == []


def test_a_watch_ends_by_itself_and_what_came_in_goes(watched: Harness) -> None:
    watched.visitor("anna").views("/journal")
    watched.clock.advance(seconds=16)
    watched.visitor("bob").views("/journal")
    assert looks(watched) == {"watching": False, "missed": 0, "arrivals": []}
    watched.visitor("cleo").views("/journal")
    assert [each["profileId"] for each in looks(watched)["arrivals"]] == ["cleo"]


def test_who_is_deleted_is_not_shown_any_more(watched: Harness) -> None:
    watched.visitor("anna").views("/journal")
    assert watched.client.delete("/profiles/anna").status == 200
    assert looks(watched)["arrivals"] == []
    watched.visitor("bob").views("/journal")
    assert len(looks(watched)["arrivals"]) == 1, "the watch goes on"


def test_those_who_watch_in_other_processes_end_nothing_though_their_clocks_differ(watched: Harness) -> None:
    where, service = watched.environment, watched.service
    assert service.live is not None

    def process(ahead: int) -> live.Live:
        return live.Live(lambda: service.store.arrivals, lambda: watched.clock() + ahead)  # type: ignore[attr-defined]

    watchers = [service.live, *[process(ahead) for ahead in (-3, 0, 2, 40, 900, 5000)]]
    for number in range(3):
        watched.client.post("/profiles", {"events": [page(f"m{number}", f"/{number}")]})
        for each in [*watchers, *reversed(watchers)]:
            seen = each.watch(where)
            assert seen["watching"], "the time that another process noted is not wrong"
            assert len(seen["arrivals"]) == number + 1
        watched.clock.advance(seconds=5)


def test_a_flood_is_counted_and_costs_no_more(watched: Harness) -> None:
    for number in range(80):
        watched.client.post("/profiles", {"events": [page(f"m{number}")]})
    watched.clock.advance(seconds=1)
    watched.client.post("/profiles", {"events": [page("last")]})
    seen = looks(watched)
    assert (len(seen["arrivals"]), seen["missed"]) == (51, 30)
    assert b"30 more arrived too quickly" in get(watched, "live").body
    assert len(get(watched, "live").body) < 30_000


def test_what_fails_while_it_is_noted_fails_no_request(
    watched: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object) -> Any:
        raise KeyError("a member that a record lacks")

    monkeypatch.setattr(live.previews, "explanation", broken)
    for number in range(2):
        assert watched.client.post("/profiles", {"events": [page(f"m{number}")]}).status == 200
    assert caplog.text.count("this is a bug") == 1


def test_what_strangers_sent_is_text_and_the_page_alone_has_a_script(watched: Harness) -> None:
    watched.client.post("/profiles", {"events": [page("m", HOSTILE)]})
    watched.client.post("/profiles", {"events": [{**page("m"), "messageId": 1, "type": HOSTILE}]})
    answer = get(watched, "live")
    body = answer.body.decode()
    policy = answer.headers["content-security-policy"]
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert body.count("<script") == 1
    assert f'<script nonce="{nonce}">' in body
    assert "connect-src 'self'" in policy
    assert "<img" not in body
    assert "\u202e" not in body
    assert "script-src" not in get(watched, "find").headers["content-security-policy"]


def test_who_watches_is_logged_by_name(caplog: pytest.LogCaptureFixture) -> None:
    with Harness(CONTENT, inspector=True, access="guarded") as harness, caplog.at_level(logging.INFO):
        assert get(harness, "live.json", Authorization=f"Bearer {harness.key('admin')}").status == 200
        assert "test watches the live page of the inspector" in caplog.text


def test_it_works_across_the_workers_of_a_server(tmp_path: Path) -> None:
    content = tmp_path / "content.json"
    content.write_text(json.dumps({"experiences": CONTENT, "audiences": [READERS]}), encoding="utf-8")
    options = ["--content", str(content), "--inspector", "--workers", "2", "--threads", "1"]
    with serving(tmp_path, *options) as server:
        prefix = "/v2/organizations/default/environments/main/profiles"
        sent = 0

        def all_are_seen() -> bool:
            """Send some requests, each on a connection of its own, so that both workers serve some of them."""
            nonlocal sent
            names = {f"visitor-{sent + number}" for number in range(10)}
            sent += 10
            for name in names:
                assert server.call("POST", f"{prefix}/{name}", {"events": [page(name)]}).status == 200
            arrivals = server.call("GET", "/inspector/live.json").json()["data"]["arrivals"]
            return names <= {each["profileId"] for each in arrivals}

        # A worker learns within a second that somebody watches.
        wait_until(all_are_seen, "what either worker served is seen")
