"""Which entry is shown in place of a baseline: the client's rule of priority, on each form that entries come in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ninetailed_wsgi.core.variants import decision as decided
from ninetailed_wsgi.core.variants import entry_to_show, id_of, members_of, unresolved


def link(id: str) -> dict[str, Any]:
    return {"sys": {"type": "Link", "linkType": "Entry", "id": id}}


def entry(id: str, **fields: Any) -> dict[str, Any]:
    return {"sys": {"id": id}, "fields": fields}


def experience(id: str, *variants: Any) -> dict[str, Any]:
    return entry(f"sys-{id}", nt_experience_id=id, nt_variants=[*variants])


def chosen(id: str, **variants: str) -> dict[str, Any]:
    return {"experienceId": id, "variantIndex": 1, "variants": variants}


def show(entry: Any, *chosen: Mapping[str, Any], published: tuple[str, ...] = ()) -> Any:
    return entry_to_show(entry, chosen, lambda baseline: published if baseline == "hero" else ())


HERO_B = entry("hero-b", title="B")


@pytest.mark.parametrize(
    ("entry", "id"),
    [
        ("hero", "hero"),
        (link("hero"), "hero"),
        ({"id": "hero"}, "hero"),
        ({"sys": {"id": "hero"}, "id": "other"}, "hero"),
        ({"sys": {}}, None),
        ({"sys": 5, "id": "hero"}, "hero"),
        ({"id": 5}, None),
        ({}, None),
        (5, None),
        (None, None),
        (["hero"], None),
    ],
)
def test_the_id_of_an_entry_in_each_form(entry: object, id: str | None) -> None:
    assert id_of(entry) == id


@pytest.mark.parametrize(
    ("entry", "members"),
    [
        ({"sys": {}, "fields": {"a": 1}}, {"a": 1}),
        ({"id": "x", "a": 1}, {"id": "x", "a": 1}),
        ({"fields": None, "a": 1}, {"fields": None, "a": 1}),
        ("x", {}),
        (None, {}),
    ],
)
def test_the_members_of_an_entry_in_each_form(entry: object, members: dict[str, Any]) -> None:
    assert members_of(entry) == members


def test_the_variant_is_the_entry_that_the_chosen_experience_holds() -> None:
    hero = entry("hero", nt_experiences=[experience("e1", entry("hero-a"), HERO_B)])
    assert show(hero, chosen("e1", hero="hero-b")) is HERO_B


def test_the_first_of_the_entrys_experiences_that_was_chosen_decides() -> None:
    hero = entry("hero", nt_experiences=[experience("e0"), experience("e1", HERO_B), experience("e2", entry("hero-c"))])
    assert show(hero, chosen("e2", hero="hero-c"), chosen("e1", hero="hero-b")) is HERO_B


def test_a_first_experience_that_replaces_other_entries_only_shows_the_baseline() -> None:
    hero = entry("hero", nt_experiences=[experience("e1"), experience("e2", HERO_B)])
    assert show(hero, chosen("e1", aside="aside-b"), chosen("e2", hero="hero-b")) is hero


def test_the_control_shows_the_baseline_and_an_empty_id_hides_it() -> None:
    hero = entry("hero", nt_experiences=[experience("e1", HERO_B)])
    assert show(hero, chosen("e1", hero="hero")) is hero
    assert show(hero, chosen("e1", hero="")) is None


def test_nothing_chosen_shows_the_baseline() -> None:
    hero = entry("hero", nt_experiences=[experience("e1", HERO_B)])
    assert show(hero) is hero
    assert show(hero, chosen("other", hero="hero-b")) is hero


@pytest.mark.parametrize("experiences", [[link("sys-e1")], [link("sys-e1"), experience("e2", HERO_B)], []])
def test_where_links_are_not_resolved_the_published_order_decides(experiences: list[Any]) -> None:
    hero = entry("hero", nt_experiences=experiences)
    answers = chosen("e2", hero="hero-b"), chosen("e1", hero="")
    assert show(hero, *answers, published=("e1", "e2")) is None


def test_unresolved_links_count_for_themselves_where_nothing_is_published() -> None:
    hero = entry("hero", nt_experiences=[link("e1")])
    assert show(hero, chosen("e1", hero="")) is None
    assert show(hero, chosen("e1", hero="hero-b")) is hero


def test_the_published_order_is_of_no_account_where_all_are_resolved() -> None:
    hero = entry("hero", nt_experiences=[experience("e1", HERO_B), experience("e2")])
    answers = chosen("e2", hero="hero-c"), chosen("e1", hero="hero-b")
    assert show(hero, *answers, published=("e2", "e1")) is HERO_B


def test_an_id_is_answered_by_an_id_in_the_published_order() -> None:
    assert show("hero", chosen("e1", hero="hero-b"), published=("e1",)) == "hero-b"
    assert show("hero", chosen("e1", hero=""), published=("e1",)) is None


def test_where_nobody_says_an_order_the_first_that_replaces_the_entry_decides() -> None:
    answers = chosen("e0", other="other-b"), chosen("e1", aside="aside-b"), chosen("e2", aside="aside-c")
    assert show("aside", *answers) == "aside-b"
    listing_none = entry("aside", nt_experiences=[])
    assert show(listing_none, *answers) is listing_none


def test_the_generic_form_is_answered_by_the_variant_or_by_its_id() -> None:
    variant = {"id": "hero-b", "title": "B"}
    hero = {"id": "hero", "nt_experiences": [{"id": "e1", "variants": [{"id": "hero-a"}, variant]}]}
    assert show(hero, chosen("e1", hero="hero-b")) is variant
    assert show(hero, chosen("e1", hero="hero-c")) is hero


@pytest.mark.parametrize("held", [[HERO_B], [], [link("hero-c")], [HERO_B, link("hero-c")], [None], ["hero-c"]])
def test_a_variant_that_the_experience_does_not_hold_leaves_the_baseline_as_in_the_sdks(held: list[Any]) -> None:
    hero = entry("hero", nt_experiences=[experience("e1", *held)])
    answer = chosen("e1", hero="hero-c")
    assert show(hero, answer) is hero
    assert decided(hero, [answer], lambda _: ()) == (None, "hero")
    assert unresolved(hero, [answer], lambda _: ()) == "hero-c"


def test_nothing_is_missing_where_a_variant_is_held_hidden_or_not_chosen() -> None:
    hero = entry("hero", nt_experiences=[experience("e1", HERO_B)])
    for answers in ([chosen("e1", hero="hero-b")], [chosen("e1", hero="")], [chosen("e1", hero="hero")], []):
        assert unresolved(hero, answers, lambda _: ()) is None


@pytest.mark.parametrize("experiences", [5, None, {"e1": 1}, [5], [None], ["e1"], [entry("x", nt_variants=5)]])
def test_malformed_experiences_never_fail(experiences: object) -> None:
    hero = entry("hero", nt_experiences=experiences)
    assert show(hero, chosen("other", hero="hero-b")) is hero


def test_malformed_variants_leave_the_baseline() -> None:
    hero = entry("hero", nt_experiences=[entry("x", nt_experience_id="e1", nt_variants="hero-b")])
    assert show(hero, chosen("e1", hero="hero-b")) is hero


@pytest.mark.parametrize("value", [5, None, {}, ["hero"]])
def test_what_has_no_id_stays_as_it_is(value: object) -> None:
    assert show(value, chosen("e1", hero="hero-b"), published=("e1",)) is value
