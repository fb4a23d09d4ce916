"""What a page keeps for itself: consent, caches, cookies, visits that are none, and answers that come too late."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest
from werkzeug.test import Client, TestResponse

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.site.visitor import Visitor
from ninetailed_wsgi.testing import Harness, audience, flag, performed, trait

DAY = {"days": 1, "seconds": 1}


@pytest.fixture
def harness() -> Iterator[Harness]:
    spenders, annas = audience(performed("order")), audience(trait("firstname", "Anna"))
    with Harness(
        [
            flag("limit", control=50, variants=[30], audience=spenders),
            flag("hello", control="you", variants=["Anna"], audience=annas),
        ]
    ) as harness:
        yield harness


def site(
    harness: Harness, use: Callable[[Visitor], object], headers: dict[str, str] | None = None, **options: Any
) -> Client:
    """A site that answers what ``use`` returns."""
    app = flask.Flask("site")

    @app.get("/")
    def page() -> flask.Response:
        return flask.Response(str(use(visitor_of(flask.request))), headers=headers)

    return Client(harness.mount(app.wsgi_app, **options))


def cookies_set(answer: TestResponse) -> list[str]:
    return answer.headers.getlist("Set-Cookie")


# Consent


def test_a_visitor_who_withdraws_consent_is_looked_up_no_more_and_loses_the_cookie(harness: Harness) -> None:
    harness.visitor("anna").identifies(firstname="Anna").tracks("order")

    def use(visitor: Visitor) -> object:
        visitor.consent = False
        visitor.track("look")
        return visitor.flag("limit", "none"), visitor.profile["traits"], visitor.id == "anna"

    browser = site(harness, use)
    browser.set_cookie("ntaid", "anna")
    answer = browser.get("/")
    assert answer.text == "('none', {}, False)"
    assert cookies_set(answer) == ["ntaid=; Path=/; Max-Age=0; SameSite=Lax"]
    assert browser.get_cookie("ntaid") is None
    assert [event.event["type"] for event in harness.events] == ["identify", "track"]


def test_a_form_that_withdraws_consent_need_not_ask_anything(harness: Harness) -> None:
    browser = site(harness, lambda visitor: setattr(visitor, "consent", False))
    browser.set_cookie("ctfl-opt-aid", "anna")
    assert cookies_set(browser.get("/")) == ["ctfl-opt-aid=; Path=/; Max-Age=0; SameSite=Lax"]
    assert cookies_set(browser.get("/")) == []


def test_consent_that_is_withdrawn_after_a_question_stops_the_use_of_what_was_found(harness: Harness) -> None:
    harness.visitor("anna").tracks("order")

    def use(visitor: Visitor) -> object:
        before = visitor.flag("limit", "none")
        visitor.consent = False
        return before, visitor.flag("limit", "none")

    browser = site(harness, use)
    browser.set_cookie("ntaid", "anna")
    assert browser.get("/").text == "(30, 'none')"


def test_without_consent_a_user_id_leads_to_nothing_that_is_stored(harness: Harness) -> None:
    harness.visitor("anna").identifies("user-7", firstname="Anna")

    def use(visitor: Visitor) -> object:
        visitor.consent = False
        visitor.identify("user-7", plan="pro")
        return visitor.profile["traits"]

    assert site(harness, use).get("/").text == "{'plan': 'pro'}"


# Caches


@pytest.mark.parametrize(
    ("own", "answered"),
    [
        (None, "private, no-store"),
        ("public, max-age=600", "private, no-store"),
        ("max-age=60, s-maxage=600", "private, no-store"),
        ("max-age=600", "private, no-store"),
        ("no-cache", "private, no-store"),
        ('private="X-Name", max-age=5', "private, no-store"),
        ("private, max-age=60", "private, max-age=60"),
        ("private, max-age=60, s-maxage=600", "private, no-store"),
        ("no-store, public", "private, no-store"),
        ("No-Store", "No-Store"),
    ],
)
def test_no_shared_cache_may_keep_a_page_that_used_its_visitor(
    harness: Harness, own: str | None, answered: str, caplog: pytest.LogCaptureFixture
) -> None:
    browser = site(harness, lambda visitor: visitor.page(), {"Cache-Control": own} if own else None)
    for _ in range(2):
        answer = browser.get("/")
        assert answer.headers.getlist("Cache-Control") == [answered]
        assert answer.headers.getlist("Vary") == ["Cookie"]
    told = [record for record in caplog.records if "shared caches" in record.getMessage()]
    assert len(told) == (own is not None and ("public" in own or "s-maxage" in own))


def test_a_page_that_no_cache_keeps_for_a_second_is_not_reported_as_public(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    own = "no-store, max-age=0, s-maxage=0"
    answer = site(harness, lambda visitor: visitor.page(), {"Cache-Control": own}).get("/")
    assert answer.headers["Cache-Control"] == own
    assert "shared caches" not in caplog.text


def test_headers_for_content_delivery_networks_do_not_make_a_page_public(harness: Harness) -> None:
    headers = {"Surrogate-Control": "max-age=600", "CDN-Cache-Control": "public", "X-Accel-Expires": "60", "X-Own": "1"}
    answer = site(harness, lambda visitor: visitor.page(), headers).get("/")
    assert not {"Surrogate-Control", "CDN-Cache-Control", "X-Accel-Expires"} & set(answer.headers.keys())
    assert answer.headers["X-Own"] == "1"


def test_a_page_that_varies_by_cookie_already_says_so_once(harness: Harness) -> None:
    answer = site(harness, lambda visitor: visitor.page(), {"Vary": "Accept, cookie"}).get("/")
    assert answer.headers.getlist("Vary") == ["Accept, cookie"]


def test_a_page_that_leaves_its_visitor_alone_may_be_public(harness: Harness) -> None:
    answer = site(harness, lambda visitor: "", {"Cache-Control": "public, max-age=600"}).get("/")
    assert answer.headers["Cache-Control"] == "public, max-age=600"
    assert "Vary" not in answer.headers


def test_answers_of_the_api_are_kept_by_no_cache_and_read_as_what_they_are(harness: Harness) -> None:
    answer = site(harness, lambda visitor: "").get("/ninetailed/health/live")
    assert (answer.headers["Cache-Control"], answer.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")


# The cookie


def test_the_cookie_is_set_when_it_changes_and_once_a_day(harness: Harness) -> None:
    browser = site(harness, lambda visitor: visitor.page())
    assert len(cookies_set(browser.get("/"))) == 1
    assert cookies_set(browser.get("/")) == []
    harness.clock.advance(**DAY)
    assert len(cookies_set(browser.get("/"))) == 1
    assert cookies_set(browser.get("/")) == []
    browser.delete_cookie("ntaid")
    assert len(cookies_set(browser.get("/"))) == 1


def test_the_cookie_can_be_kept_from_scripts_and_to_a_part_of_the_site(harness: Harness) -> None:
    browser = site(harness, lambda visitor: visitor.page(), cookie_httponly=True, cookie_path="/shop")
    (cookie,) = cookies_set(browser.get("/"))
    assert cookie.partition("; ")[2] == "Path=/shop; Max-Age=31536000; SameSite=Lax; HttpOnly"


# No visits


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", {}),
        ("GET", {"Sec-Purpose": "prefetch"}),
        ("GET", {"Sec-Purpose": "prefetch;prerender"}),
        ("GET", {"Purpose": "prefetch"}),
        ("GET", {"X-Moz": "prefetch"}),
        ("GET", {"X-Purpose": "preview"}),
    ],
)
def test_a_request_that_nobody_sees_is_evaluated_and_leaves_nothing(
    harness: Harness, method: str, headers: dict[str, str]
) -> None:
    def use(visitor: Visitor) -> object:
        visitor.page()
        visitor.track("order")
        return visitor.flag("limit", 50)

    answer = site(harness, use).open("/", method=method, headers=headers)
    assert (answer.status_code, cookies_set(answer), harness.events) == (200, [], [])
    assert answer.text == ("30" if method == "GET" else "")


# Events


def test_a_page_may_record_more_events_than_one_request_takes(harness: Harness) -> None:
    def use(visitor: Visitor) -> None:
        for number in range(450):
            visitor.track("look", number=number)
        for number in range(120):
            visitor.identify(number=number)

    site(harness, use).get("/")
    assert len(harness.events) == 570
    assert len({event.profile for event in harness.events}) == 1


def test_a_user_id_that_is_too_long_is_refused_and_the_page_goes_on(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    def use(visitor: Visitor) -> object:
        visitor.identify("x" * 1025, firstname="Nobody")
        visitor.identify("y" * 1024, firstname="Anna")
        return visitor.flag("hello")

    assert site(harness, use).get("/").text == "Anna"
    assert [event.event["userId"] for event in harness.events] == ["y" * 1024]
    assert "at most 1024" in caplog.text


def test_an_event_that_is_refused_is_told_and_leaves_the_others(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    def use(visitor: Visitor) -> object:
        visitor.track("order")
        visitor.identify(secret="x" * 100_000)
        visitor.identify(firstname="Anna")
        return visitor.flag("limit"), visitor.flag("hello")

    assert site(harness, use).get("/").text == "(30, 'Anna')"
    assert [event.event["type"] for event in harness.events] == ["track", "identify"]
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "identify event" in told
    assert "traits" in told
    assert "xxx" not in told


# Time


def test_a_page_that_ran_out_of_time_carries_the_id_of_the_profile_that_is_stored_without_it(harness: Harness) -> None:
    may_go_on, stored = threading.Event(), threading.Event()
    upsert = harness.service.upsert

    def slow(*args: Any, **options: Any) -> Any:
        may_go_on.wait(60)
        try:
            return upsert(*args, **options)
        finally:
            stored.set()

    harness.service.upsert = slow  # type: ignore[method-assign]  # nothing else makes an evaluation late
    # Long enough for an evaluation to begin on a busy machine.
    browser = site(harness, lambda visitor: visitor.page(), time_budget_ms=3_000)
    answer = browser.get("/")
    cookie = browser.get_cookie("ntaid")
    may_go_on.set()
    assert stored.wait(60)
    assert (answer.status_code, len(cookies_set(answer))) == (200, 1)
    assert cookie is not None
    assert [event.profile for event in harness.events] == [cookie.value]


def test_a_question_that_no_page_waits_for_any_more_never_begins(harness: Harness) -> None:
    may_go_on, begun = threading.Event(), threading.Semaphore(0)
    new_id = harness.service.new_id

    def slow(environment: Any) -> str:
        begun.release()
        may_go_on.wait(60)
        return new_id(environment)

    harness.service.new_id = slow  # type: ignore[method-assign]  # what comes before an evaluation begins
    browser = site(harness, lambda visitor: visitor.page(), time_budget_ms=3_000)
    answer = browser.get("/")
    assert begun.acquire(timeout=60)
    may_go_on.set()
    assert cookies_set(answer) == []
    harness.service.new_id = new_id  # type: ignore[method-assign]
    assert len(cookies_set(site(harness, lambda visitor: visitor.page()).get("/"))) == 1
    assert len(harness.events) == 1


# Addresses of pages


def test_credentials_in_the_address_of_a_page_are_not_stored(harness: Harness) -> None:
    site(harness, lambda visitor: visitor.page()).get(
        "/?q=tea&Token=tell-tale&next=%2Freset%3Ftoken%3Dtell-tale",
        headers={"Referer": "https://login.example/?jwt=tell-tale#id_token=tell-tale"},
    )
    (event,) = harness.events
    assert "tell-tale" not in str(event.event)
    assert event.event["properties"]["query"]["q"] == "tea"


def test_scheme_and_host_come_from_a_trusted_proxy(harness: Harness) -> None:
    seen: list[Any] = []
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example", "X-Forwarded-For": "203.0.113.7"}
    for proxies in (["127.0.0.1"], []):
        browser = site(harness, lambda visitor: visitor.page(), trusted_proxies=proxies)
        answer = browser.get("/", headers=headers, environ_base={"REMOTE_ADDR": "127.0.0.1"})
        seen.append((harness.events[-1].event["properties"]["url"], "Secure" in cookies_set(answer)[0]))
    assert seen == [("https://shop.example/", True), ("http://localhost/", False)]


# Twice


def test_a_site_that_is_called_again_for_an_error_page_still_gets_its_cookie(harness: Harness) -> None:
    def page(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/":
            start_response("404 Not Found", [])
            return []
        visitor_of(environ).page()
        start_response("200 OK", [])
        return [b"sorry"]

    mounted = harness.mount(page)

    def outer(environ: Any, start_response: Any) -> Any:
        statuses: list[str] = []
        mounted(environ, lambda status, headers, exc_info=None: statuses.append(status))
        assert statuses == ["404 Not Found"]
        return mounted({**environ, "PATH_INFO": "/sorry"}, start_response)

    answer = Client(outer).get("/")
    assert (answer.text, len(cookies_set(answer)), len(harness.events)) == ("sorry", 1, 1)


def test_the_inner_of_two_middlewares_decides_for_its_part_of_the_site(harness: Harness) -> None:
    def page(environ: Any, start_response: Any) -> Any:
        visitor_of(environ).page()
        start_response("200 OK", [])
        return []

    inner = harness.mount(page, consent=lambda environ: False)
    outer = harness.mount(lambda environ, start_response: inner(environ, start_response))
    assert cookies_set(Client(outer).get("/")) == []
    assert harness.events == []


def test_an_app_may_be_mounted_again_and_again(harness: Harness) -> None:
    app = flask.Flask("site")
    for _ in range(sys.getrecursionlimit() + 200):
        app.wsgi_app = harness.mount(app.wsgi_app)  # type: ignore[method-assign]
    assert app.test_client().get("/").status_code == 404


# Flask, as an extension


def test_flask_takes_the_middleware_as_an_extension(harness: Harness) -> None:
    def create() -> flask.Flask:
        app = flask.Flask("site")
        app.config["NINETAILED"] = {"data_dir": harness.settings.data_dir, "time_budget_ms": 30_000}

        @app.get("/")
        def page() -> str:
            visitor_of(flask.request).track("order")
            return flask.render_template_string("{{ nt_flag('limit', 50) }}")

        return app

    from ninetailed_wsgi import Ninetailed

    extension = Ninetailed(service=harness.service)
    for _ in range(2):
        app = create()
        mounted = extension.init_app(app)
        assert extension.init_app(app) is not mounted
        answer = app.test_client().get("/")
        assert (answer.text, len(cookies_set(answer))) == ("30", 1)
        assert app.test_client().get("/ninetailed/health/live").status_code == 200


def test_a_closed_middleware_gives_baselines_without_a_wait(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    app = flask.Flask("site")
    app.add_url_rule("/", view_func=lambda: str(visitor_of(flask.request).flag("limit", 50)))
    mounted = harness.mount(app.wsgi_app)
    assert Client(mounted).get("/").text == "50"
    mounted.close()
    assert Client(mounted).get("/").text == "50"
    assert caplog.messages == []  # such as that there was no answer within the time budget
    assert Client(mounted).get("/ninetailed/health/live").status_code == 503
