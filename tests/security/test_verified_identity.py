"""A verified identify gives the profile a new id, one user to a profile, and takes user ids from unverified claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from support import identify, page, track

from ninetailed_wsgi.service.identity_tokens import IdentityTokens
from ninetailed_wsgi.testing import Answer, Harness, audience, experience, flag, trait
from tests.tables import check_each


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness(access="guarded") as made:
        yield made


def send(harness: Harness, path: str, *events: Any, key: str = "") -> Answer:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return harness.client.post(path, {"events": [*events]}, headers=headers)


def profile(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    return answer.document["data"]["profile"]


def proven(harness: Harness, user_id: str, **traits: Any) -> dict[str, Any]:
    return identify(user_id, {**traits, "nt_identity": harness.identity_token(user_id)})


def create(harness: Harness, *events: Any) -> Any:
    return profile(send(harness, "/profiles", *(events or (page(),))))


def status(harness: Harness, id: str) -> int:
    return harness.client.get(f"/profiles/{id}").status


def test_a_proof_gives_the_profile_a_new_id_and_the_old_one_leads_there_for_a_minute(harness: Harness) -> None:
    before = create(harness, page("/pricing"))
    after = profile(send(harness, f"/profiles/{before['id']}", proven(harness, "anna", plan="pro"), track()))
    assert after["id"] != before["id"]
    assert after["stableId"] == before["stableId"]
    assert after["traits"] == {"plan": "pro"}
    assert after["session"]["id"] == before["session"]["id"]

    other_tab = profile(send(harness, f"/profiles/{before['id']}", page("/other-tab")))
    assert other_tab["id"] == after["id"]
    harness.clock.advance(seconds=61)
    assert status(harness, before["id"]) == 404
    assert status(harness, after["id"]) == 200
    begun = profile(send(harness, f"/profiles/{before['id']}", page()))
    assert begun["id"] not in (before["id"], after["id"])
    assert begun["traits"] == {}


@pytest.mark.parametrize(
    ("visitor", "tab", "stranger"),
    [
        ("203.0.113.9", "203.0.113.9", "198.51.100.7"),
        ("2001:db8:1:2::9", "2001:db8:1:2:3::4", "2001:db8:1:3::9"),  # a browser changes within its network
    ],
)
def test_a_planted_id_does_not_tell_its_planter_the_new_one_even_in_the_first_minute(
    harness: Harness, visitor: str, tab: str, stranger: str
) -> None:
    def ask(address: str, id: str, *events: Any, method: str = "POST", type: str = "") -> Answer:
        path = f"{harness.client.prefix}/profiles/{id}".rstrip("/") + (f"?type={type}" if type else "")
        return harness.client.call(method, path, {"events": [*events]} if events else None, address=address)

    message = {**page(), "messageId": "0b0a2b8e-4c86-4f6c-9d5e-1f6f4a1f7c11"}
    planted = profile(ask(stranger, "", message, type="preflight"))["id"]
    assert profile(ask(visitor, planted, page()))["id"] == planted
    user = profile(ask(visitor, planted, proven(harness, "anna", plan="pro")))
    answers = [ask(stranger, planted, page(), type=type) for type in ("", "preflight")]
    answers += [ask(stranger, planted, identify("", {"plan": "none"})), ask(stranger, "", message)]
    for answer in answers:
        assert profile(answer)["id"] not in (planted, user["id"])
        assert profile(answer)["traits"] in ({}, {"plan": "none"})
    assert ask(stranger, planted, method="GET").status == 404
    assert profile(ask(tab, planted, method="GET"))["id"] == user["id"]
    assert profile(ask(tab, planted, page("/other-tab")))["id"] == user["id"]
    assert profile(ask(tab, user["id"], method="GET"))["traits"] == {"plan": "pro"}


VISITOR, PLANTER, BACKEND = "203.0.113.9", "198.51.100.7", "192.0.2.1"


@pytest.fixture
def shop() -> Iterator[Harness]:
    """A flag and a component of those who pay."""
    rich = audience(trait("plan", "pro"), name="rich")
    content = [
        rich,
        experience("hero", ["hero-b"], audience=rich, id="e1"),
        flag("limit", control=5, variants=[50], audience=rich),
    ]
    with Harness(content, access="guarded") as made:
        yield made


def logged_in(harness: Harness, *, by: str, named: str | None = None, known: bool = False) -> tuple[str, str]:
    """The id that somebody planted, and the one after the login: of the visitor, or by a backend with a key.

    ``known``: the user has a profile already, which the one of the planted id joins.
    """
    prefix, names = harness.client.prefix, {"X-Force-IP": named} if named else {}
    if known:
        profile(send(harness, "/profiles", proven(harness, "anna", plan="pro")))
    planted = profile(harness.client.call("POST", f"{prefix}/profiles", {"events": [page()]}, address=PLANTER))["id"]
    event = proven(harness, "anna", plan="pro") if by == VISITOR else identify("anna", {"plan": "pro"})
    headers = names | ({"Authorization": f"Bearer {harness.key('events')}"} if by == BACKEND else {})
    answer = harness.client.call(
        "POST", f"{prefix}/profiles/{planted}", {"events": [event]}, address=by, headers=headers
    )
    return planted, profile(answer)["id"]


def seen_by(harness: Harness, id: str, address: str, headers: Mapping[str, str]) -> dict[str, bool]:
    """Whether each way to use an id leads to the profile of the visitor who logged in."""
    prefix, where = harness.client.prefix, {"address": address, "headers": headers}
    call = harness.client.call
    read = call("GET", f"{prefix}/profiles/{id}", **where)
    space = call("GET", f"{harness.space_client.prefix}/profiles/{id}", **where)
    written = call("POST", f"{prefix}/profiles/{id}", {"events": [page()]}, **where)
    evaluated = call("POST", f"{prefix}/profiles/{id}?type=preflight", {"events": [page()]}, **where)
    context = {"context": {"targetingKey": id}}
    one = call("POST", f"{prefix}/ofrep/v1/evaluate/flags/limit", context, **where)
    all_flags = call("POST", f"{prefix}/ofrep/v1/evaluate/flags", context, **where)
    return {
        "read": read.status == 200,
        "read by the routes of a space": space.status == 200,
        "write": profile(written)["traits"] == {"plan": "pro"},
        "evaluate": profile(evaluated)["traits"] == {"plan": "pro"},
        "flag": one.document.get("value") == 50,
        "flags": [each.get("value") for each in all_flags.document["flags"]] == [50],
        "report": reports(harness, id, "/v1/organizations", where),
        "report by the routes of a space": reports(harness, id, "/v2/spaces", where),
    }


def reports(harness: Harness, id: str, routes: str, where: Mapping[str, Any]) -> bool:
    """Whether a view that is reported by this id counts."""
    event = {**page(), "type": "component", "componentType": "Entry", "componentId": "hero-b", "experienceId": "e1"}
    event |= {"variantIndex": 1, "viewId": f"{id[:4]}{where['address']}{len(where['headers'])}{routes}"}
    before = exposures(harness)
    body = [{"profile": {"id": id}, "events": [event]}]
    assert harness.client.call("POST", f"{routes}/default/environments/main/events", body, **where).status == 204
    return exposures(harness) != before


def exposures(harness: Harness) -> Any:
    return harness.service.record(harness.environment, "anna")["exposures"]


@pytest.mark.parametrize("known", [False, True], ids=["a new user", "a known user"])
@pytest.mark.parametrize(
    ("by", "named", "elsewhere"),
    [(VISITOR, None, False), (BACKEND, VISITOR, False), (BACKEND, None, True), (BACKEND, "none of any form", True)],
    ids=["by a proof", "by a backend that names the visitor", "by a backend", "by a backend that names nothing"],
)
def test_a_former_id_leads_to_the_profile_from_the_address_of_the_login_if_that_is_known_whatever_asks(
    shop: Harness, by: str, named: str | None, elsewhere: bool, known: bool
) -> None:
    former, id = logged_in(shop, by=by, named=named, known=known)
    reader = {"Authorization": f"Bearer {shop.key('read', 'events')}"}
    asked = {
        "the planter": (PLANTER, {}, elsewhere),
        "a planter who claims the address": (PLANTER, {"X-Force-IP": VISITOR}, elsewhere),
        "another tab": (VISITOR, {}, True),
        "a backend for the planter": (BACKEND, {**reader, "X-Force-IP": PLANTER}, elsewhere),
        "a backend for another tab": (BACKEND, {**reader, "X-Force-IP": VISITOR}, True),
        "a backend for somebody": (BACKEND, reader, True),
    }

    def check(row: tuple[str, Mapping[str, str], bool]) -> None:
        address, headers, leads = row
        ways = seen_by(shop, former, address, headers)
        if "Authorization" in headers:  # a trusted sender's reports tell it nothing
            ways = {way: led for way, led in ways.items() if "report" not in way}
        assert set(ways.values()) == {leads}, ways

    check_each(asked.items(), check)
    assert set(seen_by(shop, id, PLANTER, {}).values()) == {True}, "the new id leads there for whoever has it"
    shop.clock.advance(seconds=61)
    check_each([(name, (*row[:2], False)) for name, row in asked.items()], check)


def test_a_backend_deletes_by_a_former_id_but_not_for_another_address(shop: Harness) -> None:
    key = {"Authorization": f"Bearer {shop.key('delete')}"}
    for names, status in (({}, 200), ({"X-Force-IP": PLANTER}, 404), ({"X-Force-IP": VISITOR}, 200)):
        former, _ = logged_in(shop, by=BACKEND, named=VISITOR)
        assert shop.client.delete(f"/profiles/{former}", headers={**key, **names}).status == status


def test_visitors_of_an_unknown_address_count_as_one_network(shop: Harness) -> None:
    """Behind a proxy on a Unix socket that is not in trusted_proxies, the API knows no address."""
    former = profile(shop.client.call("POST", f"{shop.client.prefix}/profiles", {"events": [page()]}, address=""))["id"]
    event = {"events": [proven(shop, "bert")]}
    shop.client.call("POST", f"{shop.client.prefix}/profiles/{former}", event, address="")
    for address, status in (("", 200), (PLANTER, 404)):
        answer = shop.client.call("GET", f"{shop.client.prefix}/profiles/{former}", address=address)
        assert answer.status == status


def test_with_a_planted_id_a_backend_neither_reads_nor_deletes_the_visitor_who_logged_in_by_it(
    harness: Harness,
) -> None:
    planted = create(harness)["id"]
    user = profile(send(harness, f"/profiles/{planted}", proven(harness, "anna", plan="pro")))
    headers = {"Authorization": f"Bearer {harness.key()}"}
    harness.clock.advance(seconds=61)
    for method in ("GET", "DELETE"):
        answer = harness.client.call(method, f"{harness.client.prefix}/profiles/{planted}", headers=headers)
        assert answer.status == 404
    assert status(harness, user["id"]) == 200
    for name in ("anna", user["id"]):
        event = proven(harness, "anna")
        id = profile(send(harness, "/profiles", event))["id"]
        name = id if name != "anna" else name
        answer = harness.client.call("DELETE", f"{harness.client.prefix}/profiles/{name}", headers=headers)
        assert answer.status == 200
        assert status(harness, id) == 404


def test_two_tabs_that_prove_the_same_user_at_once_end_in_one_profile(harness: Harness) -> None:
    id = create(harness)["id"]
    first = profile(send(harness, f"/profiles/{id}", proven(harness, "anna")))
    second = profile(send(harness, f"/profiles/{id}", proven(harness, "anna")))
    assert first["id"] == second["id"] != id


def test_a_new_secret_before_the_old_one_lets_proofs_of_both_count(tmp_path: Path) -> None:
    old, new, file = b"o" * 32, b"n" * 32, tmp_path / "secret"
    proofs = [IdentityTokens((secret,), lambda: 0).make("anna", "acme", "main") for secret in (old, new, b"x" * 32)]
    files = {old: ["anna", None, None], new + b"\n" + old: ["anna", "anna", None], new: [None, "anna", None]}
    for lines, users in files.items():
        file.write_bytes(lines + b"\n")
        tokens = IdentityTokens.of_file(file, lambda: 0)
        assert [tokens.user(proof, "acme", "main") for proof in proofs] == users
    assert IdentityTokens.of_file(file, lambda: 3601).user(proofs[1], "acme", "main") is None


def test_a_proof_of_more_than_4096_characters_counts_as_none(harness: Harness) -> None:
    assert harness.access.tokens is not None
    claims = {"sub": "anna", "aud": "/".join(harness.environment), "exp": harness.clock() // 1000 + 60}

    def padded(size: int) -> str:
        return jwt.encode({**claims, "pad": "x" * size}, harness.access.tokens._secrets[0])

    size = next(size for size in range(2800, 3100) if len(padded(size)) > 4096)
    key = {"Authorization": f"Bearer {harness.key('read')}"}
    for token, status in ((padded(size), 404), (padded(size - 1), 200)):
        answer = send(harness, "/profiles", identify("anna", {"nt_identity": token, "plan": "pro"}))
        assert profile(answer)["traits"] == {"plan": "pro"}
        assert ("x-ninetailed-identity" in answer.headers) is (status == 404)
        assert harness.client.get("/profiles/anna", headers=key).status == status


def test_a_proof_that_is_sent_again_changes_nothing(harness: Harness) -> None:
    id = create(harness)["id"]
    event = proven(harness, "anna")
    first = profile(send(harness, f"/profiles/{id}", event))
    assert profile(send(harness, f"/profiles/{id}", event))["id"] == first["id"]
    assert profile(send(harness, f"/profiles/{first['id']}", event))["id"] == first["id"]


def test_the_same_user_on_another_device_gets_the_profile_that_is_there(harness: Harness) -> None:
    laptop = profile(send(harness, f"/profiles/{create(harness)['id']}", proven(harness, "anna", plan="pro")))
    phone = create(harness, identify("", {"phone": True}))
    joined = profile(send(harness, f"/profiles/{phone['id']}", proven(harness, "anna")))
    assert (joined["id"], joined["stableId"]) == (laptop["id"], laptop["stableId"])
    assert joined["traits"] == {"plan": "pro", "phone": True}
    harness.clock.advance(seconds=61)
    assert status(harness, phone["id"]) == 404


def test_another_user_on_the_same_browser_switches_and_two_users_never_merge(harness: Harness) -> None:
    anna = profile(send(harness, f"/profiles/{create(harness)['id']}", proven(harness, "anna", name="Anna")))
    bert = profile(send(harness, f"/profiles/{anna['id']}", proven(harness, "bert", name="Bert")))
    assert bert["id"] != anna["id"]
    assert bert["traits"] == {"name": "Bert"}
    again = profile(send(harness, f"/profiles/{bert['id']}", proven(harness, "anna")))
    assert (again["id"], again["traits"]) == (anna["id"], {"name": "Anna"})


def test_a_create_with_a_proof_answers_the_users_profile(harness: Harness) -> None:
    first = create(harness, page(), proven(harness, "anna", plan="pro"))
    second = create(harness, page("/x"), proven(harness, "anna"))
    assert second["id"] == first["id"]
    assert create(harness)["id"] != first["id"]


def test_the_id_that_a_preflight_answered_is_created_and_verified_later(harness: Harness) -> None:
    rendered = profile(send(harness, "/profiles?type=preflight", page()))
    real = profile(send(harness, f"/profiles/{rendered['id']}", proven(harness, "anna")))
    assert real["stableId"] == rendered["stableId"]
    assert real["id"] != rendered["id"]


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x.y.z",
        7,
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbm5hIn0.",
        "a" * 100_000,
    ],
)
def test_a_wrong_proof_is_as_none(harness: Harness, token: object) -> None:
    id = create(harness)["id"]
    answer = send(harness, f"/profiles/{id}", identify("anna", {"plan": "pro", "nt_identity": token}))
    assert (profile(answer)["id"], profile(answer)["traits"]) == (id, {"plan": "pro"})
    assert answer.headers["x-ninetailed-identity"] == "unverified"
    assert (
        harness.client.get("/profiles/anna", headers={"Authorization": f"Bearer {harness.key('read')}"}).status == 404
    )


def test_a_late_one_one_of_another_user_and_one_of_another_environment_prove_nothing(harness: Harness) -> None:
    late = harness.identity_token("anna", 10)
    harness.clock.advance(seconds=10)
    assert harness.access.tokens is not None
    elsewhere = harness.access.tokens.make("anna", "default", "staging")
    bert = harness.identity_token("bert")
    for token in (late, elsewhere, bert):
        id = create(harness)["id"]
        answer = send(harness, f"/profiles/{id}", identify("anna", {"nt_identity": token}))
        assert profile(answer)["id"] == id
        assert answer.headers["x-ninetailed-identity"] == "unverified"


@pytest.mark.parametrize("user_id", ["u" * 1025, "ué" * 342])
def test_a_proof_of_a_user_id_that_is_too_long_is_refused(harness: Harness, user_id: str) -> None:
    for claimed in ("", user_id):
        event = {**proven(harness, user_id), "userId": claimed}
        answer = send(harness, "/profiles", event)
        assert (answer.status, "at most 1024" in answer.document["message"]) == (400, True)
    assert harness.events == []
    assert profile(send(harness, "/profiles", {**proven(harness, user_id[:500]), "userId": ""}))


def test_a_proof_is_never_stored_nor_answered(harness: Harness) -> None:
    token = harness.identity_token("anna")
    answered = send(harness, "/profiles", identify("anna", {"nt_identity": token}))
    assert token.encode() not in answered.body
    assert [event.event["traits"] for event in harness.events] == [{}]


def test_a_trusted_sender_finds_profiles_by_user_id_and_joins_them(harness: Harness) -> None:
    key = harness.key("events", "read")
    uuid = "5f0e5c1a-3f0b-4c8e-9d1e-6b1f2a7c9d10"
    for name, event in ((uuid, track()), (uuid, identify("anna", {"plan": "pro"})), (uuid, track("later"))):
        answer = send(harness, "/events", {**event, "anonymousId": name}, key=key)
        assert answer.status == 200
        (found,) = answer.document["data"]["profiles"]
        assert len(found["id"]) == 64
    by_user = harness.client.get("/profiles/anna", headers={"Authorization": f"Bearer {key}"})
    assert profile(by_user)["id"] == found["id"]
    mine = profile(send(harness, f"/profiles/{create(harness)['id']}", proven(harness, "anna")))
    assert (mine["id"], mine["traits"]) == (found["id"], {"plan": "pro"})


def test_traits_that_a_trusted_sender_set_before_the_user_came_are_theirs(harness: Harness) -> None:
    key = harness.key("events")
    send(harness, "/events", {**identify("anna", {"segment": "vip"}), "anonymousId": "anna"}, key=key)
    assert create(harness, proven(harness, "anna"))["traits"] == {"segment": "vip"}
