"""The SDK for Node, unchanged: a server that renders pages, and hands on in batches what its shop knows."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.sdk.client import FOLDER
from tests.serving import GEO, ROOT, serving

NODE = "experience.js-node 7.23"
TOKYO = "192.0.2.7"


@pytest.fixture(scope="module")
def told(node: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the SDK returned, by step."""
    content = str(ROOT / "fixtures" / "spaces" / "shop.json")
    with serving(tmp_path_factory.mktemp("node"), "--content", content, "--geoip-database", str(GEO)) as server:
        order = json.dumps({"url": server.url, "clientId": "acme", "environment": "main", "ip": TOKYO})
        done = subprocess.run(
            [node, "node.js"], cwd=FOLDER, input=order, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    steps: dict[str, Any] = json.loads(done.stdout)
    return steps


def indexes(answer: dict[str, Any]) -> dict[str, int]:
    return {each["experienceId"]: each["variantIndex"] for each in answer["experiences"]}


@pytest.mark.client(NODE, "create", "preflight", how="client")
def test_a_preflight_foresees_the_profile_that_the_same_events_create(told: dict[str, Any]) -> None:
    assert told["created"]["profile"]["id"] == told["foreseen"]["profile"]["id"]
    assert told["created"]["experiences"] == told["foreseen"]["experiences"]
    assert told["created"]["profile"]["session"]["count"] == 1


@pytest.mark.client(NODE, "update", "identify", how="client")
def test_an_update_adds_traits_that_decide(told: dict[str, Any]) -> None:
    assert told["member"]["profile"]["id"] == told["created"]["profile"]["id"]
    assert told["member"]["profile"]["traits"] == {"plan": "member"}
    assert "members" in told["member"]["profile"]["audiences"]


@pytest.mark.client(NODE, "sticky", how="client")
def test_the_variant_that_was_seen_is_kept(told: dict[str, Any]) -> None:
    seen = 3 - indexes(told["member"])["member-greeting"]
    assert [indexes(told[step])["member-greeting"] for step in ("seen", "spender", "read")] == [seen] * 3


@pytest.mark.client(NODE, "hidden variants", "flags", how="client")
def test_hidden_variants_and_flags_arrive(told: dict[str, Any]) -> None:
    [quiet] = [each for each in told["spender"]["experiences"] if each["experienceId"] == "quiet-spenders"]
    assert quiet["variants"] == {"banner": ""}
    assert isinstance({each["key"]: each["value"] for each in told["created"]["changes"]}["guest-checkout"], bool)


@pytest.mark.client(NODE, "locale", how="client")
def test_the_locale_chooses_the_language_of_places(told: dict[str, Any]) -> None:
    assert told["placed"]["profile"]["location"]["country"] == "日本"


@pytest.mark.client(NODE, "identify", how="client")
def test_a_user_who_is_null_in_the_sites_code_sets_traits_only(told: dict[str, Any]) -> None:
    assert (told["guest"]["id"], told["guest"]["traits"]) == ("kiosk", {"theme": "dark"})


@pytest.mark.client(NODE, "batch", "identify", "merge", how="client")
def test_identify_and_track_go_by_batches_and_two_devices_become_one(told: dict[str, Any]) -> None:
    id = told["created"]["profile"]["id"]
    assert (told["identified"]["id"], told["identified"]["traits"]) == (id, {"plan": "member", "newsletter": True})
    assert (told["tracked"]["id"], told["tracked"]["audiences"]) == ("laptop", ["cart-abandoners"])
    assert told["merged"]["id"] == told["read"]["profile"]["id"] == id
