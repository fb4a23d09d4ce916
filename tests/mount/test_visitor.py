"""What a page gets from its visitor: cookies, variants, flags, merge tags, the handoff, the time it may take."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import RFC_4122, UUID

import orjson
import pytest

from ninetailed_wsgi import Ninetailed, Settings, create_app
from ninetailed_wsgi.authoring import flag
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.site.page_events import page_event
from ninetailed_wsgi.site.page_view import Visit, page_of
from ninetailed_wsgi.site.paste import filter_app_factory
from ninetailed_wsgi.site.reaching import visitor_of
from ninetailed_wsgi.site.visitor import KEY, Visitor
from tests.mount.browser import Browser, Environ
from tests.mount.conftest import GEO, SHOP, Mounted
from tests.mount.sites import Reply

HTTPS = {"wsgi.url_scheme": "https"}


def page(visitor: Visitor) -> None:
    visitor.page()


# The cookie


def test_the_cookies_attributes_are_settings(bare: Mounted) -> None:
    options = {"cookie_domain": "shop.example", "cookie_samesite": "Strict", "cookie_max_age": 60}
    browser = bare.visited_by(page, cookie_name="ctfl-opt-aid", **options)
    assert browser.get(**HTTPS).set_cookie == (
        f"ctfl-opt-aid={browser.cookies['ctfl-opt-aid']}; "
        "Path=/; Max-Age=60; SameSite=Strict; Domain=shop.example; Secure"
    )


@pytest.mark.parametrize(
    ("setting", "scheme", "secure"),
    [
        (None, "http", False),
        (None, "https", True),
        (True, "http", True),
        (False, "https", False),
    ],
)
def test_the_cookie_is_secure_where_the_page_came_over_https_unless_set(
    bare: Mounted, setting: bool | None, scheme: str, secure: bool
) -> None:
    cookie = bare.visited_by(page, cookie_secure=setting).get(**{"wsgi.url_scheme": scheme}).set_cookie
    assert cookie is not None
    assert cookie.endswith("; Secure") is secure


def test_a_cookie_for_other_sites_is_always_secure_as_browsers_demand(bare: Mounted) -> None:
    cookie = bare.visited_by(page, cookie_samesite="None").get().set_cookie
    assert cookie is not None
    assert cookie.endswith("; SameSite=None; Secure")


@pytest.mark.parametrize(
    ("header", "id"),
    [
        ("ntaid=anna", "anna"),
        ("ctfl-opt-aid=anna", "anna"),
        ("ctfl-opt-aid=other; ntaid=anna", "anna"),
        ("ntaid=; ctfl-opt-aid=anna", "anna"),
        ('ntaid="anna"', "anna"),
        ("ntaid=anna; ntaid=of-a-shorter-path", "anna"),
        ("a=b=c;;=; {x}=[]; \xe4\xf6=1;ntaid=anna;\x01=2", "anna"),
        ("ntaid=an%20na%3B%22", 'an na;"'),
        ("ntaid=%C3%BCber", "über"),
        ("ntaid=\xc3\xbcber", "über"),
    ],
)
def test_the_profiles_id_is_read_from_either_cookie_whatever_else_is_sent(bare: Mounted, header: str, id: str) -> None:
    def use(visitor: Visitor) -> str:
        visitor.page()
        return visitor.id

    browser = bare.visited_by(use)
    answer = browser.get(HTTP_COOKIE=header)
    assert answer.text == id
    assert bare.profile(id)["id"] == id
    assert browser.get(HTTP_COOKIE=f"ntaid={browser.cookies['ntaid']}").text == id


def test_a_cookie_with_line_ends_in_it_cannot_write_headers(bare: Mounted) -> None:
    cookie = bare.visited_by(page).get(HTTP_COOKIE="ntaid=a%0D%0ASet-Cookie: x=1").set_cookie
    assert cookie is not None
    assert cookie.startswith("ntaid=a%0D%0ASet-Cookie%3A%20x%3D1; Path=/")


def test_the_cookie_follows_when_the_visitor_turns_out_to_be_known_already(bare: Mounted) -> None:
    browser = bare.visited_by(lambda visitor: visitor.identify("anna"))
    browser.get()
    first = dict(browser.cookies)
    browser.cookies.clear()
    browser.get()
    assert browser.cookies == first


# Asking


def test_asking_without_saying_anything_stores_nothing_and_counts_nothing(bare: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        return [visitor.profile["session"]["count"], visitor.audiences, visitor.flag("checkout-button")]

    browser = bare.visited_by(use, geoip_database=GEO)
    answer = browser.get("/journal", REMOTE_ADDR="127.0.0.1", HTTP_USER_AGENT="iPhone Mobile Safari")
    assert "'european-visitors'" in answer.text
    assert "recent-readers" not in answer.text
    assert bare.store.writes == 0
    assert answer.set_cookie is not None


def test_asking_before_saying_gives_a_first_time_visitor_one_id(bare: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        before = visitor.id
        visitor.page()
        return before == visitor.id

    browser = bare.visited_by(use)
    assert browser.get().text == "True"
    assert bare.profile(browser.cookies["ntaid"])["session"]["count"] == 1


def test_what_a_page_does_with_what_it_is_given_stays_in_the_page(bare: Mounted, tmp_path: Path) -> None:
    def answer(visitor: Visitor) -> list[Any]:
        return [visitor.profile, visitor.audiences, visitor.experiences, visitor.changes, visitor.flag("layout")]

    def spoil(value: Any) -> None:
        for part in list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []:
            spoil(part)
        if isinstance(value, dict):
            value["spoiled"] = True
        elif isinstance(value, list):
            value.append("spoiled")

    def use(visitor: Visitor) -> str:
        visitor.identify("", sizes=["m", {"shoes": 38}])
        before = json.dumps(visitor.flag("layout"))
        spoil(answer(visitor))
        visitor.track("seen")
        spoil(answer(visitor))
        return before

    layout = flag("layout", control={}, variants=[{"columns": [1, 2]}], distribution=[0, 1])
    browser = bare.visited_by(use, content=[layout])
    assert [json.loads(browser.get().text) for _ in range(3)] == 3 * [{"columns": [1, 2]}]
    profile = bare.profile(next(iter(browser.cookies.values())))
    assert profile["traits"] == {"sizes": ["m", {"shoes": 38}]}
    assert "spoiled" not in json.dumps(profile)


def test_what_is_said_after_something_was_asked_counts_from_then_on(bare: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        visitor.page()
        before = visitor.flag("free-shipping-from", 50)
        visitor.track("add_to_cart")
        return [before, visitor.flag("free-shipping-from", 50)]

    assert bare.visited_by(use).get().text == "[50, 30]"


def test_without_consent_later_answers_still_know_what_was_said_earlier_on_the_page(bare: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        visitor.consent = False
        visitor.identify(firstname="Anna")
        before = visitor.merge_tag("traits.firstname")
        visitor.track("add_to_cart")
        return [before, visitor.merge_tag("traits.firstname"), visitor.flag("free-shipping-from")]

    assert bare.visited_by(use).get().text == "['Anna', 'Anna', 30]"


def test_a_preflight_page_keeps_nothing_back_of_what_the_server_alone_knows(bare: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        visitor.page(preflight=True)
        visitor.identify("anna", plan="member")
        return visitor.audiences

    browser = bare.visited_by(use)
    assert "members" in browser.get("/journal").text
    assert "recent-readers" in browser.get("/journal").text
    assert bare.profile("anna")["traits"] == {"plan": "member"}
    assert "recent-readers" not in bare.profile("anna")["audiences"]


def test_whatever_a_page_says_is_stored_as_json(bare: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        visitor.identify(7, since=datetime(2024, 5, 6, tzinfo=UTC), balance=Decimal("1.50"), tags={1: {"a"}}, none=None)
        visitor.track(5, path=Path("/x"))  # type: ignore[arg-type]
        return visitor.profile["traits"]

    browser = bare.visited_by(use)
    traits = {"since": "2024-05-06T00:00:00+00:00", "balance": "1.50", "tags": {"1": "{'a'}"}, "none": None}
    assert browser.get().text == str(traits)
    assert bare.profile("7")["traits"] == traits


def test_a_page_may_change_what_it_gets_without_changing_what_others_get(bare: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        for experience in visitor.experiences:
            experience["variants"] = {"hero": "nonsense"}
        for change in visitor.changes:
            change["value"] = "nonsense"
        return None

    bare.visited_by(use).get()
    use_again = bare.visited_by(lambda visitor: f"{visitor.experiences} {visitor.changes}")
    assert "nonsense" not in use_again.get().text


# Variants


def link(id: str) -> dict[str, Any]:
    return {"sys": {"type": "Link", "linkType": "Entry", "id": id}}


def resolved(*experience_ids: str, variants: Iterable[Any] = ()) -> dict[str, Any]:
    """A baseline entry as Contentful delivers it with its links resolved."""
    experiences = [
        {"sys": {"id": f"sys-{id}"}, "fields": {"nt_experience_id": id, "nt_variants": list(variants)}}
        for id in experience_ids
    ]
    return {"sys": {"id": "banner", "type": "Entry"}, "fields": {"title": "Baseline", "nt_experiences": experiences}}


OFFER = {"sys": {"id": "banner-offer", "type": "Entry"}, "fields": {"title": "FIRST10"}}


def banner(visitor: Visitor, entry: Any, *, spender: bool = False) -> Any:
    """The variant for somebody who looked at prices twice, and who may have spent much."""
    visitor.page()
    if spender:
        visitor.track("order_completed", total=120)
    return visitor.variant(entry)


def shown(bare: Mounted, entry: Any, *, spender: bool = False) -> Any:
    found: list[Any] = []
    browser = bare.visited_by(lambda visitor: found.append(banner(visitor, entry, spender=spender)))
    browser.get("/pricing/1")
    browser.get("/pricing/2")
    return found[-1]


def test_the_variant_of_a_resolved_entry_is_the_entry_that_its_experience_holds(bare: Mounted) -> None:
    assert shown(bare, resolved("pricing-offer", variants=[OFFER])) == OFFER


def test_the_first_chosen_experience_of_the_entry_decides(bare: Mounted) -> None:
    assert shown(bare, resolved("quiet-spenders", "pricing-offer", variants=[OFFER]), spender=True) is None
    assert shown(bare, resolved("pricing-offer", "quiet-spenders", variants=[OFFER]), spender=True) == OFFER
    assert shown(bare, resolved("quiet-spenders", "pricing-offer", variants=[OFFER])) == OFFER


def test_an_experience_that_replaces_other_entries_decides_for_the_baseline(bare: Mounted) -> None:
    entry = resolved("hero-test", "pricing-offer", variants=[OFFER])
    assert shown(bare, entry) == entry


def test_with_unresolved_links_the_published_order_decides_and_the_baseline_is_shown(bare: Mounted) -> None:
    entry = {"sys": {"id": "banner"}, "fields": {"nt_experiences": [link("5ePricing"), link("5eHide")]}}
    assert shown(bare, entry) == entry
    assert shown(bare, entry, spender=True) is None


def test_a_resolved_experience_with_unresolved_variants_shows_the_baseline_and_says_so_once(
    bare: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    assert shown(bare, resolved("pricing-offer")) == resolved("pricing-offer")
    caplog.clear()
    entry, seen = resolved("pricing-offer", variants=[link("banner-offer")]), []
    browser = bare.visited_by(lambda visitor: seen.append(banner(visitor, entry)))
    for _ in range(3):
        browser.get("/pricing")
    assert seen == [entry] * 3
    told = [record.getMessage() for record in caplog.records if "does not hold" in record.getMessage()]
    assert len(told) == 1
    assert 'its variant "banner-offer"' in told[0]


def test_one_draft_among_resolved_experiences_does_not_hide_the_others(bare: Mounted) -> None:
    entry = resolved("pricing-offer", variants=[OFFER])
    entry["sys"]["id"] = "banner"
    entry["fields"]["nt_experiences"].insert(0, link("5eWinter"))
    assert shown(bare, entry) == OFFER


def test_fields_by_locale_as_an_export_has_them_are_an_entry_too(bare: Mounted) -> None:
    entries = orjson.loads(SHOP.read_bytes())["entries"]
    entry = next(each for each in entries if each["sys"]["id"] == "banner")
    assert shown(bare, entry) == entry
    assert shown(bare, "banner") == "banner-offer"


def test_the_generic_form_gives_the_variant_that_its_experience_holds(bare: Mounted) -> None:
    offer = {"id": "banner-offer", "title": "FIRST10"}
    experience = {"id": "pricing-offer", "name": "Offer", "variants": [offer]}
    assert shown(bare, {"id": "banner", "nt_experiences": [experience]}) == offer
    baseline = {"id": "banner", "title": "Baseline"}
    assert shown(bare, baseline) == baseline


def test_an_id_is_answered_by_an_id(bare: Mounted) -> None:
    assert shown(bare, "banner") == "banner-offer"
    assert shown(bare, "banner", spender=True) is None
    assert shown(bare, "journal-teaser") == "journal-teaser"


@pytest.mark.parametrize(
    "entry", [None, 5, [], {}, {"sys": 5}, {"id": 5}, {"fields": {"nt_experiences": "x"}}, object()]
)
def test_what_is_no_entry_stays_as_it_is(bare: Mounted, entry: Any) -> None:
    assert shown(bare, entry) is entry


@pytest.mark.parametrize(
    "experiences", [5, {}, [None], [5], [{"fields": 5}], [{"fields": {"nt_experience_id": 5, "nt_variants": 5}}]]
)
def test_malformed_experiences_of_an_entry_show_the_baseline_or_a_published_variant(
    bare: Mounted, experiences: Any
) -> None:
    entry = {"sys": {"id": "banner"}, "fields": {"nt_experiences": experiences}}
    assert shown(bare, entry) in (entry, link("banner-offer"))


# Flags


def test_a_flag_has_the_value_of_its_variant_or_the_default(bare: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        visitor.track("add_to_cart")
        return [visitor.flag("free-shipping-from"), visitor.flag("none", 5), visitor.flag("none")]

    assert bare.visited_by(use).get().text == "[30, 5, None]"


# Merge tags


TRAITS = {
    "first_name": "Anna",
    "company": {"name": "Tea & Co", "zero": 0},
    "empty": "",
    "no": False,
    "many": 3.0,
    "yes": True,
    "list": ["a", 2],
    "a_b": {"c": "nested"},
}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("traits.first_name", "Anna"),
        ("traits_first_name", "Anna"),
        ("traits_company_name", "Tea & Co"),
        ("traits.company.name", "Tea & Co"),
        (" traits.first_name ", "Anna"),
        ("session_count", "1"),
        ("session.count", "1"),
        ("traits.many", "3"),
        ("traits.yes", "true"),
        ("traits.list", '["a",2]'),
        ("traits.list.0", "a"),
        ("location_city", "Berlin"),
        ("traits.empty", "fallback"),
        ("traits.no", "fallback"),
        ("traits.company.zero", "fallback"),
        ("traits_a_b_c", "fallback"),
        ("traits.missing", "fallback"),
        ("traits.first_name.length", "fallback"),
        ("traits.__proto__", "fallback"),
        ("", "fallback"),
        ("...", "fallback"),
    ],
)
def test_a_merge_tag_is_the_first_truthy_value_of_its_candidates_or_the_fallback(
    bare: Mounted, path: str, text: str
) -> None:
    def use(visitor: Visitor) -> object:
        visitor.identify(**TRAITS)
        return visitor.merge_tag(path, "fallback")

    assert bare.visited_by(use, geoip_database=GEO).get(REMOTE_ADDR="127.0.0.1").text == text


def test_a_merge_tag_without_a_fallback_has_the_published_one_or_is_empty(bare: Mounted) -> None:
    def use(visitor: Visitor) -> object:
        return [visitor.merge_tag("traits_firstname"), visitor.merge_tag("traits.company.name"), visitor.merge_tag("x")]

    assert bare.visited_by(use).get().text == "['friend', '', '']"


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("Hello {{ traits.first_name }}!", "Hello Anna!"),
        ("{{traits_first_name}}{{traits.missing}}", "Anna"),
        ("{{ traits_firstname }}", "friend"),
        ("no {{ end", "no {{ end"),
        ("}} {{ traits.first_name }} {{", "}} Anna {{"),
        ("", ""),
    ],
)
def test_text_is_rendered_with_its_merge_tags(bare: Mounted, text: str, rendered: str) -> None:
    def use(visitor: Visitor) -> object:
        visitor.identify(**TRAITS)
        return visitor.render(text)

    assert bare.visited_by(use).get().text == rendered


def test_rich_text_is_rendered_with_its_merge_tags_and_keeps_everything_else(bare: Mounted) -> None:
    def embedded(kind: str, **fields: Any) -> dict[str, Any]:
        return {"nodeType": kind, "content": [], "data": {"target": {"sys": {"id": "6tName"}, "fields": fields}}}

    hello = {"nodeType": "text", "value": "Hello ", "marks": [{"type": "bold"}], "data": {}}
    other = embedded("embedded-entry-inline", title="A teaser")
    broken = {"nodeType": "embedded-entry-inline", "data": None}
    paragraph = [
        hello,
        embedded("embedded-entry-inline", nt_mergetag_id="traits_first_name"),
        embedded("embedded-entry-inline", nt_mergetag_id="traits_none", nt_fallback="you"),
        other,
        broken,
    ]
    document = {
        "nodeType": "document",
        "data": {"content": [embedded("embedded-entry-inline", nt_mergetag_id="x")]},
        "content": [
            {"nodeType": "paragraph", "data": {}, "content": paragraph},
            embedded("embedded-entry-block", nt_mergetag_id="traits_first_name"),
        ],
    }
    before = json.dumps(document)
    found: list[Any] = []

    def use(visitor: Visitor) -> None:
        visitor.identify(**TRAITS)
        found.append(visitor.render(document))

    bare.visited_by(use).get()

    def text(value: str) -> dict[str, Any]:
        return {"nodeType": "text", "value": value, "marks": [], "data": {}}

    assert json.dumps(document) == before
    assert found[0]["data"] == document["data"]
    assert found[0]["content"] == [
        {"nodeType": "paragraph", "data": {}, "content": [hello, text("Anna"), text("you"), other, broken]},
        {"nodeType": "paragraph", "content": [text("Anna")], "data": {}},
    ]


# The handoff


def test_the_handoff_is_json_that_cannot_leave_a_script_element(bare: Mounted) -> None:
    evil = "</script><script>alert(1)</script><!-- & \u2028 \u2029"

    def use(visitor: Visitor) -> object:
        visitor.identify(name=evil)
        return visitor.handoff()

    answer = bare.visited_by(use).get().text
    assert not set(answer) & set("<>&\u2028\u2029")
    handed = json.loads(answer)
    assert set(handed) == {"profile", "experiences", "changes"}
    assert handed["profile"]["traits"]["name"] == evil


# After the response began


def test_what_is_said_after_the_response_began_is_written_at_once_where_the_visitor_was_used_before(
    bare: Mounted,
) -> None:
    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        environ[KEY].page()
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"first "
        environ[KEY].identify("anna", firstname="Anna")
        environ[KEY].track("add_to_cart")
        yield environ[KEY].merge_tag("traits.firstname").encode()

    bare.make_site = lambda: site
    browser = bare.browser(lambda environ: Reply())
    assert browser.get().text == "first Anna"
    assert bare.profile("anna")["id"] == browser.cookies["ntaid"]
    assert bare.profile("anna")["traits"] == {"firstname": "Anna"}
    assert "cart-abandoners" in bare.profile("anna")["audiences"]


def test_a_visitor_who_is_first_used_while_the_page_streams_leaves_no_profile_and_that_is_said_once(
    bare: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    def site(environ: Environ, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"first "
        environ[KEY].identify("anna", firstname="Anna")
        yield environ[KEY].merge_tag("traits.firstname").encode()

    bare.make_site = lambda: site
    browser = bare.browser(lambda environ: Reply())
    for _ in range(2):
        answer = browser.get()
        assert (answer.text, answer.set_cookie) == ("first Anna", None)
    assert bare.store.writes == 0
    assert len([record for record in caplog.records if "before you stream" in record.getMessage()]) == 1


# Time


def test_a_store_that_hangs_costs_the_page_no_more_than_its_time_budget(bare: Mounted) -> None:
    go_on = threading.Event()

    def use(visitor: Visitor) -> object:
        visitor.page()
        return [visitor.variant("hero"), visitor.flag("x", 1), visitor.audiences]

    browser = bare.visited_by(use)
    browser.get()
    assert bare.latest is not None
    bare.latest.time_budget = 0.05
    bare.store.hook = lambda: go_on.wait(60)
    try:
        assert browser.get().text == "['hero', 1, []]"
    finally:
        go_on.set()


def test_pages_that_find_every_worker_busy_wait_for_their_turn(bare: Mounted) -> None:
    go_on, waiting = threading.Event(), threading.Semaphore(0)

    def use(visitor: Visitor) -> object:
        visitor.page()
        return visitor.flag("checkout-button", "failed")

    browser = bare.visited_by(use)
    browser.get()
    app = bare.latest
    assert app is not None
    texts: list[str] = []

    def hold() -> None:
        waiting.release()
        go_on.wait(60)

    bare.store.hook = hold
    visits = [threading.Thread(target=lambda: texts.append(Browser(app).get().text)) for _ in range(10)]
    for visit in visits:
        visit.start()
    for _ in range(8):
        assert waiting.acquire(timeout=60)
    go_on.set()
    for visit in visits:
        visit.join()
    assert len(texts) == 10
    assert set(texts) <= {"Buy", "Order now"}


# Without the middleware


@pytest.mark.parametrize("request_", [{}, None, object(), {KEY: "something else"}])
def test_a_page_that_is_not_behind_the_middleware_gets_baselines(request_: Any) -> None:
    visitor = visitor_of(request_)
    visitor.page()
    visitor.track("x")
    assert [visitor.variant("hero"), visitor.flag("x", 5), visitor.audiences] == ["hero", 5, []]
    assert visitor.merge_tag("traits.x", "you") == "you"


# Settings


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prefix": "api"}, "prefix: found 'api', expected a path such as /ninetailed"),
        ({"prefix": "/"}, "prefix: found '/', expected a path such as /ninetailed"),
        ({"prefix": "/api?x"}, "prefix: found '/api?x', expected a path such as /ninetailed"),
        ({"prefix": "/a\r\nb"}, "expected a path such as /ninetailed"),
        ({"time_budget_ms": 10**400}, "expected a number of milliseconds above 0"),
        ({"settings": {"content": "x"}}, "settings: found dict, expected Settings"),
        ({"service": 3}, "service: found int, expected an ExperienceService"),
        ({"time_budget_ms": 0}, "time_budget_ms: found 0, expected a number of milliseconds above 0"),
        ({"time_budget_ms": "soon"}, "time_budget_ms: found 'soon', expected a number of milliseconds above 0"),
        ({"time_budget_ms": float("nan")}, "time_budget_ms: found nan, expected a number of milliseconds above 0"),
        ({"time_budget_ms": True}, "time_budget_ms: found True, expected a number of milliseconds above 0"),
        ({"preflight": "perhaps"}, "preflight: found 'perhaps', expected yes or no"),
        ({"preflight": 2}, "preflight: found 2, expected yes or no"),
        ({"consent": "x"}, "consent: found 'x', expected a function"),
        ({"consent": 5}, "consent: found 5, expected a function"),
        ({"cookie_secure": "perhaps"}, "cookie_secure: found 'perhaps', expected yes or no"),
        ({"cookie_max_age": "a year"}, "cookie_max_age: found 'a year', expected a whole number from 0 to "),
        ({"cookie_max_age": 1.5}, "cookie_max_age: found 1.5, expected a whole number from 0 to "),
        ({"cookie_samesite": "some"}, "cookie_samesite: found 'some', expected Lax or Strict or None"),
        ({"cookie_samesite": 5}, "cookie_samesite: found 5, expected Lax or Strict or None"),
        ({"cookie_samesite": "None", "cookie_secure": False}, "cookie_secure: found False, expected yes"),
        ({"organization": "a/b"}, "organization: found 'a/b', expected a name without a slash"),
        ({"environment": ""}, "environment: found '', expected a name without a slash"),
        ({"prefix": None}, "prefix: found None, expected a path such as /ninetailed"),
        ({"cookie_name": None}, "cookie_name: found None, expected the name of a cookie"),
        ({"cookie_name": "a b"}, "cookie_name: found 'a b'"),
        ({"cookie_domain": "a;b"}, "cookie_domain: found 'a;b'"),
        ({"environments": ["acme/main"]}, "environment: found 'default/main', expected one of"),
        ({"contnet": "x.json"}, "contnet: no such option"),
        *[
            ({option: value}, f"{option}: only `ninetailed-wsgi serve` has this option")
            for option, value in (("workers", 8), ("threads", 2), ("bind", "127.0.0.1:80"), ("log_format", "json"))
        ],
    ],
)
def test_a_wrong_setting_is_said_when_the_site_is_put_together(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Ninetailed(lambda environ, start_response: [], **options)
    assert says in str(refused.value)


def test_a_site_that_cannot_be_called_is_refused_when_it_is_put_together() -> None:
    with pytest.raises(SettingsError, match="app: found str, expected a WSGI app"):
        Ninetailed("shop.wsgi:application")


def test_everything_that_is_wrong_with_a_mount_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        Ninetailed(lambda environ, start_response: [], prefix="x", workers=8, contnet="y", history_days=0)
    names = [problem.split(":")[0].split(" ")[0] for problem in refused.value.problems]
    assert names == ["prefix", "history_days", "contnet", "workers"]


def test_keywords_win_over_settings_and_are_checked_as_they_are(bare: Mounted) -> None:
    settings = Settings(data_dir=bare.folder / "data", history_days=5)
    with pytest.raises(SettingsError, match="history_day: no such option; did you mean history_days"):
        Ninetailed(lambda environ, start_response: [], settings, history_day=7)
    with pytest.raises(SettingsError, match="history_day: no such option; did you mean history_days"):
        create_app(settings, history_day=7)
    with pytest.raises(SettingsError, match="workers: only `ninetailed-wsgi serve` has this option"):
        create_app(settings, workers=8)
    assert Settings.for_app(settings, {"history_days": "7"}).history_days == 7


def test_the_settings_of_serve_may_be_given_as_one_object(bare: Mounted) -> None:
    settings = Settings(data_dir=bare.folder / "data", content=SHOP, environments=["acme/shop"])
    app = Ninetailed(
        lambda environ, start_response: start_response("200 OK", []) and [] or [],
        settings,
        organization="acme",
        environment="shop",
    )
    assert Browser(app).get("/ninetailed/health/live").status == 200


def test_nothing_is_opened_before_the_first_request(bare: Mounted) -> None:
    bare.app(lambda environ: Reply())
    assert not (bare.folder / "data").exists()


def test_a_paste_ini_file_gives_every_option_as_text(bare: Mounted) -> None:
    site = bare.app(lambda environ: Reply(environ[KEY].flag("checkout-button", "none").encode()))._app
    app = filter_app_factory(
        site,
        {"here": "/etc"},
        data_dir=str(bare.folder / "data"),
        content=str(SHOP),
        store_shards="2",
        prefix="/nt",
        time_budget_ms="20000",
        cookie_max_age="60",
        preflight="yes",
        cookie_secure="true",
        consent="builtins:bool",
    )
    answer = Browser(app).get()
    assert answer.text in ("Buy", "Order now")
    assert answer.set_cookie is not None
    assert answer.set_cookie.endswith("; Path=/; Max-Age=60; SameSite=Lax; Secure")


def test_wrong_text_in_a_paste_ini_file_is_named() -> None:
    with pytest.raises(SettingsError) as refused:
        filter_app_factory(
            lambda environ, start_response: [], {}, preflight="maybe", cookie_max_age="long", consent="x:y"
        )
    assert str(refused.value).splitlines() == [
        "preflight: found 'maybe', expected yes or no (also true, false, on, off, 1, 0)",
        "consent: found 'x:y', expected a function of the WSGI environ, or its name as package.module:function",
        "cookie_max_age: found 'long', expected a whole number from 0 to 2147483647",
    ]


# What a page gives that is not understood


@pytest.mark.parametrize(
    ("use", "method", "kind"),
    [
        (lambda visitor: visitor.variant(None), "variant", "NoneType"),
        (lambda visitor: visitor.variant(7), "variant", "int"),
        (lambda visitor: visitor.variant(object()), "variant", "object"),
        (lambda visitor: visitor.variant([{"id": "hero"}]), "variant", "list"),
        (lambda visitor: visitor.variant({"name": "an entry without an id"}), "variant", "dict"),
        (lambda visitor: visitor.render(b"Hello {{ traits.name }}"), "render", "bytes"),
        (lambda visitor: visitor.render(None), "render", "NoneType"),
        (lambda visitor: visitor.render(object()), "render", "object"),
        (lambda visitor: visitor.render({"sys": {"id": "hero"}, "fields": {}}), "render", "dict"),
        (lambda visitor: visitor.render({"json": {"nodeType": "document"}}), "render", "dict"),
        (lambda visitor: visitor.render(["Hello {{ traits.name }}"]), "render", "list"),
        (lambda visitor: visitor.merge_tag(["traits", "name"], "friend"), "merge_tag", "list"),
        (lambda visitor: visitor.merge_tag(None), "merge_tag", "NoneType"),
        (lambda visitor: visitor.flag(("a", "b"), 7), "flag", "tuple"),
        (lambda visitor: visitor.experience_variant({"id": "home"}), "experience_variant", "dict"),
        (lambda visitor: visitor.track_attributes(7), "track_attributes", "int"),
        (lambda visitor: visitor.identify({"plan": "pro"}), "identify", "dict"),
        (lambda visitor: visitor.identify(["user"]), "identify", "list"),
    ],
)
def test_what_is_not_understood_shows_as_it_is_and_is_reported_once_with_its_type(
    bare: Mounted, caplog: pytest.LogCaptureFixture, use: Any, method: str, kind: str
) -> None:
    browser = bare.visited_by(use)
    for _ in range(3):
        browser.get()
    told = [record.getMessage() for record in caplog.records if "expected" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith(f"visitor.{method}: found {kind}, expected ")


def test_what_is_not_understood_is_given_back(bare: Mounted) -> None:
    entry, content = object(), object()
    shown: list[Any] = []
    bare.visited_by(lambda visitor: shown.append((visitor.variant(entry), visitor.render(content)))).get()
    assert shown == [(entry, content)]


@pytest.mark.parametrize(
    ("version", "kind"), [(4, "4"), (0, "0"), (2.5, "float"), (True, "True"), (None, "NoneType"), ("newest", "str")]
)
def test_a_version_that_no_browser_sdk_has_is_2_and_reported_once(
    bare: Mounted, caplog: pytest.LogCaptureFixture, version: Any, kind: str
) -> None:
    told: list[str] = []
    browser = bare.visited_by(lambda visitor: told.append(visitor.handoff(version) + visitor.browser_snippet(version)))
    for _ in range(2):
        browser.get()
    assert '"experiences"' in told[0]
    assert '"state"' not in told[0]
    reports = [record.getMessage() for record in caplog.records if "version" in record.getMessage()]
    assert reports == [f"visitor.handoff: version: found {kind}, expected 2 or 3; 2 counts"]


@pytest.mark.parametrize("version", ["3", 3.0])
def test_a_template_may_name_the_version_as_text(bare: Mounted, version: Any) -> None:
    told: list[str] = []
    bare.visited_by(lambda visitor: told.extend([visitor.handoff(version), visitor.handoff(3)])).get()
    assert '"state"' in told[0]
    assert told[0] == told[1]


# The events of a page


def test_each_event_of_a_page_has_a_random_uuid_as_its_message_id() -> None:
    visit = Visit({"PATH_INFO": "/"}, lambda _: ("https", "shop.example"))
    texts = {page_event(visit, {"type": "page", "properties": {}})["messageId"] for _ in range(200)}
    ids = [UUID(text) for text in texts]
    assert len(ids) == 200
    assert {(id.version, id.variant) for id in ids} == {(4, RFC_4122)}
    assert {str(id) for id in ids} == texts


def test_the_path_of_a_page_is_percent_encoded_byte_by_byte_where_an_address_needs_it() -> None:
    for byte in range(256):
        path = f"/tea{chr(byte)}pot"
        expected = quote(path.encode("latin-1"), safe="/;=,~!$&'()*+:@")
        assert page_of({"PATH_INFO": path}, ("https", "shop.example"))["path"] == expected
