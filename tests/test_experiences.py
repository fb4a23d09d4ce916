from __future__ import annotations

import random
from typing import Any

import pytest

from ninetailed_wsgi.core.experiences import ContentError, ExperienceSet, compile_experience, hash_fraction

HALVES = {"traffic": 1, "distribution": [0.5, 0.5]}


def experiences(*configs: object, **members: Any) -> ExperienceSet:
    return ExperienceSet(
        compile_experience(f"experience{index}", "", "nt_experiment", members.get("audience"), config)
        for index, config in enumerate(configs, start=1)
    )


def index_of(config: object, stable_id: str, sticky: dict[str, int] | None = None) -> int | None:
    items, _ = experiences(config).select(stable_id, [], sticky or {})
    return items[0]["variantIndex"] if items else None


def problems_of(config: object, type: str = "nt_experiment") -> dict[str, str]:
    with pytest.raises(ContentError) as caught:
        compile_experience("broken", "Broken", type, None, config)
    return dict(caught.value.problems)


def remarks_of(**config: object) -> list[tuple[str, str]]:
    components = [{"baseline": {"id": "hero"}, "variants": [{"id": "b"}, {"id": "c"}]}]
    compiled = compile_experience("e", "E", "nt_experiment", None, {"components": components, **config})
    return [(remark.kind, f"{remark.path}: {remark.message}") for remark in compiled.remarks]


# Hashes


def test_the_distribution_values_of_the_specification_are_reproduced() -> None:
    assert hash_fraction("distribution-experience1-123") == 0.1082723711403721
    assert hash_fraction("distribution-experience1-456") == 0.6206237130380756


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("hello", 0x248BFA47),
        ("hello, world", 0x149BBB7F),
        ("The quick brown fox jumps over the lazy dog", 0x2E4FF723),
    ],
)
def test_the_hash_is_murmurhash3_of_32_bits_with_seed_0_as_a_fraction(text: str, number: int) -> None:
    assert hash_fraction(text) == number / 4294967295


def test_an_id_with_half_of_a_surrogate_pair_is_hashed_all_the_same() -> None:
    assert 0 <= hash_fraction("traffic-\ud800-x") <= 1


# Allocation


def test_a_visitor_keeps_the_variant_when_traffic_grows() -> None:
    visitors = [f"visitor-{number}" for number in range(500)]
    small, large = ({one: index_of({**HALVES, "traffic": share}, one) for one in visitors} for share in (0.3, 0.6))
    assert sum(index is not None for index in small.values()) < sum(index is not None for index in large.values())
    assert all(large[one] == index for one, index in small.items() if index is not None)


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.33, 0.33, 0.34], [0.1, 0.2, 0.3, 0.4]])
def test_visitors_spread_over_the_variants_by_their_shares(shares: list[float]) -> None:
    """Chi-squared at a level of 0.001, degrees of freedom 1, 2 and 3, with fixed ids."""
    experience = compile_experience("experience1", "", "nt_experiment", None, {"traffic": 1, "distribution": shares})
    visitors = 100_000
    ids = random.Random(2026)
    seen = [0] * len(shares)
    for _ in range(visitors):
        index = experience.allocated(f"{ids.getrandbits(256):064x}")
        assert index is not None
        seen[index] += 1
    expected = [visitors * share for share in shares]
    deviation = sum((one - other) ** 2 / other for one, other in zip(seen, expected, strict=True))
    assert deviation < {2: 10.83, 3: 13.82, 4: 16.27}[len(shares)]


def test_ranges_are_summed_in_order_as_a_client_sums_them() -> None:
    shares = [0.1, 0.2, 0.3, 0.4]
    experience = compile_experience("experience1", "", "nt_experiment", None, {"traffic": 1, "distribution": shares})
    # 0.1 + 0.2 is not 0.3 in floating point: a value between the two belongs to the second range.
    assert experience.ends == (0.1, 0.30000000000000004, 0.6000000000000001, 1.0)
    assert experience.distributed(0.30000000000000004) == 1
    assert experience.distributed(0.3000000000000001) == 2


@pytest.mark.parametrize(
    ("shares", "value", "index"),
    [
        ([0.5, 0.5], 0.0, 0),
        ([0.0, 1.0], 0.0, 0),
        ([0.0, 1.0], 1e-9, 1),
        ([0.5, 0.5], 0.5, 0),
        ([0.5, 0.5], 1.0, 1),
        ([0.5, 0.0, 0.5], 0.5, 0),
        ([0.5, 0.0, 0.5], 0.6, 2),
        ([0.5, 0.4], 0.95, 0),
        ([], 0.3, 0),
    ],
)
def test_the_first_range_that_holds_a_value_is_chosen_borders_included(
    shares: list[float], value: float, index: int
) -> None:
    config = {"traffic": 1, "distribution": shares}
    assert compile_experience("experience1", "", "nt_experiment", None, config).distributed(value) == index


def test_every_eligible_visitor_is_below_the_share_of_traffic_strictly() -> None:
    share = hash_fraction("traffic-experience1-visitor")
    assert index_of({**HALVES, "traffic": share}, "visitor") is None
    assert index_of({**HALVES, "traffic": share + 1e-12}, "visitor") is not None


def test_an_experience_of_an_audience_is_for_its_members_alone() -> None:
    ours = experiences(HALVES, audience="pro")
    assert ours.select("123", ["free"], {}) == ([], [])
    assert ours.select("123", ["free", "pro"], {})[0][0]["experienceId"] == "experience1"


@pytest.mark.parametrize("index", [0, 1, 7])
def test_a_sticky_assignment_decides_whatever_else_would(index: int) -> None:
    closed = {"traffic": 0, "distribution": [1, 0], "sticky": True}
    assert index_of(closed, "123", {"experience1": index}) == index
    assert index_of({**closed, "sticky": False}, "123", {"experience1": index}) is None


# Answers


def test_answers_do_not_depend_on_earlier_ones() -> None:
    config = {**HALVES, "sticky": True, "components": [{"baseline": {"id": "a"}, "variants": [{"id": "b"}]}]}
    ours = experiences(config)
    first = [ours.select(stable_id, [], {}) for stable_id in ("123", "456")]
    ours.select("123", [], {"experience1": 9})
    for items in ours.select("123", [], {}):
        items.clear()
    assert [ours.select(stable_id, [], {}) for stable_id in ("123", "456")] == first


def test_the_first_replacement_of_a_baseline_counts_within_one_experience() -> None:
    component = {"baseline": {"id": "a"}, "variants": [{"id": "b"}]}
    config = {"traffic": 1, "distribution": [0, 1], "components": [component, {**component, "variants": [{"id": "c"}]}]}
    items, _ = experiences(config).select("123", [], {})
    assert items[0]["variants"] == {"a": "b"}


def test_two_experiences_of_one_id_are_refused() -> None:
    one = compile_experience("a", "", "nt_experiment", None, None)
    with pytest.raises(ValueError, match="same id"):
        ExperienceSet([one, one])


# Reasons


def test_explain_tells_the_numbers_and_what_decided() -> None:
    ours = experiences({**HALVES, "traffic": 0.7}, audience="pro")
    assert ours.explain("123", ["pro"], {}) == [
        {
            "id": "experience1",
            "name": "",
            "type": "nt_experiment",
            "audience": "pro",
            "audience_matched": True,
            "traffic": 0.7,
            "traffic_hash": hash_fraction("traffic-experience1-123"),
            "in_traffic": True,
            "ranges": [[0, 0.5], [0.5, 1.0]],
            "distribution_hash": 0.1082723711403721,
            "distribution_index": 0,
            "sticky": False,
            "sticky_index": None,
            "decided_by": "distribution",
            "variantIndex": 0,
            "variants": {},
        }
    ]


def test_explain_tells_why_an_experience_is_left_out() -> None:
    ours = experiences({**HALVES, "traffic": 0.6}, {**HALVES, "traffic": 1}, audience="pro")
    outside, other = ours.explain("123", [], {})
    assert (outside["audience_matched"], outside["in_traffic"], outside["decided_by"], outside["variantIndex"]) == (
        False,
        False,
        None,
        None,
    )
    assert (other["audience_matched"], other["in_traffic"], other["variantIndex"]) == (False, True, None)


def test_explain_tells_that_a_sticky_assignment_decided() -> None:
    (reason,) = experiences({"sticky": True, "traffic": 0}).explain("123", [], {"experience1": 1})
    assert (reason["decided_by"], reason["sticky_index"], reason["distribution_index"], reason["variantIndex"]) == (
        "sticky",
        1,
        0,
        1,
    )


def test_explain_and_select_agree() -> None:
    configs = [
        {"traffic": traffic, "distribution": [0.3, 0.7], "sticky": sticky}
        for traffic in (0, 0.5, 1)
        for sticky in (True, False)
    ]
    ours = experiences(*configs)
    for number in range(50):
        sticky = {"experience1": 1, "experience2": 1} if number % 2 else {}
        selected = {item["experienceId"]: item["variantIndex"] for item in ours.select(str(number), [], sticky)[0]}
        explained = ours.explain(str(number), [], sticky)
        assert {one["id"]: one["variantIndex"] for one in explained if one["variantIndex"] is not None} == selected


# What is wrong with content


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        ([], "config", "found a list, expected an object"),
        ("x", "config", 'found "x", expected an object'),
        ({"traffic": 1.5}, "traffic", "found 1.5, expected a number from 0 to 1"),
        ({"traffic": -0.1}, "traffic", "found -0.1, expected a number from 0 to 1"),
        ({"traffic": "all"}, "traffic", 'found "all", expected a number from 0 to 1'),
        ({"traffic": "1.5"}, "traffic", "found 1.5, expected a number from 0 to 1"),
        ({"traffic": "50 %"}, "traffic", 'found "50 %", expected a number from 0 to 1'),
        ({"traffic": True}, "traffic", "found true, expected a number from 0 to 1"),
        ({"distribution": 0.5}, "distribution", "found 0.5, expected a list of shares"),
        ({"distribution": [0.5, -0.5]}, "distribution[1]", "found -0.5, expected a share, 0 or more"),
        ({"distribution": [0.5, "half"]}, "distribution[1]", 'found "half", expected a share, 0 or more'),
        ({"distribution": [0.5, "-0.5"]}, "distribution[1]", 'found "-0.5", expected a share, 0 or more'),
        ({"distribution": [float("nan")]}, "distribution[0]", "expected a share, 0 or more"),
        ({"distribution": [10**400]}, "distribution[0]", "expected a share, 0 or more"),
        ({"traffic": 10**400}, "traffic", "expected a number from 0 to 1"),
        ({"sticky": "yes"}, "sticky", 'found "yes", expected true or false'),
        ({"components": 5}, "components", "found 5, expected a list"),
        ({"components": [{}]}, "components[0].baseline", "found nothing, expected an object"),
        (
            {"components": [{"baseline": {"id": 5}}]},
            "components[0].baseline.id",
            "found 5, expected the id of an entry",
        ),
        (
            {"components": [{"baseline": {"id": "a"}, "variants": "b"}]},
            "components[0].variants",
            'found "b", expected a list',
        ),
        (
            {"components": [{"baseline": {"id": "a"}, "variants": [5]}]},
            "components[0].variants[0]",
            "found 5, expected an object",
        ),
        (
            {"components": [{"baseline": {"id": "a"}, "variants": [{"id": 5}]}]},
            "components[0].variants[0].id",
            "found 5",
        ),
        (
            {"components": [{"baseline": {"id": "a"}, "variants": [{"id": "b", "hidden": 1}]}]},
            "components[0].variants[0].hidden",
            "found 1",
        ),
        (
            {"components": [{"type": "InlineVariable", "baseline": {"value": 1}}]},
            "components[0].key",
            "found nothing, expected the name of a variable",
        ),
        (
            {"components": [{"type": "InlineVariable", "key": "a", "valueType": "Date", "baseline": {"value": 1}}]},
            "components[0].valueType",
            'found "Date", expected one of String',
        ),
        (
            {"components": [{"type": "InlineVariable", "key": "a", "baseline": {}}]},
            "components[0].baseline.value",
            "found nothing, expected a value",
        ),
        (
            {"components": [{"type": "InlineVariable", "key": "a", "baseline": {"value": 1}, "variants": [{}]}]},
            "components[0].variants[0].value",
            "found nothing",
        ),
    ],
)
def test_a_mistake_in_a_configuration_is_named_with_its_place_and_what_was_expected(
    config: object, path: str, message: str
) -> None:
    found = problems_of(config)
    assert list(found) == [path]
    assert message in found[path]


def test_an_unknown_type_of_experience_is_named() -> None:
    assert problems_of({}, type="nt_test") == {
        "type": 'found "nt_test", expected one of nt_experiment, nt_personalization'
    }


def test_every_mistake_of_an_experience_is_reported_at_once() -> None:
    config = {"traffic": 2, "distribution": [-1], "sticky": 1, "components": [{"baseline": {"id": 5}}]}
    expected = ["type", "traffic", "distribution[0]", "sticky", "components[0].baseline.id"]
    assert list(problems_of(config, type="x")) == expected


# Remarks


@pytest.mark.parametrize(
    ("distribution", "note"),
    [
        ([0.8, 0.1, 0.8], "found shares that add up to 1.7, expected 1: whatever is beyond 1 reaches nobody"),
        ([50, 25, 25], "found shares that add up to 100, expected 1"),
        ([0.2, 0.2, 0.2], "found shares that add up to 0.6, expected 1: the other visitors get the baseline"),
        ([0, 0, 0], "found shares that add up to 0, expected 1"),
        ([0.5, 0.5], "found 2 shares, expected 3, the baseline's first: variant 2 reaches nobody"),
        (None, "found 2 shares, expected 3, the baseline's first: variant 2 reaches nobody"),
        ([0.25, 0.25, 0.25, 0.25], "found 4 shares, expected 3, the baseline's first: a variant that does not exist"),
    ],
)
def test_shares_that_do_not_fit_are_served_and_noted(distribution: object, note: str) -> None:
    (remark,) = remarks_of(traffic=1, distribution=distribution)
    assert remark[0] == "note"
    assert remark[1].startswith(f"distribution: {note}")


@pytest.mark.parametrize("distribution", [[0.34, 0.33, 0.33], [0.33, 0.33, 0.33], [0, 0.5, 0.5], [0.2, 0.8, 0, 0]])
def test_shares_that_fit_are_not_remarked_on(distribution: list[float]) -> None:
    assert remarks_of(traffic=1, distribution=distribution) == []


def test_shares_of_many_variants_that_were_rounded_are_not_remarked_on() -> None:
    components = [{"baseline": {"id": "hero"}, "variants": [{"id": letter} for letter in "bcdef"]}]
    assert remarks_of(traffic=1, distribution=[0.17] * 6, components=components) == []


def test_numbers_in_quotes_are_read_as_numbers_and_remarked_on() -> None:
    quoted = {"traffic": "1", "distribution": ["0", "0.5", "0.5"]}
    numbers = {"traffic": 1, "distribution": [0, 0.5, 0.5]}
    for stable_id in ("123", "456", "789"):
        assert index_of(quoted, stable_id) == index_of(numbers, stable_id)
    paths = ["traffic", "distribution[0]", "distribution[1]", "distribution[2]"]
    assert remarks_of(**quoted) == [("odd", f"{path}: is a text, which is read as a number") for path in paths]


def test_what_one_experience_changes_twice_is_noted() -> None:
    replacement = {"baseline": {"id": "hero"}, "variants": [{"id": "b"}]}
    variable = {"type": "InlineVariable", "key": "k", "baseline": {"value": 1}, "variants": [{"value": 2}]}
    components = [replacement, variable, replacement, variable, variable]
    assert remarks_of(traffic=1, components=components) == [
        ("note", 'components: "hero" is replaced 2 times: only the first component counts'),
        ("note", 'components: "k" is set 3 times: the answer has each of them'),
    ]
