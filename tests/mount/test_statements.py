"""What holds in every host site: each statement under each framework, at the root and below an outer prefix."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from ninetailed_wsgi import Ninetailed
from ninetailed_wsgi.errors import ProfileNotFound
from ninetailed_wsgi.site.visitor import KEY, Visitor
from tests.mount.browser import Environ
from tests.mount.conftest import GEO, Mounted
from tests.mount.sites import Reply

API = "/ninetailed/v2/organizations/default/environments/main"
PAGE_EVENT = {
    "type": "page",
    "channel": "web",
    "messageId": "from-the-browser",
    "context": {"library": {"name": "tests", "version": "7.26.0"}},
    "properties": {"path": "/", "query": {}, "referrer": "", "search": "", "url": "http://shop.example/"},
}


def plain(environ: Environ) -> Reply:
    return Reply()


# One line


def test_requests_under_the_mount_prefix_are_answered_by_the_api(mounted: Mounted) -> None:
    answer = mounted.browser(plain).send("POST", f"{API}/profiles", orjson.dumps({"events": [PAGE_EVENT]}))
    assert answer.status == 200
    assert set(json.loads(answer.body)["data"]) == {"profile", "experiences", "changes"}
    assert answer.set_cookie is None


@pytest.mark.parametrize("path", ["/", "/ninetailedx", "/ninetailed-2/v2", "/a/ninetailed/health/live", "/Ninetailed"])
def test_every_other_path_belongs_to_the_site(mounted: Mounted, path: str) -> None:
    assert mounted.browser(plain).get(path).text == "the site's page"


@pytest.mark.parametrize("path", ["/ninetailed", "/ninetailed/", "/ninetailed/nothing"])
def test_the_prefix_itself_and_what_is_below_it_belongs_to_the_api(mounted: Mounted, path: str) -> None:
    answer = mounted.browser(plain).get(path)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "ERR_NOT_FOUND")


def test_another_prefix_of_several_segments_can_be_chosen(mounted: Mounted) -> None:
    browser = mounted.browser(plain, prefix="/api/nt/")
    assert browser.get("/api/nt/health/live").status == 200
    assert browser.get("/api/ntx").text == "the site's page"
    assert browser.get("/ninetailed/health/live").text == "the site's page"


def test_the_site_sees_the_environ_as_it_came(mounted: Mounted) -> None:
    seen: list[tuple[str, str]] = []

    def respond(environ: Environ) -> Reply:
        seen.append((environ["SCRIPT_NAME"], environ["PATH_INFO"]))
        return Reply()

    mounted.browser(respond).get("/shoes/red")
    assert seen == [(mounted.prefix, "/shoes/red")]


def test_wrapping_twice_changes_nothing(mounted: Mounted) -> None:
    def respond(environ: Environ) -> Reply:
        environ[KEY].page()
        return Reply(environ[KEY].id.encode())

    app = mounted.app(respond)
    options = {"content": app.settings.content, "geoip_database": app.settings.geoip_database, "store_shards": 2}
    again = Ninetailed(app, data_dir=mounted.folder / "data", time_budget_ms=20_000, access="open", **options)
    mounted.latest = again
    browser = mounted.visit(again)
    answer = browser.get()
    assert browser.cookies == {"ntaid": answer.text}
    assert mounted.profile(answer.text)["session"]["count"] == 1
    assert mounted.store.writes == 1


# The visitor


def test_a_page_that_does_not_use_the_visitor_sets_no_cookie_and_opens_no_store(mounted: Mounted) -> None:
    assert mounted.browser(plain).get().set_cookie is None
    assert mounted.stores == []


def test_a_page_that_uses_the_visitor_sets_the_cookie_to_the_id_of_the_profile(mounted: Mounted) -> None:
    def use(visitor: Visitor) -> str:
        visitor.page()
        return visitor.id

    browser = mounted.visited_by(use)
    first = browser.get()
    assert len(first.text) == 64
    assert first.set_cookie == f"ntaid={first.text}; Path=/; Max-Age=31536000; SameSite=Lax"
    second = browser.get("/second")
    assert second.text == first.text
    assert second.set_cookie is None
    assert mounted.profile(first.text)["session"]["landingPage"]["path"] == mounted.prefix + "/"


def test_the_page_event_says_what_the_request_says(mounted: Mounted) -> None:
    browser = mounted.visited_by(lambda visitor: visitor.page(category="tea"), geoip_database=GEO)
    browser.get(
        "/caf%C3%A9".replace("%C3%A9", "\xc3\xa9") + "?q=gr%C3%BCn&utm_source=newsletter&q=oolong",
        HTTP_REFERER="https://search.example/?q=tea",
        HTTP_USER_AGENT="Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile/15E148",
        HTTP_ACCEPT_LANGUAGE="fr;q=0.5, de-AT, de;q=0.9",
        REMOTE_ADDR="127.0.0.1",
    )
    (id,) = browser.cookies.values()
    profile = mounted.profile(id)
    assert profile["session"]["landingPage"] == {
        "path": mounted.prefix + "/caf%C3%A9",
        "query": {"q": "oolong", "utm_source": "newsletter"},
        "referrer": "https://search.example/?q=tea",
        "search": "?q=gr%C3%BCn&utm_source=newsletter&q=oolong",
        "url": f"http://shop.example{mounted.prefix}/caf%C3%A9?q=gr%C3%BCn&utm_source=newsletter&q=oolong",
    }
    assert profile["location"]["country"] == "Deutschland"
    assert {"newsletter-visitors", "phone-visitors", "european-visitors"} <= set(profile["audiences"])


def test_said_and_asked_as_often_as_wanted_a_page_costs_one_evaluation_and_one_write(mounted: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        visitor.page()
        visitor.track("add_to_cart", sku="tea-1")
        visitor.identify("", firstname="Anna")
        asked = visitor.profile, visitor.audiences, visitor.experiences, visitor.changes, visitor.handoff()
        assert asked
        return [visitor.flag("free-shipping-from"), visitor.variant("hero"), visitor.merge_tag("traits_firstname")]

    calls = 0

    def counted(visitor: Visitor) -> object:
        nonlocal calls
        evaluate = visitor._backend.evaluate

        def evaluated(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            return evaluate(*args, **options)

        visitor._backend.evaluate = evaluated  # type: ignore[method-assign]
        return use(visitor)

    browser = mounted.visited_by(counted)
    assert browser.get().text.startswith("[30, ")
    assert calls == 1
    assert mounted.store.writes == 1


def test_what_is_said_and_never_asked_about_is_written_when_the_response_begins(mounted: Mounted) -> None:
    browser = mounted.visited_by(lambda visitor: (visitor.page(), visitor.track("add_to_cart"), visitor.identify("u7")))
    answer = browser.get()
    assert answer.text == "(None, None, None)"
    assert mounted.store.writes == 1
    assert mounted.profile("u7")["id"] == browser.cookies["ntaid"]
    assert "cart-abandoners" in mounted.profile("u7")["audiences"]


def test_the_variant_is_the_servers_from_the_page_on_that_makes_the_visitor_a_member(mounted: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        visitor.page()
        return visitor.variant("banner")

    browser = mounted.visited_by(use)
    assert [browser.get("/pricing").text, browser.get("/pricing").text] == ["banner", "banner-offer"]


def test_without_consent_everything_is_evaluated_and_nothing_is_stored_and_no_cookie_set(mounted: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        visitor.consent = False
        visitor.page()
        visitor.track("add_to_cart")
        visitor.identify("anna", firstname="Anna")
        return f"{visitor.flag('free-shipping-from')} {visitor.merge_tag('traits.firstname')}"

    browser = mounted.visited_by(use)
    answer = browser.get()
    assert (answer.text, answer.set_cookie, mounted.store.writes) == ("30 Anna", None, 0)
    with pytest.raises(ProfileNotFound):
        mounted.profile("anna")


def test_consent_can_be_a_setting_that_looks_at_the_request(mounted: Mounted) -> None:
    browser = mounted.visited_by(
        lambda visitor: visitor.page(), consent=lambda environ: "consent=yes" in environ.get("HTTP_COOKIE", "")
    )
    assert browser.get().set_cookie is None
    browser.cookies["consent"] = "yes"
    assert browser.get().set_cookie is not None
    assert mounted.store.writes == 1


def test_a_preflight_page_counts_for_itself_and_leaves_the_real_event_to_the_browser(mounted: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        visitor.page()
        return visitor.variant("banner")

    browser = mounted.visited_by(use, preflight=True)
    assert [browser.get("/pricing").text, browser.get("/pricing").text] == ["banner", "banner"]
    assert mounted.store.writes == 0
    id = browser.cookies["ntaid"]
    with pytest.raises(ProfileNotFound):
        mounted.profile(id)
    answer = browser.send("POST", f"{API}/profiles/{id}", orjson.dumps({"events": [PAGE_EVENT]}))
    assert json.loads(answer.body)["data"]["profile"]["id"] == id


# Never the host's problem


def test_what_the_site_sets_itself_comes_first_and_in_its_order(mounted: Mounted) -> None:
    def respond(environ: Environ) -> Reply:
        environ[KEY].page()
        return Reply(headers=(("X-One", "1"), ("X-Two", "2"), ("Cache-Control", "private")), status=404)

    answer = mounted.browser(respond).get()
    assert answer.status == 404
    names = [name.lower() for name, _ in answer.headers]
    assert [name for name in names if name in ("x-one", "x-two", "cache-control", "set-cookie")] == [
        "x-one",
        "x-two",
        "cache-control",
        "set-cookie",
    ]


def test_a_body_that_is_sent_to_the_site_is_read_by_the_site(mounted: Mounted) -> None:
    def respond(environ: Environ) -> Reply:
        environ[KEY].page()
        assert environ[KEY].id
        return Reply(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))

    assert mounted.browser(respond).send("POST", "/form", b"name=Anna").text == "name=Anna"


def test_a_store_that_fails_leaves_the_page_with_its_baselines(mounted: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        visitor.page()
        return [visitor.variant("hero"), visitor.flag("k", 50), visitor.audiences, visitor.merge_tag("traits.a", "you")]

    browser = mounted.visited_by(use)
    browser.get()

    def fail() -> None:
        raise OSError("the disk is on fire")

    mounted.store.hook = fail
    answer = browser.get()
    assert (answer.status, answer.text) == (200, "['hero', 50, [], 'you']")
    assert answer.set_cookie is None
