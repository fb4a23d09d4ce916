"""The inspector in a real browser: signed in by keyboard, light and dark, at two widths, with hostile content."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import quote

from ninetailed_wsgi.testing import audience, experience, trait
from tests.contract.servers import behind_a_port
from tests.inspector.places import busy, count, profile_id
from tests.inspector.test_inspector import HOSTILE
from tests.preview.test_vendor_panel import FOLDER, chromium  # noqa: F401

SHOTS = Path(__file__).parents[1] / "browser" / "screenshots" / "inspector"


def test_pages_fit_are_accessible_and_run_nothing_that_strangers_wrote(chromium: str) -> None:  # noqa: F811
    SHOTS.mkdir(parents=True, exist_ok=True)
    with busy(access="guarded") as harness:
        harness.publish(audience(trait("plan", HOSTILE), id="hostile", name=HOSTILE))
        harness.publish(experience("hero", ["b"], id="hostile-e", name=HOSTILE, audience="hostile"))
        visitor = harness.visitor().views("/" + quote(HOSTILE)).tracks(HOSTILE)
        count(harness)
        pages = [
            ["find", "/inspector/find"],
            ["visitor", f"/inspector/visitors/{profile_id(harness)}"],
            ["hostile", f"/inspector/visitors/{visitor.id}"],
            ["audience", "/inspector/audiences/hostile"],
            ["experience", "/inspector/experiences/pricing-offer"],
            ["playground", "/inspector/playground"],
            ["what-if", "/inspector/what-if"],
            ["state", "/inspector/state"],
        ]
        key = harness.key("admin")
        with behind_a_port(harness.app) as url:
            run = subprocess.run(
                ["node", "inspect.js", chromium, url, str(SHOTS), key],
                input=json.dumps(pages),
                cwd=FOLDER,
                capture_output=True,
                text=True,
                timeout=180,
            )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    looks = [each for each in told if each["name"]]
    assert len(looks) == len(pages) * 4
    for look in looks:
        assert not look["sideways"], (look["name"], look["width"])
        assert look["serious"] == [], look["name"]
        assert look["marks"] is None, "a script of a stranger ran"
        assert look["bytes"] < 60_000
    assert any("<script>window.hostile=1</script>" in look["text"] for look in looks if look["name"] == "hostile")
    for end in (each for each in told if not each["name"]):
        assert (end["outside"], end["errors"]) == ([], [])
