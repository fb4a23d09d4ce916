"""The SDK for browsers with its plugins and the SDK for Node, unchanged: visits played by one node process."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.sdk.client import FOLDER
from tests.serving import ROOT, serving

SDK, SSR, PRIVACY, PREVIEW, INSIGHTS = (
    f"experience.js{plugin} 7.26"
    for plugin in ("", "-plugin-ssr", "-plugin-privacy", "-plugin-preview", "-plugin-insights")
)
NODE = "experience.js-node 7.23"


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
        "sticky": config["sticky"],
        "components": config["components"],
    }


@pytest.fixture(scope="module")
def played(node: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the SDK knows after each step, and what it sent."""
    content = ROOT / "fixtures" / "spaces" / "shop.json"
    with serving(tmp_path_factory.mktemp("browser"), "--content", str(content)) as server:
        order = json.dumps({"url": server.url, "experiences": [mapped("member-greeting")]})
        done = subprocess.run(
            [node, "browser.js"],
            cwd=FOLDER,
            input=order + "\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    told: dict[str, Any] = json.loads(done.stdout)
    assert "failed" not in told, told["failed"]
    return told


@pytest.fixture
def told(played: dict[str, Any]) -> dict[str, Any]:
    steps: dict[str, Any] = played["told"]
    return steps


def greeting(state: dict[str, Any]) -> int:
    [index] = [each["variantIndex"] for each in state["experiences"] if each["experienceId"] == "member-greeting"]
    return int(index)


def test_every_request_succeeded_and_nothing_was_reported_as_an_error(played: dict[str, Any]) -> None:
    assert {status for _, _, status, _ in played["sent"]} == {200}
    assert played["errors"] == []


@pytest.mark.client(SDK, "create", "update", "locale", how="client")
def test_a_page_creates_a_visitor_and_an_event_updates_them(played: dict[str, Any], told: dict[str, Any]) -> None:
    assert told["create"]["status"] == "success"
    assert told["update"]["id"] == told["create"]["id"]
    assert "cart-abandoners" in told["update"]["audiences"]
    assert played["sent"][0][3] == "?locale=de"


@pytest.mark.client(SSR, "create", "merge", "reset", how="client")
def test_the_cookie_follows_the_visitor(told: dict[str, Any]) -> None:
    for step in ("create", "update", "second", "merge", "anew"):
        assert told[step]["cookie"] == f"ntaid={told[step]['id']}"


@pytest.mark.client(SDK, "identify", "flags", how="client")
def test_traits_decide_and_flags_arrive_with_their_types(told: dict[str, Any]) -> None:
    assert told["identify"]["traits"] == {"plan": "member"}
    assert "members" in told["identify"]["audiences"]
    values = {each["key"]: each["value"] for each in told["identify"]["changes"]}
    assert values["free-shipping-from"] == 30
    assert isinstance(values["guest-checkout"], bool)


@pytest.mark.client(SDK, "sticky", "batch", how="client")
def test_the_variant_that_was_seen_is_kept_and_selected(told: dict[str, Any]) -> None:
    seen = 3 - greeting(told["identify"])
    assert greeting(told["batch"]) == greeting(told["merge"]) == told["selected"]["index"] == seen
    assert "big-spenders" in told["merge"]["audiences"]


@pytest.mark.client(SDK, "hidden variants", how="client")
def test_a_hidden_variant_is_an_empty_text(told: dict[str, Any]) -> None:
    [quiet] = [each for each in told["batch"]["experiences"] if each["experienceId"] == "quiet-spenders"]
    assert quiet["variants"] == {"banner": ""}


@pytest.mark.client(SDK, "merge", how="client")
@pytest.mark.client(INSIGHTS, "create", "update", "identify", how="client")
def test_a_second_device_becomes_the_same_visitor(told: dict[str, Any]) -> None:
    assert told["second"]["id"] != told["create"]["id"]
    assert told["merge"]["id"] == told["create"]["id"]
    assert told["merge"]["traits"] == {"plan": "member"}


@pytest.mark.client(PREVIEW, "create", how="client")
def test_the_preview_plugin_forces_a_variant_of_an_answer(told: dict[str, Any]) -> None:
    assert told["previewed"]["status"] == "success"
    assert told["preview"] == {"index": 2}


@pytest.mark.client(PRIVACY, "consent", how="client")
@pytest.mark.client(SDK, "consent", how="client")
def test_without_consent_nothing_is_sent_and_with_it_a_visitor_begins(told: dict[str, Any]) -> None:
    assert told["withoutConsent"]["requests"] == 0
    assert told["consent"]["traits"] == {"newsletter": True}


@pytest.mark.client(SDK, "reset", how="client")
def test_after_a_reset_the_next_page_begins_another_visitor(told: dict[str, Any]) -> None:
    assert told["anew"]["id"] not in (told["create"]["id"], told["second"]["id"])
    assert told["anew"]["traits"] == {}


@pytest.mark.client(NODE, "create", "update", "identify", "merge", "batch", how="client")
def test_the_sdk_for_node_creates_updates_and_merges_through_batches(told: dict[str, Any]) -> None:
    node = told["node"]
    assert (node["identified"]["id"], node["identified"]["traits"]) == ("from-node", {"plan": "member"})
    assert "cart-abandoners" in node["tracked"]["audiences"]
    assert node["merged"]["id"] == node["read"]["profile"]["id"] == told["create"]["id"]
