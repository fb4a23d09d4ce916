"""Switches of the panel: whose they are, what they change, and who cannot use them."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.service.preview_links import LONGEST
from ninetailed_wsgi.site.visitor import Visitor
from tests.mount.browser import Answer, Browser, Environ
from tests.mount.conftest import Mounted
from tests.mount.sites import Reply
from tests.mount.test_panel_insertion import PAGE, document, page
from tests.mount.test_previewed_pages import API, EVENT, link, opened, previews

HTML = "text/html"


def here(environ: Environ) -> bool:
    """Trusts one address."""
    return bool(environ["REMOTE_ADDR"] == "8.8.8.8")


@pytest.fixture
def browser(bare: Mounted, secret: Path) -> Browser:
    """Somebody in a preview."""
    made = bare.browser(page, identity_secret_file=secret, panel=True)
    assert opened(made, link("/pricing")).status == 200
    return made


def switch(browser: Browser, proof: str | None = None, headers: Any = None, **fields: str) -> Answer:
    """Use a switch as the page does: with the proof that it has now."""
    given = document(browser.get("/"))["proof"] if proof is None else proof
    return browser.get(f"/ninetailed/panel?{urlencode({'proof': given, 'back': '/', **fields})}", **(headers or {}))


def overrides(browser: Browser) -> dict[str, Any]:
    found = previews().overrides({"HTTP_COOKIE": f"nt_preview={browser.cookies['nt_preview']}"})
    assert found is not None
    return found.document()


@pytest.mark.parametrize(
    ("fields", "after"),
    [
        ({"experience": "pricing-offer", "to": "0"}, {"experiences": {"pricing-offer": 0}}),
        ({"experience": "pricing-offer", "to": "auto"}, {}),
        (
            {"audience": "pricing-visitors", "to": "on"},
            {"audiences": {"pricing-visitors": True}, "experiences": {"pricing-offer": 1}},
        ),
        (
            {"audience": "pricing-visitors", "to": "off"},
            {"audiences": {"pricing-visitors": False}, "experiences": {"pricing-offer": 1}},
        ),
        ({"audience": "pricing-visitors", "to": "auto"}, {"experiences": {"pricing-offer": 1}}),
        ({"audience": "no longer there", "to": "auto"}, {"experiences": {"pricing-offer": 1}}),
    ],
)
def test_a_switch_changes_one_override_and_leads_back(
    browser: Browser, fields: dict[str, str], after: dict[str, Any]
) -> None:
    answer = switch(browser, **fields, back="/pricing?a=%C3%A4&b=1")
    assert (answer.status, answer.body, answer.all("Location")) == (303, b"", ["/pricing?a=%C3%A4&b=1"])
    assert answer.all("Cache-Control") == ["private, no-store"]
    assert "; HttpOnly; SameSite=Lax" in (answer.set_cookie or "")
    assert overrides(browser) == after


def test_a_switch_keeps_what_has_none_and_does_not_lengthen_the_preview(bare: Mounted, secret: Path) -> None:
    browser = bare.browser(page, identity_secret_file=secret, panel=True)
    opened(browser, link("/", traits={"plan": "pro"}, at=1_800_000_000_000, location={"city": "Graz"}))
    token = previews()._tokens.sign("preview", "default", "main", overrides(browser), 100)  # which lasted 58 minutes
    browser.cookies["nt_preview"] = token
    answer = switch(browser, experience="pricing-offer", to="1")
    lasts = int((answer.set_cookie or "").partition("Max-Age=")[2].partition(";")[0])
    assert 90 <= lasts <= 100
    kept = {"traits": {"plan": "pro"}, "at": 1_800_000_000_000, "location": {"city": "Graz"}}
    assert overrides(browser) == {**kept, "experiences": {"pricing-offer": 1}}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"to": "on"},
        {"audience": "pricing-visitors"},
        {"audience": "pricing-visitors", "to": "1"},
        {"audience": "no such", "to": "on"},
        {"experience": "pricing-offer", "to": "on"},
        {"experience": "pricing-offer", "to": "2"},
        {"experience": "pricing-offer", "to": "-1"},
        {"experience": "pricing-offer", "to": "٣"},
        {"experience": "pricing-offer", "to": "9" * 100},
        {"experience": "<script>alert(1)</script>", "to": "1"},
        {"experience": "\ud800", "to": "1"},
        dict.fromkeys("abcdefghijkl", "x"),
    ],
    ids=str,
)
def test_a_switch_that_changes_nothing_says_so_and_is_text(browser: Browser, fields: dict[str, str]) -> None:
    before = browser.cookies["nt_preview"]
    proof = document(browser.get("/"))["proof"]
    query = urlencode({"proof": proof, "back": "/", **fields}, errors="surrogatepass")
    answer = browser.get(f"/ninetailed/panel?{query}")
    assert (answer.status, answer.set_cookie, browser.cookies["nt_preview"]) == (400, None, before)
    assert "<script" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.all("Content-Security-Policy") == ["default-src 'none'"]


def test_a_preview_that_grew_too_long_for_a_cookie_says_so(bare: Mounted, secret: Path) -> None:
    browser = bare.browser(page, identity_secret_file=secret, panel=True)
    opened(browser, previews().link("/", Overrides.of({"traits": {"text": "x" * (LONGEST * 3 // 4 - 155)}})))
    answer = switch(browser, experience="pricing-offer", to="1")
    assert answer.status == 400
    assert f"expected at most {LONGEST}" in html.unescape(answer.text)


@pytest.mark.parametrize(
    "back", ["//evil.example/x", "/\\evil.example", "https://evil.example", "\\\\evil.example", "", "/\r\nX: y"]
)
def test_a_switch_leads_to_this_site_alone(browser: Browser, back: str) -> None:
    answer = switch(browser, experience="pricing-offer", to="0", back=back)
    (location,) = answer.all("Location")
    assert location[0] == "/"
    assert location[1:2] not in ("/", "\\")
    assert urlsplit(location).netloc == ""
    assert "\r" not in location


@pytest.mark.parametrize("proof", ["", "x", "a.b.c", "x" * 5000])
def test_without_the_proof_of_the_page_nothing_is_switched(browser: Browser, proof: str) -> None:
    answer = switch(browser, proof, experience="pricing-offer", to="0")
    assert (answer.status, answer.set_cookie) == (403, None)
    assert "This switch belongs to another page" in answer.text


def test_a_proof_is_none_for_another_person_or_for_an_earlier_preview(bare: Mounted, secret: Path) -> None:
    app = bare.app(page, identity_secret_file=secret, panel=True)
    one, other = bare.visit(app), bare.visit(app)
    opened(one, link())
    opened(other, link(audiences={"pricing-visitors": True}))
    proof = document(one.get("/"))["proof"]
    assert switch(other, proof, experience="pricing-offer", to="0").status == 403
    assert switch(one, proof, experience="pricing-offer", to="0").status == 303
    stale = switch(one, proof, experience="pricing-offer", to="1")  # from a tab that was open before
    assert stale.status == 403
    assert "or to an earlier preview. Go back and reload the page." in stale.text


def test_tokens_of_another_purpose_are_no_proof_and_a_proof_is_no_link(browser: Browser) -> None:
    for token in (browser.cookies["nt_preview"], link().partition("nt_preview=")[2]):
        assert switch(browser, token, experience="pricing-offer", to="0").status == 403
    proof = document(browser.get("/"))["proof"]
    assert browser.get(f"/?nt_preview={proof}").status == 403
    browser.cookies["nt_preview"] = proof
    assert b"ninetailed-panel" not in browser.get("/").body


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_what_a_browser_calls_another_site_is_refused_with_a_proof_too(browser: Browser, site: str) -> None:
    answer = switch(browser, headers={"HTTP_SEC_FETCH_SITE": site}, experience="pricing-offer", to="0")
    assert (answer.status, answer.set_cookie) == (403, None)
    answer = switch(browser, headers={"HTTP_SEC_FETCH_SITE": "same-origin"}, experience="pricing-offer", to="0")
    assert answer.status == 303


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "DELETE"])
def test_a_switch_is_a_get(browser: Browser, method: str) -> None:
    proof = document(browser.get("/"))["proof"]
    query = urlencode({"proof": proof, "back": "/", "experience": "pricing-offer", "to": "0"})
    answer = browser.send(method, f"/ninetailed/panel?{query}")
    assert (answer.status, answer.all("Allow"), answer.set_cookie) == (405, ["GET"], None)


def test_a_stranger_learns_nothing_and_switches_nothing(bare: Mounted, secret: Path) -> None:
    browser = bare.browser(page, identity_secret_file=secret, panel=here)
    trusted = document(browser.get("/"))["proof"]
    answer = switch(browser, trusted, {"REMOTE_ADDR": "9.9.9.9"}, experience="pricing-offer", to="1")
    assert (answer.status, answer.set_cookie) == (403, None)
    assert "This preview has ended" in answer.text
    assert "pricing" not in answer.text


def test_a_switch_of_trusted_people_begins_a_preview_of_an_hour(bare: Mounted, secret: Path) -> None:
    browser = bare.browser(page, identity_secret_file=secret, panel=here)
    answer = switch(browser, experience="pricing-offer", to="1")
    assert (answer.status, "Max-Age=3600" in (answer.set_cookie or "")) == (303, True)
    shown = browser.get("/")
    assert b"hero-offer" in shown.body
    assert document(shown)["preview"] is True


def test_without_the_option_the_routes_are_unknown(bare: Mounted, secret: Path) -> None:
    browser = bare.browser(page, identity_secret_file=secret)
    opened(browser, link())
    for path in ("/ninetailed/panel", "/ninetailed/panel.js"):
        assert browser.get(path).status == 404


def test_the_script_is_public_and_says_how_long_it_lasts(bare: Mounted, secret: Path) -> None:
    browser = bare.browser(page, identity_secret_file=secret, panel=True)
    answer = browser.get("/ninetailed/panel.js")
    assert (answer.status, answer.all("Content-Type")) == (200, ["text/javascript; charset=utf-8"])
    assert answer.all("Cache-Control") == ["public, max-age=3600"]
    etag = answer.all("ETag")[0]
    assert browser.get("/ninetailed/panel.js", HTTP_IF_NONE_MATCH=etag).status == 304
    assert browser.send("HEAD", "/ninetailed/panel.js").body == b""
    assert browser.send("POST", "/ninetailed/panel.js").status == 405


def test_the_panel_tells_no_traits_and_no_private_data(bare: Mounted, secret: Path) -> None:
    def identified(environ: Environ) -> Reply:
        visitor: Visitor = environ["ninetailed.visitor"]
        visitor.identify(plan="a secret plan", albacross={"name": "A company"})
        visitor.variant("greeting")
        return Reply(PAGE, kind=HTML)

    browser = bare.browser(identified, identity_secret_file=secret, panel=True, access="guarded")
    answer = opened(browser, link(audiences={"club-members": True}))
    assert [each["id"] for each in document(answer)["audiences"] if each.get("groups")], "rules are told"
    assert b"a secret plan" not in answer.body
    assert b"A company" not in answer.body


def test_a_switch_shows_a_page_the_natural_variant_of_the_same_visitor(bare: Mounted, secret: Path) -> None:
    browser = bare.browser(page, identity_secret_file=secret, panel=True)
    browser.get("/pricing")
    browser.get("/pricing")
    id = browser.cookies["ntaid"]
    opened(browser, link(experiences={"pricing-offer": 0}))
    (offer,) = [each for each in document(browser.get("/"))["experiences"] if each["id"] == "pricing-offer"]
    assert (offer["shown"], offer["natural"]) == (0, 1)
    assert offer["otherwise"].startswith("In the audience")
    switch(browser, experience="pricing-offer", to="auto")
    assert b"hero-offer" in browser.get("/").body
    assert browser.cookies["ntaid"] == id


def test_batches_and_imports_of_a_preview_are_answered_and_not_stored(bare: Mounted, secret: Path) -> None:
    browser = bare.browser(page, identity_secret_file=secret)
    opened(browser, link())
    event = EVENT.replace(b'"messageId"', b'"anonymousId": "anna", "messageId"')
    batch = browser.send("POST", f"{API}/events", event)
    assert (batch.status, b'"id":"anna"' in batch.body) == (200, True)
    assert browser.send("POST", f"{API}/import/events", event).status == 200
    assert browser.send("GET", f"{API}/profiles/anna").status == 404
    assert bare.store.writes == 0
    browser.cookies.clear()
    assert browser.send("POST", f"{API}/events", event).status == 200
    assert browser.send("GET", f"{API}/profiles/anna").status == 200


@pytest.mark.parametrize("access", ["open", "guarded"])
def test_somebody_without_an_id_is_the_same_new_visitor_while_a_preview_lasts(
    bare: Mounted, secret: Path, access: str
) -> None:
    def seen(environ: Environ) -> Reply:
        visitor: Visitor = environ["ninetailed.visitor"]
        if environ["QUERY_STRING"] != "silent":
            visitor.page()
        ids.append(visitor.id)
        return Reply(PAGE, kind=HTML)

    ids: list[str] = []
    app = bare.app(seen, identity_secret_file=secret, panel=True, access=access)
    browser = bare.visit(app)
    opened(browser, link())
    browser.get("/pricing")
    browser.get("/?silent")
    switch(browser, experience="pricing-offer", to="0")
    assert document(browser.get("/"))["experiences"][0]["shown"] is not None
    assert len(set(ids)) == 1, ids
    assert bare.store.writes == 0
    assert "ntaid" not in browser.cookies
    other = bare.visit(app)
    opened(other, link())
    assert len(set(ids)) == 2, "another person is another visitor"
