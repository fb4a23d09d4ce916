"""OFREP: one flag and all flags of a visitor, the errors that providers read, and answers that did not change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openfeature.evaluation_context import EvaluationContext

from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.openfeature import NinetailedProvider
from ninetailed_wsgi.testing import Answer, Harness, flag
from tests.flags.conftest import FLAGS, PRO

ALL = "/ofrep/v1/evaluate/flags"


def evaluate(harness: Harness, key: str, target: str = "anna", **context: Any) -> dict[str, Any]:
    answer = harness.client.post(f"{ALL}/{key}", {"context": {"targetingKey": target, **context}})
    assert answer.status == 200
    schemas().check("ofrep-flag", answer.document)
    return dict(answer.document)


def evaluate_all(harness: Harness, target: str = "anna", tag: str = "", **context: Any) -> Answer:
    headers = {"If-None-Match": tag} if tag else {}
    return harness.client.post(ALL, {"context": {"targetingKey": target, **context}}, headers=headers)


def seen(experience: str, index: int) -> dict[str, Any]:
    """What a client sends of a variant that was shown: it keeps a sticky assignment."""
    return {
        "type": "component",
        "channel": "web",
        "messageId": "seen",
        "context": {"library": {"name": "tests", "version": "7.26.0"}},
        "componentId": "price",
        "experienceId": experience,
        "variantIndex": index,
    }


def test_a_flag_for_everyone_is_static(ninetailed: Harness) -> None:
    assert evaluate(ninetailed, "banner") == {
        "key": "banner",
        "reason": "STATIC",
        "variant": "everyone:1",
        "value": "sale",
        "metadata": {"experienceId": "everyone", "variantIndex": 1, "sticky": False},
    }


def test_a_flag_of_an_audience_is_a_targeting_match_for_its_members(ninetailed: Harness) -> None:
    ninetailed.visitor("anna").identifies(plan="pro")
    answer = evaluate(ninetailed, "checkout")
    assert (answer["reason"], answer["value"], answer["metadata"]["audienceId"]) == ("TARGETING_MATCH", True, "pro")


def test_a_flag_of_an_experiment_is_a_split(ninetailed: Harness) -> None:
    assert evaluate(ninetailed, "limit")["reason"] == "SPLIT"


def test_a_flag_that_no_experience_gives_the_visitor_has_no_value(ninetailed: Harness) -> None:
    assert evaluate(ninetailed, "checkout") == {"key": "checkout", "reason": "UNKNOWN", "variant": ""}


def test_the_context_lies_over_the_traits_and_is_not_stored(ninetailed: Harness) -> None:
    ninetailed.visitor("anna").identifies(plan="free")
    assert evaluate(ninetailed, "checkout", plan="pro")["value"] is True
    assert ninetailed.client.get("/profiles/anna").document["data"]["profile"]["traits"] == {"plan": "free"}
    assert evaluate(ninetailed, "checkout")["reason"] == "UNKNOWN"


def test_an_unknown_targeting_key_is_a_new_visitor_and_nothing_is_stored(ninetailed: Harness) -> None:
    evaluate(ninetailed, "limit", "nobody")
    assert ninetailed.client.get("/profiles/nobody").status == 404
    assert ninetailed.events == []


def test_an_alias_leads_to_its_profile(ninetailed: Harness) -> None:
    ninetailed.visitor("anna").identifies("anna@example.com", plan="pro")
    assert evaluate(ninetailed, "checkout", "anna@example.com")["value"] is True


def test_of_two_experiences_with_one_key_the_last_in_the_order_of_the_answer_counts(ninetailed: Harness) -> None:
    ninetailed.publish(flag("banner", control="none", variants=["winter"], audience=PRO, id="later"))
    assert evaluate(ninetailed, "banner")["value"] == "sale"
    assert evaluate(ninetailed, "banner", plan="pro")["value"] == "winter"


def test_every_decision_equals_the_change_that_the_api_answers(ninetailed: Harness) -> None:
    for number in range(30):
        visitor = ninetailed.visitor(f"visitor-{number}").views("/")
        changes = {change["key"]: change["value"] for change in visitor.changes}
        flags = evaluate_all(ninetailed, f"visitor-{number}").document["flags"]
        assert {flag["key"]: flag["value"] for flag in flags if "value" in flag} == changes


def test_a_stored_assignment_decides_and_the_metadata_say_so(ninetailed: Harness) -> None:
    ninetailed.publish(flag("price", control=1, variants=[2], distribution=[1, 0], sticky=True, id="price"))
    assert evaluate(ninetailed, "price")["metadata"]["sticky"] is False
    ninetailed.client.post("/profiles/anna", {"events": [seen("price", 1)]})
    answer = evaluate(ninetailed, "price")
    assert (answer["value"], answer["metadata"]["sticky"]) == (2, True)


def test_all_flags_come_sorted_by_key_with_a_tag(ninetailed: Harness) -> None:
    answer = evaluate_all(ninetailed)
    schemas().check("ofrep-flags", answer.document)
    assert [flag["key"] for flag in answer.document["flags"]] == ["banner", "checkout", "layout", "limit", "ratio"]
    assert answer.headers["etag"].startswith('"')


def test_an_answer_that_did_not_change_is_304_until_content_profile_or_context_change(ninetailed: Harness) -> None:
    tag = evaluate_all(ninetailed).headers["etag"]
    unchanged = evaluate_all(ninetailed, tag=tag)
    assert (unchanged.status, unchanged.body, unchanged.headers["etag"]) == (304, b"", tag)
    assert evaluate_all(ninetailed, tag=f'"other", W/{tag}').status == 304
    assert evaluate_all(ninetailed, tag=tag, plan="pro").status == 200
    ninetailed.visitor("anna").identifies(plan="pro")
    assert evaluate_all(ninetailed, tag=tag).status == 200
    tag = evaluate_all(ninetailed).headers["etag"]
    ninetailed.publish(flag("banner", control="none", variants=["spring"], id="everyone"))
    assert evaluate_all(ninetailed, tag=tag).status == 200


def test_at_most_a_hundred_flags_are_answered_and_the_rest_is_counted(ninetailed: Harness) -> None:
    ninetailed.publish(*(flag(f"flag-{number:03}", control=0, variants=[1]) for number in range(120)))
    answer = evaluate_all(ninetailed).document
    assert (len(answer["flags"]), answer["metadata"]) == (100, {"omittedFlags": 25})


REFUSED: list[tuple[object, int, str]] = [
    (b"{", 400, "PARSE_ERROR"),
    (b"", 400, "PARSE_ERROR"),
    ([], 400, "PARSE_ERROR"),
    ("text", 400, "PARSE_ERROR"),
    ({}, 400, "TARGETING_KEY_MISSING"),
    ({"context": None}, 400, "TARGETING_KEY_MISSING"),
    ({"context": {}}, 400, "TARGETING_KEY_MISSING"),
    ({"context": {"targetingKey": ""}}, 400, "TARGETING_KEY_MISSING"),
    ({"context": {"targetingKey": 7}}, 400, "INVALID_CONTEXT"),
    ({"context": {"targetingKey": None}}, 400, "TARGETING_KEY_MISSING"),
    ({"context": []}, 400, "INVALID_CONTEXT"),
    ({"context": {"targetingKey": "anna", "note": "x" * 65_536}}, 400, "INVALID_CONTEXT"),
]


@pytest.mark.parametrize(("body", "status", "code"), REFUSED)
@pytest.mark.parametrize("path", [ALL, f"{ALL}/banner"])
def test_a_request_that_cannot_be_understood_is_refused_in_the_shape_of_the_protocol(
    ninetailed: Harness, path: str, body: object, status: int, code: str
) -> None:
    answer = ninetailed.client.post(path, body)
    assert (answer.status, answer.document["errorCode"]) == (status, code)
    assert answer.document["errorDetails"]
    schemas().check("ofrep-failure", answer.document)
    assert answer.document.get("key") == ("banner" if path.endswith("banner") else None)


def test_a_flag_that_no_content_has_is_404(ninetailed: Harness) -> None:
    answer = ninetailed.client.post(f"{ALL}/nothing", {"context": {"targetingKey": "anna"}})
    assert (answer.status, answer.document["key"], answer.document["errorCode"]) == (404, "nothing", "FLAG_NOT_FOUND")


def test_a_flag_key_may_have_slashes(ninetailed: Harness) -> None:
    ninetailed.publish(flag("shop/banner", control=0, variants=[1]))
    assert evaluate(ninetailed, "shop/banner")["value"] == 1
    assert evaluate(ninetailed, "shop%2Fbanner")["value"] == 1


def test_an_unknown_environment_is_404_and_no_flag(ninetailed: Harness) -> None:
    path = "/v2/organizations/other/environments/main" + ALL
    answer = ninetailed.client.call("POST", path, {"context": {"targetingKey": "anna"}})
    assert (answer.status, answer.document["errorCode"]) == (404, "GENERAL")


def test_a_browser_of_another_site_may_ask_with_a_tag_and_read_the_tag(ninetailed: Harness) -> None:
    preflight = ninetailed.client.call(
        "OPTIONS", ninetailed.client.prefix + ALL, headers={"Origin": "http://localhost"}
    )
    assert "If-None-Match" in preflight.headers["access-control-allow-headers"]
    assert "ETag" in evaluate_all(ninetailed).headers["access-control-expose-headers"]


# Before strangers


@pytest.fixture
def guarded(ninetailed_content: Any) -> Iterator[Harness]:
    with Harness(ninetailed_content, access="guarded", protected_traits="plan") as harness:
        yield harness


def known_to(harness: Harness, target: str, *scopes: str, **context: Any) -> bool:
    """Whether the caller is answered as the visitor whose plan is pro."""
    headers = {"Authorization": f"Bearer {harness.key(*scopes)}"} if scopes else {}
    answer = harness.client.post(f"{ALL}/checkout", {"context": {"targetingKey": target, **context}}, headers=headers)
    assert answer.status == 200
    return answer.document.get("value") is True


@pytest.fixture
def pro(guarded: Harness) -> str:
    """The id of a visitor with a user id, as a trusted server told of them."""
    event = {
        "type": "identify",
        "channel": "server",
        "messageId": "told",
        "context": {"library": {"name": "tests", "version": "1.0.0"}},
        "userId": "anna@example.com",
        "traits": {"plan": "pro"},
    }
    headers = {"Authorization": f"Bearer {guarded.key('events')}"}
    answer = guarded.client.post("/profiles", {"events": [event]}, headers=headers)
    return str(answer.document["data"]["profile"]["id"])


def test_anybody_is_answered_about_a_profile_named_by_its_own_id(guarded: Harness, pro: str) -> None:
    assert known_to(guarded, pro)


@pytest.mark.parametrize("scope", ["events", "read"])
def test_a_key_is_answered_about_a_user_id(guarded: Harness, pro: str, scope: str) -> None:
    assert known_to(guarded, "anna@example.com", scope)


def test_a_user_id_tells_a_stranger_nothing(guarded: Harness, pro: str) -> None:
    assert not known_to(guarded, "anna@example.com")
    asked = [
        guarded.client.post(ALL, {"context": {"targetingKey": name}}).status for name in ("anna@example.com", "nobody")
    ]
    assert asked == [200, 200]


def test_a_stranger_does_not_lay_protected_traits_over_a_profile(guarded: Harness, pro: str) -> None:
    assert not known_to(guarded, "nobody", plan="pro")
    assert known_to(guarded, "nobody", "events", plan="pro")


def test_every_door_takes_the_last_experience_with_a_key_and_gives_a_list_as_a_list(ninetailed: Harness) -> None:
    ninetailed.publish(
        flag("sizes", control=[1], variants=[[2, 3]], id="a-first"),
        flag("sizes", control=[1], variants=[[4]], id="b-last"),
    )
    assert ninetailed.visitor("anna").views("/").flag("sizes") == [4]
    assert evaluate(ninetailed, "sizes")["value"] == [4]


@pytest.mark.parametrize(
    ("more", "value"),
    [
        ([], "default"),
        ([flag("theme", control="light", variants=["dark"], id="a-first")], "dark"),
        ([flag("theme", control="light", variants=["dark"], id="c-last")], "dark"),
    ],
)
def test_a_value_that_is_null_sets_nothing_through_any_door(ninetailed: Harness, more: list[Any], value: str) -> None:
    ninetailed.publish(*FLAGS, flag("theme", control=None, variants=[None], id="b-null"), *more)
    told = evaluate(ninetailed, "theme")
    assert told.get("value", "default") == value
    assert (told["reason"] == "UNKNOWN") is (value == "default")
    every = evaluate_all(ninetailed).document["flags"]
    assert [each["key"] for each in every] == ["banner", "checkout", "layout", "limit", "ratio", "theme"]
    assert ninetailed.visitor("anna").views("/").flag("theme", "default") == value
    provider = NinetailedProvider(ninetailed.service)
    details = provider.resolve_string_details("theme", "default", EvaluationContext("anna"))
    assert (details.value, details.error_code) == (value, None)


def test_a_flag_that_is_null_for_the_control_alone_has_a_value_for_the_others(ninetailed: Harness) -> None:
    ninetailed.publish(flag("theme", control=None, variants=["dark"], distribution=[0.5, 0.5]))
    told = {evaluate(ninetailed, "theme", f"visitor-{number}").get("value") for number in range(40)}
    assert told == {None, "dark"}
