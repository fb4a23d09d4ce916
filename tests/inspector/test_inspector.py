"""The inspector: who may use it, what its pages show, and that what strangers wrote is text."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.insights import latest
from ninetailed_wsgi.service.keys import changing
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.testing import Answer, Client, Harness, audience, experience, metric, trait
from tests.inspector.places import busy, profile_id

SCHEMAS = Schemas()
HOSTILE = "<script>window.hostile=1</script><img src=x onerror=window.hostile=1>\u202e\u200b'\"&{{1337*7}}"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def shop() -> Iterator[Harness]:
    with busy() as made:
        yield made


@pytest.fixture
def guarded() -> Iterator[Harness]:
    with busy(access="guarded") as made:
        yield made


def pages_of(harness: Harness) -> dict[str, str]:
    return {
        "find": "find",
        "visitor": f"visitors/{profile_id(harness)}",
        "audience": "audiences/pricing-visitors",
        "experience": "experiences/pricing-offer",
        "what-if": "what-if",
        "state": "state",
    }


def get(harness: Harness, page: str, **headers: str) -> Answer:
    return harness.client.call("GET", f"/inspector/{page}", headers=headers)


def post(client: Client, path: str, fields: dict[str, str], **headers: str) -> Answer:
    return client.call("POST", path, urlencode(fields).encode(), headers={**FORM, **headers})


def proof_of(answer: Answer) -> str:
    match = re.search(r'name="proof" value="(\w+)"', answer.body.decode())
    assert match is not None
    return match[1]


def sign_in(client: Client, fields: dict[str, str], query: str = "", **headers: str) -> Answer:
    """Sign in by the form of a page that was opened for it."""
    page = client.call("GET", "/inspector/find")
    cookies = [*filter(None, [headers.pop("Cookie", "")]), page.headers["set-cookie"].partition(";")[0]]
    sent = {"proof": proof_of(page), **fields}
    return post(client, f"/inspector/sign-in{query}", sent, **headers, Cookie="; ".join(cookies))


def test_it_is_off_unless_it_is_switched_on() -> None:
    with Harness() as harness:
        assert get(harness, "find").status == get(harness, "state.json").status == 404


def test_an_export_has_all_that_is_stored_as_the_command_writes_it(
    guarded: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    id, headers = profile_id(guarded), {"Authorization": f"Bearer {guarded.key('admin')}"}
    with caplog.at_level(logging.INFO):
        answer = get(guarded, f"exports/{id}.json", **headers)
    SCHEMAS.check("inspector-export", answer.document)
    assert answer.document["data"] == guarded.service.record(guarded.environment, id, events=True)
    assert len(answer.document["data"]["events"]) == 8
    told = {name: answer.headers[name] for name in ("cache-control", "content-disposition", "referrer-policy")}
    assert told["cache-control"] == "no-store"
    assert told["content-disposition"] == 'attachment; filename="visitor.json"'
    assert f"test exported the visitor {id[:12]}... from the inspector" in caplog.text
    assert id not in caplog.text, "the id is the visitor's secret"
    assert f'/inspector/exports/{id}.json"' in get(guarded, f"visitors/{id}", **headers).body.decode()
    for page, status in ((f"exports/{id}", 404), ("exports/nobody.json", 404), ("exports/.json", 404)):
        assert get(guarded, page, **headers).status == status
    assert get(guarded, f"exports/{id}.json").status == 401


def test_every_page_has_a_twin_of_its_schema_and_is_small(shop: Harness) -> None:
    for name, page in pages_of(shop).items():
        answer, twin = get(shop, page), get(shop, f"{page}.json")
        assert (answer.status, twin.status) == (200, 200), page
        SCHEMAS.check(f"inspector-{name}", twin.document)
        assert len(answer.body) < 30_000, (page, len(answer.body))
        assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_no_page_runs_scripts_is_framed_kept_or_told_to_others(shop: Harness) -> None:
    answer = get(shop, "find")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'nonce-")
    assert "frame-ancestors 'none'" in policy
    assert policy != get(shop, "find").headers["content-security-policy"], "a nonce is used once"
    told = {name: answer.headers[name] for name in ("cache-control", "referrer-policy", "x-frame-options")}
    assert told == {"cache-control": "no-store", "referrer-policy": "no-referrer", "x-frame-options": "DENY"}
    assert b"<script" not in answer.body
    assert "access-control-allow-origin" not in answer.headers


def test_the_first_page_is_where_one_finds_a_visitor(shop: Harness) -> None:
    for path in ("/inspector", "/inspector/"):
        answer = shop.client.call("GET", path)
        assert (answer.status, answer.headers["location"]) == (303, "/inspector/find")


def test_a_visitor_says_why_they_get_each_variant(shop: Harness) -> None:
    document = get(shop, f"visitors/{profile_id(shop)}.json").document["data"]
    offer = next(each for each in document["experiences"] if each["id"] == "pricing-offer")
    assert offer["variantIndex"] == 1
    assert offer["why"] == 'In the audience "Viewed a pricing page at least twice": all who take part get this variant.'
    hero = next(each for each in document["experiences"] if each["id"] == "hero-test")
    told = r"For everyone: the visitor's hash 0\.\d+ falls into the range of this variant, 0\.\d+ to [01]\.\d+\."
    assert re.fullmatch(told, hero["why"])
    members = next(each for each in document["experiences"] if each["id"] == "member-greeting")
    assert members["why"] == 'The visitor is not in the audience "Members of the tea club".'
    text = get(shop, f"visitors/{profile_id(shop)}").body.decode()
    assert "found at least 2" in text
    assert 'role="img" aria-label="8 events over time"' in text
    assert text.count("<svg") >= 9


def test_audiences_and_experiences_show_what_was_counted_and_when(shop: Harness) -> None:
    size = get(shop, "audiences/pricing-visitors.json").document["data"]["size"]
    assert (size["visitors"], size["evaluated"], size["computedAt"]) == (27, 40, shop.clock())
    variants = get(shop, "experiences/pricing-offer.json").document["data"]["variants"]
    assert [each["seen"] for each in variants] == [0, 27]
    assert [each["wanted"] for each in variants] == [0, 1]
    with Harness([experience("a", ["b"], id="e", audience=audience(trait("x"), id="x"))], inspector=True) as fresh:
        assert get(fresh, "audiences/x.json").document["data"]["size"] is None
        assert b"Not counted yet" in get(fresh, "audiences/x").body
        assert b"Nothing was counted yet" in get(fresh, "what-if").body


def test_results_say_what_their_verdict_means() -> None:
    split = experience("hero", ["b"], id="hero", distribution=[0.5, 0.5], metric="bought")
    with Harness([metric("purchase", id="bought", name="Who bought"), split], inspector=True) as harness:
        assert "None yet." in get(harness, "experiences/hero").body.decode()
        for number in range(8):
            harness.visitor(f"v{number}").views("/").sees("hero").tracks("purchase")
        latest.compute(harness.settings.data_dir, harness.service.store, harness.service.content, harness.clock)
        SCHEMAS.check("inspector-experience", get(harness, "experiences/hero.json").document)
        shown = get(harness, "experiences/hero").body.decode()
        assert 'Who bought: <span class="dim">collecting</span>' in shown
        assert "It is too early to tell" in shown
        assert '<th class="n">rate</th>' in shown


def test_what_if_shows_what_publishing_the_draft_would_do(shop: Harness) -> None:
    found = get(shop, "what-if.json").document["data"]
    assert next(each for each in found["experiences"] if each["id"] == "winter-banner")["change"] == "added"
    assert found["samples"] == [], "no visitor by name is kept"
    text = get(shop, "what-if").body.decode()
    assert "40 visitors would get something else" in text
    audiences, _, experiences = text.partition("<h2>Experiences</h2>")
    changed, _, rest = experiences.partition("<details>")
    assert ("winter-banner" in changed, "winter-banner" in rest) == (True, False), "what changes stands first"
    assert "Members of the tea club" in audiences.partition("11 audiences stay the same")[2]


def test_pages_call_audiences_and_experiences_by_name(shop: Harness) -> None:
    assert ">Viewed a pricing page at least twice</a>" in get(shop, "experiences/pricing-offer").body.decode()
    assert ">First order ten percent off</a>" in get(shop, "audiences/pricing-visitors").body.decode()
    seer = shop.visitor().views("/").sees("hero-test")
    assert "<td>Hero: calm or summer picture</td>" in get(shop, f"visitors/{seer.id}").body.decode()
    proof = proof_of(get(shop, "find"))
    played = post(shop.client, "/inspector/playground", {"proof": proof, "visitor": profile_id(shop)})
    assert re.search('data-name="Published">[^<]*Viewed a pricing page at least twice', played.body.decode())


@pytest.mark.parametrize(
    "page", ["nothing", "visitors/nobody", "audiences/none", "experiences/none", "visitors/", "state/x"]
)
def test_a_page_that_is_not_there_is_404_for_people_and_programs(shop: Harness, page: str) -> None:
    answer, twin = get(shop, page), get(shop, f"{page}.json")
    assert (answer.status, twin.status) == (404, 404)
    assert b"That is not possible" in answer.body
    assert twin.document["error"]["code"].startswith("ERR_")


def test_a_visitor_is_found_by_id_alias_and_trait(shop: Harness) -> None:
    anna = shop.visitor().views("/").identifies("anna@example.com", plan="gold", age=33, vip=True)
    proof = proof_of(get(shop, "find"))
    for name in (str(anna.id), "anna@example.com"):
        answer = post(shop.client, "/inspector/find", {"name": name, "proof": proof})
        assert (answer.status, answer.headers["location"]) == (303, f"/inspector/visitors/{anna.id}")
    for text in ("plan=gold", " age = 33", "vip=true"):
        found = post(shop.client, "/inspector/find.json", {"name": text, "proof": proof}).document["data"]
        assert (found["profileIds"], found["complete"]) == ([anna.id], True)
    assert str(anna.id).encode() in post(shop.client, "/inspector/find", {"name": "plan=gold", "proof": proof}).body
    answer = post(shop.client, "/inspector/find", {"name": "no <b>body", "proof": proof})
    assert answer.status == 404
    assert 'value="no &lt;b&gt;body"' in answer.body.decode(), "what was typed is still there"
    assert "no profile has the id or alias no &lt;b&gt;body" in answer.body.decode()
    assert post(shop.client, "/inspector/find.json", {"name": "nobody", "proof": proof}).status == 404


def test_a_visitor_is_found_by_the_beginning_of_the_id_which_logs_and_lists_show(shop: Harness) -> None:
    id, proof = profile_id(shop), proof_of(get(shop, "find"))
    found = post(shop.client, "/inspector/find.json", {"name": id[:12], "proof": proof})
    SCHEMAS.check("inspector-search", found.document)
    assert found.document["data"]["profileIds"] == [id]
    assert (
        f"/inspector/visitors/{id}"
        in post(shop.client, "/inspector/find", {"name": id[:6], "proof": proof}).body.decode()
    )
    assert post(shop.client, "/inspector/find", {"name": id[:5], "proof": proof}).status == 404


def test_those_who_were_seen_last_come_first(shop: Harness) -> None:
    fields = {"name": "plan=member", "proof": proof_of(get(shop, "find"))}
    seen = [
        each["lastActivity"] for each in post(shop.client, "/inspector/find.json", fields).document["data"]["visitors"]
    ]
    assert len(seen) == 10
    assert seen == sorted(seen, reverse=True)


def test_the_playground_of_a_site_proposes_its_address_for_the_link(guarded: Harness) -> None:
    headers = {"Authorization": f"Bearer {guarded.key('admin')}"}
    client = Client(guarded.mount(lambda environ, start_response: [], prefix="/api"))
    page = client.call("GET", "/api/inspector/playground", headers=headers).body.decode()
    assert 'type="url" value="http://127.0.0.1/"' in page
    alone = get(guarded, "playground", **headers).body.decode()
    assert 'type="url" value=""' in alone, "a server without a site knows none"


def test_the_playground_shows_published_beside_changed_and_draft_and_makes_a_link() -> None:
    with busy(access="guarded") as harness:
        headers = {"Authorization": f"Bearer {harness.key('admin')}"}
        fields = {"experience:pricing-offer": "1", "audience:members": "on", "path": "/journal", "at": "2026-12-24",
                  "traits": '{"plan": "pro"}', "url": "https://shop.example/?a=1"}  # fmt: skip
        answer = post(harness.client, "/inspector/playground.json", fields, **headers)
        SCHEMAS.check("inspector-playground", answer.document)
        data = answer.document["data"]
        assert [each["title"] for each in data["sides"]] == ["Published", "With your changes", "Draft content"]
        published, changed, _ = (
            {each["id"]: each["variantIndex"] for each in side["experiences"]} for side in data["sides"]
        )
        assert (published["pricing-offer"], changed["pricing-offer"]) == (None, 1)
        assert published["member-greeting"] is None
        assert changed["member-greeting"] is not None

        def site(environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(visitor_of(environ).variant("hero")).encode()]

        client = Client(harness.mount(site))
        opened = client.call("GET", data["link"].removeprefix("https://shop.example"))
        cookie = opened.headers["set-cookie"].partition(";")[0]
        assert client.call("GET", "/?a=1", headers={"Cookie": cookie}).body == b"hero-offer"
        assert b"variant 1" in post(harness.client, "/inspector/playground", fields, **headers).body


@pytest.mark.parametrize(
    "fields",
    [
        {"traits": "{"},
        {"traits": "[]"},
        {"at": "soon"},
        {"experience:pricing-offer": "9"},
        {"experience:no-such": "1"},
        {"experience:pricing-offer": "x"},
        {"url": "javascript:alert(1)"},
    ],
)
def test_what_the_playground_cannot_do_is_said_in_the_page(guarded: Harness, fields: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {guarded.key('admin')}"}
    answer = post(guarded.client, "/inspector/playground", fields, **headers)
    assert answer.status == 400
    assert b'role="alert"' in answer.body
    assert b"javascript:" not in answer.body.replace(b'value="javascript:alert(1)"', b"")
    assert post(guarded.client, "/inspector/playground.json", fields, **headers).status == 400


# Who may


def test_a_stranger_is_asked_for_a_key_and_sees_nothing(guarded: Harness) -> None:
    for page in [*pages_of(guarded).values(), "visitors/nobody", "no-such-page"]:
        answer = get(guarded, page)
        assert answer.status == 401
        assert b'name="key"' in answer.body
        assert b"pricing" not in answer.body.replace(page.encode(), b"")
        twin = get(guarded, f"{page}.json")
        assert (twin.status, twin.document["error"]["code"]) == (401, "ERR_UNAUTHORIZED")


def test_a_key_signs_in_for_an_hour_and_no_longer_than_it_is_valid(guarded: Harness) -> None:
    key = guarded.key("admin")
    answer = sign_in(guarded.client, {"key": f" {key} ", "next": "state"})
    assert (answer.status, answer.headers["location"]) == (303, "/inspector/state")
    cookie = answer.headers["set-cookie"]
    assert cookie.endswith("; Path=/inspector; Max-Age=3600; HttpOnly; SameSite=Strict")
    assert key not in cookie
    sent = {"Cookie": cookie.partition(";")[0]}
    assert get(guarded, "state", **sent).status == 200
    assert get(guarded, "state.json", **sent).status == 200
    guarded.clock.advance(minutes=61)
    assert get(guarded, "state", **sent).status == 401
    answer = sign_in(guarded.client, {"key": key})
    sent = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
    assert get(guarded, "find", **sent).status == 200
    assert guarded.settings.keys_file is not None
    with changing(guarded.settings.keys_file) as keys:
        keys.clear()
    guarded.access.reload_keys()
    assert get(guarded, "find", **sent).status == 401


@pytest.mark.parametrize("next", ["https://evil.example", "//evil.example", "/\\evil.example", "..//evil.example"])
def test_a_sign_in_leads_nowhere_else(guarded: Harness, next: str) -> None:
    answer = sign_in(guarded.client, {"key": guarded.key("admin"), "next": next})
    assert answer.headers["location"].startswith("/inspector/")


def test_a_wrong_key_or_one_without_the_scope_signs_nobody_in(guarded: Harness) -> None:
    for key in ("", "nt_wrong", guarded.key("read", "events", "delete"), guarded.key("admin", days=-1)):
        answer = sign_in(guarded.client, {"key": key})
        assert (answer.status, answer.headers.get("set-cookie")) == (403, None)
        assert b"not valid here, or lacks the scope admin" in answer.body
    assert get(guarded, "find", Authorization=f"Bearer {guarded.key('read')}").status == 403
    assert get(guarded, "find", Authorization=f"Bearer {guarded.key('admin')}").status == 200


def test_a_sign_out_ends_it(guarded: Harness) -> None:
    signed = sign_in(guarded.client, {"key": guarded.key("admin")})
    sent = {"Cookie": signed.headers["set-cookie"].partition(";")[0]}
    proof = proof_of(get(guarded, "find", **sent))
    answer = post(guarded.client, "/inspector/sign-out", {"proof": proof}, **sent)
    assert answer.status == 303
    assert "nt_inspector=; Path=/inspector; Max-Age=0" in answer.headers["set-cookie"]


def test_a_form_of_another_site_or_session_is_refused(guarded: Harness) -> None:
    def signed_in() -> dict[str, str]:
        answer = sign_in(guarded.client, {"key": guarded.key("admin")})
        return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}

    mine, theirs, id = signed_in(), signed_in(), profile_id(guarded)
    proof = proof_of(get(guarded, "find", **theirs))
    for fields in ({}, {"proof": ""}, {"proof": "x"}, {"proof": proof}):
        path = f"/inspector/visitors/{id}"
        assert post(guarded.client, path, {"delete": "yes", **fields}, **mine).status == 403
    foreign = {**mine, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    right = {"delete": "yes", "proof": proof_of(get(guarded, "find", **mine))}
    assert post(guarded.client, f"/inspector/visitors/{id}", right, **foreign).status == 403
    assert get(guarded, f"visitors/{id}", **mine).status == 200
    assert post(guarded.client, f"/inspector/visitors/{id}", right, **mine).status == 303
    assert get(guarded, f"visitors/{id}", **mine).status == 404


def test_a_site_may_say_itself_who_uses_it() -> None:
    def staff(environ: dict[str, Any]) -> bool:
        return environ.get("HTTP_X_STAFF") == "yes"

    with busy(access="guarded", inspector=staff) as harness:
        assert get(harness, "find", **{"X-Staff": "yes"}).status == 200
        assert get(harness, "find").status == 401
        assert harness.client.get("/preview/entries", headers={"X-Staff": "yes"}).status == 401, "only of the inspector"


def test_each_visitor_who_is_viewed_is_logged_with_the_key(guarded: Harness, caplog: pytest.LogCaptureFixture) -> None:
    id = profile_id(guarded)
    with caplog.at_level(logging.INFO):
        get(guarded, f"visitors/{id}", Authorization=f"Bearer {guarded.key('admin')}")
    assert f"the inspector showed the visitor {id[:12]}... to test" in caplog.text
    assert id not in caplog.text, "the id is the visitor's secret"


# Hostile


def test_what_strangers_and_authors_wrote_is_text(guarded: Harness) -> None:
    headers = {"Authorization": f"Bearer {guarded.key('admin')}"}
    content = {
        "audiences": [audience(trait("plan", HOSTILE), id=HOSTILE, name=HOSTILE)],
        "experiences": [experience("hero", ["b"], id=HOSTILE + "e", name=HOSTILE, audience=HOSTILE)],
    }
    guarded.publish(content)
    event = {
        "type": "track",
        "event": HOSTILE,
        "channel": "web",
        "messageId": "m",
        "context": {"library": {"name": "x", "version": "4.0.0"}},
        "properties": {},
    }
    identify = {
        **event,
        "type": "identify",
        "messageId": "i",
        "userId": "",
        "traits": {HOSTILE: HOSTILE, "plan": HOSTILE},
    }
    answer = guarded.client.post("/profiles", {"events": [event, identify]})
    id = answer.document["data"]["profile"]["id"]
    part = quote(HOSTILE, safe="")
    for page in ("find", f"visitors/{id}", f"audiences/{part}", f"experiences/{part}e", "playground", "state"):
        shown = get(guarded, page, **headers)
        assert shown.status == 200, shown.body
        text = shown.body.decode()
        assert "<script" not in text
        assert "<img" not in text
        assert "\u202e" not in text
        assert "9359" not in text, "a template ran"
    assert "&lt;script&gt;" in text or "&lt;script&gt;" in get(guarded, f"visitors/{id}", **headers).body.decode()
    assert "[U+202E][U+200B]" in get(guarded, f"visitors/{id}", **headers).body.decode()
    assert b"<script" not in get(guarded, f"audiences/{part}missing", **headers).body
    forms = {
        "find": {"name": f"plan={HOSTILE}"},
        "live": {"type": HOSTILE, "text": HOSTILE, "visitor": HOSTILE},
        "playground": {"visitor": id, "traits": HOSTILE, f"audience:{HOSTILE}": HOSTILE, "url": HOSTILE},
        "what-if": {"draft": HOSTILE},
        "sign-in": {"key": HOSTILE, "next": HOSTILE, f"form:{HOSTILE}": HOSTILE},
    }
    for page, fields in forms.items():
        for sent in (headers, {}, {"Cookie": f"nt_inspector={quote(HOSTILE)}"}):
            shown = post(guarded.client, f"/inspector/{page}", fields, **sent)
            text = re.sub(r'<script nonce="[\w-]+">', "", shown.body.decode())
            assert shown.status in (200, 400, 401, 403, 404), page
            assert not re.search(r"<script|<img|\u202e|9359", text), page
    found = post(guarded.client, "/inspector/find", {"name": f"plan={HOSTILE}"}, **headers).body.decode()
    assert "plan=&lt;script&gt;" in found


def test_it_works_below_any_prefix(shop: Harness) -> None:
    def site(environ: Any, start_response: Any) -> list[bytes]:
        raise AssertionError("the inspector is below /api")

    client = Client(shop.mount(site, prefix="/api"))
    answer = client.call("GET", "/api/inspector/find")
    assert answer.status == 200
    links = set(re.findall(r'(?:href|action)="(/[^"]*)"', answer.body.decode()))
    assert links
    assert all(link.startswith("/api/inspector/") for link in links)
    for link in sorted(links):
        assert client.call("GET", link).status == 200, link


def test_an_environment_is_chosen_and_stays_chosen(shop: Harness) -> None:
    answer = get(shop, "find?in=default/main")
    assert answer.status == 200
    assert b"/inspector/state?in=default/main" in answer.body
    assert get(shop, "find?in=other/main").status == 404
    assert get(shop, "find?in=x").status == 400
    assert json.loads(get(shop, "find.json?in=default/main").body)["data"]["audiences"]


# Off by default


def test_a_plain_api_and_a_plain_mount_load_nothing_of_it(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from ninetailed_wsgi import Ninetailed, create_app, visitor_of\n"
        "from ninetailed_wsgi.testing import Client\n"
        f"create_app(data_dir={str(tmp_path / 'api')!r}, access='open')\n"
        "def site(environ, start_response):\n"
        "    visitor_of(environ).variant('hero')\n"
        "    start_response('200 OK', [])\n"
        "    return [b'']\n"
        f"client = Client(Ninetailed(site, data_dir={str(tmp_path / 'site')!r}, time_budget_ms=30000))\n"
        "assert client.call('GET', '/').status == 200\n"
        "assert client.call('GET', '/ninetailed/inspector/find').status == 404\n"
        "own = ('jinja2', 'ninetailed_wsgi.service.live')\n"
        "print([name for name in sys.modules if 'inspector' in name or name in own])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ninetailed_wsgi.settings.readers.find_spec", lambda name: None)
    for given in (True, "yes", lambda environ: True):
        with pytest.raises(SettingsError, match=r"requires an extra: pip install 'ninetailed-wsgi\[inspector\]'"):
            Settings.from_env({}, inspector=given)
