"""A person visits the example shops in a real browser: the server and the SDK in the page show the same visitor."""

from __future__ import annotations

import io
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from serving import ROOT, Server, running, wait_until
from support import Once

from ninetailed_wsgi.commands.main import main

FOLDER = Path(__file__).parent
EXAMPLES = ROOT / "examples"
SHOPS = ("shop_flask", "shop_django")


@contextmanager
def shop(name: str, folder: Path) -> Iterator[Server]:
    """A shop as its make command serves it, with data of its own."""
    (folder / "secret").write_text(secrets.token_hex(32))  # as examples/made_up_visitors.py does
    gunicorn = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "2", "--threads", "4"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_DATA", str(folder / "data"))
        command = [*gunicorn, "--no-control-socket", "--chdir", str(EXAMPLES / name), "app:app"]
        with running(command, folder) as server:
            yield server


@pytest.fixture(scope="module", params=SHOPS)
def visit(chromium: str, request: pytest.FixtureRequest, once: Once) -> dict[str, Any]:
    """What the person saw: home, two pages about prices, home, a tea put in the cart, home as a member."""
    name: str = request.param
    screenshots = FOLDER / "screenshots" / name
    screenshots.mkdir(parents=True, exist_ok=True)

    def go(folder: Path) -> dict[str, Any]:
        with shop(name, folder) as server:
            command = ["node", "visit.js", chromium, server.url, str(screenshots)]
            run = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=300)
            assert run.returncode == 0, run.stderr
            assert "Traceback" not in server.printed.read_text()
            wait_until(lambda: reported(folder) == EVERYTHING, "the beacon's view and click are stored")
        return {**json.loads(run.stdout), "folder": str(folder)}

    visit: dict[str, Any] = once(name, go)
    assert visit["errors"] == []
    return visit


EVERYTHING = ({1}, True, 1)
"""One visitor, who has seen every entry and has clicked once."""


def reported(folder: Path) -> tuple[set[int], bool, int]:
    """What the beacon has reported so far: visitors of a variant, whether each view, and how many clicks."""
    typed = ["results", "default/main", "--json", "--data-dir", str(folder / "data")]
    out = io.StringIO()
    with redirect_stdout(out):
        assert main([*typed, "--content", str(ROOT / "fixtures" / "spaces" / "shop.json")]) == 0
    results = json.loads(out.getvalue())
    arms = [variant for result in results for variant in result["variants"] if variant["visitors"]]
    seen = all(result["exposure"] == "seen" for result in results) and all(arm["views"] for arm in arms)
    return {arm["visitors"] for arm in arms}, seen, sum(arm["clicks"] for arm in arms)


def test_a_first_time_visitor_sees_baselines(visit: dict[str, Any]) -> None:
    first = visit["seen"][0]
    assert first["banner"] == "Free shipping from 50"
    assert first["hero"] in ("Tea, taken slowly", "Iced tea season")  # an experiment for everyone
    assert (first["greeting"], first["name"], first["limit"]) == ("Good to see you, friend", "friend", "50")
    assert first["server"]["profile"]["session"]["count"] == 1
    assert "pricing-visitors" not in first["server"]["profile"]["audiences"]


def test_after_two_pages_about_prices_the_server_renders_the_variant_on_the_next_page(visit: dict[str, Any]) -> None:
    pricing, business, home = visit["seen"][1:4]
    assert pricing["banner"] == "Free shipping from 50"
    assert "pricing-visitors" in business["browser"]["profile"]["audiences"]
    assert "pricing-visitors" in home["server"]["profile"]["audiences"]
    assert (home["banner"], home["hero"]) == ("Use the code FIRST10", "Ten percent off your first order")


def test_the_sdk_and_the_server_agree_on_the_profile_and_the_variants_on_every_page(visit: dict[str, Any]) -> None:
    ids = {seen["server"]["profile"]["id"] for seen in visit["seen"]}
    assert len(ids) == 1
    for seen in visit["seen"]:
        cookie = re.search(r"ntaid=(\w+)", seen["cookie"])
        assert cookie is not None
        assert {cookie[1], seen["stored"].strip('"'), seen["browser"]["profile"]["id"]} == ids
        # The schema of the SDK fills in what the API leaves out. A busy machine may take longer than the SDK waits:
        # then it has what the server handed over, which the schema has not seen.
        whole = [[{"sticky": False, **each} for each in seen[side]["experiences"]] for side in ("browser", "server")]
        assert whole[0] == whole[1]
        assert seen["browser"]["profile"]["audiences"] == seen["server"]["profile"]["audiences"]


def test_what_the_browser_tracks_changes_a_flag_that_the_server_renders(visit: dict[str, Any]) -> None:
    assert [seen["limit"] for seen in visit["seen"]] == ["50", "50", "50", "50", "30", "30"]


def test_identify_in_the_browser_changes_a_merge_tag_that_the_server_renders(visit: dict[str, Any]) -> None:
    assert [seen["name"] for seen in visit["seen"]] == ["friend"] * 5 + ["Änne <3"]
    assert visit["seen"][5]["greeting"] in ("Welcome back, member", "The tea club is open")


def test_the_beacon_reports_what_was_seen_and_clicked_under_a_strict_policy(visit: dict[str, Any]) -> None:
    assert visit["errors"] == []
    assert reported(Path(visit["folder"])) == EVERYTHING


def test_without_consent_the_browser_reports_nothing(visit: dict[str, Any]) -> None:
    assert visit["withoutConsent"] == {"sent": [], "tracked": 0, "cookies": []}


def test_the_panel_shows_what_is_personalized_and_switches_it(visit: dict[str, Any]) -> None:
    panel = visit["panel"]
    assert panel["before"]["hero"] == "Ten percent off your first order"
    assert "Askedentry hero" in panel["before"]["text"]
    assert "You see this page as a visitor" in panel["before"]["text"]
    assert panel["before"]["marks"] >= 1
    assert panel["after"]["hero"] != "Ten percent off your first order"
    assert "This preview shows it" in panel["after"]["text"]
    assert panel["ended"] == {"hero": "Ten percent off your first order", "status": "Panel"}
    assert panel["bytes"] <= 18_000, "the script, of which every site has 13 kB, and what it says of this page"


@pytest.mark.parametrize("name", SHOPS)
def test_an_example_is_short(name: str) -> None:
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in (EXAMPLES / name).rglob("*.py"))
    assert lines < 150
