"""The examples of docs/existing-sites.md, as they stand there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi import Ninetailed, visitor_of
from tests.mount.browser import Browser, Environ
from tests.mount.conftest import ROOT, SHOP

PAGE = (ROOT / "docs" / "existing-sites.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^<!-- tests/mount/test_existing_sites.py -->\n```python\n(.*?)^```$", PAGE, re.M | re.S)
GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
PERSON = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def example(word: str, **names: Any) -> dict[str, Any]:
    """Run the one example that has this word, with these names defined before; what it defines."""
    (code,) = (code for code in EXAMPLES if word in code)
    names["__name__"] = "site_of_test"
    exec(compile(code, str(ROOT / "docs" / "existing-sites.md"), "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _in_a_folder_with_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Not 100 ms, as other tests may keep this machine busy.
    assert Ninetailed.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Ninetailed.__init__.__kwdefaults__, "time_budget_ms", 20_000)
    shutil.copy(SHOP, tmp_path / "content.json")


def test_every_example_is_run_here() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") == 3


def test_nothing_is_stored_of_a_crawler_that_says_so_and_it_gets_the_page_of_a_new_visitor() -> None:
    def site(environ: Environ, start_response: Any) -> list[bytes]:
        visitor_of(environ).page()
        entry = visitor_of(environ).variant("banner")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [entry.encode()]

    app = example("CRAWLER", app=site)["app"]
    crawler, person = Browser(app), Browser(app)
    for _ in range(2):
        assert crawler.get("/pricing", HTTP_USER_AGENT=GOOGLE).text == "banner"
    assert crawler.cookies == {}
    person.get("/pricing", HTTP_USER_AGENT=PERSON)
    assert person.get("/pricing", HTTP_USER_AGENT=PERSON).text == "banner-offer"
    app.close()


def test_each_app_of_a_factory_has_a_middleware_of_its_own() -> None:
    create_app = example("create_app")["create_app"]
    first, second = create_app(), create_app()
    assert first.extensions["ninetailed"] is not second.extensions["ninetailed"]
    for app in (first, second):
        browser = Browser(app)
        assert [browser.get("/pricing").text, browser.get("/pricing").text] == ["banner", "banner-offer"]
        app.extensions["ninetailed"].close()


def test_a_test_without_the_middleware_needs_no_change() -> None:
    example("outside_the_middleware")["test_a_page_outside_the_middleware_shows_its_baseline"]()
