"""What a trusted caller gets with the member ``preview``, and the entries that preview panels list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.testing import Harness, Refused, audience, experience, flag, trait, viewed

SHOP = Path(__file__).parents[2] / "fixtures" / "spaces" / "shop.json"
MEMBERS = audience(trait("plan", "member"), id="members")
REGULARS = audience(viewed("/pricing", at_least=2, within_days=7), id="regulars")
CONTENT = [
    experience("hero", ["hero-member"], id="hero-members", audience=MEMBERS),
    experience("banner", ["banner-regular"], id="banner-regulars", audience=REGULARS),
    experience("offer", ["offer-b", "offer-c"], id="offer-test", distribution=[0, 0, 1], sticky=True),
    flag("limit", control=50, variants=[30], id="limit-members", audience=MEMBERS),
]
PAGE: dict[str, Any] = {
    "type": "page",
    "channel": "web",
    "messageId": "previewed",
    "context": {"library": {"name": "tests", "version": "4.0.0"}},
    "properties": {"path": "/", "query": {}, "referrer": "", "search": "", "url": "https://shop.example/"},
}


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness(CONTENT) as made:
        yield made


def previewed(harness: Harness, preview: dict[str, Any], name: str = "", **headers: str) -> dict[str, Any]:
    body = {"events": [PAGE], "preview": preview}
    answer = harness.client.post(f"/profiles/{name}" if name else "/profiles", body, headers=headers)
    if answer.status != 200:
        raise Refused(answer)
    data: dict[str, Any] = answer.document["data"]
    return data


def shown(data: dict[str, Any]) -> dict[str, int]:
    return {each["experienceId"]: each["variantIndex"] for each in data["experiences"]}


def test_an_audience_forced_on_gives_the_variant_that_the_visitors_hash_gives(harness: Harness) -> None:
    natural = previewed(harness, {}, "anna")
    forced = previewed(harness, {"audiences": {"members": True}}, "anna")
    assert "hero-members" not in shown(natural)
    identified = harness.visitor("other").identifies(plan="member")
    index = harness.service.content(*harness.environment).experiences.experiences[1].allocated("anna")
    assert identified.audiences == forced["profile"]["audiences"] == ["members"]
    assert shown(forced)["hero-members"] == index
    assert forced["changes"][0]["key"] == "limit"


def test_an_audience_forced_off_takes_the_visitor_out(harness: Harness) -> None:
    anna = harness.visitor("anna").identifies(plan="member")
    assert anna.audiences == ["members"]
    assert previewed(harness, {"audiences": {"members": False}}, "anna")["profile"]["audiences"] == []


def test_an_experience_forced_to_an_index_wins_over_audience_distribution_and_assignment(harness: Harness) -> None:
    harness.visitor("anna").views("/").sees("offer-test")
    data = previewed(harness, {"experiences": {"hero-members": 1, "offer-test": 1, "banner-regulars": 0}}, "anna")
    assert shown(data)["hero-members"] == 1
    assert shown(data)["offer-test"] == 1
    assert shown(data)["banner-regulars"] == 0
    assert data["profile"]["audiences"] == []


def test_traits_and_location_lie_over_those_of_the_profile(harness: Harness) -> None:
    harness.visitor("anna").identifies(plan="free", name="Anna")
    preview = {"traits": {"plan": "member"}, "location": {"city": "Wien", "countryCode": "AT", "country": ""}}
    profile = previewed(harness, preview, "anna")["profile"]
    assert profile["traits"] == {"plan": "member", "name": "Anna"}
    assert profile["location"] == {"city": "Wien", "countryCode": "AT"}
    assert profile["audiences"] == ["members"]


def test_a_time_moves_windows_of_days_and_sessions(harness: Harness) -> None:
    harness.visitor("anna").views("/pricing").views("/pricing")
    assert previewed(harness, {}, "anna")["profile"]["audiences"] == ["regulars"]
    later = harness.clock.now.timestamp() * 1000 + 8 * 86_400_000
    profile = previewed(harness, {"at": later}, "anna")["profile"]
    assert profile["audiences"] == []
    assert profile["session"]["count"] == 2


@pytest.mark.parametrize("at", ["2026-01-31", "2026-01-31T12:00:00+01:00", 1_769_860_800_000, "", None])
def test_a_time_may_be_iso_text_milliseconds_or_nothing(harness: Harness, at: object) -> None:
    assert previewed(harness, {"at": at})["profile"]["session"]["count"] == 1


def test_nothing_of_a_preview_is_stored(harness: Harness) -> None:
    data = previewed(harness, {"traits": {"plan": "member"}})
    assert harness.events == []
    assert harness.client.get(f"/profiles/{data['profile']['id']}").status == 404
    anna = harness.visitor("anna").views("/")
    before = harness.service.record(harness.environment, "anna", events=True)
    previewed(harness, {"traits": {"plan": "member"}, "at": "2030-01-01"}, "anna")
    assert harness.service.record(harness.environment, "anna", events=True) == before
    assert anna.profile["traits"] == {}


@pytest.mark.parametrize(
    ("preview", "told"),
    [
        ({"audiences": {"nobody": True}}, 'preview.audiences: found "nobody", expected the id of a published audience'),
        ({"experiences": {"hero": 1}}, 'preview.experiences: found "hero", expected the id of a published experience'),
        ({"experiences": {"hero-members": 9}}, "preview.experiences.hero-members: found 9, expected 0 to 1"),
        ({"experiences": {"hero-members": 0.5}}, "found 0.5, expected the index of a variant"),
        ({"experiences": {"hero-members": -1}}, "found -1, expected the index of a variant"),
        ({"experiences": {"hero-members": True}}, "found true, expected the index of a variant"),
        ({"audiences": {"members": "on"}}, 'preview.audiences.members: found "on", expected true or false'),
        ({"audience": {}}, "preview.audience: no such member, expected one of audiences, experiences"),
        ({"at": "tomorrow"}, 'preview.at: found "tomorrow", expected an ISO 8601 time'),
        ({"at": 5}, "preview.at: found 5, expected an ISO 8601 time"),
        ({"content": "draft"}, "no draft content is configured; set draft_content"),
        ({"content": "live"}, "preview.content"),
        ([], "preview: found an empty list"),
    ],
)
def test_a_preview_that_cannot_be_is_refused_with_what_was_expected(harness: Harness, preview: Any, told: str) -> None:
    answer = harness.client.post("/profiles", {"events": [PAGE], "preview": preview})
    assert answer.status == 400
    assert told in answer.document["message"]


def test_of_strangers_and_keys_without_the_scope_the_member_is_ignored_whatever_it_holds() -> None:
    with Harness(CONTENT, access="guarded") as harness:
        keys = {scope: {"Authorization": f"Bearer {harness.key(scope)}"} for scope in ("events", "read", "admin")}
        for headers in ({}, keys["events"], keys["read"]):
            for preview in ({"experiences": {"hero-members": 1}}, {"no": "sense"}, 5, None):
                body = {"events": [{**PAGE, "messageId": str((headers, preview))}], "preview": preview}
                answer = harness.client.post("/profiles", body, headers=headers)
                assert answer.status == 200
                assert "hero-members" not in shown(answer.document["data"])
        assert len(harness.events) == 12, "these are real requests"
        assert shown(previewed(harness, {"experiences": {"hero-members": 1}}, **keys["admin"]))["hero-members"] == 1


def test_who_may_preview_may_name_a_visitor_by_a_user_id() -> None:
    with Harness(CONTENT, access="guarded") as harness:
        everything, admin = ({"Authorization": f"Bearer {key}"} for key in (harness.key(), harness.key("admin")))
        identify = {**PAGE, "type": "identify", "userId": "anna@example.com", "traits": {"plan": "member"}}
        own = harness.client.post("/profiles", {"events": [identify]}, headers=everything).document["data"]
        data = previewed(harness, {"traits": {"name": "A"}}, "anna@example.com", **admin)
        assert data["profile"]["id"] == own["profile"]["id"]
        assert data["profile"]["audiences"] == ["members"]


def test_draft_content_decides_where_a_preview_asks_for_it(tmp_path: Path) -> None:
    draft = tmp_path / "draft.json"
    draft.write_text(json.dumps({"audiences": [], "experiences": [experience("hero", ["hero-draft"], id="soon")]}))
    with Harness(CONTENT, draft_content=draft) as harness:
        assert shown(previewed(harness, {"content": "draft", "experiences": {"soon": 1}})) == {"soon": 1}
        assert "soon" not in shown(previewed(harness, {}))


def test_a_draft_counts_what_visitors_did_and_changes_no_counts_that_are_stored(tmp_path: Path) -> None:
    draft = tmp_path / "draft.json"
    readers = audience(viewed("/journal", at_least=2), id="readers")
    draft.write_text(json.dumps({"audiences": [readers], "experiences": []}))
    with Harness(CONTENT, draft_content=draft) as harness:
        harness.visitor("anna").views("/journal").views("/journal")
        before = harness.service.store.read(harness.environment.key("anna")).document
        assert previewed(harness, {"content": "draft"}, "anna")["profile"]["audiences"] == ["readers"]
        assert harness.service.store.read(harness.environment.key("anna")).document == before


def test_drafts_of_an_export_count_as_published_in_a_preview() -> None:
    with Harness(SHOP, draft_content=SHOP) as harness:
        entries = [
            {each["fields"]["nt_experience_id"] for each in answer.document["data"]["experiences"]}
            for content in ("published", "draft")
            for answer in [harness.client.get(f"/preview/entries?content={content}")]
        ]
        assert entries[0] < entries[1]


def test_the_entries_have_the_delivery_form_with_links_resolved(harness: Harness) -> None:
    data = harness.client.get("/preview/entries").document["data"]
    audiences = {each["fields"]["nt_audience_id"]: each for each in data["audiences"]}
    assert audiences["members"]["sys"] == {
        "type": "Entry",
        "id": "members",
        "contentType": {"sys": {"type": "Link", "linkType": "ContentType", "id": "nt_audience"}},
    }
    hero = next(each["fields"] for each in data["experiences"] if each["fields"]["nt_experience_id"] == "hero-members")
    assert hero["nt_audience"] == audiences["members"]
    assert hero["nt_variants"] == [{"sys": {"type": "Entry", "id": "hero-member"}, "fields": {}}]


def test_the_entries_are_content_that_decides_the_same(harness: Harness) -> None:
    data = harness.client.get("/preview/entries").document["data"]
    with Harness({"items": [*data["audiences"], *data["experiences"]]}) as other:
        for name in ("anna", "bob", "carl"):
            answers = []
            for each in (harness, other):
                each.visitor(name).identifies(plan="member").views("/pricing").views("/pricing")
                data_of = each.client.get(f"/profiles/{name}").document["data"]
                answers.append((data_of["profile"]["audiences"], data_of["experiences"], data_of["changes"]))
            assert answers[0] == answers[1]


@pytest.mark.parametrize("content", ["secret", ""])
def test_entries_of_unknown_content_are_refused(harness: Harness, content: str) -> None:
    answer = harness.client.get(f"/preview/entries?content={content}")
    told = f'query.content: found "{content}", expected "published" or "draft"'
    assert (answer.status, answer.document["message"]) == (400, told)


def test_the_newest_clients_get_previews_too(harness: Harness) -> None:
    body = {"events": [PAGE], "preview": {"experiences": {"hero-members": 1}}}
    answer = harness.space_client.post("/profiles", body)
    assert shown(answer.document["data"])["hero-members"] == 1
