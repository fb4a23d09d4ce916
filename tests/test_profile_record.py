"""The profile record: which events it has seen, and how two records of one visitor become one."""

from __future__ import annotations

from typing import Any

import pytest

from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.events import MESSAGE_KEY_LENGTH, Event, in_order, message_key
from ninetailed_wsgi.core.location import laid_over

BERLIN = {"city": "Berlin", "countryCode": "DE"}
WIEN, VIENNA = {"city": "Wien"}, {"city": "Vienna"}


def event(message_id: str = "m", at: int = 1, *, key: str = "", device: str | None = None, **told: Any) -> Event:
    body = {"type": "track", "messageId": message_id, "context": {}, **told.pop("body", {})}
    return Event(at, body, b"", key or message_key(message_id), "", device, **told)


def record(name: str, *events: Event, **members: Any) -> dict[str, Any]:
    made = {**profile.new_record(name), **members}
    for each in events:
        profile.apply(made, each, lambda: f"session-{name}")
    return made


# What was seen


def test_a_message_id_is_recognised_wherever_it_stands() -> None:
    seen = record("a", event("one"), event("two"), event("three"))
    assert [profile.has_seen(seen, event(name)) for name in ("one", "two", "three", "four")] == [
        True,
        True,
        True,
        False,
    ]


def test_a_message_id_is_not_recognised_across_the_border_of_two_others() -> None:
    half = MESSAGE_KEY_LENGTH // 2
    wanted = "ab" * (MESSAGE_KEY_LENGTH // 4) + "cd" * (MESSAGE_KEY_LENGTH // 4)
    across = "0" * half + wanted + "1" * half
    seen = {**profile.new_record("a"), "seen": across}
    assert not profile.has_seen(seen, event(key=wanted))
    assert profile.has_seen({**seen, "seen": across + wanted}, event(key=wanted))
    # It may begin in the middle of others as often as it likes.
    assert profile.has_seen({**seen, "seen": wanted + across}, event(key=wanted))


def test_an_event_whose_text_repeats_itself_is_found_where_one_begins() -> None:
    shifted = "1" + "0" * (MESSAGE_KEY_LENGTH - 1)
    zeros = "0" * MESSAGE_KEY_LENGTH
    assert profile.has_seen({**profile.new_record("a"), "seen": shifted + zeros}, event(key=zeros))
    assert not profile.has_seen({**profile.new_record("a"), "seen": shifted + shifted}, event(key=zeros))


def test_an_imported_event_is_recognised_by_its_place_in_its_batch_alone() -> None:
    seen = record("a", event("m0", imported=(7, 0)), event("m3", imported=(7, 3)))
    assert [profile.has_seen(seen, event("other", imported=(7, place))) for place in range(5)] == [
        True, False, False, True, False,
    ]  # fmt: skip
    assert not profile.has_seen(seen, event("other", imported=(8, 0)))
    # Batches are applied one after the other: what comes of an earlier one now was applied then.
    assert profile.has_seen(seen, event("other", imported=(6, 4)))
    assert profile.has_seen(seen, event("m0", imported=(8, 4)))


def test_of_a_later_batch_only_its_own_events_are_remembered() -> None:
    seen = record("a", event("m1", imported=(7, 1)), event("m2", imported=(8, 2)))
    assert not profile.has_seen(seen, event("other", imported=(8, 1)))
    assert profile.has_seen(seen, event("other", imported=(8, 2)))


# Merging


@pytest.mark.parametrize("newer", ["known", "device"])
def test_what_the_later_active_profile_knows_is_on_top_whichever_is_canonical(newer: str) -> None:
    times = {"known": 1, "device": 1, newer: 2}
    one = record("known", event("k", times["known"], device="desktop"), traits={"a": "known", "k": 1}, location=BERLIN)
    two = record("device", event("d", times["device"], device="mobile"), traits={"a": "device", "d": 1}, location=WIEN)
    merged = profile.merge(one, {**two, "location_en": VIENNA})
    assert merged["id"] == merged["stable_id"] == "known"
    assert merged["traits"] == {"a": newer, "k": 1, "d": 1}
    assert merged["device"] == {"known": "desktop", "device": "mobile"}[newer]
    assert merged["updated"] == 2
    assert merged["location"] == {"known": BERLIN, "device": WIEN}[newer]
    assert profile.english_location(merged) == {"known": BERLIN, "device": VIENNA}[newer]


def test_a_location_that_only_the_earlier_active_one_has_is_kept() -> None:
    one, two = record("known", event("k", 1), location=WIEN, location_en=VIENNA), record("device", event("d", 2))
    merged = profile.merge(one, two)
    assert (merged["location"], merged["location_en"]) == (WIEN, VIENNA)


def test_aliases_are_joined_once_each_and_never_name_the_profile_itself() -> None:
    one, two = record("known", aliases=["user", "device"]), record("device", aliases=["user", "known", "phone"])
    assert profile.merge(one, two)["aliases"] == ["user", "device", "phone"]


def test_whoever_was_merged_is_remembered_with_those_before() -> None:
    assert profile.merge(record("a", merged=["b"]), record("c", merged=["d"]))["merged"] == ["b", "d", "c"]


def test_assignments_of_the_canonical_profile_win() -> None:
    one, two = record("known", sticky={"e1": 1, "e2": 0}), record("device", sticky={"e1": 2, "e3": 1})
    assert profile.merge(one, two)["sticky"] == {"e1": 1, "e2": 0, "e3": 1}


def test_counts_are_left_to_be_made_anew() -> None:
    assert profile.merge(record("a", counts={"x": [1]}), record("b", counts={"y": [1]}))["counts"] == {}


def test_message_ids_of_both_are_recognised() -> None:
    merged = profile.merge(record("a", event("one")), record("b", event("two")))
    assert profile.has_seen(merged, event("one"))
    assert profile.has_seen(merged, event("two"))


@pytest.mark.parametrize(
    ("one", "two", "places"),
    [
        ([(7, 0)], [(7, 2)], {0, 2}),
        ([(7, 0)], [(8, 2)], {2}),
        ([(8, 0)], [(7, 2)], {0}),
        ([(8, 1)], [], {1}),
        ([], [(8, 1)], {1}),
    ],
)
def test_of_the_last_imported_batch_the_events_of_both_are_recognised(
    one: list[tuple[int, int]], two: list[tuple[int, int]], places: set[int]
) -> None:
    records = [record(name, *(event(f"{name}{place}", imported=place) for place in imported))
               for name, imported in (("a", one), ("b", two))]  # fmt: skip
    merged = profile.merge(*records)
    last = max(batch for batch, _ in one + two)
    assert {place for place in range(4) if profile.has_seen(merged, event("new", imported=(last, place)))} == places


def test_profiles_that_were_never_imported_have_no_batch() -> None:
    assert "import" not in profile.merge(record("a"), record("b"))


# Locations


def test_english_names_are_stored_only_where_they_differ() -> None:
    located = record("a")
    profile.locate(located, (WIEN, VIENNA))
    assert (located["location"], located["location_en"]) == (WIEN, VIENNA)
    profile.locate(located, (BERLIN, dict(BERLIN)))
    assert located["location"] == profile.english_location(located) == BERLIN
    assert "location_en" not in located
    profile.locate(located, ({}, {}))
    assert located["location"] == BERLIN


def test_what_is_known_of_nowhere_stays_nothing() -> None:
    events = [{"context": {"location": {"city": "Graz"}}}]
    assert laid_over(({}, {}), events) == ({}, {})
    assert laid_over((WIEN, VIENNA), events) == ({"city": "Graz"}, {"city": "Graz"})
    assert laid_over((WIEN | {"region": "Wien"}, VIENNA | {"region": "Vienna"}), events) == (
        {"city": "Graz", "region": "Wien"},
        {"city": "Graz", "region": "Vienna"},
    )


# When traits were set


def identify(at: int, **traits: Any) -> Event:
    return event(f"m{at}", at, body={"type": "identify", "traits": traits})


def test_a_record_of_an_older_version_takes_any_trait_and_then_remembers_when() -> None:
    old = record("a", traits={"plan": "free", "city": "Graz"}, updated=9)
    profile.apply(old, identify(5, plan="pro"), str)
    profile.apply(old, identify(4, plan="old", city="Linz"), str)
    assert old["traits"] == {"plan": "pro", "city": "Linz"}


def test_traits_that_are_always_set_together_take_one_number() -> None:
    names = [f"trait{number}" for number in range(50)]
    known = record("a", identify(3, **dict.fromkeys(names, 1)), identify(7, **dict.fromkeys(names, 2)))
    assert known["trait_times"] == [7, {}]


def test_a_profile_without_traits_has_no_times_of_traits() -> None:
    assert "trait_times" not in record("a", event(), identify(5))


def test_of_many_traits_set_one_by_one_the_latest_are_remembered_and_the_record_stays_small() -> None:
    known = record("a", *(identify(at, **{f"t{at}": at}) for at in range(1, 500)))
    assert len(known["traits"]) == 499
    assert len(known["trait_times"][1]) == profile.TRAIT_TIMES
    profile.apply(known, identify(450, t499="old", t420="new"), str)
    assert (known["traits"]["t499"], known["traits"]["t420"]) == (499, "new")


def test_a_trait_set_later_that_would_make_a_merged_profile_too_large_stays_behind() -> None:
    half = "x" * 40_000
    older = record("a", identify(5, big=half), updated=5)
    newer = record("b", identify(1, big="small", other=half), event(at=9))
    assert profile.merge(older, newer)["traits"] == {"big": "small", "other": half}


# The order of the events of one request


def at(number: int, time: int | None) -> Event:
    return event(str(number), 99 if time is None else time, body={"timestamp": time} if time else {}, place=number)


@pytest.mark.parametrize(
    ("times", "order"),
    [
        ([5, 3, 4], [1, 2, 0]),
        ([3, 4, 5], [0, 1, 2]),
        ([5, 5, 1], [2, 0, 1]),
        ([None, 5, 3], [0, 2, 1]),
        ([5, None, 3], [2, 1, 0]),
        ([5, 3, None], [1, 0, 2]),
        ([None, None], [0, 1]),
        ([7], [0]),
        ([], []),
    ],
)
def test_events_apply_in_the_order_of_their_times_and_those_without_keep_their_places(
    times: list[int | None], order: list[int]
) -> None:
    events = [at(number, time) for number, time in enumerate(times)]
    assert [each.place for each in in_order(events)] == order
