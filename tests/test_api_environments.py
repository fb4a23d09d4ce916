"""Environments are namespaces: nothing leaks from one into another, whatever ids and names contain."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
from support import Api, Server, data, error, identify, of, page, profile_path

MakeServer = Callable[..., Server]

STRANGE = {
    "a slash": "a/b",
    "slashes at both ends": "/a/",
    "two slashes": "a//b",
    "one slash": "/",
    "a dot": ".",
    "two dots": "..",
    "a way up": "../../other/profiles/x",
    "a backslash": "..\\x",
    "percent-encoding": "a%2Fb",
    "percent-encoding of a percent sign": "a%252Fb",
    "a percent sign": "100%",
    "a space": " ",
    "a plus": "a+b",
    "a question mark": "a?type=preflight",
    "a number sign": "a#b",
    "a semicolon": "a;b=c",
    "a colon": "urn:x:y",
    "an e-mail address": "max+news@example.com",
    "unicode": "Grüße-東京-עברית",
    "composed and decomposed": "e\u0301",
    "an emoji": "👩‍👩‍👧",
    "NUL": "\0",
    "NUL inside": "a\0b",
    "control characters": "a\r\nSet-Cookie: b\x7f",
    "an invisible character": "\u202egnp",
    "1 kB": "x" * 1_024,
    "1 kB of unicode": "é" * 512,
    "the path of an explanation": "x/explain",
    "the path of events": "events",
    "the path of an import": "import/events",
    "a whole address": "https://shop.example/v2/organizations/org/environments/main/profiles/x",
    "braces": "{name}",
    "JSON": '{"to": "other"}',
    "SQL": "'; DROP TABLE Cache; --",
    "a number": "0",
    "null": "null",
}


@pytest.mark.parametrize("name", STRANGE.values(), ids=STRANGE)
def test_an_id_may_contain(api: Api, name: str) -> None:
    created = api.update(name, page(), identify(traits={"a": 1}))["profile"]
    assert (created["id"], created["stableId"]) == (name, name)
    assert api.profile(name) == created
    assert [profile["id"] for profile in api.batch(of(name, identify(traits={"b": 2})))] == [name]
    assert api.profile(name)["traits"] == {"a": 1, "b": 2}
    api.delete(name)
    assert not api.knows(name)


@pytest.mark.parametrize("name", STRANGE.values(), ids=STRANGE)
def test_an_alias_may_contain(api: Api, name: str) -> None:
    api.update("visitor", identify(name, {"a": 1}))
    assert api.profile(name)["id"] == "visitor"
    assert api.update(name, identify(traits={"b": 2}))["profile"]["id"] == "visitor"
    assert [profile["id"] for profile in api.batch(of(name, page()))] == ["visitor"]
    assert api.profile("visitor")["traits"] == {"a": 1, "b": 2}
    api.delete(name)
    assert not api.knows("visitor")
    assert not api.knows(name)


def test_ids_that_only_look_alike_are_different_profiles(api: Api) -> None:
    names = [*STRANGE.values(), "é", "x" * 1_023, "X/explain", "x", "a", "b", "A/B", "a b", "nul", "0.0", "e", "É"]
    for number in range(0, len(names), 50):
        api.batch(*(of(name, identify(traits={"name": name})) for name in names[number : number + 50]))
    for name in names:
        assert (api.profile(name)["id"], api.profile(name)["traits"]) == (name, {"name": name})


def test_a_slash_in_a_path_is_the_same_id_encoded_or_not(api: Api) -> None:
    api.update("a/b", page())
    assert data(api.request("GET", "/profiles/a/b"))["profile"]["id"] == "a/b"
    assert data(api.request("GET", "/profiles/a%2Fb"))["profile"]["id"] == "a/b"
    assert data(api.request("GET", "/profiles/a%2fb"))["profile"]["id"] == "a/b"
    assert error(api.request("GET", "/profiles/a%252Fb"), 404) == "ERR_PROFILE_NOT_FOUND"


def test_dots_in_a_path_lead_nowhere_else(api: Api) -> None:
    other = api.server.environment("org", "secret")
    other.update("visitor", page())
    for path in ("/profiles/../../secret/profiles/visitor", "/profiles/%2e%2e/%2e%2e/secret/profiles/visitor"):
        assert error(api.request("GET", path), 404) == "ERR_PROFILE_NOT_FOUND"
    assert other.knows("visitor")


# Nothing leaks

PAIRS = [
    ("org", "main"),
    ("org", "Main"),
    ("org", "main "),
    ("Org", "main"),
    ("org ", "main"),
    ("orgmain", "x"),
    ("org", "mainx"),
    ("orgm", "ain"),
    ("o", "rgmain"),
    ("org:main", "a"),
    ("org", "main:a"),
    ("3:org", "4:main"),
    ("org%2Fmain", "a"),
    ("org", "%2Fmain"),
    ("..", "main"),
    (".", "main"),
    ("org\0", "main"),
    ("org", "\0main"),
    ("Grüße", "東京"),
    ("👩", "main"),
    ("x" * 5000, "main"),
    ("x" * 5001, "main"),
]


@pytest.mark.parametrize("name", ["visitor", *(STRANGE[key] for key in ("a slash", "two dots", "NUL", "an emoji"))])
def test_a_profile_is_seen_in_its_own_environment_only(make_server: MakeServer, name: str) -> None:
    server = make_server()
    clients = [server.environment(*pair) for pair in PAIRS]
    for number, client in enumerate(clients):
        assert not client.knows(name)
        client.update(name, identify("user", {"number": number}))
    for number, client in enumerate(clients):
        assert client.profile(name)["traits"] == {"number": number}
        assert client.profile("user")["traits"] == {"number": number}
        assert client.profile(name)["session"]["count"] == 1


def test_no_split_of_the_same_text_into_organization_environment_and_id_meets_another(make_server: MakeServer) -> None:
    server = make_server()
    text = "aaaaaa"
    splits = [(text[:i], text[i:j], text[j:]) for i, j in combinations(range(1, len(text)), 2)]
    for number, (organization, environment, name) in enumerate(splits):
        server.environment(organization, environment).update(name, identify(traits={"number": number}))
    for number, (organization, environment, name) in enumerate(splits):
        assert server.environment(organization, environment).profile(name)["traits"] == {"number": number}


def test_deleting_a_profile_deletes_none_of_another_environment(api: Api) -> None:
    other = api.server.environment()
    for client in (api, other):
        client.update("visitor", identify("user"))
    api.delete("user")
    assert other.knows("visitor")
    assert other.profile("user")["id"] == "visitor"


def test_an_alias_of_one_environment_is_an_id_in_another(api: Api) -> None:
    other = api.server.environment()
    api.update("visitor", identify("shared", {"a": 1}))
    other.update("shared", identify("visitor", {"b": 1}))
    assert (api.profile("shared")["id"], api.profile("shared")["traits"]) == ("visitor", {"a": 1})
    assert (other.profile("visitor")["id"], other.profile("visitor")["traits"]) == ("shared", {"b": 1})


def test_profiles_of_two_environments_never_merge(api: Api) -> None:
    other = api.server.environment()
    api.update("one", identify("user", {"a": 1}))
    other.update("two", identify("user", {"b": 1}))
    assert api.profile("user")["id"] == "one"
    assert other.profile("user")["id"] == "two"
    assert not api.knows("two")
    assert not other.knows("one")


def test_an_id_that_equals_the_alias_of_another_profile_is_that_profile(api: Api) -> None:
    api.update("visitor", identify("user", {"a": 1}))
    assert api.update("user", identify(traits={"b": 1}))["profile"]["id"] == "visitor"
    assert api.profile("visitor")["traits"] == {"a": 1, "b": 1}


def test_an_id_that_looks_like_what_the_store_writes_is_an_id(api: Api) -> None:
    for name in ('{"to":"victim"}', "to", "into", "key", "history", "d", "h"):
        api.update(name, identify("user-" + name, {"to": "victim", "into": "victim", "name": name}))
        assert api.profile("user-" + name)["traits"]["name"] == name
    assert not api.knows("victim")


def test_an_organization_with_a_slash_is_no_route(api: Api) -> None:
    stranger = api.server.environment("org/environments/main/profiles", "x")
    assert error(stranger.request("GET", "/profiles/visitor"), 404) in ("ERR_NOT_FOUND", "ERR_PROFILE_NOT_FOUND")


def test_an_id_that_ends_like_an_explanation_is_an_id_where_explanations_are_off(api: Api) -> None:
    api.update("x", identify(traits={"a": 1}))
    assert error(api.request("GET", profile_path("x/explain")), 404) == "ERR_PROFILE_NOT_FOUND"
    api.update("x/explain", identify(traits={"b": 1}))
    assert api.profile("x/explain")["traits"] == {"b": 1}
    assert api.profile("x")["traits"] == {"a": 1}
