"""The vendor's preview panel, unchanged, in a real browser, with the entries of the service as its input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.testing import Harness, audience, experience, trait
from tests.contract.servers import behind_a_port
from tests.sdk.client import install

FOLDER = Path(__file__).parent / "panels"
PAGE = b'<!doctype html><title>Page</title><h1 id="hero">hero</h1><script type="module" src="/page.js"></script>'
CONTENT = [
    experience("hero", ["hero-member"], id="member-hero", audience=audience(trait("plan", "member"), id="members")),
    experience("banner", ["banner-b"], id="banner-test", distribution=[0.5, 0.5]),
]


@pytest.fixture(scope="module")
def chromium() -> str:
    """The path of chromium, with the packages of the folder installed."""
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if not browser or missing:
        reason = f"a real browser needs chromium, node and npm, and this machine lacks {missing or 'chromium'}"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{reason}; in CI these tests must run")
        pytest.skip(reason)
    install(FOLDER)
    return str(browser)


def test_the_panel_lists_everything_and_forces_a_variant_that_the_page_shows(chromium: str, tmp_path: Path) -> None:
    bundle = ["node_modules/.bin/esbuild", "page.js", "--bundle", "--format=esm", "--target=es2022"]
    bundle += ["--log-level=error", f"--outfile={tmp_path / 'page.js'}"]
    subprocess.run(bundle, cwd=FOLDER, check=True, timeout=120)
    with Harness(CONTENT) as harness:

        def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            path = environ["PATH_INFO"]
            kind, body = "text/html", PAGE if path == "/" else b"<!doctype html><title>Panel</title>"
            if path == "/page.js":
                kind, body = "text/javascript", (tmp_path / "page.js").read_bytes()
            elif path == "/entries":
                kind, body = "application/json", harness.client.get("/preview/entries").body
            start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
            return [body]

        with behind_a_port(harness.mount(site)) as url:
            run = subprocess.run(
                ["node", "look.js", chromium, url], cwd=FOLDER, capture_output=True, text=True, timeout=120
            )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["rejected"] == []
    assert (sorted(told["audiences"]), sorted(told["experiences"])) == (["members"], ["banner-test", "member-hero"])
    assert (told["before"], told["after"]) == ("hero", "hero-member")
    assert told["outside"] == []
