"""Content of Contentstack and of GraphQL APIs is read by itself; anything else is refused with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.content import Catalog, ContentFolder
from ninetailed_wsgi.errors import SettingsError

RULE = {"type": "identify", "count": "1", "key": "plan", "operator": "equal", "value": "gold", "conditions": []}
RULES = {"any": [{"all": [RULE]}]}
CONFIG = {
    "distribution": [0, 1],
    "traffic": 1,
    "components": [
        {
            "baseline": {"id": "hero", "contentTypeId": "page"},
            "variants": [{"id": "hero-b", "contentTypeId": "page", "hidden": False}],
        }
    ],
}


def read(tmp_path: Path, *documents: Any) -> tuple[Catalog, list[str]]:
    for number, document in enumerate(documents):
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    source = ContentFolder(tmp_path)
    source.load()
    return source.catalog("acme", "main"), [f"{one.severity}: {one.message}" for one in source.problems()]


def refusal(tmp_path: Path, document: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        read(tmp_path, document)
    return str(refused.value)


def whole(catalog: Catalog) -> tuple[Any, ...]:
    listed = [(one.id, one.name, one.type, one.audience, one.distribution) for one in catalog.experience_list]
    items, _ = catalog.experiences.select("visitor", ["gold-members"], {})
    return (
        [(one.id, one.name) for one in catalog.audience_list],
        listed,
        [item["variants"] for item in items],
        dict(catalog.entry_experiences),
        [(tag.id, tag.fallback) for tag in catalog.merge_tags.values()],
    )


def wanted(experience: str) -> tuple[Any, ...]:
    return (
        [("gold-members", "Gold members")],
        [(experience, "Offer", "nt_personalization", "gold-members", (0.0, 1.0))],
        [{"hero": "hero-b"}],
        {"hero": (experience,)},
        [("traits.firstname", "friend")],
    )


# Contentstack


def stacked(uid: str, **fields: Any) -> dict[str, Any]:
    """An entry as an export of Contentstack's CLI holds it."""
    about = {"uid": uid, "locale": "en-us", "ACL": {}, "_version": 3, "_in_progress": False, "tags": []}
    return {**about, "publish_details": [{"environment": "blt1", "locale": "en-us", "version": 3}], **fields}


AUDIENCE = stacked("blt-a", nt_name="Gold members", nt_rules=RULES, nt_audience_id="gold-members", nt_description="")
OFFER = stacked(
    "blt-e",
    nt_name="Offer",
    nt_type="nt_personalization",
    nt_config=CONFIG,
    nt_audience=[{"uid": "blt-a", "_content_type_uid": "nt_audience"}],
    nt_variants=[{"uid": "hero-b", "_content_type_uid": "page"}],
)
TAG = stacked("blt-t", nt_name="First name", nt_mergetag_id="traits.firstname", nt_fallback="friend")
HERO = stacked("hero", headline="Tea", nt_experiences=[{"uid": "blt-e", "_content_type_uid": "nt_experience"}])


def test_the_files_of_a_contentstack_export_are_read_together(tmp_path: Path) -> None:
    files = [{entry["uid"]: entry} for entry in (AUDIENCE, OFFER, TAG, HERO)]
    catalog, problems = read(tmp_path, *files)

    assert whole(catalog) == wanted("blt-e")
    assert problems == []


def test_an_answer_of_contentstack_is_read_with_references_in_place(tmp_path: Path) -> None:
    whole_hero = {**HERO, "nt_experiences": [{**OFFER, "nt_audience": [AUDIENCE]}]}
    catalog, problems = read(tmp_path, {"entries": [whole_hero, TAG], "count": 2})

    assert whole(catalog) == wanted("blt-e")
    assert problems == []


def test_an_entry_of_contentstack_that_is_not_published_is_ignored(tmp_path: Path) -> None:
    catalog, problems = read(tmp_path, {"blt-a": {**AUDIENCE, "publish_details": []}})

    assert catalog.audience_list == ()
    assert problems == ["ignored: this audience is not published"]


def test_blocks_of_contentstack_are_named_by_their_block_id(tmp_path: Path) -> None:
    component = {"baseline": {"blockId": "b1"}, "variants": [{"blockId": "b2", "hidden": False}, {"blockId": "b3"}]}
    offer = {**OFFER, "nt_audience": [], "nt_config": {**CONFIG, "components": [component]}}
    catalog, _ = read(tmp_path, {"blt-e": offer})

    assert catalog.experiences.select("visitor", [], {})[0][0]["variants"] == {"b1": "b2"}


@pytest.mark.parametrize(
    "odd",
    [
        {"nt_config": 5},
        {"nt_config": {"components": [5]}},
        {"nt_config": {"components": [{"baseline": 5}]}},
        {"nt_audience": 5},
        {"nt_audience": [5]},
        {"nt_type": None},
    ],
)
def test_an_odd_entry_of_contentstack_takes_nothing_else_down(tmp_path: Path, odd: dict[str, Any]) -> None:
    catalog, _ = read(tmp_path, {"blt-a": AUDIENCE}, {"blt-e": OFFER, "odd": {**OFFER, "uid": "odd", **odd}})
    assert "blt-e" in [one.id for one in catalog.experience_list]


# GraphQL of Contentful


def graphql() -> dict[str, Any]:
    """An answer to a query of audiences, experiences, merge tags, and a page that links to its experiences."""
    return {
        "data": {
            "ntAudienceCollection": {
                "items": [
                    {
                        "__typename": "NtAudience",
                        "sys": {"id": "a1"},
                        "ntAudienceId": "gold-members",
                        "ntName": "Gold members",
                        "ntRules": RULES,
                    }
                ]
            },
            "ntExperienceCollection": {
                "items": [
                    {
                        "__typename": "NtExperience",
                        "sys": {"id": "e1"},
                        "ntExperienceId": "offer",
                        "ntName": "Offer",
                        "ntDescription": None,
                        "ntType": "nt_personalization",
                        "ntConfig": CONFIG,
                        "ntAudience": {"ntAudienceId": "gold-members", "ntName": "Gold members"},
                        "ntVariantsCollection": {"items": [{"sys": {"id": "hero-b"}, "title": "Hello"}]},
                    }
                ]
            },
            "ntMergetagCollection": {
                "items": [
                    {"sys": {"id": "t1"}, "ntName": "x", "ntMergetagId": "traits.firstname", "ntFallback": "friend"}
                ]
            },
            "page": {
                "sys": {"id": "p"},
                "sectionsCollection": {
                    "items": [
                        {"sys": {"id": "hero"}, "ntExperiencesCollection": {"items": [{"sys": {"id": "e1"}}, None]}},
                        None,
                    ]
                },
            },
        }
    }


@pytest.mark.parametrize("envelope", [True, False])
def test_an_answer_of_contentfuls_graphql_is_read(tmp_path: Path, envelope: bool) -> None:
    document = graphql() if envelope else graphql()["data"]
    catalog, problems = read(tmp_path, document)

    assert whole(catalog) == wanted("offer")
    assert problems == []


def test_a_query_that_did_not_ask_for_rules_is_told(tmp_path: Path) -> None:
    document = graphql()
    del document["data"]["ntAudienceCollection"]
    catalog, problems = read(tmp_path, document)

    assert catalog.experience_list == ()
    assert any("its audience gold-members is not there" in problem for problem in problems)


def test_an_experience_without_its_public_id_has_that_of_the_entry(tmp_path: Path) -> None:
    document = graphql()
    del document["data"]["ntExperienceCollection"]["items"][0]["ntExperienceId"]
    catalog, _ = read(tmp_path, document)

    assert whole(catalog) == wanted("e1")


def test_an_answer_that_is_an_error_says_so(tmp_path: Path) -> None:
    errors = {"data": None, "errors": [{"message": "Query too complex"}]}
    assert "is an answer of GraphQL without data" in refusal(tmp_path, errors)


def test_an_answer_about_something_else_says_so(tmp_path: Path) -> None:
    text = refusal(tmp_path, {"data": {"pageCollection": {"items": [{"title": "x"}]}}})
    assert "without any field of personalization (ntConfig, ntRules)" in text


# GraphQL of Contentstack


def edges(*nodes: dict[str, Any]) -> dict[str, Any]:
    return {"edges": [{"node": node} for node in nodes]}


def test_an_answer_of_contentstacks_graphql_is_read(tmp_path: Path) -> None:
    members = {
        "system": {"id": "blt-a"},
        "nt_name": "Gold members",
        "nt_audience_id": "gold-members",
        "nt_rules": RULES,
    }
    offer = {
        "system": {"id": "blt-e"},
        "nt_name": "Offer",
        "nt_type": "nt_personalization",
        "nt_config": CONFIG,
        "nt_audienceConnection": edges(members),
        "nt_variantsConnection": edges({"system": {"id": "hero-b"}}),
    }
    tag = {"system": {"uid": "blt-t"}, "nt_mergetag_id": "traits.firstname", "nt_fallback": "friend"}
    hero = {"system": {"id": "hero"}, "title": "x", "nt_experiencesConnection": edges(offer)}
    document = {
        "data": {
            "page": {"system": {"id": "p"}, "sectionsConnection": edges(hero)},
            "all_nt_mergetag": {"items": [tag]},
        }
    }
    catalog, problems = read(tmp_path, document)

    assert whole(catalog) == wanted("blt-e")
    assert problems == []


# Everything else


@pytest.mark.parametrize("document", [{"documents": []}, {"allContentfulNinetailedAudience": 5}, {"a": {"b": 1}}, "x"])
def test_any_other_form_is_refused_with_how_to_convert(tmp_path: Path, document: Any) -> None:
    text = refusal(tmp_path, document)

    assert "the generic form (audiences, experiences), which any other system can write" in text
    page = (Path(__file__).parents[2] / "docs" / "content.md").read_text()
    assert "## Content of other systems" in page


def test_the_generic_form_that_the_page_shows_is_content(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "content.md").read_text()
    shown = page.split("## Content of other systems")[1].split("```json\n")[1].split("```")[0]
    catalog, problems = read(tmp_path, json.loads(shown))

    assert [one.audience for one in catalog.experience_list] == ["readers"]
    assert catalog.entry_experiences == {"hero": ("offer",)}
    assert problems == []
