"""What the README shows is what the code does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from serving import GEO, serving

from ninetailed_wsgi import Settings
from ninetailed_wsgi.server.serve import curl_line
from ninetailed_wsgi.settings import options_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_lists_every_option_as_the_code_declares_it() -> None:
    shown = README.split("<!-- options -->")[1].split("<!-- /options -->")[0].strip()
    assert shown == options_table(), "paste what `python -m ninetailed_wsgi.settings` prints"


def test_the_table_of_options_can_be_printed() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ninetailed_wsgi.settings"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == options_table()
    assert run.stderr == ""


def test_the_readme_shows_the_command_that_the_server_prints() -> None:
    assert curl_line(Settings(), "127.0.0.1", 8000) in README


def test_both_make_commands_are_on_the_first_screen() -> None:
    first_screen = README.splitlines()[:24]
    assert any(line.startswith("make serve") for line in first_screen)
    assert any(line.startswith("make test") for line in first_screen)
    assert any(line.startswith("curl ") for line in first_screen)


def test_the_walk_of_the_readme_makes_a_visitor_match_and_get_a_variant(tmp_path: Path) -> None:
    (walk,) = re.findall(r"```sh\n(api=.*?)```", README, re.DOTALL)
    shop = ("--content", str(ROOT / "fixtures" / "spaces" / "shop.json"), "--geoip-database", str(GEO), "--explain")
    with serving(tmp_path, *shop) as server:
        here = walk.replace("http://127.0.0.1:8000", server.url)
        here = here.replace("\nview", "\necho; view").replace("\ncurl", "\necho; curl")
        ran = subprocess.run(["bash", "-c", here], capture_output=True, text=True, timeout=60, check=True)
    first, second, explained = (json.loads(line)["data"] for line in ran.stdout.splitlines() if line)
    assert first["profile"]["audiences"] == []
    assert second["profile"]["audiences"] == ["pricing-visitors"]
    replaced = {entry: shown for each in second["experiences"] for entry, shown in each["variants"].items()}
    assert replaced["hero"] == "hero-offer" or {"hero": "hero-offer", "banner": "banner-offer"} in [
        each["variants"] for each in second["experiences"]
    ]
    assert [each["id"] for each in explained["audiences"] if each["matched"]] == ["pricing-visitors"]
