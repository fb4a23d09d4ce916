"""Content that is stored oddly: what can be understood is, what cannot is left out alone, and a person is told."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from falcon import testing

from ninetailed_wsgi import create_app
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.content import Catalog, ContentFolder
from ninetailed_wsgi.content.words import audience_lines
from ninetailed_wsgi.core.audiences import Facts
from ninetailed_wsgi.testing import ContentfulSpace, Harness, audience, experience, trait, viewed

SPACES = Path(__file__).parents[2] / "fixtures" / "spaces"
RULE = {"type": "page", "key": "", "value": "", "operator": "greaterThanInclusive", "count": "1", "conditions": []}


def entry(id: str, kind: str, **fields: Any) -> dict[str, Any]:
    sys = {"id": id, "type": "Entry", "contentType": {"sys": {"id": kind}}, "locale": "en-US"}
    return {"sys": sys, "fields": fields}


def stored(id: str = "odd", **config: Any) -> dict[str, Any]:
    whole = {"traffic": 1, "distribution": [0, 1], **config}
    return entry(id, "nt_experience", nt_experience_id=id, nt_type="nt_personalization", nt_config=whole)


def ruled(rule: dict[str, Any], id: str = "odd") -> dict[str, Any]:
    return entry(id, "nt_audience", nt_audience_id=id, nt_rules={"any": [{"all": [rule]}]})


GOOD = stored("good", components=[{"type": "EntryReplacement", "baseline": {"id": "a"}, "variants": [{"id": "b"}]}])


def served(tmp_path: Path, *entries: dict[str, Any]) -> tuple[Catalog, list[str]]:
    """The catalog, and the problems as they are told, the file left out."""
    path = tmp_path / "content.json"
    path.write_text(json.dumps({"items": [GOOD, *entries]}))
    source = ContentFolder(path)
    source.load()
    told = [f"{one.severity}: {one}".replace(f"{path}: entry ", "") for one in source.problems()]
    return source.catalog("acme", "main"), told


def answer(catalog: Catalog, id: str = "odd") -> dict[str, str]:
    items, _ = catalog.experiences.select("visitor", (), {})
    return dict(next(item["variants"] for item in items if item["experienceId"] == id))


# What can be understood is


REPLACEMENT = {"type": "EntryReplacement", "baseline": {"id": "a"}, "variants": [{"id": "b", "hidden": False}]}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"components": REPLACEMENT}, "odd: odd: nt_config.components: is an object, which is read as a list of one"),
        (
            {"components": [{**REPLACEMENT, "variants": {"id": "b"}}]},
            "odd: odd: nt_config.components[0].variants: is an object, which is read as a list of one",
        ),
    ],
)
def test_a_bare_object_is_a_list_of_one(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    catalog, problems = served(tmp_path, stored(**config))

    assert answer(catalog) == {"a": "b"}
    assert problems == [told]


def test_a_bare_object_of_an_inline_variable_is_a_list_of_one(tmp_path: Path) -> None:
    component = {"type": "InlineVariable", "key": "k", "valueType": "String", "baseline": {"value": "x"}}
    catalog, problems = served(tmp_path, stored(components={**component, "variants": {"value": "y"}}))

    _, changes = catalog.experiences.select("visitor", (), {})
    assert [change["value"] for change in changes] == ["y"]
    assert len(problems) == 2


PRICING = {"key": "context_page_path", "operator": "contains", "value": "/pricing"}


@pytest.mark.parametrize(
    ("rules", "places", "words"),
    [
        ({"any": {"all": [RULE]}}, ["any"], "viewed a page"),
        ({"any": [{"all": RULE}]}, ["any[0].all"], "viewed a page"),
        ({"any": [{"all": [{**RULE, "conditions": {}}]}]}, ["any[0].all[0].conditions"], "viewed a page"),
        (
            {"any": {"all": {**RULE, "conditions": PRICING}}},
            ["any", "any[0].all", "any[0].all[0].conditions"],
            'viewed a page whose path contains "/pricing"',
        ),
    ],
)
def test_a_bare_object_in_rules_is_a_list_of_one(
    tmp_path: Path, rules: dict[str, Any], places: list[str], words: str
) -> None:
    catalog, problems = served(tmp_path, entry("odd", "nt_audience", nt_audience_id="odd", nt_rules=rules))

    assert [one.id for one in catalog.audience_list] == ["odd"]
    assert problems == [f"odd: odd: nt_rules.{place}: is an object, which is read as a list of one" for place in places]
    assert [line.strip() for line in audience_lines(rules)] == [words]


@pytest.mark.parametrize("rules", [None, {}, {"any": []}, {"any": [{"all": []}]}, {"any": {}}, {"all": [{"any": []}]}])
def test_an_audience_without_a_rule_is_noted_and_has_nobody(tmp_path: Path, rules: Any) -> None:
    catalog, problems = served(tmp_path, entry("none", "nt_audience", nt_audience_id="none", nt_rules=rules))

    assert problems[-1] == "note: none: nt_rules: has no rules: nobody belongs to this audience"
    facts = Facts(traits={}, location={}, session_count=1, device="", counts={}, now=2000, next_ordinal=2)
    assert catalog.audiences.matched(facts) == []


def test_true_and_false_in_quotes_are_read(tmp_path: Path) -> None:
    hidden = [{"id": "b", "hidden": "true"}, {"id": "c", "hidden": "false"}]
    component = {**REPLACEMENT, "baseline": {"id": "a", "hidden": "false"}, "variants": hidden}
    catalog, problems = served(tmp_path, stored(components=[component], sticky="true", distribution=[0, 1, 0]))

    assert answer(catalog) == {"a": ""}
    assert [one.id for one in catalog.experience_list if one.sticky] == ["odd"]
    place = "odd: odd: nt_config.components[0]"
    assert sorted(problems) == [
        f"{place}.baseline.hidden: is a text, which is read as false",
        f"{place}.variants[0].hidden: is a text, which is read as true",
        f"{place}.variants[1].hidden: is a text, which is read as false",
        "odd: odd: nt_config.sticky: is a text, which is read as true",
    ]


def test_a_list_of_one_audience_is_this_audience(tmp_path: Path) -> None:
    link = {"sys": {"type": "Link", "linkType": "Entry", "id": "tea"}}
    of_one, of_none, of_two = stored("one"), stored("none"), stored("two")
    of_one["fields"]["nt_audience"], of_none["fields"]["nt_audience"] = [link], []
    of_two["fields"]["nt_audience"] = [link, link]
    catalog, problems = served(tmp_path, ruled(RULE, "tea"), of_one, of_none, of_two)

    assert {one.id: one.audience for one in catalog.experience_list} == {"good": None, "one": "tea", "none": None}
    assert problems == [
        "odd: one: nt_audience: is a list, of which the only link is read",
        "odd: none: nt_audience: is an empty list, which means everyone",
        "left out: two: nt_audience: found 2 links, expected one",
    ]


def test_a_name_that_is_a_number_is_read_as_its_text(tmp_path: Path) -> None:
    named = entry("year", "nt_audience", nt_audience_id=2026, nt_name=2026, nt_rules={"any": [{"all": [RULE]}]})
    catalog, problems = served(tmp_path, named)

    assert [(one.id, one.name) for one in catalog.audience_list] == [("2026", "2026")]
    assert {problem.partition(": ")[0] for problem in problems} == {"odd"}


def test_a_condition_key_with_an_id_alone_is_read(tmp_path: Path) -> None:
    condition = {"key": {"id": "context_page_path"}, "operator": "equal", "value": "/pricing"}
    catalog, problems = served(tmp_path, ruled({**RULE, "conditions": [condition]}))
    counts: dict[str, Any] = {}
    for ordinal, path in enumerate(("/", "/pricing")):
        catalog.audiences.count(counts, ordinal, 1000, {"type": "page", "context": {"page": {"path": path}}})
    facts = Facts(traits={}, location={}, session_count=1, device="", counts=counts, now=2000, next_ordinal=2)

    assert catalog.audiences.matched(facts) == ["odd"]
    assert problems == [
        "odd: odd: nt_rules.any[0].all[0].conditions[0].key: has an id alone, which is read as the key "
        '"context_page_path"'
    ]


def test_entries_without_a_type_that_are_nested_in_links_are_read(tmp_path: Path) -> None:
    nested = stored("nested", components=[REPLACEMENT])
    members = ruled({"type": "identify", "key": "plan", "operator": "equal", "value": "gold"}, "members")
    for one in (nested, members):
        del one["sys"]["type"]
    nested["fields"]["nt_audience"] = members
    page = entry("hero", "page", nt_experiences=[nested])
    del page["sys"]["type"]
    catalog, problems = served(tmp_path, page)

    assert catalog.entry_experiences == {"hero": ("nested",)}
    assert [listed.audience for listed in catalog.experience_list if listed.id == "nested"] == ["members"]
    assert problems == []


def test_a_bare_link_to_one_experience_is_a_list_of_one(tmp_path: Path) -> None:
    link = {"sys": {"type": "Link", "linkType": "Entry", "id": "good"}}
    catalog, problems = served(tmp_path, entry("hero", "page", nt_experiences=link))

    assert catalog.entry_experiences == {"hero": ("good",)}
    assert problems == []


def test_a_link_that_is_none_costs_only_itself(tmp_path: Path) -> None:
    link = {"sys": {"type": "Link", "linkType": "Entry", "id": "good"}}
    catalog, problems = served(tmp_path, entry("hero", "page", nt_experiences=[5, None, link]))

    assert catalog.entry_experiences == {"hero": ("good",)}
    assert [problem.partition(": found")[0] for problem in problems] == [
        "left out: hero: nt_experiences[0]",
        "left out: hero: nt_experiences[1]",
    ]


UNKNOWN_MEMBERS = {
    "of a config": (stored(components=[REPLACEMENT], rollout=0.5), "nt_config.rollout: has no effect, expected one of"),
    "of a component": (
        stored(components=[{**REPLACEMENT, "slot": "x"}]),
        "nt_config.components[0].slot: has no effect, expected one of",
    ),
    "of a rule": (ruled({**RULE, "weight": 5}), "nt_rules.any[0].all[0].weight: has no effect, expected one of"),
}


@pytest.mark.parametrize(("odd", "told"), UNKNOWN_MEMBERS.values(), ids=UNKNOWN_MEMBERS.keys())
def test_an_unknown_member_has_no_effect_and_is_told(tmp_path: Path, odd: dict[str, Any], told: str) -> None:
    catalog, (problem,) = served(tmp_path, odd)

    assert problem.startswith(f"odd: odd: {told}")
    assert {listed.id for listed in (*catalog.audience_list, *catalog.experience_list)} == {"good", "odd"}


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"count": 1}, ["count"]),
        ({"key": None}, ["key"]),
        ({"value": None}, ["value"]),
        ({"count": 2.5, "key": None}, ["count", "key"]),
    ],
)
def test_what_the_hosted_service_was_reported_to_ignore_is_noted(
    tmp_path: Path, rule: dict[str, Any], told: list[str]
) -> None:
    catalog, problems = served(tmp_path, ruled({**RULE, **rule}))

    assert [listed.id for listed in catalog.audience_list] == ["odd"]
    assert [problem.partition(": is")[0] for problem in problems] == [
        f"note: odd: nt_rules.any[0].all[0].{member}" for member in told
    ]


# What cannot be understood is left out alone


LEFT_OUT = {
    "an unknown rule type": ruled({**RULE, "type": "weather"}),
    "an unknown operator": ruled({**RULE, "operator": "soundsLike"}),
    "rules that are none": entry("odd", "nt_audience", nt_rules=5),
    "rules without end": ruled({**RULE, "value": json.loads("[" * 300 + "]" * 300)}),
    "an unknown type of experience": entry("odd", "nt_experience", nt_type="nt_bandit", nt_config={}),
    "a config that is none": entry("odd", "nt_experience", nt_type="nt_experiment", nt_config=[1]),
    "a variant that is none": stored(components=[{**REPLACEMENT, "variants": ["b"]}]),
    "a traffic that is none": stored(traffic="all"),
    "an audience that is no link": entry("odd", "nt_experience", nt_type="nt_experiment", nt_audience="members"),
    "a merge tag without an id": entry("odd", "nt_mergetag", nt_name="x"),
    "fields that are none": {"sys": entry("odd", "nt_audience")["sys"], "fields": 5},
    "no entry at all": {"fields": {"nt_name": "x"}},
    "a number": 5,
    "null": None,
}


@pytest.mark.parametrize("odd", LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_one_entry_never_takes_the_others_down(tmp_path: Path, odd: Any, caplog: pytest.LogCaptureFixture) -> None:
    catalog, problems = served(tmp_path, odd)

    assert answer(catalog, "good") == {"a": "b"}
    assert [listed.id for listed in (*catalog.audience_list, *catalog.experience_list)] == ["good"]
    assert any(problem.startswith("left out: ") for problem in problems)
    assert any("this is left out, everything else is served" in record.getMessage() for record in caplog.records)


def test_half_a_character_in_a_file_costs_nothing_else(tmp_path: Path) -> None:
    catalog, problems = served(tmp_path, entry("cut", "page", title="cut \ud83d"))
    assert (answer(catalog, "good"), problems) == ({"a": "b"}, [])


def test_two_of_one_id_without_end_are_left_out(tmp_path: Path) -> None:
    endless = entry("odd", "nt_audience", nt_rules=json.loads("[" * 900 + "]" * 900))
    catalog, problems = served(tmp_path, endless, json.loads(json.dumps(endless)))
    assert answer(catalog, "good") == {"a": "b"}
    assert any("is nested deeper than 200 levels" in problem for problem in problems)


def test_an_experience_for_an_audience_that_is_left_out_is_shown_to_nobody(tmp_path: Path) -> None:
    odd = ruled({**RULE, "type": "weather"}, "weather")
    rainy = stored("rainy", components=[REPLACEMENT])
    rainy["fields"]["nt_audience"] = {"sys": {"type": "Link", "linkType": "Entry", "id": "weather"}}
    catalog, problems = served(tmp_path, odd, rainy)

    assert [listed.id for listed in catalog.experience_list] == ["good"]
    assert "ignored: rainy: this experience is shown to nobody: its audience weather has errors" in problems


def test_a_component_of_an_unknown_type_is_left_out_of_its_experience(tmp_path: Path) -> None:
    catalog, (problem,) = served(tmp_path, stored(components=[{"type": "Redirect", "to": "/x"}, REPLACEMENT]))

    assert answer(catalog) == {"a": "b"}
    assert problem.startswith('left out: odd: nt_config.components[0].type: found "Redirect"')
    assert problem.endswith(": only this component is not served")


def test_what_is_left_out_is_logged_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    path = tmp_path / "content.json"
    path.write_text(json.dumps({"items": [GOOD, LEFT_OUT["an unknown rule type"]]}))
    source = ContentFolder(path, wall_clock=lambda: 0.0)
    source.load()
    path.write_text(json.dumps({"items": [GOOD, LEFT_OUT["an unknown rule type"], stored("next")]}))
    source.look()

    assert [listed.id for listed in source.catalog("a", "b").experience_list] == ["good", "next"]
    assert len([record for record in caplog.records if "is left out" in record.getMessage()]) == 1
    assert (source.state().errors, source.state().left_out) == (0, 1)


def test_metrics_count_what_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    path.write_text(json.dumps({"items": [GOOD, LEFT_OUT["an unknown operator"], LEFT_OUT["a config that is none"]]}))
    app = create_app(content=path, data_dir=tmp_path / "data", metrics=True, access="open")
    text = testing.TestClient(app, headers={"Host": "localhost"}).simulate_get("/metrics").text

    assert "ninetailed_content_left_out 2.0" in text
    assert "ninetailed_content_errors 0.0" in text


# check


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["check", *arguments])
    out, err = capsys.readouterr()
    assert err == "", "the report says it already"
    return status, out


@pytest.mark.parametrize("name", ["shop.json", "shop-delivery.json", "shop-generic.json"])
def test_check_and_check_strict_accept_the_sound_spaces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for strict in ([], ["--strict"]):
        status, text = checked(capsys, *strict, "--content", str(SPACES / name), "--data-dir", str(tmp_path / "d"))
        assert status == 0
        assert "left out: " not in text
        assert "odd: " not in text


def test_check_serves_a_space_of_mistakes_and_strict_refuses_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--content", str(SPACES / "mistakes.json"), "--data-dir", str(tmp_path / "d"))
    status, text = checked(capsys, *arguments)
    assert status == 0
    assert "warn  content" in text
    assert 'entry unknown-operator: nt_rules.any[0].all[1].operator: found "equls"' in text

    status, text = checked(capsys, "--strict", *arguments)
    assert status == 1
    assert "fail  content" in text


@pytest.mark.parametrize("odd", [stored(components=REPLACEMENT), UNKNOWN_MEMBERS["of a rule"][0], LEFT_OUT["a number"]])
def test_check_strict_fails_on_each_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str], odd: Any) -> None:
    path = tmp_path / "content.json"
    path.write_text(json.dumps({"items": [GOOD, odd]}))
    arguments = ("--content", str(path), "--data-dir", str(tmp_path / "d"))

    assert checked(capsys, *arguments)[0] == 0
    assert checked(capsys, "--strict", *arguments)[0] == 1


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"5", b'{"a": 1}', b'{"entries": 5}', b'{"items": {}}', b'{"audiences": 5}']
)
def test_a_file_that_is_no_content_is_still_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], raw: bytes
) -> None:
    path = tmp_path / "content.json"
    path.write_bytes(raw)
    status, text = checked(capsys, "--content", str(path), "--data-dir", str(tmp_path / "d"))

    assert status == 1
    assert "cannot be served, it has errors" in text


def test_check_lists_what_was_read_of_a_space_and_names_its_broken_experience(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ContentfulSpace(
        [
            experience("hero", ["hero-b"], id="sound", audience=audience(viewed("/x"), id="readers")),
            stored("broken", traffic=7),
        ]
    ) as space:
        monkeypatch.setenv("NINETAILED_CONTENTFUL_TOKEN", space.token)
        arguments = ("--content", space.address, "--contentful-url", space.url, "--data-dir", str(tmp_path / "d"))
        status, text = checked(capsys, *arguments)

    assert status == 0
    assert "  audience readers: readers" in text
    assert "  experience sound: sound, personalization for audience readers" in text
    assert "left out: contentful://space1/master: entry broken: nt_config.traffic: found 7" in text
    assert not (tmp_path / "d").exists(), "a check writes nothing"


# Where whoever wrote the content is there to mend it, nothing is left out


def test_a_harness_refuses_what_it_does_not_understand() -> None:
    with Harness() as harness, pytest.raises(Exception, match="found 7, expected a number from 0 to 1"):
        harness.publish(experience("hero", ["hero-b"], traffic=7))


def test_a_harness_takes_what_is_sound() -> None:
    with Harness() as harness:
        harness.publish(audience(trait("plan"), id="planned"))
