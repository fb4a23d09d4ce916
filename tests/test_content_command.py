"""The command ``content``: published content in words, in other forms, and as a JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from test_catalog import MISTAKES

from ninetailed_wsgi import Settings
from ninetailed_wsgi.authoring import (
    all_of,
    any_of,
    audience,
    experience,
    fragment_replacement,
    located,
    metric,
    on_device,
    performed,
    returning,
    trait,
    viewed,
)
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.content import Catalog, content_source
from ninetailed_wsgi.content.formats.schema import content_schema
from ninetailed_wsgi.content.words import audience_lines

SPACES = Path(__file__).parent.parent / "fixtures" / "spaces"
SHOP = SPACES / "shop.json"


def served(content: object) -> Catalog:
    source = content_source(Settings(content=content))  # type: ignore[arg-type]  # read by the option
    source.load()
    return source.catalog("acme", "main")


def ran(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = main(["content", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


# In words


def test_the_shop_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = ran(capsys, "show", "--content", SHOP)
    assert status == 0
    for lines in (
        'audience pricing-visitors ("Viewed a pricing page at least twice")\n'
        '    viewed a page whose path contains "/pricing", at least 2 times\n',
        '    did "add_to_cart"\n    and never did "order_completed"\n',
        '    viewed a page whose path starts with "/journal", in the last 7 days\n',
        '    either\n        trait plan is "member"\n        or did "order_completed", at least 3 times\n'
        '    and city is "Vienna"\n',
        'experience newsletter-test ("Three banners for newsletter readers"), an experiment\n'
        '    for audience newsletter-visitors ("Came from the newsletter or a friend"); 80 % of them take part\n'
        "    34 % control, 33 % variant 1, 33 % variant 2\n"
        "    entry banner: control banner, variant 1 banner-letter, variant 2 banner-friend\n",
        "    100 % variant 1\n    entry banner: control banner, variant 1 nothing\n",
        "a variant that was seen stays",
        "    flag guest-checkout: control false, variant 1 true\n",
        'merge tag location_city ("City"): prints what the profile has there, otherwise "your town"\n',
        "entry hero: the first that a visitor gets of pricing-offer, hero-test\n",
    ):
        assert lines in out


RULES = [
    (viewed(), "viewed a page"),
    (performed("buy", exactly=1), 'did "buy", exactly 1 time'),
    (performed("buy", at_most=2), 'did "buy", at most 2 times'),
    (performed("buy", exactly=0), 'never did "buy"'),
    (performed(), "did any event"),
    (trait("age", 18, operator="greaterThan"), "trait age is more than 18"),
    (trait("plan", operator="notEqual"), "trait plan is not there"),
    (trait("plan", operator="notExists"), "trait plan is not there"),
    (located(country_code="DE", operator="notEqual"), 'country code is not "DE"'),
    (returning(False), "is new"),
    (on_device("mobile"), 'device is "mobile"'),
    (trait("note", "a\nb"), 'trait note is "a\\nb"'),
]


@pytest.mark.parametrize(("rule", "words"), RULES, ids=[words for _, words in RULES])
def test_a_rule_is_said_in_words(rule: dict[str, Any], words: str) -> None:
    assert audience_lines(audience(rule)["rules"]) == [f"    {words}"]


def test_groups_in_groups_are_said_without_doubt() -> None:
    rules = all_of(any_of(trait("a", 1), all_of(trait("b", 2), trait("c", 3))), any_of(trait("d", 4), trait("e", 5)))
    assert audience_lines(rules) == [
        "    either",
        '        trait a is "1"',
        "        or all of",
        '            trait b is "2"',
        '            and trait c is "3"',
        "    and either",
        '        trait d is "4"',
        '        or trait e is "5"',
    ]
    assert audience_lines({}) == ["    nobody: it has no rules"]


def test_what_is_lenient_in_files_is_said_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = {"type": "page", "conditions": [{"key": {"key": "days"}, "value": 3}]}
    (tmp_path / "c.json").write_text(json.dumps([{"id": "a", "rules": {"any": [{"all": [rule, {"any": []}]}]}}]))
    assert "    viewed a page, in the last 3 days\n" in ran(capsys, "show", "--content", tmp_path / "c.json")[1]


def test_metrics_and_fragments_are_said_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    orders = metric("order", property="total", direction="decrease", id="orders")
    fragment = experience(None, (), fragment_replacement("top", control="v0", variants=["v1", None]), metric=orders)
    (tmp_path / "c.json").write_text(json.dumps([orders, fragment]))
    out = ran(capsys, "show", "--content", tmp_path / "c.json")[1]
    assert "    fragment top: control v0, variant 1 v1, variant 2 nothing\n    measured by orders\n" in out
    assert 'metric orders: the sum of total of "order"; less is better\n' in out


def test_each_environment_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("main", "staging"):
        (tmp_path / "acme").mkdir(exist_ok=True)
        (tmp_path / "acme" / f"{name}.json").write_text(json.dumps([audience(trait(name), id=f"of-{name}")]))
    _, out, _ = ran(capsys, "show", "--content", tmp_path)
    assert out.index("acme/main:") < out.index("of-main") < out.index("acme/staging:") < out.index("of-staging")
    assert "of-main" not in ran(capsys, "show", "--environment", "acme/staging", "--content", tmp_path)[1]
    assert ran(capsys, "convert", "--to", "generic", "--content", tmp_path)[::2] == (
        2,
        "ninetailed-wsgi content: wrong usage:\n  --environment: name one of acme/main, acme/staging\n",
    )
    assert ran(capsys, "show", "--environment", "acme", "--content", tmp_path)[0] == 2


# Converted


@pytest.mark.parametrize("name", ["shop.json", "shop-delivery.json", "shop-generic.json"])
def test_the_generic_form_compiles_to_the_same(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = ran(capsys, "convert", "--to", "generic", "--content", SPACES / name)
    assert status == 0
    assert served(json.loads(out)).version == served(SHOP).version


def test_an_import_for_contentful_decides_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "import.json"
    status, _, err = ran(capsys, "convert", "--to", "contentful", "--content", SHOP, "--output", file)
    assert status == 0
    assert (
        "note: entry hero: link its experiences in its field nt_experiences, in this order: pricing-offer, her" in err
    )
    converted, original = served(file), served(SHOP)
    assert converted.problems == ()
    assert [one.id for one in converted.audience_list] == [one.id for one in original.audience_list]
    assert [one.id for one in converted.experience_list] == [one.id for one in original.experience_list]
    assert converted.merge_tags == original.merge_tags
    assert [one.item for each in converted.experiences.experiences for one in each.outcomes] == [
        one.item for each in original.experiences.experiences for one in each.outcomes
    ]


def test_an_import_for_contentful_has_what_the_import_asks_for(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(ran(capsys, "convert", "--to", "contentful", "--content", SHOP)[1])
    assert [locale["code"] for locale in document["locales"] if locale["default"]] == ["en-US"]
    for entry in document["entries"]:
        assert entry["sys"]["type"] == "Entry"
        assert entry["sys"]["publishedVersion"], "the import publishes only what has a published version"
        assert entry["sys"]["contentType"]["sys"]["id"].startswith("nt_")
        assert all(field.keys() == {"en-US"} for field in entry["fields"].values())
    links = [
        entry["fields"]["nt_variants"]["en-US"] for entry in document["entries"] if "nt_variants" in entry["fields"]
    ]
    assert links[0] == [{"sys": {"type": "Link", "linkType": "Entry", "id": "hero-summer"}}]


def test_rules_are_converted_as_the_authoring_tool_stores_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rule = {
        "type": "track",
        "value": "buy",
        "count": 2,
        "key": None,
        "conditions": [{"key": {"key": "properties", "value": "total"}, "operator": "greaterThan", "value": 100}],
    }
    (tmp_path / "c.json").write_text(json.dumps([{"id": "a", "rules": {"any": [{"all": [rule]}]}}]))
    out = json.loads(ran(capsys, "convert", "--to", "generic", "--content", tmp_path / "c.json")[1])
    stored = out["audiences"][0]["rules"]["any"][0]["all"][0]
    assert (stored["count"], stored["key"], stored["operator"]) == ("2", "", "greaterThanInclusive")
    condition = stored["conditions"][0]
    assert condition["value"] == "100"
    assert condition["key"] | {} == {
        "id": "properties",
        "key": "properties",
        "value": "total",
        "label": "Property",
        "useOnce": False,
        "category": {"name": "property", "type": "string", "label": "Property"},
    }


def test_ids_that_contentful_does_not_take_become_ones_that_it_does(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    odd = experience("hero", ["b"], audience=audience(trait("a"), id="Käufer / alle"), id="x" * 80)
    (tmp_path / "c.json").write_text(json.dumps([odd]))
    document = json.loads(ran(capsys, "convert", "--to", "contentful", "--content", tmp_path / "c.json")[1])
    ids = [entry["sys"]["id"] for entry in document["entries"]]
    assert all(
        len(id) <= 64 and set(id) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        for id in ids
    )
    catalog = served(document)
    assert [(one.id, one.audience) for one in catalog.experience_list] == [("x" * 80, "Käufer / alle")]


def test_content_with_mistakes_is_shown_with_them_and_not_converted(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = ran(capsys, "show", "--content", SPACES / "mistakes.json")
    assert status == 0
    assert "audience public-good-audience" in out
    assert "left out: " in err
    status, out, err = ran(capsys, "convert", "--to", "generic", "--content", SPACES / "mistakes.json")
    assert (status, out) == (1, "")
    assert "entry unknown-operator: nt_rules" in err
    assert "nothing is written, as a part of the content would be missing" in err


def test_a_file_that_is_no_content_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.json").write_text('"text"')
    for action in (["show"], ["convert", "--to", "generic"]):
        assert ran(capsys, *action, "--content", tmp_path / "c.json")[0] != 0


def test_content_must_be_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NINETAILED_CONTENT", raising=False)
    assert ran(capsys, "show")[::2] == (
        2,
        "ninetailed-wsgi content: wrong usage:\n  content: name the content with --content\n",
    )


# The schema


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    document = json.loads(json.dumps(content_schema()))
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


def test_the_schema_is_printed_and_needs_no_other_file(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = ran(capsys, "schema")
    assert status == 0
    assert set(json.loads(out)["$defs"]) >= {"audience-rules", "experience-config", "content"}
    assert '"$ref": "#/$defs/' in out
    assert out.count('"$ref": "') == out.count('"$ref": "#/$defs/')


@pytest.mark.parametrize("name", ["shop.json", "shop-delivery.json", "shop-generic.json"])
def test_the_schema_accepts_sound_files(name: str, schema: Draft202012Validator) -> None:
    assert [error.message for error in schema.iter_errors(json.loads((SPACES / name).read_bytes()))] == []


def test_the_schema_accepts_what_conversions_write(
    schema: Draft202012Validator, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("generic", "contentful"):
        document = json.loads(ran(capsys, "convert", "--to", form, "--content", SHOP)[1])
        assert [error.message for error in schema.iter_errors(document)] == []
    items = [
        one
        for name in ("audiences", "experiences")
        for one in json.loads((SPACES / "shop-generic.json").read_bytes())[name]
    ]
    assert schema.is_valid(items)


def test_a_file_may_name_the_schema(tmp_path: Path, schema: Draft202012Validator) -> None:
    document = {"$schema": "content.schema.json", "audiences": [audience(trait("plan"), id="planned")]}
    (tmp_path / "c.json").write_text(json.dumps(document))
    assert [one.id for one in served(tmp_path / "c.json").audience_list] == ["planned"]
    assert schema.is_valid(document)


def test_the_schema_refuses_each_mistake(schema: Draft202012Validator) -> None:
    entries = json.loads((SPACES / "mistakes.json").read_bytes())["entries"]
    refused = {entry["sys"]["id"] for entry in entries if not schema.is_valid({"entries": [entry]})}
    wrong = {id for id, (severity, _) in MISTAKES.items() if severity in ("error", "left out", "odd")}
    # What only shows beside other entries, and whether a pattern can be run, is more than a schema can say. A component
    # of an unknown type may be one of a newer tool.
    more = {id for id in wrong if id.endswith("-taken")} | {"there-twice", "bad-pattern", "component-unknown-type"}
    assert refused == wrong - more


@pytest.mark.parametrize(
    "document",
    [
        {},
        "text",
        5,
        None,
        {"entries": 5},
        {"audiences": [{}]},
        [{"rules": {"some": []}, "id": "a"}],
        [{"id": "x", "type": "odd"}],
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_no_content(schema: Draft202012Validator, document: object) -> None:
    assert not schema.is_valid(document)
