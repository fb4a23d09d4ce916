"""Identity through the API: aliases, and two profiles that turn out to be one visitor (spec section 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, permutations
from typing import Any

import pytest
from support import (
    HOUR,
    MINUTE,
    TOKYO,
    UNITED_STATES,
    Api,
    Server,
    component,
    identify,
    of,
    page,
    track,
)

from ninetailed_wsgi.core.ids import PageIds
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.testing import Harness

MakeServer = Callable[..., Server]


def traits(api: Api, name: str) -> dict[str, Any]:
    found: dict[str, Any] = api.profile(name)["traits"]
    return found


def homes(api: Api, *names: str) -> list[str]:
    """The ids of the profiles that these names lead to."""
    return [api.profile(name)["id"] for name in names]


# Aliases


def test_a_user_id_becomes_an_alias_of_the_profile(api: Api) -> None:
    id = api.create(identify("user", {"a": 1}))["profile"]["id"]
    assert api.profile("user") == api.profile(id)


def test_a_profile_may_have_many_aliases(api: Api) -> None:
    names = [f"user-{number}" for number in range(50)]
    api.update("visitor", *map(identify, names))
    assert set(homes(api, *names)) == {"visitor"}
    api.delete("user-25")
    assert not any(map(api.knows, [*names, "visitor"]))


def test_an_empty_user_id_is_no_alias(api: Api) -> None:
    api.update("one", identify("", {"a": 1}))
    api.update("two", identify("", {"b": 1}))
    assert (traits(api, "one"), traits(api, "two")) == ({"a": 1}, {"b": 1})


def test_a_user_id_that_is_the_profiles_own_id_changes_nothing(api: Api) -> None:
    before = api.update("visitor", page())["profile"]
    after = api.update("visitor", identify("visitor", {"a": 1}))["profile"]
    assert after == {**before, "traits": {"a": 1}}
    api.delete("visitor")
    assert not api.knows("visitor")


def test_a_user_id_that_is_the_own_id_of_a_profile_reached_through_its_alias_changes_nothing(api: Api) -> None:
    api.update("visitor", identify("user", {"a": 1}))
    assert api.update("user", identify("visitor", {"b": 1}))["profile"]["id"] == "visitor"
    assert traits(api, "user") == {"a": 1, "b": 1}


def test_identifying_again_with_the_same_user_id_changes_no_identity(api: Api) -> None:
    for number in range(3):
        api.update("visitor", identify("user", {"n": number}))
    assert homes(api, "visitor", "user") == ["visitor", "visitor"]
    assert api.profile("user")["session"]["count"] == 1


def test_batch_events_whose_anonymous_id_is_their_user_id_are_ordinary(api: Api) -> None:
    events = [of(f"customer-{n}", identify(f"customer-{n}", {"n": n})) for n in range(50)]
    assert [(profile["id"], profile["traits"]) for profile in api.batch(*events)] == [
        (f"customer-{n}", {"n": n}) for n in range(50)
    ]
    for n in range(50):
        api.delete(f"customer-{n}")


def test_an_alias_of_a_deleted_profile_can_be_used_again(api: Api) -> None:
    api.update("first", identify("user", {"first": True}))
    api.delete("first")
    api.update("second", identify("user", {"second": True}))
    assert homes(api, "user", "second") == ["second", "second"]
    assert traits(api, "user") == {"second": True}
    assert not api.knows("first")


def test_an_alias_of_a_deleted_profile_can_become_an_id(api: Api) -> None:
    api.update("first", identify("user", {"first": True}))
    api.delete("user")
    created = api.update("user", identify(traits={"second": True}))["profile"]
    assert (created["id"], created["stableId"], created["traits"]) == ("user", "user", {"second": True})
    assert not api.knows("first")


def test_the_id_of_a_deleted_profile_can_become_an_alias(api: Api) -> None:
    api.update("first", identify("user"))
    api.delete("first")
    api.update("second", identify("first"))
    assert homes(api, "first") == ["second"]
    assert not api.knows("user")


# Merging


def test_the_profile_that_owned_the_alias_keeps_id_stable_id_and_random(api: Api) -> None:
    known = api.update("known", identify("user"))["profile"]
    api.update("device", page())
    merged = api.update("device", identify("user"))["profile"]
    for member in ("id", "stableId", "random"):
        assert merged[member] == known[member]


def test_the_id_of_the_other_profile_becomes_an_alias(api: Api) -> None:
    api.update("known", identify("user"))
    api.update("device", page())
    api.update("device", identify("user"))
    assert api.update("device", identify(traits={"a": 1}))["profile"]["id"] == "known"
    assert traits(api, "known") == {"a": 1}
    api.delete("device")
    assert not any(map(api.knows, ["known", "device", "user"]))


def test_the_aliases_of_the_other_profile_become_aliases(api: Api) -> None:
    api.update("known", identify("user"))
    api.update("device", identify("phone"), identify("tablet"))
    api.update("device", identify("user"))
    assert set(homes(api, "known", "user", "device", "phone", "tablet")) == {"known"}
    api.delete("tablet")
    assert not any(map(api.knows, ["known", "user", "device", "phone", "tablet"]))


def test_a_user_id_that_is_the_id_of_another_profile_merges_into_it(api: Api) -> None:
    api.update("customer-1", identify(traits={"imported": True}))
    api.update("device", page())
    merged = api.update("device", identify("customer-1", {"seen": True}))["profile"]
    assert (merged["id"], merged["traits"]) == ("customer-1", {"imported": True, "seen": True})
    assert homes(api, "device") == ["customer-1"]


def test_a_new_id_that_identifies_as_a_known_user_is_an_alias_from_the_start(api: Api) -> None:
    api.update("known", identify("user", {"a": 1}))
    merged = api.update("device", identify("user", {"b": 1}))["profile"]
    assert (merged["id"], merged["traits"]) == ("known", {"a": 1, "b": 1})
    assert homes(api, "device") == ["known"]
    assert merged["session"]["count"] == 1


def test_creating_a_profile_that_identifies_as_a_known_user_answers_the_known_profile(api: Api) -> None:
    api.update("known", identify("user", {"a": 1}))
    merged = api.create(identify("user", {"b": 1}))["profile"]
    assert (merged["id"], merged["traits"]) == ("known", {"a": 1, "b": 1})


@pytest.mark.parametrize("first", [[], [page()]])
def test_an_id_that_a_page_gave_out_before_asking_leads_to_the_profile_that_it_joins(
    first: list[dict[str, Any]],
) -> None:
    with Harness() as harness:
        service, where = harness.service, Environment("test", "main")
        service.upsert(where, "known", {"events": [identify("user", {"a": 1})]})
        cookie = service.new_id(where)
        answer = service.upsert(where, None, {"events": [*first, identify("user", {"b": 1})]}, ids=PageIds([cookie]))
        assert answer["profile"]["id"] == "known"
        assert service.get(where, cookie)["profile"]["traits"] == {"a": 1, "b": 1}


def test_creating_a_profile_that_identifies_later_in_the_request_answers_the_known_profile(api: Api) -> None:
    api.update("known", identify("user", {"a": 1}))
    merged = api.create(page(), identify("user", {"b": 1}), track())["profile"]
    assert (merged["id"], merged["traits"]) == ("known", {"a": 1, "b": 1})
    assert merged["session"]["count"] == 2


def test_session_counts_and_lengths_add_up(api: Api) -> None:
    for _ in range(3):
        api.update("known", page())
        api.clock.pass_(10 * MINUTE)
        api.update("known", identify("user"))
        api.clock.pass_(2 * HOUR)
    for _ in range(2):
        api.update("device", page())
        api.clock.pass_(20 * MINUTE)
        api.update("device", page())
        api.clock.pass_(2 * HOUR)
    merged = api.update("device", identify("user"))["profile"]["session"]
    assert merged["count"] == 6
    assert merged["isReturningVisitor"] is True
    assert merged["averageSessionLength"] * 6 == pytest.approx((3 * 10 + 2 * 20) * 60)


def test_the_later_session_is_the_current_one_of_the_merged_profile(api: Api) -> None:
    api.update("known", page("/old"), identify("user"))
    api.clock.pass_(2 * HOUR)
    current = api.update("device", page("/new"))["profile"]["session"]
    api.clock.pass_(5 * MINUTE)
    merged = api.update("device", identify("user"))["profile"]["session"]
    assert (merged["id"], merged["landingPage"]["path"]) == (current["id"], "/new")
    assert (merged["count"], merged["activeSessionLength"]) == (2, 300)


def test_the_session_of_the_known_profile_stays_current_when_it_is_the_later_one(api: Api) -> None:
    api.update("device", page("/old"))
    api.clock.pass_(2 * HOUR)
    api.update("known", page("/new"))
    api.clock.pass_(5 * MINUTE)
    current = api.update("known", identify("user"))["profile"]["session"]
    merged = api.batch(of("device", identify("user")))[0]["session"]
    assert (merged["id"], merged["landingPage"]["path"]) == (current["id"], "/new")
    assert (merged["count"], merged["activeSessionLength"]) == (2, 300)


def test_of_two_sessions_that_end_at_the_same_moment_that_of_the_known_profile_is_current(api: Api) -> None:
    api.update("known", page("/known"), identify("user"))
    api.clock.pass_(10 * MINUTE)
    current = api.update("known", page("/later"))["profile"]["session"]
    api.update("device", page("/device"))
    merged = api.update("device", identify("user"))["profile"]["session"]
    assert (merged["id"], merged["landingPage"]["path"]) == (current["id"], "/known")
    assert (merged["count"], merged["activeSessionLength"]) == (2, 600)


def test_the_traits_of_the_profile_that_was_active_later_are_on_top(api: Api) -> None:
    api.update("known", identify("user", {"a": "known", "only": "known"}))
    api.clock.pass_(HOUR)
    api.update("device", identify("", {"a": "device", "new": "device"}))
    merged = api.update("device", identify("user"))["profile"]
    assert merged["traits"] == {"a": "device", "only": "known", "new": "device"}


def test_the_traits_of_the_known_profile_are_on_top_when_it_was_active_later(api: Api) -> None:
    api.update("device", identify("", {"a": "device", "new": "device"}))
    api.clock.pass_(HOUR)
    api.update("known", identify("user", {"a": "known", "only": "known"}))
    merged = api.update("device", identify("user"))["profile"]
    assert merged["traits"] == {"a": "known", "only": "known", "new": "device"}


def test_the_traits_of_the_event_that_merges_are_on_top_of_both(api: Api) -> None:
    api.update("known", identify("user", {"a": "known"}))
    api.update("device", identify("", {"a": "device"}))
    assert api.update("device", identify("user", {"a": "event"}))["profile"]["traits"] == {"a": "event"}


def test_later_active_is_a_matter_of_event_time_not_of_arrival(api: Api) -> None:
    api.update("known", identify("user", {"a": "known"}, timestamp="2024-05-06T06:00:00Z"))
    api.update("device", identify("", {"a": "device"}, timestamp="2024-05-06T05:00:00Z"))
    merged = api.update("device", identify("user", timestamp="2024-05-06T06:30:00Z"))["profile"]
    assert merged["traits"] == {"a": "known"}


def test_the_location_of_the_profile_that_was_active_later_stays(api: Api) -> None:
    api.update("known", identify("user"), features=["location"], remote_addr=TOKYO)
    api.clock.pass_(HOUR)
    api.update("device", page(), features=["location"], remote_addr=UNITED_STATES)
    assert api.update("device", identify("user"))["profile"]["location"]["countryCode"] == "US"


def test_a_location_that_is_resolved_with_the_event_that_merges_is_the_profiles(api: Api) -> None:
    api.update("known", identify("user"), features=["location"], remote_addr=TOKYO)
    api.update("device", page())
    merged = api.update("device", identify("user"), features=["location"], remote_addr=UNITED_STATES)["profile"]
    assert merged["location"]["countryCode"] == "US"


def test_what_an_event_says_of_the_location_stays_on_top_when_a_later_event_of_the_request_merges(api: Api) -> None:
    api.update("known", identify("user"))
    events = [page(context={"location": {"city": "Nagoya"}}), identify("user"), track()]
    merged = api.update("device", *events, features=["location"], remote_addr=TOKYO)["profile"]
    assert (merged["location"]["city"], merged["location"]["countryCode"]) == ("Nagoya", "JP")
    assert api.profile("known")["location"] == merged["location"]


# Several merges


def test_three_profiles_become_one_whatever_the_order(api: Api) -> None:
    for number, order in enumerate(permutations("abc")):
        user, names = f"user-{number}", [f"{number}-{letter}" for letter in order]
        for name in names:
            api.update(name, identify("", {name: True}))
        for name in names:
            api.update(name, identify(user))
        assert homes(api, user, *names) == [names[0]] * 4
        assert set(traits(api, user)) == set(names)
        assert api.profile(user)["session"]["count"] == 3


def test_chains_of_aliases_end_at_one_profile(api: Api) -> None:
    names = [f"p{number}" for number in range(8)]
    for name in names:
        api.update(name, identify("", {name: True}))
    for name, following in pairwise(names):
        api.update(name, identify(following))
    assert set(homes(api, *names)) == {names[-1]}
    assert set(traits(api, names[0])) == set(names)
    api.delete(names[0])
    assert not any(map(api.knows, names))


def test_chains_of_aliases_that_begin_at_their_end_lead_to_one_profile(api: Api) -> None:
    names = [f"p{number}" for number in range(8)]
    for name in names:
        api.update(name, identify("", {name: True}))
    for name, following in reversed([*pairwise(names)]):
        api.update(name, identify(following))
    assert set(homes(api, *names)) == {names[-1]}
    assert set(traits(api, names[0])) == set(names)


def test_two_that_identify_as_each_other_become_one(api: Api) -> None:
    api.update("a", identify("", {"a": 1}))
    api.update("b", identify("", {"b": 1}))
    first = api.update("a", identify("b"))["profile"]
    second = api.update("b", identify("a"))["profile"]
    assert first == second
    assert homes(api, "a", "b") == ["b", "b"]
    assert traits(api, "a") == {"a": 1, "b": 1}


def test_two_that_identify_as_each_others_alias_become_one(api: Api) -> None:
    api.update("a", identify("user-a", {"a": 1}))
    api.update("b", identify("user-b", {"b": 1}))
    api.update("a", identify("user-b"))
    api.update("b", identify("user-a"))
    assert homes(api, "a", "b", "user-a", "user-b") == ["b"] * 4
    assert traits(api, "a") == {"a": 1, "b": 1}
    assert api.profile("b")["session"]["count"] == 2


def test_three_that_identify_in_a_circle_become_one(api: Api) -> None:
    names = ["a", "b", "c"]
    api.batch(*(of(name, identify("", {name: 1})) for name in names))
    api.batch(of("a", identify("b")), of("b", identify("c")), of("c", identify("a")))
    assert len(set(homes(api, *names))) == 1
    assert traits(api, "a") == {"a": 1, "b": 1, "c": 1}
    assert api.profile("a")["session"]["count"] == 3


def test_an_alias_moves_with_its_profile_when_it_merges_twice(api: Api) -> None:
    api.update("one", identify("user-1"))
    api.update("two", identify("user-2"))
    api.update("three", identify("user-3"))
    api.update("one", identify("user-2"))
    api.update("two", identify("user-3"))
    names = ["one", "two", "three", "user-1", "user-2", "user-3"]
    assert set(homes(api, *names)) == {"three"}
    assert api.update("user-1", identify("user-3", {"x": 1}))["profile"]["id"] == "three"


# In one request


def test_a_merge_within_one_batch_answers_the_merged_profile_once(api: Api) -> None:
    profiles = api.batch(
        of("a", identify("user", {"a": 1})),
        of("b", identify("", {"b": 1})),
        of("b", identify("user", {"c": 1})),
    )
    assert [(profile["id"], profile["traits"]) for profile in profiles] == [("a", {"a": 1, "b": 1, "c": 1})]
    assert homes(api, "a", "b", "user") == ["a", "a", "a"]


def test_events_before_and_after_the_merging_event_of_a_request_all_count(api: Api) -> None:
    api.update("known", identify("user", {"known": 1}))
    merged = api.update(
        "device",
        identify("", {"before": 1}),
        identify("user", {"at": 1}),
        identify("", {"after": 1}),
    )["profile"]
    assert merged["traits"] == {"known": 1, "before": 1, "at": 1, "after": 1}
    assert homes(api, "device") == ["known"]


def test_events_of_both_profiles_around_a_merge_in_a_batch_apply_in_the_order_of_the_list(api: Api) -> None:
    profiles = api.batch(
        of("a", identify("user", {"x": 1})),
        of("b", identify("", {"x": 2})),
        of("b", identify("user", {"x": 3})),
        of("a", identify("", {"x": 4})),
        of("b", identify("", {"x": 5})),
        of("user", identify("", {"x": 6})),
        of("a", identify("", {"y": 7})),
    )
    assert [(profile["id"], profile["traits"]) for profile in profiles] == [("a", {"x": 6, "y": 7})]


def test_two_profiles_of_one_batch_that_identify_as_the_same_new_user_become_one(api: Api) -> None:
    profiles = api.batch(of("a", identify("user", {"a": 1})), of("b", identify("user", {"b": 1})))
    assert [(profile["id"], profile["traits"]) for profile in profiles] == [("a", {"a": 1, "b": 1})]
    assert homes(api, "b", "user") == ["a", "a"]


def test_a_profile_of_a_batch_may_identify_as_another_one_of_it(api: Api) -> None:
    profiles = api.batch(of("a", identify("", {"a": 1})), of("b", identify("a", {"b": 1})))
    assert [(profile["id"], profile["traits"]) for profile in profiles] == [("a", {"a": 1, "b": 1})]
    profiles = api.batch(of("d", identify("c", {"d": 1})), of("c", identify("", {"c": 1})))
    assert [(profile["id"], profile["traits"]) for profile in profiles] == [("d", {"c": 1, "d": 1})]


def test_the_profile_in_the_middle_of_a_batch_keeps_its_place_when_another_merges_into_it(api: Api) -> None:
    profiles = api.batch(of("x", page()), of("a", page()), of("y", page()), of("b", identify("a")), of("z", page()))
    assert [profile["id"] for profile in profiles] == ["x", "a", "y", "z"]


def test_fifty_profiles_of_one_batch_become_one(api: Api) -> None:
    events = [of(f"p{n}", track()) for n in range(50)]
    events += [of(f"p{n}", identify("user", {f"t{n}": n})) for n in range(50)]
    (profile,) = api.batch(*events)
    assert profile["id"] == "p0"
    assert len(profile["traits"]) == 50
    assert profile["session"]["count"] == 50
    assert set(homes(api, "user", *(f"p{n}" for n in range(50)))) == {"p0"}
    api.delete("p25")
    assert not any(map(api.knows, ["user", *(f"p{n}" for n in range(50))]))


def test_a_batch_that_merges_and_is_sent_again_changes_nothing(api: Api) -> None:
    events = [
        of("a", identify("user", {"x": 1})),
        of("b", identify("user", {"x": 2})),
        of("a", identify("", {"x": 3})),
        of("c", identify("b", {"y": 4})),
    ]
    before = api.batch(*events)
    api.clock.pass_(2 * HOUR)
    assert api.batch(*events) == before


def test_an_identify_event_that_was_already_applied_merges_nothing(api: Api) -> None:
    api.update("known", identify("user", {"a": 1}))
    api.update("device", identify("", {"b": 1}, messageId="same"))
    api.update("device", identify("user", {"c": 1}, messageId="same"))
    assert homes(api, "known", "device") == ["known", "device"]
    api.batch(
        of("other", track(messageId="again")),
        of("other", identify("new", messageId="again")),
        of("other", identify("user", messageId="again")),
        of("new", identify("", {"d": 1})),
    )
    assert homes(api, "known", "other", "new") == ["known", "other", "new"]


# What a merge means for content


def content(**config: Any) -> dict[str, Any]:
    audience = {
        "id": "buyers",
        "name": "Bought twice",
        "rules": {
            "any": [{"all": [{"type": "track", "value": "buy", "operator": "greaterThanInclusive", "count": "2"}]}]
        },
    }
    experience = {
        "id": "hero",
        "name": "Hero",
        "type": "nt_experiment",
        "audience": None,
        "config": {
            "traffic": 1,
            "distribution": [1, 0, 0],
            "sticky": True,
            "components": [{"baseline": {"id": "base"}, "variants": [{"id": "v1"}, {"id": "v2"}]}],
            **config,
        },
    }
    return {"audiences": [audience], "experiences": [experience]}


def variant(api: Api, name: str) -> int:
    (selected,) = api.get(name)["experiences"]
    index: int = selected["variantIndex"]
    return index


@pytest.mark.parametrize("minutes", [-90, 0, 90])
def test_the_sticky_assignment_of_the_known_profile_wins_whenever_it_was_seen(
    make_server: MakeServer, minutes: int
) -> None:
    api = make_server(content=content()).environment()
    seen = api.clock.now
    api.clock.pass_(2 * HOUR)
    api.update("known", identify("user"), component("hero", 1, timestamp=seen + minutes * 60_000))
    api.update("device", page(), component("hero", 2, timestamp=seen))
    assert (variant(api, "known"), variant(api, "device")) == (1, 2)
    merged = api.update("device", identify("user"))
    assert [selected["variantIndex"] for selected in merged["experiences"]] == [1]
    assert variant(api, "device") == 1


def test_a_sticky_assignment_that_only_the_other_profile_has_is_kept(make_server: MakeServer) -> None:
    api = make_server(content=content()).environment()
    api.update("known", identify("user"))
    api.update("device", page(), component("hero", 2))
    api.update("device", identify("user"))
    assert variant(api, "known") == 2


def test_the_variants_of_a_known_visitor_do_not_change_by_a_merge(make_server: MakeServer) -> None:
    api = make_server(content=content(distribution=[0.3, 0.3, 0.4], sticky=False)).environment()
    for number in range(20):
        known, device, user = f"known-{number}", f"device-{number}", f"user-{number}"
        api.update(known, identify(user))
        before = variant(api, known)
        api.update(device, page())
        api.update(device, identify(user))
        assert variant(api, device) == before


def test_the_event_histories_add_up_for_audiences(make_server: MakeServer) -> None:
    api = make_server(content=content()).environment()
    api.update("known", track("buy"), identify("user"))
    api.update("device", track("buy"))
    assert api.profile("known")["audiences"] == api.profile("device")["audiences"] == []
    assert api.update("device", identify("user"))["profile"]["audiences"] == ["buyers"]
    assert api.profile("known")["audiences"] == ["buyers"]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_the_event_histories_add_up_within_one_batch(make_server: MakeServer, order: Sequence[str]) -> None:
    api = make_server(content=content()).environment()
    first, second = order
    (profile,) = api.batch(
        of(first, track("buy")),
        of(second, track("buy")),
        of(first, identify("user")),
        of(second, identify("user")),
    )
    assert (profile["id"], profile["audiences"]) == (first, ["buyers"])


# Preflight


def test_a_preflight_that_merges_answers_the_merged_profile_and_stores_nothing(api: Api) -> None:
    api.update("known", identify("user", {"a": 1}))
    api.update("device", identify("phone", {"b": 1}))
    before = [api.get(name) for name in ("known", "device", "user", "phone")]
    answered = api.update("device", page(), identify("user", {"c": 1}), params={"type": "preflight"})["profile"]
    assert (answered["id"], answered["traits"]) == ("known", {"a": 1, "b": 1, "c": 1})
    assert answered["session"]["count"] == 2
    assert [api.get(name) for name in ("known", "device", "user", "phone")] == before
    api.delete("known")
    assert homes(api, "device", "phone") == ["device", "device"]


def test_a_preflight_that_identifies_makes_no_alias(api: Api) -> None:
    api.update("visitor", page())
    api.update("visitor", identify("user"), params={"type": "preflight"})
    assert not api.knows("user")
    api.update("other", identify("user", {"b": 1}))
    assert homes(api, "user", "visitor") == ["other", "visitor"]


def test_a_preflight_answers_what_the_real_request_will(api: Api) -> None:
    api.update("known", identify("user", {"a": 1}))
    api.update("device", page("/device"))
    events = [page(), identify("user", {"c": 1}), track()]
    preflight = api.update("device", *events, params={"type": "preflight"})
    assert api.update("device", *events) == preflight
