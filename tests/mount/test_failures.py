"""Whatever fails of ours while a page is loaded: the page comes, with baselines, and the log says so once a minute."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis_servers import Redis

from ninetailed_wsgi.site import reports
from ninetailed_wsgi.site.visitor import KEY, Visitor
from tests.mount.browser import Answer, Browser, Environ
from tests.mount.conftest import GEO, SHOP, Mounted
from tests.mount.sites import Reply
from tests.serving import wait_until

BASELINES = "['hero', 50, [], [], 'you', True]"


def use(visitor: Visitor) -> object:
    visitor.page()
    asked = [visitor.variant("hero"), visitor.flag("none", 50), visitor.audiences, visitor.changes]
    return [*asked, visitor.merge_tag("traits.x", "you"), json.loads(visitor.handoff())["experiences"] == []]


class Site:
    """A site whose files a test can damage between two pages."""

    def __init__(self, mounted: Mounted) -> None:
        self.data = mounted.folder / "data"
        self.content = mounted.folder / "content.json"
        self.database = mounted.folder / "geo.mmdb"
        shutil.copy(SHOP, self.content)
        shutil.copy(GEO, self.database)
        options: dict[str, Any] = {"content": self.content, "geoip_database": self.database, "store_timeout": 0.01}
        self.browser: Browser = mounted.visited_by(use, **options)

    def load(self) -> Answer:
        return self.browser.get(REMOTE_ADDR="127.0.0.1")


@pytest.fixture
def site(bare: Mounted) -> Site:
    site = Site(bare)
    assert site.load().set_cookie is not None
    return site


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "ninetailed_wsgi.middleware"]


def removed(site: Site) -> None:
    shutil.rmtree(site.data)


def replaced_by_a_file(site: Site) -> None:
    shutil.rmtree(site.data)
    site.data.write_text("")


def damaged(site: Site) -> None:
    for file in site.data.rglob("cache.db*"):
        file.write_bytes(b"no database" * 1000)


@pytest.mark.parametrize("harm", [removed, replaced_by_a_file, damaged])
def test_a_store_folder_that_is_gone_or_damaged_leaves_baselines(
    site: Site, harm: Callable[[Site], None], caplog: pytest.LogCaptureFixture
) -> None:
    harm(site)
    for _ in range(5):
        answer = site.load()
        assert (answer.status, answer.text, answer.set_cookie) == (200, BASELINES, None)
    assert len(errors(caplog)) == 1, errors(caplog)


def test_a_store_that_is_read_only_leaves_baselines(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Not by the folder's mode, which means nothing to root; SQLite says the same of a read-only file system.
    def refuse(*_: Any) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr("ninetailed_wsgi.store.disk.store.Rows.swap", refuse)
    answer = site.load()
    assert (answer.status, answer.text) == (200, BASELINES)
    assert "readonly" in errors(caplog)[0]


def test_a_store_that_another_process_has_locked_leaves_baselines(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    locks = [sqlite3.connect(file, isolation_level=None) for file in site.data.rglob("cache.db")]
    for lock in locks:
        lock.execute("BEGIN EXCLUSIVE")
    answer = site.load()
    assert (answer.status, answer.text) == (200, BASELINES)
    assert len(errors(caplog)) == 1
    for lock in locks:
        lock.close()
    assert site.load().text != BASELINES


def test_content_that_breaks_leaves_what_was_read_before(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    before = site.load().text
    site.content.write_text("{")
    wait_until(lambda: "content.json" in caplog.text, "the thread that looks reports it", seconds=60)
    assert site.load().text == before


def test_a_location_database_that_goes_leaves_everything_else(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.database.unlink()
    wait_until(lambda: "geo.mmdb" in caplog.text, "the thread that looks reports it", seconds=60)
    answer = site.load()
    assert answer.status == 200
    assert answer.text != BASELINES


def gone_content(site: Site) -> None:
    site.content.write_text("{")


def gone_database(site: Site) -> None:
    site.database.write_bytes(b"")


def foreign_folder(site: Site) -> None:
    site.data.mkdir()
    (site.data / "family.jpg").write_text("")


@pytest.mark.parametrize("harm", [gone_content, gone_database, foreign_folder])
def test_a_service_that_cannot_start_leaves_baselines_and_starts_once_it_can(
    bare: Mounted, harm: Callable[[Site], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(bare)
    harm(site)
    for _ in range(3):
        answer = site.load()
        assert (answer.status, answer.text, answer.set_cookie) == (200, BASELINES, None)
    api = site.browser.get("/ninetailed/health/live")
    assert (api.status, json.loads(api.body)["error"]["code"]) == (503, "ERR_INTERNAL_SERVER_ERROR")
    assert api.all("traceparent")
    assert len(errors(caplog)) == 1
    shutil.copy(SHOP, site.content)
    shutil.copy(GEO, site.database)
    shutil.rmtree(site.data, ignore_errors=True)
    assert bare.latest is not None
    bare.latest._here().retry_at = 0.0
    assert site.load().set_cookie is not None


def test_a_failure_is_logged_once_for_each_kind_and_minute(
    bare: Mounted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = bare.app(lambda environ: Reply())
    now = 1000.0
    monkeypatch.setattr(reports.time, "monotonic", lambda: now)
    for now in (0.0, 59.9, 60.0, 61.0):  # noqa: B007 (read by the clock)
        app.report("store", OSError("first"))
        app.report("bug", ValueError("second"))
    said = [record.getMessage().rpartition(": ")[2] for record in caplog.records]
    assert said == ["builtins.OSError", "builtins.ValueError"] * 2
    assert all(record.levelno == logging.ERROR for record in caplog.records)


def test_a_bug_of_ours_is_logged_with_its_place_and_only_at_debug_with_its_text(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: Any, **__: Any) -> None:
        raise AttributeError("a bug of ours")

    monkeypatch.setattr("ninetailed_wsgi.service.service.ExperienceService.upsert", bug)
    with caplog.at_level(logging.DEBUG, "ninetailed_wsgi.middleware"):
        assert site.load().text == BASELINES
    error, debug = [record for record in caplog.records if record.name == "ninetailed_wsgi.middleware"]
    assert "in bug" in error.getMessage()
    assert "a bug of ours" not in error.getMessage().partition("\n")[0]
    assert (error.levelno, error.exc_info) == (logging.ERROR, None)
    assert debug.exc_info is not None


@pytest.mark.parametrize(
    "part",
    [
        "page_view.page_of",
        "page_view.context_of",
        "page_view.locale_of",
        "conversation.cookie_values",
        "visitor.variants.entry_to_show",
        "visitor.merge_tags.resolve",
        "conversation.plain",
    ],
)
def test_a_bug_in_any_part_of_the_visitor_leaves_the_page(
    bare: Mounted, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: Any, **__: Any) -> None:
        raise ValueError("a bug of ours")

    browser = bare.visited_by(lambda visitor: [use(visitor), visitor.render("{{ traits.x }}"), visitor.id])
    monkeypatch.setattr(f"ninetailed_wsgi.site.{part}", bug)
    answer = browser.get()
    assert (answer.status, answer.text[:7]) == (200, "[['hero")  # or "hero-summer"
    assert errors(caplog)


def test_a_consent_setting_that_fails_means_no_consent(bare: Mounted, caplog: pytest.LogCaptureFixture) -> None:
    def ask(environ: Environ) -> bool:
        raise KeyError("session")

    browser = bare.visited_by(use, consent=ask)
    answer = browser.get()
    assert (answer.status, answer.set_cookie, bare.store.writes) == (200, None, 0)
    assert errors(caplog)


def test_a_template_nested_without_end_is_shown_as_it_is(bare: Mounted) -> None:
    document: dict[str, Any] = {"nodeType": "document"}
    document["content"] = [document]
    assert bare.browser(lambda environ: Reply(str(environ[KEY].render(document) is document).encode())).get().text == (
        "True"
    )


def test_files_may_be_named_from_the_folder_in_which_the_site_was_put_together(
    bare: Mounted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(SHOP, "content.json")
    browser = bare.visited_by(use, data_dir="here", content="content.json")
    monkeypatch.chdir("/")
    assert browser.get().set_cookie is not None
    assert (tmp_path / "here" / "store.json").exists()


def test_a_redis_that_is_gone_or_says_nothing_leaves_baselines_and_is_used_again_when_it_is_back(
    bare: Mounted, own_redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    browser = bare.visited_by(use, content=SHOP, store=str(own_redis.url()), store_timeout=2)
    wait_until(lambda: browser.get().set_cookie is not None, "the first page has a visitor")
    for harm, mend in ((own_redis.kill, own_redis.start), (own_redis.pause, own_redis.resume)):
        harm()
        for _ in range(3):
            answer = browser.get()
            assert (answer.status, answer.text, answer.set_cookie) == (200, BASELINES, None)
        mend()
        wait_until(lambda: browser.get().text != BASELINES, "pages have a visitor again")


def test_a_page_waits_for_a_redis_that_says_nothing_no_longer_than_its_budget(bare: Mounted, own_redis: Redis) -> None:
    browser = bare.visited_by(use, content=SHOP, store=str(own_redis.url()), time_budget_ms=200, store_timeout=120)
    wait_until(lambda: browser.get().set_cookie is not None, "the first page may take longer than its budget")
    own_redis.pause()
    began = time.monotonic()
    answer = browser.get()
    assert (answer.status, answer.text, answer.set_cookie) == (200, BASELINES, None)
    assert time.monotonic() - began < 30  # of the 60 seconds that Redis is waited for
    own_redis.resume()
