"""Served exposures: what a page shows counts, noted by the one write that the page makes anyway."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from serving import wait_until

from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.site.visitor import KEY, Visitor
from ninetailed_wsgi.testing import Client, Harness, experience, metric
from tests.mount.browser import Browser, Environ
from tests.mount.conftest import ENVIRONMENT, Mounted
from tests.mount.sites import Reply

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
LIMIT = {"type": "InlineVariable", "key": "limit", "baseline": {"value": 50}, "variants": [{"value": 20}]}


def replacing(baseline: str, variant: str) -> dict[str, Any]:
    return {"type": "EntryReplacement", "baseline": {"id": baseline}, "variants": [{"id": variant}]}


def experiment(id: str, traffic: float, component: dict[str, Any]) -> dict[str, Any]:
    config = {"traffic": traffic, "distribution": [0, 1], "components": [component]}
    return {"id": id, "name": id, "type": "nt_experiment", "config": config}


CONTENT = {
    "experiences": [
        experiment("hero-test", 1, replacing("hero", "hero-b")),
        experiment("limit-test", 1, LIMIT),
        experiment("quiet-test", 0, replacing("foot", "foot-b")),
    ]
}


def hero(visitor: Visitor) -> None:
    visitor.page()
    assert visitor.variant("hero") == "hero-b"


class Shop:
    """A site that counts what it serves."""

    def __init__(self, mounted: Mounted, folder: Path) -> None:
        self.mounted = mounted
        self.content = folder / "content.json"
        self.content.write_text(json.dumps(CONTENT))

    def browser(self, use: Callable[[Visitor], object], status: int = 200, **options: Any) -> Browser:
        def respond(environ: Environ) -> Reply:
            use(environ[KEY])
            return Reply(b"" if status == 304 else b"page", status)

        return self.mounted.browser(respond, **{"content": self.content, "exposures": "served", **options})

    def exposures(self, browser: Browser) -> dict[str, Any]:
        """What is kept of the visitor whose cookie a browser has, of each experience its only phase."""
        kept = self.mounted.service.record(ENVIRONMENT, browser.cookies["ntaid"])
        return {id: next(iter(phases.values())) for id, phases in kept["exposures"].items()}


@pytest.fixture
def shop(bare: Mounted, tmp_path: Path) -> Shop:
    return Shop(bare, tmp_path)


def test_what_a_page_showed_is_noted_by_its_one_write(shop: Shop) -> None:
    def use(visitor: Visitor) -> None:
        hero(visitor)
        visitor.track("looked", at="hero")
        assert visitor.flag("limit") == 20
        assert visitor.profile["id"]

    browser = shop.browser(use)
    browser.get()
    assert shop.mounted.store.writes == 1
    seen = shop.exposures(browser)
    assert {id: (entry["index"], entry["how"]) for id, entry in seen.items()} == {
        "hero-test": (1, "served"),
        "limit-test": (1, "served"),
    }
    browser.get()
    assert shop.mounted.store.writes == 2
    assert shop.exposures(browser) == seen  # the first exposure counts


def test_in_every_framework_the_page_makes_one_write(mounted: Mounted, tmp_path: Path) -> None:
    shop = Shop(mounted, tmp_path)
    browser = shop.browser(hero)
    browser.get()
    assert mounted.store.writes == 1
    assert list(shop.exposures(browser)) == ["hero-test"]


def test_only_what_the_page_asked_for_counts(shop: Shop) -> None:
    browser = shop.browser(hero)
    browser.get()
    assert list(shop.exposures(browser)) == ["hero-test"]


def test_without_the_option_nothing_is_noted(shop: Shop) -> None:
    browser = shop.browser(hero, exposures="seen")
    browser.get()
    assert shop.exposures(browser) == {}


def test_who_is_outside_of_the_traffic_and_got_the_baseline_is_the_holdout(shop: Shop) -> None:
    def use(visitor: Visitor) -> None:
        visitor.page()
        assert visitor.variant("foot") == "foot"
        assert visitor.variant("nobody-names-it") == "nobody-names-it"

    browser = shop.browser(use)
    browser.get()
    assert {id: entry["index"] for id, entry in shop.exposures(browser).items()} == {"quiet-test": -1}


@pytest.mark.parametrize("status", [302, 304, 404, 500])
def test_a_redirect_or_an_error_stores_the_page_and_shows_nothing(shop: Shop, status: int) -> None:
    browser = shop.browser(hero, status)
    browser.get()
    assert shop.mounted.store.writes == 1
    if status != 304:  # which cannot set a cookie
        assert shop.exposures(browser) == {}


def reads(visitor: Visitor) -> None:
    assert visitor.variant("hero") == "hero-b"


def refuses(visitor: Visitor) -> None:
    visitor.consent = False
    hero(visitor)


def withdraws(visitor: Visitor) -> None:
    hero(visitor)
    visitor.consent = False


def forgets(visitor: Visitor) -> None:
    hero(visitor)
    visitor.forget()


def only_evaluates(visitor: Visitor) -> None:
    visitor.page(preflight=True)
    assert visitor.variant("hero") == "hero-b"


@pytest.mark.parametrize(
    ("use", "environ"),
    [
        (reads, {}),
        (refuses, {}),
        (withdraws, {}),
        (forgets, {}),
        (only_evaluates, {}),
        (hero, {"REQUEST_METHOD": "HEAD"}),
        (hero, {"HTTP_SEC_PURPOSE": "prefetch;prerender"}),
    ],
)
def test_where_nothing_may_be_stored_there_is_no_write(
    shop: Shop, use: Callable[[Visitor], object], environ: dict[str, str]
) -> None:
    shop.browser(use).get(**environ)
    assert shop.mounted.store.writes == 0


def test_a_crawler_is_not_counted(shop: Shop) -> None:
    browser = shop.browser(hero)
    browser.get(HTTP_USER_AGENT=GOOGLEBOT)
    assert shop.exposures(browser) == {}


def test_a_page_with_several_visitors_tells_them_apart(shop: Shop) -> None:
    def use(visitor: Visitor) -> None:
        visitor.page()
        visitor.variant("hero")
        visitor.reset()
        visitor.page()
        visitor.flag("limit")

    browser = shop.browser(use)
    browser.get()
    assert shop.mounted.store.writes == 2
    assert list(shop.exposures(browser)) == ["limit-test"]


def test_what_a_stream_shows_after_the_response_began_is_not_counted_and_not_written(shop: Shop) -> None:
    def page(environ: Environ) -> Iterable[bytes]:
        visitor = environ[KEY]
        visitor.page()
        yield visitor.variant("hero").encode()
        yield str(visitor.flag("limit")).encode()

    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        stream = page(environ)
        first = next(iter(stream))  # what a template begins with
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield first
        yield from stream

    shop.mounted.make_site = lambda: site
    browser = shop.browser(hero)
    assert browser.get().text == "hero-b20"
    assert shop.mounted.store.writes == 1
    assert list(shop.exposures(browser)) == ["hero-test"]


@pytest.mark.parametrize("access", ["open", "guarded"])
def test_what_a_page_answered_is_what_its_write_makes(shop: Shop, access: str) -> None:
    told: list[Any] = []

    def use(visitor: Visitor) -> None:
        visitor.page()
        visitor.variant("hero")
        visitor.identify("anna", plan="pro")
        told.append((visitor.id, visitor.profile["session"]["id"], json.loads(visitor.handoff(3))["initialPageEvent"]))

    browser = shop.browser(use, access=access)
    for _ in range(2):  # the second time, the visitor is known
        browser.get()
        profile = shop.mounted.profile(browser.cookies["ntaid"])
        assert told.pop() == (browser.cookies["ntaid"], profile["session"]["id"], "skip")
        assert profile["traits"] == {"plan": "pro"}
        assert list(shop.exposures(browser)) == ["hero-test"]
    other = shop.browser(use, access=access)
    other.get()  # on another device
    assert other.cookies["ntaid"] == told.pop()[0] == browser.cookies["ntaid"]


def test_a_budget_that_is_used_up_neither_delays_the_page_nor_loses_its_event(shop: Shop) -> None:
    go_on, texts = threading.Event(), []

    def use(visitor: Visitor) -> None:
        visitor.page()
        texts.append(visitor.variant("hero"))

    browser = shop.browser(use)
    browser.get()
    app = shop.mounted.latest
    assert app is not None
    app.time_budget = 0.05
    shop.mounted.store.hook = lambda: go_on.wait(60)
    try:
        assert browser.get().status == 200
        assert texts == ["hero-b", "hero"]
        assert shop.mounted.store.writes == 1
    finally:
        go_on.set()
    wait_until(lambda: shop.mounted.store.writes == 2, "the event is stored after its page")


def test_a_store_that_cannot_serve_leaves_baselines(shop: Shop) -> None:
    texts: list[object] = []

    def use(visitor: Visitor) -> None:
        visitor.page()
        texts.append((visitor.variant("hero"), visitor.flag("limit", 50)))

    def fail() -> None:
        raise StoreUnavailable("gone")

    browser = shop.browser(use)
    browser.get()
    shop.mounted.store.hook = fail
    assert browser.get().status == 200
    assert texts == [("hero-b", 20), ("hero", 50)]


def test_flags_of_openfeature_are_decided_with_the_page_and_later_variants_count_too(shop: Shop) -> None:
    def use(visitor: Visitor) -> None:
        visitor.page()
        assert shop.mounted.profile(visitor.openfeature_context().targeting_key)["session"]["count"] == 1
        visitor.variant("hero")

    browser = shop.browser(use)
    browser.get()
    assert list(shop.exposures(browser)) == ["hero-test"]
    browser.get()
    assert shop.mounted.store.writes == 3  # twice by the first page, which showed something new


BOUGHT = metric("purchase", name="Bought")
HERO = experience("hero", ["hero-b"], distribution=[0, 1], id="hero-test", metric="Bought")


@pytest.mark.ninetailed(content=[HERO, BOUGHT])
def test_a_result_says_whether_it_rests_on_what_was_served_or_seen(ninetailed: Harness) -> None:
    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        visitor = environ[KEY]
        visitor.page()
        shown = f"{visitor.variant('hero')} {visitor.id}"
        if environ["PATH_INFO"] == "/thanks":
            visitor.track("purchase", total=12.5)
        start_response("200 OK", [])
        return [shown.encode()]

    browser = Client(ninetailed.mount(site, exposures="served"), "")
    assert ninetailed.results(HERO)["exposure"] == "seen"  # of nobody
    first = browser.get("/").body.decode().split()[1]
    assert ninetailed.results(HERO)["exposure"] == "served"
    browser.get("/thanks")  # by somebody else, who bought before anything was shown
    ninetailed.clock.advance(seconds=1)
    result = ninetailed.results(HERO)
    assert [(each["visitors"], each["conversions"]) for each in result["variants"]] == [(0, 0), (2, 0)]
    ninetailed.visitor(first).buys("green tea").sees(HERO)
    result = ninetailed.results(HERO)
    assert result["exposure"] == "mixed"
    assert [(each["visitors"], each["views"], each["conversions"]) for each in result["variants"]] == [
        (0, 0, 0),
        (2, 1, 1),
    ]
