"""The inspector in a real browser: by keyboard, light and dark, at two widths, live, with hostile content."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ninetailed_wsgi.insights import drafts, latest
from ninetailed_wsgi.testing import Harness, audience, experience, flag, trait
from tests.contract.servers import behind_a_port
from tests.inspector.places import SHOP, busy, count, profile_id
from tests.inspector.test_inspector import HOSTILE
from tests.preview.test_vendor_panel import FOLDER, chromium  # noqa: F401

LONG = "W" * 10_000
SHOTS = Path(__file__).parents[1] / "browser" / "screenshots" / "inspector"


def pages_of(harness: Harness, hostile: str) -> list[list[Any]]:
    """Return every page with its name, its path, and what is done there."""
    play = [
        ["select", "#event", "page"],
        ["fill", "#about", "/pricing"],
        ["fill", "#traits", '{"plan": "pro"}'],
        ["fill", "#url", "https://shop.example/pricing"],
        ["click", "main form > button", ""],
    ]
    return [
        ["find", "/inspector/find"],
        ["found", "/inspector/find", [["fill", "#name", "plan=member"], ["click", "main form button", ""]]],
        ["visitor", f"/inspector/visitors/{profile_id(harness)}"],
        ["hostile", f"/inspector/visitors/{hostile}"],
        ["audience", "/inspector/audiences/pricing-visitors"],
        ["hostile-audience", "/inspector/audiences/hostile"],
        ["experience", "/inspector/experiences/hero-test"],
        ["long-experience", "/inspector/experiences/long-e"],
        ["live", "/inspector/live"],
        ["playground", "/inspector/playground"],
        ["played", "/inspector/playground", play],
        ["what-if", "/inspector/what-if"],
        ["state", "/inspector/state"],
        ["problem", "/inspector/visitors/nobody"],
        ["sign-in", "/inspector/find", [], True],
        ["sign-in-refused", "/inspector/find", [["fill", "#key", "nt_wrong"], ["click", "main form button", ""]], True],
    ]


def busy_shop() -> tuple[Harness, str]:
    """Return the shop with hostile content and a hostile visitor, whose audiences and results were counted."""
    harness = busy(access="guarded")
    harness.publish(audience(trait("plan", HOSTILE), id="hostile", name=HOSTILE))
    harness.publish(experience("hero", ["b"], id="hostile-e", name=HOSTILE, audience="hostile"))
    harness.publish(audience(trait("plan", LONG), id="long", name=LONG))
    harness.publish(flag(LONG[:200], control=LONG, variants=[[LONG]], id="long-e", name=LONG, audience="long"))
    visitor = (
        harness.visitor()
        .identifies(**{LONG[:3000]: LONG, "firstname": LONG})
        .tracks(LONG[:4000])
        .views("/" + quote(HOSTILE))
        .tracks(HOSTILE)
    )
    for number in range(60):
        seen = harness.visitor().views("/").sees("hero-test")
        if number % 3 == 0:
            seen.tracks("add_to_cart", tea="sencha")
    latest.compute(harness.settings.data_dir, harness.service.store, harness.service.content, harness.clock)
    draft = drafts.Draft(SHOP.read_bytes(), "autumn.json", harness.clock(), "anna")
    drafts.hand_in(harness.settings.data_dir, harness.environment, draft)
    count(harness)
    return harness, str(visitor.id)


def test_pages_fit_are_accessible_and_run_nothing_that_strangers_wrote(chromium: str) -> None:  # noqa: F811
    SHOTS.mkdir(parents=True, exist_ok=True)
    harness, hostile = busy_shop()
    with harness, behind_a_port(harness.app) as url:
        pages, key = pages_of(harness, hostile), harness.key("admin")
        run = subprocess.run(
            ["node", "inspect.js", chromium, url, str(SHOTS), key],
            input=json.dumps(pages),
            cwd=FOLDER,
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    looks = [each for each in told if each["name"]]
    assert len(looks) == len(pages) * 4
    for look in looks:
        assert not look["sideways"], (look["name"], look["width"])
        assert look["serious"] in (None, []), look["name"]
        assert look["marks"] is None, "a script of a stranger ran"
        assert look["bytes"] < 30_000, (look["name"], look["bytes"])
        assert look["headings"].startswith("H1"), look["name"]
        assert look["headings"].count("H1") == 1, look["name"]
    assert any("<script>window.hostile=1</script>" in look["text"] for look in looks if look["name"] == "hostile")
    assert all("nt_preview=" in look["text"] for look in looks if look["name"] == "played"), "the longest line fits too"
    refused = [look["text"] for look in looks if look["name"] == "sign-in-refused"]
    assert len(refused) == 4
    assert all("this key is not valid here, or lacks the scope admin" in text for text in refused)
    ends = [each for each in told if not each["name"]]
    for end in ends:
        assert (end["outside"], end["errors"]) == ([], [])
    keyboard = ends[0]["keyboard"]
    assert (keyboard["first"], keyboard["field"]) == ("skip", "name")
    assert keyboard["path"].startswith("/inspector/visitors/")
    assert keyboard["opened"] == 1
    assert keyboard["ring"] == "solid", "the focus is seen"
    assert ends[0]["watched"] == "true", "the live page looks by itself and can be paused"
