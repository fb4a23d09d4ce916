"""Attacks on the inspector: forged and fixed sessions, forms of other sites, guessed keys, tricks with names."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from serving import serving

from ninetailed_wsgi.service.keys import changing, new_key
from ninetailed_wsgi.testing import Answer, Harness
from tests.inspector.places import busy, profile_id
from tests.inspector.test_inspector import get, post, proof_of, sign_in

PAGES = ("find", "live", "playground", "what-if", "state")


@pytest.fixture
def guarded() -> Iterator[Harness]:
    with busy(access="guarded") as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Harness]:
    """For tests that change nothing and sign in with a right key alone."""
    with busy(access="guarded") as made:
        yield made


def cookie_of(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0].partition("=")[2]


def signed_in(harness: Harness) -> dict[str, str]:
    answer = sign_in(harness.client, {"key": harness.key("admin")})
    return {"Cookie": f"nt_inspector={cookie_of(answer)}"}


def test_no_forged_cookie_opens_a_page(guarded: Harness) -> None:
    token = signed_in(guarded)["Cookie"].partition("=")[2]
    head, body, signature = token.split(".")

    def part(document: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()

    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    forged = [
        "",
        "x",
        "a.b.c",
        token[:-2] + ("AA" if not token.endswith("AA") else "BB"),
        f"{part({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        f"{part({'alg': 'none'})}.{body}.{signature}",
        f"{head}.{part({**claims, 'exp': claims['exp'] + 9_999_999})}.{signature}",
        f"{head}.{body}.",
        token + "." + signature,
        "x" * 20_000,
        guarded.identity_token("anna"),
    ]
    for value in forged:
        for page in PAGES:
            assert get(guarded, page, Cookie=f"nt_inspector={value}").status == 401, (page, value[:40])
    assert get(guarded, "find", Cookie=f"nt_inspector={token}").status == 200


def test_a_form_that_comes_after_the_end_of_a_sign_in_does_nothing_and_says_so(guarded: Harness) -> None:
    mine, path = signed_in(guarded), f"visitors/{profile_id(guarded)}"
    proof = proof_of(get(guarded, path, **mine))
    guarded.clock.advance(minutes=61)
    answer = post(guarded.client, f"/inspector/{path}", {"proof": proof, "delete": "yes"}, **mine)
    assert answer.status == 401
    assert b"You are no longer signed in, so nothing was done." in answer.body
    assert f'name="next" value="{path}"' in answer.body.decode(), "the sign-in leads back to the page"
    assert get(guarded, path, **signed_in(guarded)).status == 200
    assert b"no longer signed in" not in get(guarded, path, **mine).body


def test_a_token_of_another_purpose_or_store_opens_nothing(guarded: Harness) -> None:
    headers = {"Authorization": f"Bearer {guarded.key('admin')}"}
    fields = {"experience:pricing-offer": "1", "url": "https://shop.example/"}
    link = post(guarded.client, "/inspector/playground.json", fields, **headers).document["data"]["link"]
    assert get(guarded, "find", Cookie=f"nt_inspector={link.partition('nt_preview=')[2]}").status == 401
    with Harness(access="guarded", inspector=True, seed=7) as other:
        assert get(guarded, "find", **signed_in(other)).status == 401


def test_a_sign_in_takes_no_session_that_somebody_planted(guarded: Harness) -> None:
    planted = signed_in(guarded)
    guarded.clock.advance(seconds=5)
    answer = sign_in(guarded.client, {"key": guarded.key("admin")}, **planted)
    assert cookie_of(answer) != planted["Cookie"].partition("=")[2]
    mine = {"Cookie": f"nt_inspector={cookie_of(answer)}"}
    theirs = proof_of(get(guarded, "find", **planted))
    path = f"/inspector/visitors/{profile_id(guarded)}"
    assert post(guarded.client, path, {"delete": "yes", "proof": theirs}, **mine).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "odd"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://sub.localhost"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
    ],
    ids=str,
)
def test_no_page_of_another_site_sends_a_form_not_even_the_sign_in(guarded: Harness, headers: dict[str, str]) -> None:
    for page in ("sign-in", "sign-out", "find", "live", "playground", "what-if", f"visitors/{profile_id(guarded)}"):
        answer = post(guarded.client, f"/inspector/{page}", {"key": guarded.key("admin")}, **headers)
        assert (answer.status, answer.headers.get("set-cookie")) == (403, None), page


def test_forms_of_the_page_itself_are_taken_over_plain_http_too(guarded: Harness) -> None:
    key = guarded.key("admin")
    for headers in (
        {},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
    ):
        assert sign_in(guarded.client, {"key": key}, **headers).status == 303, headers
    null = {"Origin": "null", "Authorization": f"Bearer {key}"}
    assert guarded.client.post("/profiles", {"events": []}, headers=null).status == 403, "only of the inspector"


@pytest.mark.parametrize("origin", [None, "null"], ids=str)
def test_no_page_of_another_site_signs_somebody_in_with_its_own_key(guarded: Harness, origin: str | None) -> None:
    """Over plain HTTP a browser says nothing of the site, and a page chooses to send no origin but null."""
    mine = guarded.client.call("GET", "/inspector/find")
    theirs = guarded.client.call("GET", "/inspector/find")  # anybody opens the form and reads its proof
    cookie, headers = mine.headers["set-cookie"].partition(";")[0], {"Origin": origin} if origin else {}
    assert "HttpOnly; SameSite=Strict" in mine.headers["set-cookie"]
    key = guarded.key("admin")
    for proof in ("", "x", "\u00fc\u202e", proof_of(theirs)):
        for cookies in ("", "nt_inspector_form=", f"nt_inspector_form={'x' * 200}", cookie):
            answer = post(guarded.client, "/inspector/sign-in", {"key": key, "proof": proof}, **headers, Cookie=cookies)
            assert answer.status == 403, (proof, cookies)
            assert not answer.headers.get("set-cookie", "").startswith("nt_inspector=")
            assert b"too old, or of another page" in answer.body
    sent = {"key": key, "proof": proof_of(mine)}
    assert post(guarded.client, "/inspector/sign-in", sent, **headers, Cookie=cookie).status == 303


def test_a_proof_of_any_text_is_refused(guarded: Harness) -> None:
    path = f"/inspector/visitors/{profile_id(guarded)}"
    for proof in ("\u00fc", "\x00", "\u202e", "\U0001f600", "x" * 10_000):
        answer = post(guarded.client, path, {"delete": "yes", "proof": proof}, **signed_in(guarded))
        assert answer.status == 403


def test_keys_cannot_be_tried_one_after_another(guarded: Harness, caplog: pytest.LogCaptureFixture) -> None:
    good = guarded.key("admin")
    for number in range(10):
        assert sign_in(guarded.client, {"key": f"nt_{number}"}).status == 403
    for key in ("nt_11", good):
        answer = sign_in(guarded.client, {"key": key})
        assert (answer.status, answer.headers.get("set-cookie")) == (429, None)
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert b"wait a minute" in answer.body
    assert get(guarded, "find", Authorization=f"Bearer {good}").status == 200, "programs go on"
    assert "nt_" not in caplog.text
    assert caplog.text.count("tried to sign in") == 10


def test_a_sign_in_is_logged_by_name_and_never_by_key(guarded: Harness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    key = guarded.key("admin")
    assert sign_in(guarded.client, {"key": key}).status == 303
    assert "test signed in to the inspector" in caplog.text
    assert key not in caplog.text


@pytest.mark.parametrize(
    "id",
    ["../state", "..%2fstate", "%2e%2e/state", "a/../../state", ".", "..", "/etc/passwd", "a\x00b",
     "a\nSet-Cookie: x=1", "%0d%0aSet-Cookie:%20x=1", "\u202ex", "x" * 4000, "'\"><script>", "{{7*7}}",
     ".json", "visitors"],
    ids=range(16),
)  # fmt: skip
def test_no_id_leads_elsewhere(shared: Harness, id: str) -> None:
    headers = {"Authorization": f"Bearer {shared.key('admin')}"}
    for kind in ("visitors", "audiences", "experiences"):
        for path in {f"{kind}/{quote(id, safe='')}", f"{kind}/{quote(id, safe='/%')}"}:
            answer = get(shared, path, **headers)
            assert answer.status in (400, 404), (path, answer.status)
            assert "set-cookie" not in answer.headers
            assert b"<script" not in answer.body
            assert b"49" not in re.sub(rb'nonce="[^"]*"|<style.*?</style>', b"", answer.body, flags=re.DOTALL)
    for name in (id, f"{id}=x"):
        answer = post(shared.client, "/inspector/find", {"name": name}, **headers)
        assert answer.status in (200, 400, 404)
        assert answer.headers.get("location", "/inspector/").startswith("/inspector/")


@pytest.mark.parametrize(
    "next",
    ["https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "..//..//evil.example",
     "javascript:alert(1)", "find\r\nSet-Cookie: x=1", "%0d%0ax", "?next=x", "#x", "find?in=//evil.example",
     "\u202efind"],
    ids=range(12),
)  # fmt: skip
def test_a_sign_in_leads_to_a_page_of_the_inspector_alone(shared: Harness, next: str) -> None:
    answer = sign_in(shared.client, {"key": shared.key("admin"), "next": next})
    location = answer.headers["location"]
    assert location.startswith("/inspector/")
    assert not re.search(r"[\r\n\\ ]", location)
    assert not location.startswith("/inspector//")
    shown = get(shared, quote(next, safe="/"))
    assert shown.status in (303, 401)
    assert b"<script" not in shown.body


@pytest.mark.parametrize(
    "environment", ["//evil.example", "a/b/c", "x", "default/main\r\nX: y", "<b>/main", "\u202e/x"]
)
def test_no_environment_leads_elsewhere(shared: Harness, environment: str) -> None:
    asked = quote(environment, safe="")
    for headers in ({}, {"Authorization": f"Bearer {shared.key('admin')}"}):
        answer = get(shared, f"find?in={asked}", **headers)
        assert answer.status in (400, 401, 404)
        assert b"<b>" not in answer.body
        assert b'"//evil' not in answer.body
    answer = sign_in(shared.client, {"key": shared.key("admin")}, f"?in={asked}")
    assert answer.headers["location"].startswith("/inspector/find?in=")
    assert not re.search(r"[\r\n]", answer.headers["location"])


def test_no_page_can_be_framed_cached_or_read_by_another_site(guarded: Harness) -> None:
    mine = signed_in(guarded)
    for page in (*PAGES, "visitors/nobody", "sign-in", f"visitors/{profile_id(guarded)}", "no-such-page"):
        for headers in (mine, {}):
            answer = get(guarded, page, **headers)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "access-control-allow-origin" not in answer.headers
            twin = get(guarded, f"{page}.json", **headers)
            assert twin.headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in twin.headers or twin.status != 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE"])
def test_other_methods_do_nothing(shared: Harness, method: str) -> None:
    path = f"/inspector/visitors/{profile_id(shared)}"
    assert shared.client.call(method, path, headers=signed_in(shared)).status in (400, 405)


def test_only_links_of_the_web_are_made_clickable(guarded: Harness) -> None:
    headers = {"Authorization": f"Bearer {guarded.key('admin')}"}
    for url in ("javascript:alert(1)", "data:text/html,x", "JAVASCRIPT:x", " javascript:x", "vbscript:x", "//x", "x"):
        answer = post(guarded.client, "/inspector/playground", {"url": url}, **headers)
        assert answer.status == 400
        assert not re.search(rb'href="\s*(?!/|#|https?:|data:,)', answer.body)


def test_a_slow_upload_keeps_nobody_waiting_and_a_long_one_is_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key, entry = new_key("anna", ["admin"], int(time.time()))
    with changing(file) as keys:
        keys.append(entry)
    options = ["--access", "guarded", "--keys-file", str(file), "--environments", "default/main", "--inspector"]
    with serving(tmp_path, *options, "--workers", "1", "--threads", "1") as server:
        head = f"POST /inspector/what-if.json HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        head += "Content-Type: multipart/form-data; boundary=limit\r\nContent-Length: 100000\r\n\r\n--limit"
        slow = [server.socket() for _ in range(5)]
        try:
            for each in slow:
                each.sendall(head.encode())
            answer = server.call("GET", "/inspector/state.json", headers={"Authorization": f"Bearer {key}"})
            assert answer.status == 200
            assert not any(map(_has_heard, slow))  # they were not waited for: none was answered or ended before
        finally:
            for each in slow:
                each.close()
        with server.socket() as long:
            long.sendall(head.replace("Content-Length: 100000", "Content-Length: 99999999999").encode())
            long.settimeout(60)
            assert b" 413 " in _first_line(long)
        body = b"--limit\r\nContent-Disposition: form-data; name=x\r\n\r\n" + b"x" * 1_100_000
        sent = {"Authorization": f"Bearer {key}", "Content-Type": "multipart/form-data; boundary=limit"}
        assert server.call("POST", "/inspector/what-if.json", body, sent).status == 413


def _has_heard(opened: socket.socket) -> bool:
    """Whether a connection got an answer, or its end."""
    opened.setblocking(False)
    try:
        opened.recv(1)
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def _first_line(opened: socket.socket) -> bytes:
    answer = b""
    while b"\r\n" not in answer and (part := opened.recv(4096)):
        answer += part
    return answer.partition(b"\r\n")[0]
