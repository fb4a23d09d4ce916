"""The SDK for browsers, unchanged: the same visits alone, with each plugin, in React and in Next.js."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from support import Once

from tests.sdk.client import FOLDER
from tests.serving import ROOT, serving

PARTS = {
    "sdk": "experience.js 7.26",
    "react": "experience.js-react 7.26",
    "next": "experience.js-next 7.26",
    **{part: f"experience.js-plugin-{part} 7.26" for part in ("ssr", "privacy", "preview", "insights")},
}
"""What the same visits are played with: the SDK alone, in React, in Next.js, or with one of its plugins."""


def with_each(*operations: str, parts: Iterable[str] = tuple(PARTS)) -> pytest.MarkDecorator:
    """Run a test with the visits of these parts, each of which it shows to do the operations."""
    marks = {part: [pytest.mark.client(PARTS[part], *operations, how="client")] * bool(operations) for part in parts}
    return pytest.mark.parametrize(
        "played", [pytest.param(part, marks=marks[part], id=part) for part in parts], indirect=True
    )


def mapped(entry_id: str) -> dict[str, Any]:
    """A published experience as the SDK's mappers make it."""
    space = json.loads((ROOT / "fixtures" / "spaces" / "shop-generic.json").read_text())
    [found] = [each for each in space["experiences"] if each["id"] == entry_id]
    config, start, ranges = found["config"], 0.0, []
    for index, share in enumerate(config["distribution"]):
        ranges.append({"index": index, "start": start, "end": start + share})
        start += share
    return {
        "id": found["id"],
        "name": found["name"],
        "type": found["type"],
        "audience": found["audience"] and {"id": found["audience"]["id"]},
        "trafficAllocation": config["traffic"],
        "distribution": ranges,
        "sticky": config.get("sticky", False),
        "components": config["components"],
    }


@pytest.fixture(scope="session")
def visits(node: str, once: Once) -> dict[str, dict[str, Any]]:
    """The visits as each part played them: what the SDK knows after each step, and what it sent."""

    def play(folder: Path) -> dict[str, dict[str, Any]]:
        content = ROOT / "fixtures" / "spaces" / "shop.json"
        with serving(folder, "--content", str(content)) as server:
            experiences = [mapped("member-greeting"), mapped("quiet-spenders")]
            order = json.dumps({"url": server.url, "experiences": experiences, "parts": list(PARTS)})
            done = subprocess.run(
                [node, "browser.js"], cwd=FOLDER, input=order, capture_output=True, text=True, timeout=300, check=True
            )
        played: dict[str, dict[str, Any]] = json.loads(done.stdout)
        return played

    visits: dict[str, dict[str, Any]] = once("browser", play)
    return visits


@pytest.fixture
def played(request: pytest.FixtureRequest, visits: dict[str, dict[str, Any]]) -> dict[str, Any]:
    visit = visits[request.param]
    assert "failed" not in visit, visit["failed"]
    return visit


@pytest.fixture
def told(played: dict[str, Any]) -> dict[str, Any]:
    steps: dict[str, Any] = played["told"]
    return steps


def greeting(state: dict[str, Any]) -> int:
    [index] = [each["variantIndex"] for each in state["experiences"] if each["experienceId"] == "member-greeting"]
    return int(index)


@with_each()
def test_every_request_succeeded_and_nothing_was_reported_as_an_error(played: dict[str, Any]) -> None:
    assert {status for _, _, status, _ in played["sent"]} == {200}
    assert played["errors"] == []


@with_each("create", "update", "locale")
def test_a_page_creates_a_visitor_and_an_event_updates_them(played: dict[str, Any], told: dict[str, Any]) -> None:
    assert told["create"]["status"] == "success"
    assert told["update"]["id"] == told["create"]["id"]
    assert "cart-abandoners" in told["update"]["audiences"]
    assert played["sent"][0][3] == "?locale=de"


@with_each("create", "update", "identify", "sticky", "batch", "merge", "reset", parts=["ssr"])
def test_the_cookie_follows_the_visitor(told: dict[str, Any]) -> None:
    for step in ("create", "update", "identify", "sticky", "batch", "second", "merge", "anew"):
        assert told[step]["cookie"] == f"ntaid={told[step]['id']}"


@with_each("identify", "flags")
def test_traits_decide_and_flags_arrive_with_their_types(told: dict[str, Any]) -> None:
    assert told["identify"]["traits"] == {"plan": "member"}
    assert "members" in told["identify"]["audiences"]
    values = {each["key"]: each["value"] for each in told["identify"]["changes"]}
    assert values["free-shipping-from"] == 30
    assert isinstance(values["guest-checkout"], bool)


@with_each("sticky", "batch")
def test_the_variant_that_was_seen_is_kept(told: dict[str, Any]) -> None:
    assert greeting(told["batch"]) == greeting(told["merge"]) == 3 - greeting(told["identify"])
    assert "big-spenders" in told["merge"]["audiences"]


# The plugin for previews replaces the selection by its own, which knows of no sticky variant.
@with_each("sticky", parts=[part for part in PARTS if part != "preview"])
def test_the_sdk_selects_the_variant_that_was_seen(told: dict[str, Any]) -> None:
    assert told["selected"] == {"index": greeting(told["batch"])}


@with_each("hidden variants")
def test_a_hidden_variant_is_an_empty_text(told: dict[str, Any]) -> None:
    [quiet] = [each for each in told["batch"]["experiences"] if each["experienceId"] == "quiet-spenders"]
    assert quiet["variants"] == {"banner": ""}


@with_each("merge")
def test_a_second_device_becomes_the_same_visitor(told: dict[str, Any]) -> None:
    assert told["second"]["id"] != told["create"]["id"]
    assert told["merge"]["id"] == told["create"]["id"]
    assert told["merge"]["traits"] == {"plan": "member"}


@with_each("create", parts=["preview"])
def test_the_preview_plugin_forces_a_variant_of_an_answer(told: dict[str, Any]) -> None:
    assert told["previewed"]["status"] == "success"
    assert told["preview"] == {"index": 2}


@with_each("consent")
def test_without_consent_nothing_is_sent_and_with_it_a_visitor_begins(told: dict[str, Any]) -> None:
    assert told["withoutConsent"]["requests"] == 0
    assert told["consent"]["traits"] == {"newsletter": True}


@with_each("reset")
def test_after_a_reset_the_next_page_begins_another_visitor(told: dict[str, Any]) -> None:
    assert told["anew"]["id"] not in (told["create"]["id"], told["second"]["id"])
    assert told["anew"]["traits"] == {}


@with_each("create", "update", "identify", "flags", "sticky", "hidden variants", parts=["react", "next"])
def test_components_show_what_the_answer_chose(told: dict[str, Any]) -> None:
    assert told["create"]["page"]["greeting"] == "greeting"
    assert told["create"]["page"]["plan"] == "nobody"
    assert told["create"]["page"]["banner"] == "banner"
    page = told["batch"]["page"]
    assert page["greeting"] == ["greeting", "greeting-member", "greeting-club"][3 - greeting(told["identify"])]
    assert (page["plan"], page["banner"]) == ("member", "")
    assert json.loads(told["identify"]["page"]["flag"]) == {"value": 30, "status": "success", "error": None}


@with_each("update", parts=["next"])
def test_the_package_for_next_js_sends_a_page_event_for_each_route(told: dict[str, Any]) -> None:
    assert "pricing-visitors" in told["routes"]["audiences"]
