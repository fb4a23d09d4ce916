"""What the README and the first pages of the documentation show is what the code does."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from serving import GEO, serving

from ninetailed_wsgi import Settings, __version__
from ninetailed_wsgi.server.announcement import curl_line
from ninetailed_wsgi.settings import options_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
STANDALONE = (ROOT / "docs" / "standalone.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOP = ("--content", str(ROOT / "fixtures" / "spaces" / "shop.json"), "--geoip-database", str(GEO), "--explain")


def test_the_readme_and_the_architecture_are_short() -> None:
    assert len(README.splitlines()) <= 120
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_table_of_options_can_be_printed() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ninetailed_wsgi.settings"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == options_table()
    assert run.stderr == ""


def test_the_documentation_shows_the_command_that_the_server_prints() -> None:
    assert curl_line(Settings(), "127.0.0.1", 8000) in STANDALONE


def test_the_readme_shows_how_to_serve_test_and_ask() -> None:
    lines = README.splitlines()
    for start in ("make serve", "curl "):
        assert any(line.startswith(start) for line in lines)
    assert "make test" in README


def test_the_readme_installs_the_version_that_is_there() -> None:
    install = README.partition("<!-- install -->")[2].partition("<!-- /install -->")[0]
    assert set(re.findall(r"ninetailed_wsgi-([^-]+)-py3-none-any\.whl", install)) == {__version__}
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["name"] == "ninetailed-wsgi"
    assert "all" in config["options.extras_require"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_installs_from_an_index_that_does_not_have_the_package(page: Path) -> None:
    assert re.findall(r"pip install[^\n`]* '?ninetailed-wsgi\b.*", page.read_text(encoding="utf-8")) == []


def test_the_curl_of_the_readme_is_answered(tmp_path: Path) -> None:
    (line,) = (line for line in README.splitlines() if line.startswith("curl "))
    with serving(tmp_path, *SHOP) as server:
        here = line.replace("http://127.0.0.1:8000", server.url)
        ran = subprocess.run(["bash", "-c", here], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(ran.stdout)["data"]["profile"]["id"] == "anna"


def test_the_walk_makes_a_visitor_match_and_get_a_variant(tmp_path: Path) -> None:
    (walk,) = re.findall(r"```sh\n(api=.*?)```", STANDALONE, re.DOTALL)
    with serving(tmp_path, *SHOP) as server:
        here = walk.replace("http://127.0.0.1:8000", server.url)
        here = here.replace("\nview", "\necho; view").replace("\ncurl", "\necho; curl")
        ran = subprocess.run(["bash", "-c", here], capture_output=True, text=True, timeout=120, check=True)
    first, second, explained = (json.loads(line)["data"] for line in ran.stdout.splitlines() if line)
    assert first["profile"]["audiences"] == []
    assert second["profile"]["audiences"] == ["pricing-visitors"]
    replaced = {entry: shown for each in second["experiences"] for entry, shown in each["variants"].items()}
    assert replaced["hero"] == "hero-offer" or {"hero": "hero-offer", "banner": "banner-offer"} in [
        each["variants"] for each in second["experiences"]
    ]
    assert [each["id"] for each in explained["audiences"] if each["matched"]] == ["pricing-visitors"]
