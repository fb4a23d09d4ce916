"""The recipe of docs/browser.md in a real browser: pages that only evaluate, beside the SDK that sends their events."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from serving import ROOT, Server, running

FOLDER = Path(__file__).parent
RECIPE = FOLDER / "recipe"
MODULES = ROOT / "examples" / "browser" / "node_modules"
PAGE = (ROOT / "docs" / "browser.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Renders as React does, once and without a tree: what a stand-in takes are the options.
STAND_IN = """import { Root } from "./newest.jsx";
globalThis.render = (component, options) => component(options);
Root({});"""


@contextmanager
def site(folder: Path, *changes: tuple[str, str], script: str = "site.js") -> Iterator[Server]:
    """The site of the recipe, with its script built as the page says; ``changes`` are made in ``app.py``."""
    code = (RECIPE / "app.py").read_text(encoding="utf-8")
    # Not 100 ms, as other tests may keep this machine busy.
    for old, new in (*changes, ("preflight=True", "preflight=True, time_budget_ms=20_000")):
        assert old in code
        code = code.replace(old, new)
    (folder / "app.py").write_text(code)
    (folder / "content.json").write_bytes((ROOT / "fixtures" / "spaces" / "shop.json").read_bytes())
    for file in ("site.js", "newest.jsx", "stand-in.jsx"):
        (folder / file).write_bytes((RECIPE / file).read_bytes())
    (folder / "main.jsx").write_text(STAND_IN)
    (folder / "node_modules").symlink_to(MODULES)
    (command,) = [line for line in PAGE.splitlines() if line.startswith("npx esbuild site.js ")]
    words = command.replace("site.js --", f"{script} --").split()
    if script != "site.js":
        words += ["--jsx-factory=render", "--alias:@contentful/optimization-react-web=./stand-in.jsx"]
    subprocess.run(words, cwd=folder, check=True, timeout=120, capture_output=True)
    gunicorn = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--threads", "4", "--no-control-socket"]
    with running([*gunicorn, "app:app"], folder) as server:
        yield server


def look(chromium: str, server: Server, *steps: str | dict[str, str]) -> list[dict[str, Any]]:
    """What each page of a visit came to."""
    script = json.dumps([step if isinstance(step, dict) else {"path": step} for step in steps])
    run = subprocess.run(
        ["node", "look.js", chromium, server.url, script], cwd=FOLDER, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    visit = json.loads(run.stdout)
    assert visit["errors"] == []
    assert "Traceback" not in server.printed.read_text()
    seen: list[dict[str, Any]] = visit["seen"]
    return seen


def sent_to(each: dict[str, Any]) -> str:
    """The path that the SDK sent its one request to."""
    [(method, path, status)] = each["sent"]
    assert (method, status) == ("POST", 200)
    return str(path)


def test_sdk_7_and_the_pages_are_one_visitor_who_gets_the_offer(chromium: str, tmp_path: Path) -> None:
    with site(tmp_path) as server:
        first, second = look(chromium, server, "/pricing", "/pricing")
        assert (first["heading"], second["heading"]) == ("banner", "banner-offer")
        id = first["block"]["handoff"]["profile"]["id"]
        assert {first["cookies"]["ntaid"], second["cookies"]["ntaid"]} == {id}
        assert second["block"]["handoff"]["profile"]["session"]["count"] == 1
        here = f"/ninetailed/v2/organizations/default/environments/main/profiles/{id}"
        assert [sent_to(first), sent_to(second)] == [here, here]
        assert "preflight" not in server.printed.read_text()


def test_without_consent_the_sdk_sends_and_stores_nothing_until_it_is_given(chromium: str, tmp_path: Path) -> None:
    asks = 'preflight=True, consent=lambda environ: "choice=yes" in environ.get("HTTP_COOKIE", "")'
    with site(tmp_path, ("preflight=True", asks)) as server:
        before, after = look(chromium, server, "/pricing", {"path": "/pricing", "cookie": "choice"})
    assert (before["block"]["consent"], before["sent"], before["cookies"]) == (False, [], {})
    assert "profile" not in before["block"]["handoff"]
    assert "__nt_anonymous_id__" not in before["stored"]
    assert after["block"]["consent"]
    assert sent_to(after).endswith(after["cookies"]["ntaid"])


def test_the_newest_sdk_gets_its_options_and_the_handoff(chromium: str, tmp_path: Path) -> None:
    newest = (("nt_browser()", "nt_browser(3)"), ("preflight=True", 'preflight=True, cookie_name="ctfl-opt-aid"'))
    with site(tmp_path, *newest, script="main.jsx") as server:
        first, second = look(chromium, server, "/pricing", "/pricing")
    assert (first["heading"], second["heading"]) == ("banner", "banner-offer")
    id = first["block"]["handoff"]["state"]["profile"]["id"]
    assert {first["cookies"]["ctfl-opt-aid"], second["cookies"]["ctfl-opt-aid"]} == {id}
    assert sent_to(second) == f"/ninetailed/v3/spaces/default/environments/main/profiles/{id}"


@pytest.mark.parametrize("file", ["app.py", "site.js", "newest.jsx"])
def test_the_documentation_shows_what_these_tests_run(file: str) -> None:
    language = {"py": "python", "js": "js", "jsx": "jsx"}[file.rpartition(".")[2]]
    code = (RECIPE / file).read_text(encoding="utf-8")
    shown = f"<!-- tests/browser/recipe/{file} -->\n```{language}\n{code}```\n"
    assert shown in PAGE
    assert shown in README or file != "site.js"
