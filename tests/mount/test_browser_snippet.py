"""The block that a page gives to the browser SDK, and what the log says where no SDK ever sends anything."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import flask
import orjson
import pytest
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client as DjangoClient
from django.test import override_settings
from django.urls import clear_script_prefix, include, path
from serving import wait_until

import ninetailed_wsgi.django.urls
from ninetailed_wsgi import Ninetailed, visitor_of
from ninetailed_wsgi.site.browser_sdk import PAGES_WITHOUT_EVENTS
from ninetailed_wsgi.site.visitor import Visitor
from tests.mount.browser import Browser
from tests.mount.conftest import Mounted
from tests.mount.sites import set_django_up
from tests.support import page as page_event

set_django_up()

API = "/ninetailed/v2/organizations/default/environments/main"
SCRIPT = re.compile(r'<script type="application/json" id="ninetailed"( nonce="[^"]*")?>([^<>&]*)</script>')


def block(text: str) -> dict[str, Any]:
    """What the SDK reads of a page that has one block."""
    match = SCRIPT.search(text)
    assert match is not None, text
    document: dict[str, Any] = json.loads(match[2])
    return document


def snippet(*args: Any, **named: Any) -> Callable[[Visitor], object]:
    def use(visitor: Visitor) -> object:
        visitor.page()
        return visitor.browser_snippet(*args, **named)

    return use


def test_the_block_says_where_the_api_is_and_what_was_decided(mounted: Mounted) -> None:
    told = block(mounted.visited_by(snippet(), preflight=True).get("/pricing").text)
    assert set(told) == {"clientId", "environment", "url", "cookie", "consent", "handoff"}
    assert told["url"] == f"{mounted.prefix}/ninetailed"
    assert (told["clientId"], told["environment"], told["consent"]) == ("default", "main", True)
    assert told["cookie"] == {"expires": 365}
    assert set(told["handoff"]) == {"profile", "experiences", "changes"}


def test_a_path_with_other_letters_is_a_path_that_a_browser_can_ask_for(bare: Mounted) -> None:
    told = block(bare.visited_by(snippet(), prefix="/für dich").get().text)
    assert told["url"] == "/f%C3%BCr%20dich"


def test_the_cookie_of_the_mount_is_that_of_the_sdk(bare: Mounted) -> None:
    told = block(bare.visited_by(snippet(), cookie_domain="shop.example", cookie_max_age=86_400).get().text)
    assert told["cookie"] == {"expires": 1, "domain": "shop.example"}


@pytest.mark.parametrize(
    ("spaces", "space", "environment"), [("", "default", "main"), ("x7f2k/master=default/main", "x7f2k", "master")]
)
def test_the_block_of_the_newest_sdk_names_the_space(bare: Mounted, spaces: str, space: str, environment: str) -> None:
    options = {"spaces": spaces} if spaces else {}
    told = block(bare.visited_by(snippet(3), cookie_name="ctfl-opt-aid", **options).get().text)
    assert (told["spaceId"], told["environment"]) == (space, environment)
    assert set(told["handoff"]) == {"state", "cache", "hydration", "initialPageEvent"}


@pytest.mark.parametrize(("version", "state"), [(2, None), (3, "state")])
def test_without_consent_the_block_has_no_profile(bare: Mounted, version: int, state: str | None) -> None:
    told = block(bare.visited_by(snippet(version), consent=lambda environ: False).get().text)
    handoff = told["handoff"] if state is None else told["handoff"][state]
    assert told["consent"] is False
    assert "profile" not in handoff
    assert "changes" in handoff


def test_where_personalization_fails_the_block_is_there_without_a_handoff(bare: Mounted) -> None:
    browser = bare.visited_by(snippet(), time_budget_ms=0.001)
    assert block(browser.get().text)["handoff"] is None


@pytest.mark.parametrize("nonce", ["r4nd0m", '"><script>alert(1)</script>', "", None])
def test_a_nonce_is_an_attribute_and_nothing_else(bare: Mounted, nonce: str | None) -> None:
    match = SCRIPT.fullmatch(bare.visited_by(snippet(nonce=nonce)).get().text)
    assert match is not None
    assert match[1] == (f' nonce="{html.escape(nonce)}"' if nonce else None)


def test_the_helpers_of_templates_make_the_same_block(bare: Mounted) -> None:
    site = flask.Flask("site")
    middleware = Ninetailed(site, data_dir=bare.folder / "data", time_budget_ms=20_000, store_shards=1)

    @site.get("/<kind>")
    def page(kind: str) -> str:
        visitor_of(flask.request).page()
        if kind == "jinja":
            return flask.render_template_string("{{ nt_browser(nonce='n') }}")
        if kind == "visitor":
            return visitor_of(flask.request).browser_snippet(nonce="n")
        request = type("Request", (), {"environ": flask.request.environ})
        text: str = (
            engines["django"]
            .from_string("{% load ninetailed %}{% nt_browser nonce='n' %}")
            .render({"request": request})
        )
        return text

    browser = Browser(site)
    browser.get("/visitor")
    shown = [browser.get(f"/{kind}").text for kind in ("visitor", "jinja", "django")]
    assert len({re.sub(r'"(random|activeSessionLength|averageSessionLength)":[\d.]+', "", text) for text in shown}) == 1
    middleware.close()


def test_outside_the_middleware_the_block_says_that_nothing_may_be_sent() -> None:
    told = block(visitor_of({}).browser_snippet())
    assert (told["consent"], told["handoff"], told["url"]) == (False, None, "/ninetailed")


@pytest.mark.parametrize(
    ("version", "options", "hint"),
    [
        (3, {}, "set cookie_name='ctfl-opt-aid'"),
        (2, {"cookie_name": "ctfl-opt-aid"}, "set cookie_name='ntaid'"),
        (2, {"cookie_httponly": True}, "set cookie_httponly=False"),
    ],
)
def test_a_cookie_that_the_sdk_does_not_share_is_said_once(
    bare: Mounted, caplog: pytest.LogCaptureFixture, version: int, options: dict[str, Any], hint: str
) -> None:
    browser = bare.visited_by(snippet(version), **options)
    browser.get()
    browser.get()
    assert len([line for line in caplog.messages if hint in line]) == 1


# In Django, where urls.py mounts the API


def page(request: HttpRequest) -> HttpResponse:
    visitor_of(request).page()
    return HttpResponse(visitor_of(request).browser_snippet())


urlpatterns = [path("page/", page), path("of/ours/", include(ninetailed_wsgi.django.urls))]


def test_in_django_the_block_and_the_beacon_are_where_the_urls_mount_them(bare: Mounted) -> None:
    options = {"data_dir": bare.folder / "data", "time_budget_ms": 20_000, "store_shards": 1}
    with override_settings(MIDDLEWARE=["ninetailed_wsgi.django.Middleware"], ROOT_URLCONF=__name__, NINETAILED=options):
        clear_script_prefix()  # of another test: the test client sets none
        client = DjangoClient()
        assert block(client.get("/page/").content.decode())["url"] == "/of/ours"
        beacon = client.get("/of/ours/beacon.js")
        assert (beacon.status_code, beacon["Content-Type"]) == (200, "text/javascript; charset=utf-8")


# Pages that wait for an SDK that never sends anything


def waiting(caplog: pytest.LogCaptureFixture) -> int:
    return sum("no event of these visitors ever arrived" in message for message in caplog.messages)


def test_pages_whose_sdk_never_sends_anything_are_reported_once(
    mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    browser = mounted.visited_by(lambda visitor: visitor.page(), preflight=True)
    for number in range(PAGES_WITHOUT_EVENTS + 3):
        browser.get()
        assert waiting(caplog) == 0 or number >= PAGES_WITHOUT_EVENTS
    wait_until(lambda: waiting(caplog) == 1, "the hint, which a thread logs after its page")


def test_one_visitor_whose_sdk_works_is_enough(bare: Mounted, caplog: pytest.LogCaptureFixture) -> None:
    browser = bare.visited_by(lambda visitor: visitor.page(), preflight=True)
    browser.get()
    sent = browser.send("POST", f"{API}/profiles/{browser.cookies['ntaid']}", orjson.dumps({"events": [page_event()]}))
    assert sent.status == 200
    for _ in range(PAGES_WITHOUT_EVENTS + 1):
        browser.get()
    script_less = bare.visit(bare.latest)  # type: ignore[arg-type]
    for _ in range(PAGES_WITHOUT_EVENTS + 1):
        script_less.get()
    bare.latest.close()  # type: ignore[union-attr]
    assert waiting(caplog) == 0


@pytest.mark.parametrize("headers", [{"HTTP_SEC_PURPOSE": "prefetch"}, {"HTTP_COOKIE": ""}])
def test_visits_from_which_no_event_is_to_come_do_not_count(
    bare: Mounted, caplog: pytest.LogCaptureFixture, headers: dict[str, str]
) -> None:
    def use(visitor: Visitor) -> None:
        visitor.environ.update(headers)  # type: ignore[attr-defined]
        visitor.page()

    browser = bare.visited_by(use, preflight=True)
    for _ in range(PAGES_WITHOUT_EVENTS + 2):
        browser.get()
    bare.latest.close()  # type: ignore[union-attr]
    assert waiting(caplog) == 0
