"""What a page of the host site believes, hands on and takes back, where visitors are not trusted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import identify

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.testing import Answer, Client, Harness, audience, experience, trait


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness(access="guarded") as made:
        yield made


Page = Callable[[Any], str]


def visit(harness: Harness, page: Page, cookie: str = "", *, address: str = "203.0.113.9", **headers: str) -> Answer:
    def site(environ: Any, start_response: Any) -> Any:
        body = page(visitor_of(environ)).encode()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    sent = {"Cookie": f"ntaid={cookie}"} if cookie else {}
    return Client(harness.mount(site)).call("GET", "/", headers={**sent, **headers}, address=address)


def id_after(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition("=")[2].partition(";")[0]


def seen(visitor: Any) -> str:
    visitor.page()
    return str(visitor.id)


@pytest.mark.parametrize(
    "planted",
    [
        "anna@example.com",
        "5f0e5c1a-3f0b-4c8e-9d1e-6b1f2a7c9d10",
        "f7d54c22dda5b1780276601cd005909b70543fc4a6ba72d735b4cb9bbb611f01",
    ],
)
def test_a_cookie_that_nobody_issued_begins_a_new_visitor(harness: Harness, planted: str) -> None:
    visit(harness, lambda visitor: str(visitor.identify("anna@example.com", phone="555")))
    answer = visit(harness, lambda visitor: seen(visitor) + str(visitor.profile["traits"]), planted)
    assert answer.body.decode() == id_after(answer) + "{}"
    assert harness.service.certifies(harness.environment, id_after(answer))


def test_an_issued_cookie_keeps_its_visitor(harness: Harness) -> None:
    id = id_after(visit(harness, seen))
    assert visit(harness, seen, id).body.decode() == id


@pytest.mark.parametrize(
    "cookies",
    [
        "ntaid=junk; ntaid={id}",
        f"ntaid={'a' * 64}; ntaid={{id}}",
        "ntaid=; ntaid={id}",
        f"ntaid={'a' * 5000}; ntaid={{id}}",
        "ntaid=anna@example.com; ctfl-opt-aid={id}",
        "ntaid={id}; ntaid=junk; ctfl-opt-aid=junk",
    ],
)
def test_cookies_that_a_sibling_domain_plants_do_not_hide_the_visitors_own(harness: Harness, cookies: str) -> None:
    id = id_after(visit(harness, seen))
    assert visit(harness, seen, Cookie=cookies.format(id=id)).body.decode() == id
    visit(harness, lambda visitor: str(visitor.forget()), Cookie=cookies.format(id=id))
    assert harness.client.get(f"/profiles/{id}").status == 404


def test_a_login_makes_a_planted_id_worth_nothing(harness: Harness) -> None:
    planted = id_after(visit(harness, seen))  # the attacker's own, set in the browser of somebody else
    logged_in = visit(harness, lambda visitor: str(visitor.identify("anna", phone="555")), planted)
    assert id_after(logged_in) != planted
    harness.clock.advance(seconds=61)
    assert harness.client.get(f"/profiles/{planted}").status == 404
    assert b"555" in visit(harness, lambda visitor: str(visitor.profile["traits"]), id_after(logged_in)).body


def test_the_cookie_of_a_planted_id_tells_its_planter_nothing_even_in_the_first_minute(harness: Harness) -> None:
    planted = id_after(visit(harness, seen, address="198.51.100.7"))
    logged_in = id_after(visit(harness, lambda visitor: str(visitor.identify("anna", phone="555")), planted))
    asked = visit(
        harness, lambda visitor: seen(visitor) + str(visitor.profile["traits"]), planted, address="198.51.100.7"
    )
    assert asked.body.decode() == id_after(asked) + "{}"
    assert id_after(asked) not in (planted, logged_in)
    visit(harness, lambda visitor: str(visitor.forget()), planted, address="198.51.100.7")
    assert visit(harness, seen, planted).body.decode() == logged_in  # another tab, from the visitor's own address
    assert b"555" in visit(harness, lambda visitor: str(visitor.profile["traits"]), logged_in).body


def test_with_a_planted_id_nobody_deletes_the_visitor_who_logged_in_by_it(harness: Harness) -> None:
    planted = id_after(visit(harness, seen))
    logged_in = id_after(visit(harness, lambda visitor: str(visitor.identify("anna", phone="555")), planted))
    harness.clock.advance(seconds=61)
    visit(harness, lambda visitor: str(visitor.forget()), planted)  # the attacker asks the site to delete "his" data
    assert harness.client.get(f"/profiles/{logged_in}").document["data"]["profile"]["traits"] == {"phone": "555"}
    visit(harness, lambda visitor: str(visitor.forget()), logged_in)
    assert harness.client.get(f"/profiles/{logged_in}").status == 404


def test_reset_begins_somebody_else_and_what_was_recorded_before_stays_with_the_visitor_before(
    harness: Harness,
) -> None:
    def logout(visitor: Any) -> str:
        visitor.track("logout")
        visitor.reset()
        return seen(visitor)

    id = id_after(visit(harness, lambda visitor: str(visitor.identify("anna"))))
    answer = visit(harness, logout, id)
    assert id_after(answer) == answer.body.decode() != id
    assert [(one.profile == id, one.event["type"]) for one in harness.events[-2:]] == [(True, "track"), (False, "page")]


def test_reset_alone_expires_the_cookie(harness: Harness) -> None:
    id = id_after(visit(harness, seen))
    assert "Max-Age=0" in visit(harness, lambda visitor: str(visitor.reset()), id).headers["set-cookie"]


def test_forget_deletes_the_visitor_and_expires_the_cookie(harness: Harness) -> None:
    def leave(visitor: Any) -> str:
        visitor.page()
        done = visitor.forget()
        visitor.track("goodbye")
        return f"{done} {visitor.profile['traits']}"

    id = id_after(visit(harness, lambda visitor: str(visitor.identify("anna", phone="555"))))
    stored = len(harness.events)
    answer = visit(harness, leave, id)
    assert answer.body == b"True {}"
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert harness.client.get(f"/profiles/{id}").status == 404
    assert len(harness.events) == stored


def test_a_token_made_in_a_page_proves_the_user_to_the_api(harness: Harness) -> None:
    token = visit(harness, lambda visitor: str(visitor.identity_token(7))).body.decode()
    assert harness.access.tokens is not None
    assert harness.access.tokens.user(token, *harness.environment) == "7"


def test_the_handoff_leaves_private_traits_out_and_the_page_still_reads_them(harness: Harness) -> None:
    def page(visitor: Any) -> str:
        visitor.identify("", company={"name": "Acme"}, color="red")
        return f"{visitor.profile['traits']['company']['name']} {visitor.handoff()}"

    text = visit(harness, page).body.decode()
    assert text.startswith("Acme ")
    assert "red" in text[5:]
    assert "Acme" not in text[5:]


def test_a_page_of_another_site_is_not_answered_by_a_mounted_api(harness: Harness) -> None:
    client = Client(harness.mount(lambda environ, start_response: []))
    path = "/ninetailed" + harness.client.prefix + "/profiles"
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        answer = client.call("POST", path, {"events": []}, headers=headers)
        assert (answer.status, answer.document["error"]["code"]) == (403, "ERR_FORBIDDEN")
        assert "access-control-allow-origin" not in answer.headers
    for headers in ({"Origin": "http://127.0.0.1"}, {"Sec-Fetch-Site": "same-origin"}, {}):
        assert client.call("POST", path, {"events": []}, headers=headers).status == 400


def test_only_the_environment_of_the_mount_is_served(harness: Harness) -> None:
    client = Client(harness.mount(lambda environ, start_response: []))
    other = "/ninetailed/v2/organizations/default/environments/other/profiles"
    assert client.call("POST", other, {"events": []}).document["error"]["code"] == "ERR_CONFIG_NOT_FOUND"


def test_the_panel_of_a_preview_shows_whoever_has_its_link_no_private_trait() -> None:
    rich = audience(trait("company.name", "Acme"), name="rich")
    with Harness([rich, experience("hero", ["hero-b"], audience=rich, id="e1")], access="guarded") as harness:

        def site(environ: Any, start_response: Any) -> list[bytes]:
            visitor = visitor_of(environ)
            visitor.page()
            links.append(visitor.preview_link("http://localhost/", experiences={"e1": 1}))
            start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
            return [f"<html><body>{visitor.variant('hero')}</body></html>".encode()]

        links: list[str] = []
        client, key = Client(harness.mount(site, panel=True)), {"Authorization": f"Bearer {harness.key()}"}
        event = identify("", {"company": {"name": "Acme", "revenue": "77777"}})
        answer = harness.client.post("/profiles", {"events": [event]}, headers=key)
        client.call("GET", "/")
        opened = client.call("GET", "/?" + links[0].partition("?")[2]).headers["set-cookie"].partition(";")[0]
        own = f"ntaid={answer.document['data']['profile']['id']}; {opened}"
        shown = client.call("GET", "/", headers={"Cookie": own}).body
        assert b'id="ninetailed-panel"' in shown
        assert b"77777" not in shown
