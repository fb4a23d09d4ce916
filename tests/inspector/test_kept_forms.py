"""A form that somebody filled in is not lost: after a second sign-in, after the end of one, after another key."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ninetailed_wsgi.insights import drafts
from ninetailed_wsgi.testing import Answer, Harness
from tests.inspector.places import busy, profile_id
from tests.inspector.test_inspector import get, post, proof_of

PLAY = {"visitor": "anna & \u201cb\u201d", "traits": '{"plan": "<pro>"}', "experience:hero-test": "1"}


@pytest.fixture
def guarded() -> Iterator[Harness]:
    with busy(access="guarded") as made:
        yield made


class Browser:
    """Keeps cookies, as the tabs of one browser share them."""

    def __init__(self, harness: Harness) -> None:
        self.harness, self.cookies = harness, {}

    def get(self, page: str) -> Answer:
        return self._with_cookies(get(self.harness, page, Cookie=self._cookie()))

    def post(self, page: str, fields: dict[str, str], **headers: str) -> Answer:
        sent = {"Cookie": self._cookie(), **headers}
        return self._with_cookies(post(self.harness.client, f"/inspector/{page}", fields, **sent))

    def sign_in(self, key: str, page: str = "find") -> Answer:
        self.cookies.pop("nt_inspector", None)
        return self.post("sign-in", {"proof": proof_of(self.get(page)), "key": key})

    def _cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def _with_cookies(self, answer: Answer) -> Answer:
        if cookie := answer.headers.get("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer


def hidden(answer: Answer) -> dict[str, str]:
    """Return the hidden fields of the first form of a page whose entities are those of the fields above."""
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', answer.body.decode())
    entities = (("&#34;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"))
    for entity, character in entities:
        fields = [(name, value.replace(entity, character)) for name, value in fields]
    return dict(fields)


def shown(answer: Answer) -> bool:
    """Return whether the playground of a page has everything that `PLAY` set."""
    text = answer.body.decode()
    return (
        'name="visitor" value="anna &amp; “b”"' in text
        and "{&#34;plan&#34;: &#34;&lt;pro&gt;&#34;}" in text
        and '<option value="1" selected>variant 1' in text
        and "What they would get" not in text
    )


def test_a_second_sign_in_in_another_tab_invalidates_no_form(guarded: Harness) -> None:
    browser, key = Browser(guarded), guarded.key("admin")
    browser.sign_in(key)
    proof = proof_of(browser.get(f"visitors/{profile_id(guarded)}"))
    guarded.clock.advance(minutes=30)
    assert browser.sign_in(key).status == 303
    assert browser.post(f"visitors/{profile_id(guarded)}", {"proof": proof, "delete": "yes"}).status == 303
    assert browser.get(f"visitors/{profile_id(guarded)}").status == 404


def test_a_form_after_the_end_of_a_sign_in_comes_back_with_the_next(guarded: Harness) -> None:
    browser, key = Browser(guarded), guarded.key("admin")
    browser.sign_in(key)
    proof = proof_of(browser.get("playground"))
    guarded.clock.advance(minutes=61)
    refused = browser.post("playground", {"proof": proof, **PLAY})
    assert refused.status == 401
    wrong = browser.post("sign-in", {**hidden(refused), "key": "nt_wrong"})
    assert wrong.status == 403
    back = browser.post("sign-in", {**hidden(wrong), "key": key})
    assert (back.status, shown(back)) == (200, True)
    assert "Here is your form" in back.body.decode()
    assert (
        "What they would get"
        in browser.post("playground", {**PLAY, "proof": proof_of(back), "visitor": ""}).body.decode()
    )


def test_a_form_of_another_key_is_refused_and_shown_again(guarded: Harness) -> None:
    browser = Browser(guarded)
    browser.sign_in(guarded.key("admin"))
    proof = proof_of(browser.get("playground"))
    browser.sign_in(guarded.key("admin"))
    refused = browser.post("playground", {"proof": proof, **PLAY})
    assert (refused.status, shown(refused)) == (403, True)
    assert "too old, or of another page" in refused.body.decode()
    draft = browser.post("what-if", {"proof": proof, "draft": '{"audiences": [], "experiences": []}'})
    assert draft.status == 403
    assert "{&#34;audiences&#34;: []" in draft.body.decode()
    assert drafts.environments(guarded.settings.data_dir) == []
    assert browser.post("what-if.json", {"proof": proof, "draft": "{}"}).document["error"]["code"] == "ERR_FORBIDDEN"


@pytest.mark.parametrize("length", [60_000, 900_000])
def test_a_form_too_long_to_bring_back_is_told_how_to_be_saved_and_that_works(guarded: Harness, length: int) -> None:
    browser, key = Browser(guarded), guarded.key("admin")
    browser.sign_in(key)
    draft = {"proof": proof_of(browser.get("what-if")), "draft": '{"audiences": []}' + " " * length}
    guarded.clock.advance(minutes=61)
    refused = browser.post("what-if", draft)
    assert refused.status == 401
    assert "sign in in another tab instead, then reload this page" in refused.body.decode()
    assert len(refused.body) < 30_000
    browser.sign_in(key)
    assert browser.post("what-if", draft).status == 303


def test_a_form_comes_back_to_nobody_without_a_key_and_from_no_other_site(guarded: Harness) -> None:
    browser = Browser(guarded)
    refused = browser.post("playground", PLAY)
    assert refused.status == 401
    for key in ("", guarded.key("read")):
        answer = browser.post("sign-in", {**hidden(refused), "key": key})
        assert (answer.status, shown(answer)) == (403, False)
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    answer = browser.post("playground", PLAY, **headers)
    assert answer.status == 403
    assert "pro" not in answer.body.decode()
    odd = {"next": "visitors/" + profile_id(guarded), "form:delete": "yes", "proof": hidden(refused)["proof"]}
    assert browser.post("sign-in", {**odd, "key": guarded.key("admin")}).status == 200
    assert browser.get(f"visitors/{profile_id(guarded)}").status == 200, "nothing that a sign-in brings is done"


@pytest.mark.parametrize(
    ("content_type", "encoding", "body"),
    [
        ("multipart/form-data", "", b"x"),
        ("multipart/form-data; boundary=a", "", b"--a\r\nContent-Disposition: form-data\r\n\r\n\xff"),
        ("application/x-www-form-urlencoded", "gzip", b"x"),
        ("application/x-www-form-urlencoded", "", b"&" * 60_000),
        ("application/x-www-form-urlencoded", "", b"\xff=%ff&\x00"),
        ("application/json", "", b"{}"),
        ("", "", b""),
    ],
    ids=range(7),
)
def test_whatever_a_stranger_sends_is_answered_with_the_sign_in(
    guarded: Harness, content_type: str, encoding: str, body: bytes
) -> None:
    headers = {"Content-Type": content_type, **({"Content-Encoding": encoding} if encoding else {})}
    for page in ("find", "what-if", "no-such-page", "sign-out"):
        answer = guarded.client.call("POST", f"/inspector/{page}", body, headers=headers)
        assert answer.status == 401
        assert len(answer.body) < 30_000


@pytest.mark.parametrize("page", ["find", "live", "playground", "what-if", "state", "audiences/pricing-visitors", "no"])
def test_a_check_without_a_body_gets_the_head_of_the_page(guarded: Harness, page: str) -> None:
    headers = {"Authorization": f"Bearer {guarded.key('admin')}"}
    for path in (f"/inspector/{page}", f"/inspector/{page}.json"):
        for sent in (headers, {}):
            whole = guarded.client.call("GET", path, headers=sent)
            head = guarded.client.call("HEAD", path, headers=sent)
            assert (head.status, head.body) == (whole.status, b"")
            assert head.headers["content-type"] == whole.headers["content-type"]
            assert abs(int(head.headers["content-length"]) - len(whole.body)) < 100, "times and proofs differ"
