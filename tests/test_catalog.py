from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.api.validation.schemas import Schemas
from ninetailed_wsgi.content import EMPTY, Catalog, ContentFolder, report
from ninetailed_wsgi.errors import InvalidData, SettingsError

SPACES = Path(__file__).parent.parent / "fixtures" / "spaces"
FORMS = ("shop.json", "shop-delivery.json", "shop-generic.json")
MEMBER_RULES = {"any": [{"all": [{"type": "identify", "key": "plan", "operator": "equal", "value": "member"}]}]}
CONFIG = {"traffic": 1, "distribution": [0, 1], "components": [{"baseline": {"id": "hero"}, "variants": [{"id": "b"}]}]}


def loaded(path: Path, **options: Any) -> Catalog:
    source = ContentFolder(path, **options)
    source.load()
    return source.catalog("acme", "main")


def refused(path: Path, **options: Any) -> list[str]:
    """The lines with which a start is refused."""
    with pytest.raises(SettingsError) as refusal:
        ContentFolder(path, **options).load()
    return list(refusal.value.problems)


def left_out(path: Path, **options: Any) -> list[str]:
    """What is left out of content that is served, one line for each."""
    source = ContentFolder(path, **options)
    source.load()
    return [str(problem) for problem in source.problems() if problem.severity == "left out"]


def space(name: str) -> Any:
    return json.loads((SPACES / name).read_text(encoding="utf-8"))


def written(folder: Path, document: Any, name: str = "content.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def link(id: str) -> dict[str, Any]:
    return {"sys": {"type": "Link", "linkType": "Entry", "id": id}}


def entry(id: str, kind: str, fields: dict[str, Any], **sys: Any) -> dict[str, Any]:
    """An entry as the Delivery API answers it."""
    about = {"id": id, "type": "Entry", "contentType": {"sys": {"id": kind}}, "locale": "en-US", "revision": 1}
    return {"sys": {**about, **sys}, "fields": fields}


def exported(id: str, kind: str, fields: dict[str, Any], **sys: Any) -> dict[str, Any]:
    """An entry as an export holds it, published."""
    about = {"id": id, "type": "Entry", "contentType": {"sys": {"id": kind}}, "version": 2, "publishedVersion": 1}
    return {"sys": {**about, **sys}, "fields": fields}


AUDIENCE = entry("a", "nt_audience", {"nt_name": "Members", "nt_audience_id": "members", "nt_rules": MEMBER_RULES})
EXPERIENCE = entry(
    "e",
    "nt_experience",
    {
        "nt_name": "Hero",
        "nt_experience_id": "hero-test",
        "nt_type": "nt_personalization",
        "nt_audience": link("a"),
        "nt_config": CONFIG,
    },
)
BASELINE = entry("hero", "hero", {"title": "Hello", "nt_experiences": [link("e")]})


def changed(base: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**base, "fields": {**base["fields"], **fields}}


def delivered(*items: Any, included: tuple[Any, ...] = ()) -> dict[str, Any]:
    return {"sys": {"type": "Array"}, "items": list(items), "includes": {"Entry": list(included)}}


def messages(catalog: Catalog, severity: str) -> list[tuple[str, str]]:
    return [(problem.entry, problem.message) for problem in catalog.problems if problem.severity == severity]


# The shop, in each of its forms


@pytest.fixture(scope="module")
def shops() -> list[Catalog]:
    return [loaded(SPACES / name) for name in FORMS]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_the_shop_is_recognised_without_being_named(name: str) -> None:
    shop = loaded(SPACES / name)

    assert len(shop.audience_list) == 11
    assert len(shop.experience_list) == 8
    assert not shop.errors


def test_the_three_forms_of_the_shop_are_the_same_content(shops: list[Catalog]) -> None:
    assert len({shop.version for shop in shops}) == 1
    for shop in shops[1:]:
        assert shop.merge_tags == shops[0].merge_tags
        assert shop.entry_experiences == shops[0].entry_experiences
        for listed in ("audience_list", "experience_list"):
            one, other = ({dataclasses.replace(item, file="") for item in getattr(s, listed)} for s in (shops[0], shop))
            assert one == other


def test_the_three_forms_of_the_shop_decide_alike(shops: list[Catalog]) -> None:
    ids = [audience.id for audience in shops[0].audience_list]
    for number, audiences in enumerate(
        itertools.chain.from_iterable(itertools.combinations(ids, n) for n in (0, 1, 2))
    ):
        decided = [shop.experiences.select(f"visitor-{number}", audiences, {}) for shop in shops]
        assert decided[1:] == decided[:1] * 2


def test_the_shop_has_every_rule_type_and_a_flag_of_each_value_type() -> None:
    def members(value: Any, name: str) -> set[str]:
        if isinstance(value, list):
            return {found for item in value for found in members(item, name)}
        if not isinstance(value, dict):
            return set()
        own = {value[name]} if isinstance(value.get(name), str) else set()
        return own | {found for item in value.values() for found in members(item, name)}

    content = space("shop-generic.json")
    rules = [audience["rules"] for audience in content["audiences"]]

    assert members(rules, "type") >= {"page", "track", "identify", "location", "isReturningVisitor", "device"}
    assert {"days", "session_count"} <= {key for rule in rules for key in members(rule, "key")}
    assert members(content["experiences"], "valueType") == {"String", "Number", "Boolean", "Object"}
    assert members(content["experiences"], "type") >= {"nt_experiment", "nt_personalization"}
    assert any(experience["config"].get("sticky") for experience in content["experiences"])
    assert '"hidden": true' in json.dumps(content)


def test_experiences_of_an_entry_keep_the_order_in_which_the_author_listed_them() -> None:
    assert loaded(SPACES / "shop.json").entry_experiences == {
        "hero": ("pricing-offer", "hero-test"),
        "banner": ("quiet-spenders", "pricing-offer", "newsletter-test"),
        "greeting": ("member-greeting", "phone-theme"),
    }


def test_a_draft_is_not_served_and_check_says_so() -> None:
    shop = loaded(SPACES / "shop.json")

    assert "winter-banner" not in {experience.id for experience in shop.experience_list}
    assert messages(shop, "ignored") == [
        ("5eWinter", "this experience is not published"),
        ("banner", "nt_experiences[3]: the experience 5eWinter is not published"),
    ]


def test_a_catalogue_cannot_be_changed() -> None:
    shop = loaded(SPACES / "shop.json")

    with pytest.raises(TypeError):
        shop.merge_tags["new"] = None  # type: ignore[index]
    with pytest.raises(TypeError):
        shop.entry_experiences["new"] = ()  # type: ignore[index]
    with pytest.raises(AttributeError):
        shop.version = "other"  # type: ignore[misc]


def test_the_version_follows_the_content_and_not_its_order(tmp_path: Path) -> None:
    content = space("shop-generic.json")
    turned = {member: items[::-1] for member, items in content.items()}
    renamed = copy.deepcopy(content)
    renamed["experiences"][0]["config"]["traffic"] = 0.5

    version = loaded(SPACES / "shop-generic.json").version

    assert loaded(written(tmp_path, turned)).version == version
    assert loaded(written(tmp_path, renamed)).version != version


# Mistakes

MISTAKES = {
    "unknown-operator": ("left out", 'nt_rules.any[0].all[1].operator: found "equls", expected one of equal, '),
    "unknown-rule-type": ("left out", 'nt_rules.any[0].all[0].type: found "weather", expected one of page, track, '),
    "unknown-condition-key": ("left out", 'nt_rules.any[0].all[0].conditions[0].key.key: found "context_page_col'),
    "unknown-location-key": ("left out", 'nt_rules.any[0].all[0].key: found "planet", expected one of continent, '),
    "count-no-number": ("left out", 'nt_rules.any[0].all[0].count: found "often", expected a number'),
    "days-no-number": (
        "left out",
        'nt_rules.any[0].all[0].conditions[0].value: found "a week", expected a number of days',
    ),
    "bad-pattern": ("left out", 'nt_rules.any[0].all[0].value: found "(unclosed", expected a regular expression'),
    "rules-no-groups": ("left out", "nt_rules.type: found nothing, expected one of page, track, "),
    "rules-a-text": ("left out", 'nt_rules: found "{\\"any\\": []}", expected an object'),
    "rules-missing": ("note", "nt_rules: has no rules: nobody belongs to this audience"),
    "audience-id-a-number": ("odd", "nt_audience_id: is a number, which is read as a text"),
    "audience-name-a-list": ("left out", "nt_name: found a list, expected a text"),
    "audience-id-taken": ("left out", 'has the id "public-good-audience" of entry good-audience in '),
    "audience-two-mistakes": ("left out", 'nt_rules.any[0].all[0].operator: found "sometimes"'),
    "audience-without-id": ("note", "nt_audience_id is missing: the entry's own id is used instead"),
    "audience-draft": ("ignored", "this audience is not published"),
    "audience-archived": ("ignored", "this audience is archived"),
    "audience-changed": ("note", "was changed after it was published"),
    "traffic-over-one": ("left out", "nt_config.traffic: found 2, expected a number from 0 to 1"),
    "traffic-a-text": ("left out", 'nt_config.traffic: found "all", expected a number from 0 to 1'),
    "distribution-a-number": ("left out", "nt_config.distribution: found 0.5, expected a list"),
    "distribution-negative": ("left out", "nt_config.distribution[0]: found -0.5, expected a share"),
    "sticky-a-text": ("left out", 'nt_config.sticky: found "yes", expected true or false'),
    "config-a-list": ("left out", "nt_config: found a list, expected an object"),
    "component-unknown-type": ("left out", 'nt_config.components[0].type: found "Redirect", expected one of '),
    "component-without-baseline": ("left out", "nt_config.components[0].baseline: found nothing, expected an object"),
    "variant-id-a-number": ("left out", "nt_config.components[0].variants[0].id: found 5, expected the id of an entry"),
    "flag-without-key": ("left out", "nt_config.components[0].key: found nothing, expected the name of a variable"),
    "flag-unknown-value-type": ("left out", 'nt_config.components[0].valueType: found "Colour", expected one of'),
    "type-unknown": ("left out", 'nt_type: found "nt_redirect", expected one of nt_experiment, nt_personalization'),
    "type-missing": ("left out", "nt_type: found nothing, expected one of nt_experiment, nt_personalization"),
    "experience-id-taken": ("left out", 'has the id "public-good-experience" of entry good-experience in '),
    "audience-no-link": ("left out", "nt_audience: found an object without sys.id, expected a link"),
    "audience-missing": ("ignored", "this experience is shown to nobody: its audience never-there is not there"),
    "audience-not-published": (
        "ignored",
        "this experience is shown to nobody: its audience audience-draft is not published",
    ),
    "audience-faulty": ("ignored", "this experience is shown to nobody: its audience unknown-operator has errors"),
    "audience-of-another-kind": (
        "ignored",
        "this experience is shown to nobody: its audience good-experience is not there",
    ),
    "experience-not-by-locale": ("left out", 'nt_name: found "Hero test", expected values by locale such as '),
    "experience-draft": ("ignored", "this experience is not published"),
    "merge-tag-without-id": ("left out", "nt_mergetag_id: found nothing, expected a path into the profile"),
    "merge-tag-id-taken": ("left out", 'has the id "traits_firstname" of entry good-merge-tag in '),
    "merge-tag-fallback-a-number": ("odd", "nt_fallback: is a number, which is read as a text"),
    "entry-experiences-a-text": ("left out", 'nt_experiences: found "good-experience", expected a list of links'),
    "entry-experiences-no-links": (
        "left out",
        'nt_experiences[0]: found "good-experience" without sys.id, expected a link',
    ),
    "entry-of-unknown-experience": ("ignored", "nt_experiences[0]: the experience never-there is not there"),
    "entry-of-draft-experience": ("ignored", "nt_experiences[0]: the experience experience-draft is not published"),
    "entry-draft": ("ignored", "this baseline is not published"),
    "fields-a-list": ("left out", "fields: found a list, expected an object"),
    "there-twice": ("left out", "exists twice with different content, also in "),
}
SOUND = {"good-audience", "good-experience", "good-merge-tag"}


def test_every_mistake_in_a_space_is_reported_in_one_run_with_its_entry() -> None:
    source = ContentFolder(SPACES / "mistakes.json")
    source.load()
    problems = source.problems()

    assert {one["sys"]["id"] for one in space("mistakes.json")["entries"]} == MISTAKES.keys() | SOUND
    assert {problem.entry for problem in problems} == MISTAKES.keys()
    for id, (severity, start) in MISTAKES.items():
        assert any(
            problem.severity == severity and problem.message.startswith(start)
            for problem in problems
            if problem.entry == id
        ), id
    assert all(problem.file.endswith("mistakes.json") for problem in problems)
    assert source.state().left_out == sum(problem.severity == "left out" for problem in problems)


def test_all_mistakes_of_one_entry_are_reported_at_once() -> None:
    lines = [line for line in left_out(SPACES / "mistakes.json") if "audience-two-mistakes" in line]

    assert len(lines) == 2
    assert "all[1].conditions[0].operator" in lines[1]


@pytest.mark.parametrize("audience", ["never-there", "e"])
def test_an_experience_whose_audience_is_not_there_is_shown_to_nobody(tmp_path: Path, audience: str) -> None:
    experience = changed(EXPERIENCE, nt_audience=link(audience))
    catalog = loaded(written(tmp_path, delivered(experience, BASELINE)))

    assert catalog.experiences.select("visitor", (), {}) == ([], [])
    assert catalog.entry_experiences == {}
    assert [entry for entry, _ in messages(catalog, "ignored")] == ["e", "hero"]
    assert messages(catalog, "ignored")[1][1] == "nt_experiences[0]: the experience e is ignored, as its audience is"


# Contentful


def test_an_experience_without_audience_config_and_description_is_for_everyone_and_for_no_share(tmp_path: Path) -> None:
    experience = changed(EXPERIENCE, nt_audience=None, nt_config=None, nt_description=None)
    catalog = loaded(written(tmp_path, delivered(experience)))

    (listed,) = catalog.experience_list
    assert (listed.audience, listed.traffic, listed.distribution) == (None, 0, (0.5, 0.5))
    (note,) = messages(catalog, "note")
    assert note[1] == "nt_config.traffic: is missing, which means 0: nobody gets this experience"


def test_links_that_are_resolved_in_place_mean_the_same_as_links(tmp_path: Path) -> None:
    variant = entry("b", "hero", {"title": "Hello", "nt_experiences": []})
    whole = changed(EXPERIENCE, nt_audience=AUDIENCE, nt_variants=[variant])
    resolved = loaded(written(tmp_path, delivered(changed(BASELINE, nt_experiences=[whole])), "resolved.json"))
    linked = loaded(written(tmp_path, delivered(BASELINE, EXPERIENCE, included=(AUDIENCE,)), "linked.json"))

    assert resolved.version == linked.version
    assert resolved.entry_experiences == {"hero": ("hero-test",)}
    assert not resolved.problems


def test_a_single_entry_and_a_list_of_entries_are_read_like_an_answer(tmp_path: Path) -> None:
    whole = changed(BASELINE, nt_experiences=[changed(EXPERIENCE, nt_audience=AUDIENCE)])
    single = loaded(written(tmp_path, whole, "single.json"))
    several = loaded(written(tmp_path, [AUDIENCE, EXPERIENCE, BASELINE], "several.json"))

    assert single.version == several.version
    assert len(several.experience_list) == 1


def test_what_looks_like_an_entry_inside_a_flag_is_only_a_value(tmp_path: Path) -> None:
    value = entry("x", "nt_audience", {"nt_rules": "no rules at all"})
    config = {
        "traffic": 1,
        "components": [{"type": "InlineVariable", "key": "k", "valueType": "Object", "baseline": {"value": value}}],
    }
    catalog = loaded(written(tmp_path, delivered(AUDIENCE, changed(EXPERIENCE, nt_config=config))))

    assert not catalog.problems
    assert [audience.id for audience in catalog.audience_list] == ["members"]


def test_drafts_in_an_answer_of_the_management_api_are_ignored(tmp_path: Path) -> None:
    fields = {name: {"en-US": value} for name, value in AUDIENCE["fields"].items()}
    draft = exported("a", "nt_audience", fields, publishedVersion=None)
    catalog = loaded(written(tmp_path, delivered(draft)))

    assert messages(catalog, "ignored") == [("a", "this audience is not published")]
    assert not catalog.audience_list


def test_assets_deleted_entries_and_other_content_types_are_passed_over(tmp_path: Path) -> None:
    asset = {"sys": {"id": "i", "type": "Asset"}, "fields": {"file": {}}}
    deleted = {"sys": {"id": "d", "type": "DeletedEntry"}}
    draft_page = exported("p", "page", {"nt_experiences": {"en-US": []}}, publishedVersion=None)
    catalog = loaded(
        written(tmp_path, delivered(asset, deleted, draft_page, entry("t", "post", {"title": 5}), AUDIENCE))
    )

    assert not catalog.problems
    assert catalog.entry_experiences == {}


def test_an_answer_that_holds_one_page_of_many_is_noted(tmp_path: Path) -> None:
    page = {**delivered(AUDIENCE), "total": 250, "skip": 0, "limit": 100}

    assert messages(loaded(written(tmp_path, page)), "note") == [
        ("", "holds 1 of 250 items: the other pages must be in further files")
    ]


def test_items_that_are_no_entries_are_named_by_their_position(tmp_path: Path) -> None:
    (line,) = left_out(written(tmp_path, delivered(AUDIENCE, {"fields": {}})))

    assert line.endswith("entry number 2: found no sys.id, expected an entry with sys and fields")


# Locales


def tag(**fallbacks: str) -> dict[str, Any]:
    by_locale = {code.replace("_", "-"): text for code, text in fallbacks.items()}
    first = next(iter(by_locale))
    return exported("t", "nt_mergetag", {"nt_mergetag_id": {first: "traits.name"}, "nt_fallback": by_locale})


LOCALES = [
    {"code": "en-US", "default": False, "fallbackCode": "de"},
    {"code": "de", "default": True, "fallbackCode": None},
    {"code": "de-AT", "default": False, "fallbackCode": "de"},
    {"code": "de-CH", "default": False, "fallbackCode": "de-AT"},
]


@pytest.mark.parametrize(
    ("fallbacks", "locales", "wanted", "served"),
    [
        ({"de": "du", "en_US": "you"}, LOCALES, None, "du"),
        ({"de": "du", "en_US": "you"}, LOCALES, "en-US", "you"),
        ({"de": "du", "en_US": "you"}, LOCALES, "de-CH", "du"),
        ({"de": "du", "de_AT": "servus"}, LOCALES, "de-CH", "servus"),
        ({"fr": "toi", "en_US": "you"}, None, None, "you"),
        ({"fr": "toi"}, None, None, "toi"),
        ({"fr": "toi", "it": "tu"}, None, "it", "tu"),
    ],
)
def test_a_field_is_read_in_the_wanted_locale_its_fallbacks_or_the_default_one(
    tmp_path: Path, fallbacks: dict[str, str], locales: Any, wanted: str | None, served: str
) -> None:
    one = tag(**fallbacks)
    one["fields"]["nt_mergetag_id"] = dict.fromkeys(one["fields"]["nt_fallback"], "traits.name")
    catalog = loaded(written(tmp_path, {"entries": [one], "locales": locales}), locale=wanted)

    assert catalog.merge_tags["traits.name"].fallback == served


def test_a_member_that_lacks_the_wanted_locale_falls_back_by_itself() -> None:
    shop = loaded(SPACES / "shop.json", locale="de")

    assert shop.merge_tags["traits_firstname"].fallback == "Teefreund"
    assert len(shop.experience_list) == 8
    assert not messages(shop, "note")


def test_a_wanted_locale_that_the_file_does_not_have_is_noted() -> None:
    shop = loaded(SPACES / "shop.json", locale="fr")

    assert messages(shop, "note") == [
        ("", "no entry has a value in the wanted locale fr: those of en-US are served"),
    ]


def test_several_locales_without_a_default_one_are_refused(tmp_path: Path) -> None:
    (line,) = refused(written(tmp_path, {"entries": [tag(fr="toi", it="tu")]}))

    assert line.endswith("found values in the locales fr, it and no default one: set content_locale")


def test_an_answer_for_all_locales_is_read_by_locale(tmp_path: Path) -> None:
    answer = space("shop-delivery.json")
    for item in [*answer["items"], *answer["includes"]["Entry"]]:
        del item["sys"]["locale"]
        item["fields"] = {name: {"en-US": value} for name, value in item["fields"].items()}

    catalog = loaded(written(tmp_path, answer))

    assert catalog.version == loaded(SPACES / "shop-delivery.json").version


# The generic form


def test_a_generic_experience_names_its_audience_plainly_in_an_object_or_whole(tmp_path: Path) -> None:
    audience = {"id": "members", "name": "Members", "rules": MEMBER_RULES}
    experience = {"id": "one", "type": "nt_experiment", "config": CONFIG}
    ways = ["members", {"id": "members"}, {"id": "members", "name": "People"}, audience]
    experiences = [{**experience, "id": f"e{number}", "audience": way} for number, way in enumerate(ways)]

    catalog = loaded(written(tmp_path, {"audiences": [audience], "experiences": experiences}))

    assert [listed.audience for listed in catalog.experience_list] == ["members"] * 4
    assert not catalog.problems


def test_a_bare_list_holds_audiences_and_experiences(tmp_path: Path) -> None:
    content = space("shop-generic.json")
    catalog = loaded(written(tmp_path, [*content["experiences"], *content["audiences"]]))

    assert (len(catalog.audience_list), len(catalog.experience_list)) == (11, 8)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"audiences": {}}, "audiences: found an object, expected a list"),
        ({"audiences": [5]}, "audiences[0]: found 5, expected an object"),
        ({"experiences": [{"name": "x"}]}, "experiences[0].id: found nothing, expected a text that is not empty"),
        ({"mergeTags": [{"id": ""}]}, 'mergeTags[0].id: found "", expected a text that is not empty'),
        ({"experiences": [{"id": "x", "type": "nt_experiment", "audience": {}}]}, "entry x: audience: found an object"),
        ({"experiences": [{"id": "x", "type": "nt_other"}]}, 'entry x: type: found "nt_other", expected one of'),
        ({"experiences": [{"id": "x", "type": "nt_experiment", "config": []}]}, "entry x: config: found a list"),
        (
            {"experiences": [{"id": "x", "trafficAllocation": 1}]},
            "entry x: trafficAllocation: found what the mapper puts",
        ),
        ({"audiences": [{"id": "x", "rules": {"any": 5}}]}, "entry x: rules.any: found 5, expected a list"),
        ({"entries": [{"id": "x", "nt_experiences": "e"}]}, 'entry x: nt_experiences: found "e", expected a list'),
        ({"entries": [{"id": "x", "nt_experiences": [{}]}]}, "entry x: nt_experiences[0]: found an object, expected"),
    ],
)
def test_a_mistake_in_the_generic_form_is_named_by_its_place(tmp_path: Path, content: Any, problem: str) -> None:
    path = written(tmp_path, content)
    lines = refused(path) if "expected a list" in problem and "entry" not in problem else left_out(path)

    assert len(lines) == 1
    assert problem in lines[0]


# Several files


def test_files_of_one_environment_are_merged_and_link_to_each_other(tmp_path: Path) -> None:
    written(tmp_path, delivered(AUDIENCE), "acme/main/audiences.json")
    written(tmp_path, delivered(EXPERIENCE, BASELINE, included=(AUDIENCE,)), "acme/main/experiences.json")
    written(tmp_path, {"mergeTags": [{"id": "traits.name"}]}, "acme/main/tags.json")
    source = ContentFolder(tmp_path)
    source.load()

    catalog = source.catalog("acme", "main")

    assert [listed.audience for listed in catalog.experience_list] == ["members"]
    assert list(catalog.merge_tags) == ["traits.name"]
    assert not catalog.problems


def test_an_entry_that_two_files_tell_differently_is_served_as_the_first_one_has_it(tmp_path: Path) -> None:
    written(tmp_path, delivered(AUDIENCE), "one.json")
    written(tmp_path, delivered(changed(AUDIENCE, nt_name="Others")), "two.json")

    (line,) = left_out(tmp_path)

    assert loaded(tmp_path).audience_list[0].name == "Members"
    assert "two.json: entry a: exists twice with different content, also in " in line
    assert line.endswith("one.json")


def test_one_file_serves_every_environment() -> None:
    source = ContentFolder(SPACES / "shop.json")
    source.load()

    assert source.catalog("acme", "main") is source.catalog("other", "development")


def test_a_folder_has_a_file_for_each_environment(tmp_path: Path) -> None:
    written(tmp_path, {"mergeTags": [{"id": "one"}]}, "acme/main.json")
    written(tmp_path, {"mergeTags": [{"id": "two"}]}, "acme/dev.json")
    written(tmp_path, {"mergeTags": [{"id": "three"}]}, "shop/main.json")
    source = ContentFolder(tmp_path)
    source.load()

    served = {name: list(catalog.merge_tags) for name, catalog in source.catalogs().items()}

    assert served == {"*/*": [], "acme/dev": ["two"], "acme/main": ["one"], "shop/main": ["three"]}
    assert list(source.catalog("acme", "main").merge_tags) == ["one"]
    assert source.catalog("acme", "other").version == EMPTY.version


def test_files_at_the_top_of_a_folder_are_for_every_environment(tmp_path: Path) -> None:
    written(tmp_path, {"mergeTags": [{"id": "shared"}]}, "shared.json")
    written(tmp_path, {"mergeTags": [{"id": "also"}]}, "also.json")
    written(tmp_path, {"mergeTags": [{"id": "own"}]}, "acme/main.json")
    source = ContentFolder(tmp_path)
    source.load()

    assert list(source.catalog("any", "other").merge_tags) == ["also", "shared"]
    assert list(source.catalog("acme", "main").merge_tags) == ["also", "shared", "own"]


@pytest.mark.parametrize(
    ("organization", "environment"),
    [
        ("..", "secret"),
        ("acme/../..", "secret"),
        ("acme", "../../secret"),
        ("", "secret"),
        ("acme", "main.json"),
        ("*", "*"),
    ],
)
def test_no_name_in_a_request_leads_out_of_the_folder(tmp_path: Path, organization: str, environment: str) -> None:
    written(tmp_path, {"mergeTags": [{"id": "secret"}]}, "secret.json")
    written(tmp_path, {"mergeTags": [{"id": "own"}]}, "content/acme/main.json")
    source = ContentFolder(tmp_path / "content")
    source.load()

    assert not source.catalog(organization, environment).merge_tags


def test_hidden_and_other_files_of_a_folder_are_passed_over(tmp_path: Path) -> None:
    written(tmp_path, {"mergeTags": [{"id": "own"}]}, "acme/main.json")
    for name in (".main.json.swp", ".hidden.json", "main.json.tmp", "notes.txt"):
        (tmp_path / "acme" / name).write_text("no JSON", encoding="utf-8")
    (tmp_path / ".git").mkdir()
    source = ContentFolder(tmp_path)
    source.load()

    assert list(source.catalogs()) == ["*/*", "acme/main"]


# Files that cannot be used


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "is empty, expected JSON"),
        (b" \n", "is empty, expected JSON"),
        (b'{"entries": [', "is not JSON: "),
        (b'{"traffic": NaN}', "is not JSON: "),
        (b"\xff\xfe{}", "is not JSON: "),
        (b"[" * 5000, "is not JSON: "),
        (b"{}", "is not recognized: found an object, expected a Contentful export (entries)"),
        (
            b'{"contentTypes": [], "locales": []}',
            "is not recognized: found an object with contentTypes, locales, expected",
        ),
        (b'"content"', 'is not recognized: found "content", expected a Contentful export'),
        (b"null", "is not recognized: found nothing, expected"),
        (b'{"entries": {}}', "entries: found an object, expected a list of entries"),
        (b'{"items": 5}', "items: found 5, expected a list of entries"),
    ],
)
def test_a_file_that_cannot_be_used_refuses_the_start_and_is_named(tmp_path: Path, raw: bytes, problem: str) -> None:
    path = tmp_path / "shop.json"
    path.write_bytes(raw)

    (line,) = refused(path)

    assert line.startswith(f"content: {path}: {problem}")


def test_a_path_that_is_not_there_refuses_the_start(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.json") == [
        f"content: {tmp_path / 'none.json'}: cannot be read: No such file or directory"
    ]


def test_a_folder_without_content_refuses_the_start_and_says_what_belongs_there(tmp_path: Path) -> None:
    (line,) = refused(tmp_path)

    assert "contains no content file: expected {organizationId}/{environmentSlug}.json or *.json" in line


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "shop.json"
    path.write_bytes(b"\xef\xbb\xbf" + (SPACES / "shop.json").read_bytes())

    assert len(loaded(path).audience_list) == 11


def test_an_empty_space_is_content_too(tmp_path: Path) -> None:
    assert loaded(written(tmp_path, {"entries": []})).version == EMPTY.version


def test_values_nested_without_end_are_left_out(tmp_path: Path) -> None:
    value: Any = "core"
    for _ in range(300):
        value = {"deeper": value}
    component = {
        "type": "InlineVariable",
        "key": "k",
        "valueType": "Object",
        "baseline": {"value": value},
        "variants": [],
    }
    experience = {"id": "x", "type": "nt_experiment", "config": {"components": [component]}}

    (line,) = left_out(written(tmp_path, {"experiences": [experience]}))

    assert line.endswith("entry x: config: is nested deeper than 200 levels")


def test_without_a_path_every_environment_has_the_empty_catalogue() -> None:
    source = ContentFolder(None)
    source.load()

    catalog = source.catalog("acme", "main")

    assert catalog.version == EMPTY.version
    assert catalog.experiences.select("visitor", (), {}) == ([], [])
    assert not source.problems()


# What `check` shows


def test_check_lists_everything_that_is_served_and_everything_that_is_not() -> None:
    source = ContentFolder(SPACES / "shop.json")
    source.load()
    lines = report(source)

    assert lines[0].startswith("content of every environment (version ")
    assert "  audience members: Members of the tea club" in lines
    member = "  experience member-greeting: Greeting for members, personalization for audience members"
    shares = "0 % baseline / 50 % variant 1 / 50 % variant 2"
    assert f"{member} (Members of the tea club), traffic 100 %, distribution {shares}, sticky" in lines
    everyone = "  experience hero-test: Hero: calm or summer picture, experiment for everyone"
    assert f"{everyone}, traffic 100 %, distribution 50 % baseline / 50 % variant 1" in lines
    assert '  merge tag traits_firstname: First name, otherwise "friend"' in lines
    assert "  entry hero: pricing-offer, hero-test" in lines
    assert lines[-2] == f"ignored: {SPACES / 'shop.json'}: entry 5eWinter: this experience is not published"


def test_check_shows_what_is_sound_beside_the_mistakes() -> None:
    source = ContentFolder(SPACES / "mistakes.json")
    source.load()
    lines = report(source)

    assert "  audience public-good-audience: good-audience" in lines
    assert [line[10:] for line in lines if line.startswith("left out: ")] == left_out(SPACES / "mistakes.json")


def test_check_names_each_environment_of_a_folder(tmp_path: Path) -> None:
    written(tmp_path, {"mergeTags": [{"id": "one"}]}, "acme/main.json")
    written(tmp_path, {"entries": []}, "acme/dev.json")
    source = ContentFolder(tmp_path)
    source.load()

    assert [line.partition(" (version")[0] for line in report(source)] == [
        "content of acme/dev",
        "  no audience, experience or merge tag",
        "content of acme/main",
        "  merge tag one: one",
    ]


# The schemas of content


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas()


def test_the_shop_is_valid_against_the_content_schemas(schemas: Schemas) -> None:
    schemas.check("content", space("shop-generic.json"))
    for one in space("shop.json")["entries"]:
        if "nt_rules" in one["fields"]:
            schemas.check("audience-rules", one["fields"]["nt_rules"]["en-US"])
        if "nt_config" in one["fields"]:
            schemas.check("experience-config", one["fields"]["nt_config"]["en-US"])


@pytest.mark.parametrize(("member", "name"), [("nt_rules", "audience-rules"), ("nt_config", "experience-config")])
def test_the_content_schemas_refuse_what_loading_refuses(schemas: Schemas, member: str, name: str) -> None:
    wrong = {id for id, (severity, text) in MISTAKES.items() if severity == "left out" and text.startswith(member)}
    # Whether a pattern can be run is more than a schema can say.
    wrong -= {"bad-pattern", "component-unknown-type"}  # and a new type is no mistake of an author
    refused_ids = set()
    for one in space("mistakes.json")["entries"]:
        if isinstance(one["fields"], dict) and member in one["fields"]:
            try:
                schemas.check(name, one["fields"][member]["en-US"])
            except InvalidData:
                refused_ids.add(one["sys"]["id"])

    assert wrong
    assert refused_ids == wrong
