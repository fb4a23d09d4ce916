"""Pages of the host site in a preview: the link, the cookie, what is shown, and that nothing is stored or counted."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django.test
import pytest
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import include, path

import ninetailed_wsgi.django.urls
from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.django.middleware import site as django_mount
from ninetailed_wsgi.service.identity_tokens import IdentityTokens
from ninetailed_wsgi.service.preview_links import LONGEST
from ninetailed_wsgi.site.previews import Previews
from ninetailed_wsgi.site.visitor import KEY, Visitor
from tests.mount.browser import Answer, Browser
from tests.mount.conftest import SECRET, Mounted
from tests.mount.sites import Reply, set_django_up

set_django_up()
API = "/ninetailed/v2/organizations/default/environments/main"
EVENT = (
    b'{"events": [{"type": "page", "channel": "web", "messageId": "m", "context": {"library": {"name": "a", '
    b'"version": "4.0.0"}}, "properties": {"path": "/", "query": {}, "referrer": "", "search": "", "url": ""}}]}'
)
FORCED = {"experiences": {"pricing-offer": 1}}


def previews(organization: str = "default", secret: str = SECRET, now: float = 0) -> Previews:
    tokens = IdentityTokens((secret.encode(),), lambda: time.time() + now)
    return Previews(tokens, organization, "main")


def link(url: str = "/", **overrides: Any) -> str:
    return previews().link(url, Overrides.of(overrides or FORCED))


def token(organization: str = "default", secret: str = SECRET, now: float = 0) -> str:
    return previews(organization, secret, now).link("/", Overrides.of(FORCED)).partition("nt_preview=")[2]


def page(visitor: Visitor) -> str:
    visitor.page()
    return f"{visitor.variant('hero')} {visitor.preview}"


def opened(browser: Browser, url: str) -> Answer:
    """Open a link to a preview and the page that it redirects to."""
    answer = browser.get(url)
    assert answer.status == 303, answer
    return browser.get(answer.all("Location")[0].removeprefix(browser._root))


def test_a_link_shows_the_page_as_somebody_else_would_see_it_in_every_framework(mounted: Mounted, secret: Path) -> None:
    browser = mounted.visited_by(page, identity_secret_file=secret)
    answer = browser.get(link("/pricing?a=1&b=%20x"))
    assert (answer.status, answer.body) == (303, b"")
    assert answer.all("Location") == [f"{mounted.prefix}/pricing?a=1&b=%20x"]
    assert answer.all("Cache-Control") == ["private, no-store"]
    cookie = answer.set_cookie or ""
    assert cookie.startswith("nt_preview=")
    assert cookie.endswith("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax")
    shown = browser.get("/pricing?a=1")
    assert shown.text == "hero-offer {'experiences': {'pricing-offer': 1}}"
    assert shown.all("Cache-Control") == ["private, no-store"]
    assert shown.set_cookie is None, "no profile cookie"
    assert mounted.store.writes == 0


def test_off_ends_a_preview(mounted: Mounted, secret: Path) -> None:
    browser = mounted.visited_by(page, identity_secret_file=secret)
    opened(browser, link())
    answer = browser.get("/?nt_preview=off")
    assert (answer.status, answer.all("Location")) == (303, [f"{mounted.prefix}/"])
    assert "nt_preview=; Path=/; Max-Age=0" in (answer.set_cookie or "")
    assert "None" in browser.get("/").text
    assert mounted.store.writes == 1


def test_a_visitor_in_a_preview_keeps_what_is_stored_of_them(bare: Mounted, secret: Path) -> None:
    def identified(visitor: Visitor) -> str:
        if visitor.environ["QUERY_STRING"] == "plan":
            visitor.identify(plan="member")
        visitor.track("seen")
        return str(visitor.profile["traits"])

    browser = bare.visited_by(identified, identity_secret_file=secret)
    assert browser.get("/?plan").text == "{'plan': 'member'}"
    id, writes = browser.cookies["ntaid"], bare.store.writes
    assert opened(browser, link(traits={"name": "Anna"})).text == "{'plan': 'member', 'name': 'Anna'}"
    assert (browser.cookies["ntaid"], bare.store.writes) == (id, writes)
    browser.get("/?nt_preview=off")
    assert browser.get("/").text == "{'plan': 'member'}"


@pytest.mark.parametrize("verb", ["forget", "reset"])
def test_a_preview_neither_deletes_nor_changes_the_visitor_who_has_it(bare: Mounted, secret: Path, verb: str) -> None:
    def leaves(visitor: Visitor) -> str:
        if visitor.environ["PATH_INFO"] == "/leave":
            done = getattr(visitor, verb)()
            return f"{done} {visitor.profile['traits']}"
        visitor.identify(plan="member")
        return str(visitor.profile["traits"])

    browser = bare.visited_by(leaves, identity_secret_file=secret)
    browser.get("/")
    id, writes = browser.cookies["ntaid"], bare.store.writes
    left = opened(browser, link("/leave"))
    assert left.text == f"{False if verb == 'forget' else None} {{}}"
    assert (browser.cookies["ntaid"], bare.store.writes, left.set_cookie) == (id, writes, None)
    assert bare.profile(id)["traits"] == {"plan": "member"}
    browser.get("/?nt_preview=off")
    assert browser.get("/leave").text == f"{True if verb == 'forget' else None} {{}}"


def test_what_the_browser_sdk_sends_in_a_preview_is_the_previews_too(bare: Mounted, secret: Path) -> None:
    browser = bare.visited_by(page, identity_secret_file=secret)
    opened(browser, link())
    event, api = EVENT, API
    answer = browser.send("POST", f"{api}/profiles/anna", event)
    assert b'"experienceId":"pricing-offer","variantIndex":1' in answer.body
    flags = browser.send("POST", f"{api}/ofrep/v1/evaluate/flags", b'{"context": {"targetingKey": "anna"}}')
    assert flags.status == 200
    insights = "/ninetailed/v1/organizations/default/environments/main/events"
    view = b'[{"profile": {"id": "anna"}, "events": []}]'
    assert browser.send("POST", insights, view).status == 204
    assert bare.store.writes == 0
    browser.cookies.clear()
    assert b'"pricing-offer"' not in browser.send("POST", f"{api}/profiles/anna", event).body
    assert bare.store.writes == 1


@pytest.mark.parametrize(
    "given",
    [
        "x",
        "a.b.c",
        "%00",
        "",
        "x" * 100_000,
        token(secret="f" * 32),
        token("other"),
        token(now=-90_000),
        IdentityTokens((SECRET.encode(),)).make("anna", "default", "main"),
        IdentityTokens((SECRET.encode(),)).sign("preview", "default", "main", FORCED, 60),
        IdentityTokens((SECRET.encode(),)).sign("preview-link", "default", "main", {"newer": 1}, 60),
    ],
    ids=[
        "text",
        "dots",
        "a null character",
        "empty",
        "long",
        "another secret",
        "another environment",
        "late",
        "a proof of a user",
        "the cookie's",
        "of a later version",
    ],
)
def test_a_link_that_is_wrong_late_or_of_another_purpose_says_so_and_sets_nothing(
    bare: Mounted, secret: Path, given: str
) -> None:
    browser = bare.visited_by(page, identity_secret_file=secret)
    answer = browser.get(f"/?nt_preview={given}")
    assert (answer.status, answer.set_cookie) == (403, None)
    assert "This preview link is not valid any more" in answer.text
    assert browser.send("HEAD", f"/?nt_preview={given}").body == b""


@pytest.mark.parametrize(
    "cookie",
    ["x", "", token(), IdentityTokens((SECRET.encode(),)).make("a", "default", "main")],
    ids=["text", "empty", "the token of a link", "a proof of a user"],
)
def test_a_cookie_that_is_no_previews_changes_nothing(bare: Mounted, secret: Path, cookie: str) -> None:
    browser = bare.visited_by(page, identity_secret_file=secret)
    browser.cookies["nt_preview"] = cookie
    assert browser.get("/").text.endswith("None")
    assert bare.store.writes == 1


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "///evil.example", "/%5c/evil.example"])
def test_a_link_never_leads_to_another_site(bare: Mounted, secret: Path, path: str) -> None:
    browser = bare.visited_by(page, identity_secret_file=secret)
    query = urlsplit(link()).query
    answer = browser.get("/", PATH_INFO=path, QUERY_STRING=query)
    (location,) = answer.all("Location")
    assert location[0] == "/"
    assert location[1:2] not in ("/", "\\")
    assert urlsplit(location).netloc == ""


def test_a_query_keeps_everything_but_the_token_and_cannot_break_the_header(bare: Mounted, secret: Path) -> None:
    browser = bare.visited_by(page, identity_secret_file=secret)
    query = f"x=1&nt_preview=old&{urlsplit(link()).query}&y=%0d%0aSet-Cookie:a&z=\xc3\xa4 \r\n"
    answer = browser.get("/p", QUERY_STRING=query)
    assert answer.all("Location") == ["/p?x=1&y=%0d%0aSet-Cookie:a&z=%C3%A4%20%0D%0A"]


def test_a_post_and_a_site_without_a_secret_know_no_links(bare: Mounted, secret: Path) -> None:
    browser = bare.visited_by(page, identity_secret_file=secret)
    assert browser.send("POST", link(), b"x").status == 200
    assert bare.visited_by(page).get(link()).text.endswith("None")


def test_a_page_in_a_preview_is_never_one_that_the_browser_kept(bare: Mounted, secret: Path) -> None:
    def respond(environ: dict[str, Any]) -> Reply:
        environ[KEY].page()
        kept = "HTTP_IF_NONE_MATCH" in environ or "HTTP_RANGE" in environ
        return Reply(b"page", 304 if kept else 200, (("ETag", '"1"'), ("Cache-Control", "private, max-age=60")))

    browser = bare.browser(respond, identity_secret_file=secret)
    asked = {"HTTP_IF_NONE_MATCH": '"1"', "HTTP_RANGE": "bytes=0-1"}
    browser.get(link())
    answer = browser.get("/", **asked)
    assert (answer.status, answer.all("ETag"), answer.all("Cache-Control")) == (200, [], ["private, no-store"])


def test_an_element_in_a_preview_reports_no_views(bare: Mounted, secret: Path) -> None:
    browser = bare.visited_by(lambda visitor: visitor.track_attributes("hero"), identity_secret_file=secret)
    assert browser.get("/").text.startswith("data-nt-track=")
    assert opened(browser, link()).text == 'data-nt-shown="[&quot;hero-offer&quot;,&quot;pricing-offer&quot;,1]"'


def test_the_cookie_is_secure_where_the_page_came_over_https(bare: Mounted, secret: Path) -> None:
    browser = bare.visited_by(page, identity_secret_file=secret)
    answer = browser.get(link(), **{"wsgi.url_scheme": "https"})
    assert (answer.set_cookie or "").endswith("; Secure")


def test_code_of_the_site_makes_links(bare: Mounted, secret: Path) -> None:
    def made(visitor: Visitor) -> str:
        return visitor.preview_link(experiences={"pricing-offer": 1}, audiences={"members": True})

    browser = bare.visited_by(made, identity_secret_file=secret)
    url = urlsplit(browser.get("/pricing?a=1").text)
    assert (url.netloc, url.path, url.query[:16]) == ("shop.example", "/pricing", "a=1&nt_preview=e")
    options: dict[str, Any] = {"identity_secret_file": secret, "data_dir": secret.parent / "other"}
    other = bare.visited_by(lambda visitor: str(visitor.preview), **options)
    assert opened(other, f"/?{url.query}").text == str({"audiences": {"members": True}, **FORCED})
    third = bare.visited_by(lambda visitor: visitor.preview_link("/x#top", traits={"a": 1}), **options)
    assert third.get("/").text.endswith("#top")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"experiences": {"no-such": 1}}, 'found "no-such", expected the id of a published experience'),
        ({"audiences": {"members": "yes"}}, 'found "yes", expected true or false'),
        ({"at": "soon"}, 'found "soon", expected an ISO 8601 time'),
        ({"seconds": 0}, "found 0, expected 1 to 86400"),
        ({"draft": True}, "no draft content is configured"),
        ({"traits": {"text": "x" * LONGEST}}, "override fewer traits"),
    ],
)
def test_a_link_that_cannot_be_made_is_empty_and_the_log_says_why(
    bare: Mounted, secret: Path, caplog: pytest.LogCaptureFixture, overrides: dict[str, Any], told: str
) -> None:
    browser = bare.visited_by(lambda visitor: visitor.preview_link(**overrides), identity_secret_file=secret)
    with caplog.at_level(logging.WARNING):
        assert browser.get("/").text == ""
    assert told in caplog.text


def test_without_a_secret_no_link_is_made_and_the_log_says_what_to_set(
    bare: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    assert bare.visited_by(lambda visitor: visitor.preview_link()).get("/").text == ""
    assert "identity_secret_file is not set" in caplog.text


def _django_page(request: HttpRequest) -> HttpResponse:
    visitor = visitor_of(request)
    visitor.page()
    return HttpResponse(f"{visitor.variant('hero')} {visitor.preview}")


urlpatterns = [path("page/", _django_page), path("ninetailed/", include(ninetailed_wsgi.django.urls))]


def test_django_s_own_middleware_answers_links(tmp_path: Path, secret: Path) -> None:
    mount = {
        "data_dir": tmp_path / "data",
        "content": Path(__file__).parents[2] / "fixtures/spaces/shop.json",
        "identity_secret_file": secret,
        "time_budget_ms": 20_000,
    }
    middleware = ["ninetailed_wsgi.django.Middleware"]
    with override_settings(ROOT_URLCONF=__name__, NINETAILED=mount, MIDDLEWARE=middleware):
        client = django.test.Client()
        answer = client.get(link("/page/?a=1"))
        assert (answer.status_code, answer["Location"]) == (303, "/page/?a=1")
        shown = client.get("/page/")
        assert shown.content.decode() == "hero-offer {'experiences': {'pricing-offer': 1}}"
        assert shown["Cache-Control"] == "private, no-store"
        assert "ntaid" not in client.cookies
        sent = client.post(f"{API}/profiles", EVENT, content_type="text/plain")  # by the SDK in the page
        assert b'"experienceId":"pricing-offer","variantIndex":1' in sent.content
        created = json.loads(sent.content)["data"]["profile"]["id"]
        assert client.get(f"{API}/profiles/{created}").status_code == 404
        assert client.get("/page/?nt_preview=x").status_code == 403
        client.get("/page/?nt_preview=off")
        assert client.get("/page/").content.decode().endswith("None")
        django_mount().close()
