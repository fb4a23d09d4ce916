"""The builders of the test harness make published content that says what their names say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ninetailed_wsgi.testing import (
    Harness,
    all_of,
    any_of,
    assert_conforms,
    audience,
    experience,
    flag,
    from_campaign,
    having,
    located,
    on_device,
    performed,
    replacement,
    returning,
    trait,
    variable,
    viewed,
    with_query,
)

RULES = {
    "viewed a page": viewed("/pricing"),
    "viewed any page": viewed(),
    "viewed a page at least twice": viewed("/pricing", at_least=2),
    "viewed a page at most twice": viewed("/pricing", at_most=2),
    "never viewed a page": viewed("/pricing", exactly=0),
    "viewed a page lately": viewed("/pricing", within_days=7),
    "viewed a page by a part of its path": viewed("/pri", operator="startsWith"),
    "viewed a page with a query": viewed(None, with_query("ref"), with_query("page", 2)),
    "came by a campaign": viewed(None, from_campaign("source", "newsletter")),
    "performed any event": performed(),
    "performed an event lately": performed("purchase", at_least=3, within_days=0.5),
    "performed an event with properties": performed("purchase", having("total", 100, operator="greaterThan")),
    "has a trait": trait("plan"),
    "has a trait with a value": trait("newsletter", True),
    "has a trait above a number": trait("age", 18, operator="greaterThanInclusive"),
    "is in a country by its code": located(country="DE"),
    "is in a country by its name": located(country="Germany"),
    "is at a place of many members": located(
        city="Berlin", continent="EU", postal_code="10115", region="Land Berlin", region_code="BE", country_code="DE"
    ),
    "is in a time zone": located(timezone="Europe", operator="startsWith"),
    "is returning": returning(),
    "is new": returning(False),
    "has had many sessions": returning(sessions=3),
    "is on a phone": on_device("mobile"),
    "one of several": any_of(trait("plan", "pro"), all_of(viewed("/a"), viewed("/b"))),
    "several in one": all_of(any_of(trait("a"), trait("b")), trait("c")),
}

EXPERIENCES = {
    "a personalization": experience("hero", ["hero-b"]),
    "an experiment": experience("hero", ["hero-b"], distribution=[0.5, 0.5], traffic=0.3, sticky=True),
    "a hidden entry": experience("banner", [None]),
    "several components": experience("hero", ["hero-b"], variable("theme", control="light", variants=["dark"])),
    "several entries": experience(
        "hero", ["hero-b"], replacement("banner", ["banner-b", None]), id="both", name="Both"
    ),
    "a flag of text": flag("theme", control="light", variants=["dark"]),
    "a flag that is on or off": flag("new-menu", control=False, variants=[True], id="menu"),
    "a flag that is a number": flag("columns", control=2, variants=[3, 4.5]),
    "a flag that is an object": flag("layout", control={}, variants=[{"columns": 3}]),
    "for an audience": experience(
        "hero", ["hero-b"], audience=audience(trait("plan"), id="planned", name="With a plan")
    ),
    "for an audience by its id": experience("hero", ["hero-b"], audience="planned"),
}


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness() as harness:
        yield harness


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_rule_makes_a_valid_audience(rule: dict[str, Any]) -> None:
    assert_conforms({"audiences": [audience(rule)]}, "content")


@pytest.mark.parametrize("published", EXPERIENCES.values(), ids=EXPERIENCES)
def test_every_experience_is_valid_content(published: dict[str, Any]) -> None:
    assert_conforms({"experiences": [published]}, "content")


def test_everything_the_builders_make_can_be_published(harness: Harness) -> None:
    harness.publish(*(audience(rule, id=name) for name, rule in RULES.items()))
    harness.publish(*(experience | {"id": name} for name, experience in EXPERIENCES.items()))
    assert {listed.id for listed in harness.catalog.audience_list} == {*RULES, "planned"}
    assert {listed.id for listed in harness.catalog.experience_list} == set(EXPERIENCES)


def test_rules_hold_for_whom_they_say(harness: Harness) -> None:
    harness.publish(
        audience(viewed("/pricing", at_least=2), id="twice"),
        audience(performed("purchase", having("total", 100, operator="greaterThan")), id="big-spender"),
        audience(trait("plan", "pro"), returning(False), id="new-pro"),
        audience(any_of(trait("plan", "max"), on_device("mobile")), id="max-or-phone"),
        audience(viewed(None, from_campaign("source", "newsletter")), id="newsletter"),
        audience(viewed("/pricing", within_days=7), id="lately"),
    )
    visitor = harness.visitor().on("mobile").views("/pricing").views("/pricing?utm_source=newsletter")
    assert visitor.audiences == ["lately", "max-or-phone", "newsletter", "twice"]
    visitor.on("desktop").identifies(plan="pro").buys("tea", total=120)
    assert visitor.audiences == ["big-spender", "lately", "new-pro", "newsletter", "twice"]
    visitor.waits(days=8).views("/")
    assert visitor.audiences == ["big-spender", "newsletter", "twice"]


def test_without_a_distribution_everybody_gets_the_first_variant(harness: Harness) -> None:
    harness.publish(experience("hero", ["hero-b", "hero-c"]))
    assert {harness.visitor().views("/").variant("hero") for _ in range(8)} == {"hero-b"}


def test_a_distribution_makes_an_experiment() -> None:
    assert experience("hero", ["hero-b"], distribution=[0.5, 0.5])["type"] == "nt_experiment"
    assert experience("hero", ["hero-b"])["type"] == "nt_personalization"


def test_a_hidden_variant_is_an_empty_id(harness: Harness) -> None:
    harness.publish(experience("banner", [None]))
    assert harness.visitor().views("/").variant("banner") == ""


def test_the_same_rules_are_the_same_audience() -> None:
    assert audience(viewed("/a"))["id"] == audience(viewed("/a"))["id"] != audience(viewed("/b"))["id"]


def test_an_experience_is_named_after_what_it_changes() -> None:
    assert experience("hero", ["hero-b"])["id"] == "experience-hero"
    assert flag("theme", control=1, variants=[2])["id"] == "experience-theme"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: viewed("/", at_least=1, at_most=2), "found several counts"),
        (lambda: viewed("/", at_leats=1), "at_leats"),
        (lambda: viewed(with_query("color")), r"for any page: viewed\(None, "),
        (lambda: performed(having("price")), r"for any event: performed\('\*', "),
        (lambda: located(), "needs a member"),
        (lambda: located(town="Berlin"), "no member 'town'"),
        (lambda: audience(), "found no rule"),
        (lambda: experience(), "found nothing that the experience changes"),
        (lambda: experience("hero", "hero-b"), r"expected a list of variants: \['hero-b'\]"),
    ],
    ids=[
        "two counts",
        "a misspelt count",
        "no path",
        "no event",
        "no place",
        "an unknown place",
        "no rule",
        "no change",
        "text for a list",
    ],
)
def test_a_slip_is_named_at_once(build: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        build()
