"""Credentials in addresses: which values are emptied before an event is stored."""

from __future__ import annotations

from itertools import product
from typing import Any
from urllib.parse import quote, unquote_plus

import pytest

from ninetailed_wsgi.core import url_masks
from ninetailed_wsgi.core.url_masks import MASKED, UrlMask
from ninetailed_wsgi.testing import Harness


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("https://a.example/?token=x&q=1", "https://a.example/?token=&q=1"),
        ("?q=1&PASSWORD=x", "?q=1&PASSWORD="),
        ("api_key=x;sig=y", "api_key=;sig="),
        ("/#access_token=x&state=1", "/#access_token=&state=1"),
        ("/?%74oken=x", "/?%74oken="),
        ("/?next=%2Fa%3Fjwt%3Dx%26b%3D1", "/?next=%2Fa%3Fjwt%3D%26b%3D1"),
        ("/?next=/a?jwt=x&b=1", "/?next=/a?jwt=&b=1"),
        ("/?next=/a?b=1?%6Awt=x?y#c", "/?next=/a?b=1?%6Awt=#c"),
        ("/?next=%2Fa%3Fb%3D1?jwt=x%3Fjwt%3Dy", "/?next=%2Fa%3Fb%3D1?jwt="),
        ("/?next=/a%3Fjwt%3Dx?b=1", "/?next=%2Fa%3Fjwt%3D"),
        ("/?next=%252Fa%253Fjwt%253Dx", "/?next=%252Fa%253Fjwt%253D"),
        ("/?token=x?y=z", "/?token="),
        ("https://anna:secret@a.example/?q=1", "https://a.example/?q=1"),
        ("https://anna@b.example:p@a.example", "https://a.example"),
        ("/?next=https://anna:secret@a.example/", "/?next=https://a.example/"),
        ("https://a.example/@anna?mail=anna@a.example", "https://a.example/@anna?mail=anna@a.example"),
        ("/?a=?a=?a=100%", "/?a=?a=?a=100%"),
        ("/?tokens=x&my_token=y", "/?tokens=x&my_token=y"),
        ("/?token=", "/?token="),
        ("/token=x/", "/token=x/"),
        ("", ""),
        ("?=&==&&", "?=&==&&"),
    ],
)
def test_values_of_these_parameters_are_emptied_wherever_they_stand(address: str, masked: str) -> None:
    assert UrlMask().text(address) == masked


ANNA = "https://anna:hidden@a.example/b?c=1"
USERS = [
    ANNA,
    "https://hidden@a.example",
    'https://anna:hid"hidden"@a.example/',
    "https://anna:hidden@hidden@a.example/",
    "https://anna:hidden%2Fhidden%40hidden@a.example/",
    "https://anna:hidden&hidden;hidden hidden@a.example/",
    "//anna:hidden@a.example/",
    "https:\\\\anna:hidden@a.example/",
    "https:/anna:hidden@a.example/",
    "HTTPS:anna:hidden@a.example/",
    "https:////anna:hidden@a.example/",
    "///anna:hidden@a.example/",
    "\n//anna:hidden@a.example/",
    "ftp://anna:hidden@a.example/",
    "https%3A%2F%2Fanna%3Ahidden%40a.example%2F",
]


def inside(address: str, nesting: int) -> list[str]:
    """Addresses with an address in their query, path or fragment, percent-encoded so many times."""
    for _ in range(nesting):
        address = quote(address, safe="")
    begin = [f"https://shop.example/{rest}" for rest in ("?next=", "?a=1&next=", "to/", "#", "?q=see+")]
    return [f"{each}{address}" for each in begin]


@pytest.mark.parametrize("member", ["url", "referrer", "search"])
@pytest.mark.parametrize("user", USERS)
def test_nobody_who_logs_in_is_stored_wherever_an_address_stands(user: str, member: str) -> None:
    assert "hidden" not in str(masked(UrlMask(), viewed(**{member: user})))
    assert "hidden" not in str(masked(UrlMask(), viewed(query={"next": user})))
    assert "hidden" not in str(masked(UrlMask(), viewed(query={"next": ["1", quote(user, safe="")]})))
    assert "hidden" not in str(masked(UrlMask(), viewed(url=f"/?next={quote(user, safe='')}")))


def test_nobody_who_logs_in_is_stored_after_an_encoded_space() -> None:
    assert "hidden" not in str(masked(UrlMask(), viewed(query={"next": quote(" //anna:hidden@a.example/", safe="")})))


@pytest.mark.parametrize("nesting", [0, 1, 2, 3])
@pytest.mark.parametrize("user", [user for user in USERS if not {"&", "%"} & {*user} and user[6] in "/\\\\"])
def test_nobody_who_logs_in_is_stored_in_an_address_inside_an_address(user: str, nesting: int) -> None:
    for address in inside(user, nesting):
        assert "hidden" not in str(masked(UrlMask(), viewed(url=address))), address
        assert masked(UrlMask(), viewed(url=address))["context"]["page"]["url"].startswith("https://shop.example/")


def test_only_who_logs_in_is_taken_out() -> None:
    for nesting in range(4):
        for address, rest in zip(inside(ANNA, nesting), inside("https://a.example/b?c=1", nesting), strict=True):
            assert masked(UrlMask(), viewed(url=address))["context"]["page"]["url"] == rest


@pytest.mark.parametrize(
    "address",
    [
        "https://a.example/@anna",
        "https://a.example/?mail=anna@b.example",
        "https://a.example/?next=https://b.example&mail=anna@b.example",
        "https://a.example/?mail=anna%40b.example&next=https%3A%2F%2Fb.example%2F%40anna",
        "https://a.example/?next=https%3A%2F%2Fb.example%2F%3Fmail%3Danna%2540b.example",
        "https://a.example/x//anna@b.example",
        "mailto:anna@b.example",
        "https://a.example:8080/40%/@",
    ],
)
def test_an_at_sign_elsewhere_stays(address: str) -> None:
    body = viewed(url=address, query={"next": address})
    assert masked(UrlMask(), body) == body
    assert UrlMask(["x"]).text(address) == address


def test_an_event_without_credentials_stays_the_same_object() -> None:
    event: dict[str, Any] = {"context": {"page": {"url": "/?q=1", "query": {"q": "1"}}}, "properties": {}}
    assert UrlMask().event(event) is event
    assert UrlMask(()).event({"properties": {"url": "/?token=x"}})["properties"]["url"] == "/?token=x"


@pytest.mark.parametrize(
    "event", [{}, {"context": None}, {"context": {"page": 5}, "properties": {"query": 5, "url": 5}}]
)
def test_whatever_a_client_sends_in_their_place_is_left_alone(event: dict[str, Any]) -> None:
    assert UrlMask().event(event) == event


def test_events_of_clients_are_masked_too_by_the_names_of_the_settings() -> None:
    page = {
        "path": "/",
        "query": {"pin": "1", "token": "2"},
        "referrer": "?pin=1",
        "search": "?pin=1",
        "url": "/?pin=1",
    }
    event = {
        "type": "page",
        "channel": "web",
        "messageId": "m",
        "context": {"library": {"name": "t", "version": "7.0.0"}, "page": page},
        "properties": page,
    }
    with Harness(masked_query_parameters=["PIN"]) as harness:
        answer = harness.client.post("/profiles", {"events": [event]})
        landing = answer.document["data"]["profile"]["session"]["landingPage"]
        masked = {"query": {"pin": "", "token": "2"}, "referrer": "?pin=", "search": "?pin=", "url": "/?pin="}
        assert landing == {**page, **masked}
        assert harness.events[0].event["context"]["page"]["url"] == "/?pin="


# Where an event does not hint at a credential, its pages are not walked through.


def viewed(**page: Any) -> dict[str, Any]:
    return {"type": "page", "messageId": "1", "context": {"page": page}, "properties": {}}


def masked(mask: UrlMask, body: dict[str, Any]) -> dict[str, Any]:
    (result,) = mask.events([body])
    return result


def encoded(name: str, place: int) -> str:
    return f"{name[:place]}%{ord(name[place]):02x}{name[place + 1 :]}"


SPELLINGS = [
    *MASKED,
    *(name.upper() for name in MASKED),
    *(encoded(name, place) for name in MASKED for place in range(len(name))),
    *(encoded(name, 0).upper() for name in MASKED),
    "to\N{KELVIN SIGN}en",
    "to%e2%84%aaen",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_credential_is_emptied_however_its_name_is_written(spelling: str) -> None:
    mask, before = UrlMask(), ["", "?", "?a=1&", "#", "?a=1;", "https://shop.example/?next=1&"]
    for start in before:
        body = viewed(url=f"{start}{spelling}=hidden&b=2")
        assert masked(mask, body)["context"]["page"] == {"url": f"{start}{spelling}=&b=2"}, start


@pytest.mark.parametrize("name", [*MASKED, "SessionId"])
def test_a_credential_in_the_query_of_a_page_is_emptied(name: str) -> None:
    body = viewed(query={"a": "1", name: "hidden"})
    assert masked(UrlMask(), body)["context"]["page"]["query"] == {"a": "1", name: ""}


@pytest.mark.parametrize(
    ("page", "kept"),
    [
        ({"query": {"next": "/a?jwt=hidden"}}, {"query": {"next": "/a?jwt="}}),
        ({"query": {"next": "/a%3Fjwt%3Dhidden"}}, {"query": {"next": "%2Fa%3Fjwt%3D"}}),
        ({"url": "https://anna:hidden@a.example/"}, {"url": "https://a.example/"}),
        ({"referrer": "https://hidden@a.example"}, {"referrer": "https://a.example"}),
        ({"query": {"next": "https://anna:hidden@a.example/"}}, {"query": {"next": "https://a.example/"}}),
    ],
)
def test_a_credential_is_emptied_inside_a_value_and_before_a_host(page: dict[str, Any], kept: dict[str, Any]) -> None:
    assert masked(UrlMask(), viewed(**page))["context"]["page"] == kept


def test_each_value_of_a_repeated_parameter_is_masked() -> None:
    query = {"next": ["/a?token=x", ["?sig=y"], 5, None], "token": ["x", "y"], "color": ["red", "blue"]}
    body = masked(UrlMask(), viewed(query=query))
    kept = {"next": ["/a?token=", ["?sig="], 5, None], "token": "", "color": ["red", "blue"]}
    assert body["context"]["page"]["query"] == kept


@pytest.mark.parametrize(("nesting", "member"), list(product((1, 2, 3), ("url", "referrer", "search"))))
def test_a_credential_in_an_address_inside_an_address_is_emptied(nesting: int, member: str) -> None:
    address = "https://shop.example/?token=hidden"
    for _ in range(nesting):
        address = f"https://login.example/?next={quote(address, safe='')}"
    assert "hidden" not in str(masked(UrlMask(), viewed(**{member: address})))


def test_the_properties_of_a_page_are_masked_like_its_context() -> None:
    body = {"type": "page", "context": {}, "properties": {"search": "?jwt=hidden", "title": "jwt=stays"}}
    assert masked(UrlMask(), body)["properties"] == {"search": "?jwt=", "title": "jwt=stays"}


def test_a_page_that_is_sent_twice_is_masked_twice_and_a_second_one_that_says_more_is_looked_at() -> None:
    page = {"url": "?jwt=hidden", "referrer": "", "search": "?jwt=hidden", "query": {"jwt": "hidden"}}
    emptied = {"url": "?jwt=", "referrer": "", "search": "?jwt=", "query": {"jwt": ""}}
    body = {"type": "page", "context": {"page": page}, "properties": {**page, "title": "jwt=stays"}}
    result = masked(UrlMask(), body)
    assert (result["context"]["page"], result["properties"]) == (emptied, {**emptied, "title": "jwt=stays"})
    for first in ({}, {"path": "/"}, {**page, "url": "/", "search": "", "query": {}}, {"query": {}, "url": "/"}):
        body = {"type": "page", "context": {"page": first}, "properties": {**first, **page}}
        assert "hidden" not in str(masked(UrlMask(), body)), first


def test_a_page_that_was_seen_before_is_masked_like_the_first_time() -> None:
    mask = UrlMask()
    for number in range(3000):
        assert masked(mask, viewed(url="?a=1&token=hidden"))["context"]["page"] == {"url": "?a=1&token="}
        assert masked(mask, viewed(url=f"?a={number}"))["context"]["page"] == {"url": f"?a={number}"}


@pytest.mark.parametrize("name", ["größe", "a b", "a+b", 'quo"te', "back\\slash", "tab\t"])
def test_a_name_that_has_to_be_encoded_is_found(name: str) -> None:
    mask = UrlMask([name])
    assert masked(mask, viewed(url=f"?{quote(name)}=hidden"))["context"]["page"] == {"url": f"?{quote(name)}="}
    assert masked(mask, viewed(query={name: "hidden"}))["context"]["page"]["query"] == {name: ""}


ENCODED = [
    "https%3A%2F%2Fu%3Ap%40h%2F&u=",
    "u=https%253A%252F%252Fu%253Ap%2540h%252F%253Fjwt%253Dx&",
    "%74oken=x&",
    "%2526",
]


def sent(address: str, pages: int) -> list[dict[str, Any]]:
    """Events whose pages have an address of this kind, a megabyte together."""
    text = "https://a.example/?" + address * (1_000_000 // pages // len(address))
    return [{"type": "page", "context": {"page": {"url": text}}, "properties": {"path": "/"}} for _ in range(pages)]


@pytest.mark.parametrize("pages", [1, 200])
@pytest.mark.parametrize("address", ENCODED)
def test_a_request_full_of_encoded_credentials_costs_a_bounded_amount_of_decoding(
    monkeypatch: pytest.MonkeyPatch, address: str, pages: int
) -> None:
    decoded: list[int] = []

    def counted(text: str) -> str:
        decoded.append(len(text))
        return unquote_plus(text)

    monkeypatch.setattr(url_masks, "unquote_plus", counted)
    events = UrlMask().events(sent(address, pages))
    assert sum(decoded) <= 4 * url_masks.MOST_ENCODED  # one time for each level of encoding
    assert len(decoded) < url_masks.MOST_ENCODED
    urls = [event["context"]["page"]["url"] for event in events]
    assert all(
        "p@h" not in unquote_plus(unquote_plus(url)) and "jwt=x" not in unquote_plus(unquote_plus(url)) for url in urls
    )
    assert urls[-1] == ""
    assert (urls[0] == "") is (pages == 1)


def test_a_page_that_is_too_much_to_search_keeps_what_is_no_address() -> None:
    page = {"url": ENCODED[0] * 10_000, "path": "/cart", "query": {"a": "%2526"}, "title": "Cart", "search": 5}
    plain = {"type": "page", "context": {"page": {"url": "https://a.example/?jwt=x"}}, "properties": {"price": 5}}
    events = UrlMask().events([{"type": "page", "context": {"page": page}, "properties": page}, plain])
    assert events[0]["context"]["page"] == events[0]["properties"]
    assert events[0]["properties"] == {"url": "", "path": "/cart", "query": {}, "title": "Cart", "search": ""}
    assert events[1]["context"]["page"]["url"] == "https://a.example/?jwt=", "it is searched: nothing in it is encoded"


def test_a_page_of_one_visitor_that_is_too_much_to_search_costs_no_other_its_address() -> None:
    large, small = sent(ENCODED[0], 1), sent("next=%2Fcart%3Ftoken%3Dx", 20_000)[:2]
    urls = [event["context"]["page"]["url"] for event in UrlMask().events([small[0], *large, small[1]])]
    assert urls == ["https://a.example/?next=%2Fcart%3Ftoken%3D", "", "https://a.example/?next=%2Fcart%3Ftoken%3D"]


def test_two_hundred_pages_with_an_encoded_address_of_a_usual_length_are_all_searched() -> None:
    address = f"https://a.example/login?next={quote('https://a.example/account/orders?page=2&token=x', safe='')}"
    page = {"url": address, "referrer": address, "search": "?" + address.partition("?")[2]}
    events = UrlMask().events([{"type": "page", "context": {"page": page}, "properties": dict(page)}] * 200)
    assert {event["properties"]["url"] for event in events} == {address.replace("%3Dx", "%3D")}


def test_no_names_mask_nothing() -> None:
    body = viewed(url="?token=stays&=")
    assert masked(UrlMask([]), body) == body


def test_events_without_credentials_stay_the_same_beside_one_that_has_some() -> None:
    bodies = [viewed(url="?design=1&page=3%20%2F"), viewed(url="?sig=hidden"), viewed(url="?q=password")]
    first, second, third = UrlMask().events(bodies)
    assert (first, third) == (bodies[0], bodies[2])
    assert second["context"]["page"] == {"url": "?sig="}
