"""Who gets which variant is decided by the same numbers as in the vendor's own code, computed here by node.

``make fuzz`` compares 100,000 pairs of an experience and a visitor, the tests fewer.
"""

from __future__ import annotations

import json
import os
import random
import string
import subprocess
from typing import Any, NamedTuple

import pytest

from ninetailed_wsgi.core.experiences import LARGEST_HASH, Experience, compile_experience, hash_fraction
from tests.sdk.client import FOLDER

PAIRS = int(os.environ.get("PAIRS", "20000"))
SEED = 20_240_229
# murmurhash-js takes the low byte of each UTF-16 unit where the hosted service takes UTF-8: they agree on ASCII.
CHARACTERS = string.ascii_letters + string.digits + "-_. :/@+%"


_EVERYONE = {"id": "experience1", "traffic": 1, "distribution": [0.5, 0.5], "audience": None}
NAMED: list[tuple[dict[str, Any], str]] = [(_EVERYONE, "123"), (_EVERYONE, "456")]  # spec section 6


class Pair(NamedTuple):
    """An experience and a visitor."""

    experience: int
    stable_id: str
    audiences: list[str]


class Numbers(NamedTuple):
    """What node computed for a pair."""

    traffic_hash: int
    traffic: float
    distribution_hash: int
    distribution: float
    matches: bool
    index: int


def random_id(draw: random.Random) -> str:
    kind = draw.randrange(4)
    if kind == 0:
        return f"{draw.getrandbits(256):064x}"
    if kind == 1:
        return str(draw.getrandbits(draw.randrange(1, 64)))
    return "".join(draw.choices(CHARACTERS, k=draw.randrange(1, 40)))


def random_shares(draw: random.Random) -> list[float]:
    count = draw.randrange(1, 7)
    kind = draw.randrange(4)
    if kind == 0:
        return [1 / count] * count
    if kind == 1:
        return [round(draw.random() / count, 2) for _ in range(count)]  # may not reach 1
    if kind == 2:
        return [float(index == count - 1) for index in range(count)]  # all but the last are nobody's
    return [draw.random() * 2 / count for _ in range(count)]  # may go beyond 1


def random_experience(draw: random.Random) -> dict[str, Any]:
    return {
        "id": random_id(draw),
        "traffic": draw.choice([0, 1, 0.5, 0.1, round(draw.random(), 2), draw.random()]),
        "distribution": random_shares(draw),
        "audience": draw.choice([None, "a", "b"]),
    }


def at_the_border(draw: random.Random) -> tuple[dict[str, Any], str]:
    """An experience whose traffic and first range end exactly at a visitor's own numbers, and the visitor."""
    id, stable_id = random_id(draw), random_id(draw)
    traffic, share = hash_fraction(f"traffic-{id}-{stable_id}"), hash_fraction(f"distribution-{id}-{stable_id}")
    if draw.randrange(2):
        traffic = 1
    return {"id": id, "traffic": traffic, "distribution": [share, 1 - share], "audience": None}, stable_id


@pytest.fixture(scope="module")
def drawn() -> tuple[list[dict[str, Any]], list[Pair]]:
    """Experiences and pairs, the same in every run."""
    draw = random.Random(SEED)
    experiences = [random_experience(draw) for _ in range(1_000)]
    chosen = [draw.randrange(len(experiences)) for _ in range(PAIRS - 1_000)]
    pairs = [Pair(index, random_id(draw), draw.choice([[], ["a"], ["b"], ["a", "b"]])) for index in chosen]
    for experience, stable_id in [at_the_border(draw) for _ in range(998)] + NAMED:
        experiences.append(experience)
        pairs.append(Pair(len(experiences) - 1, stable_id, []))
    return experiences, pairs


@pytest.fixture(scope="module")
def computed(node: str, drawn: tuple[list[dict[str, Any]], list[Pair]]) -> list[Numbers]:
    """What the vendor's code says of each pair."""
    experiences, pairs = drawn
    given = json.dumps({"experiences": experiences, "pairs": pairs})
    done = subprocess.run(
        [node, "allocation.js"], cwd=FOLDER, input=given, text=True, capture_output=True, timeout=120, check=True
    )
    return [Numbers(*json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def compiled(drawn: tuple[list[dict[str, Any]], list[Pair]]) -> list[Experience]:
    return [compile_experience(given["id"], "", "nt_experiment", given["audience"], given) for given in drawn[0]]


def test_every_pair_was_computed_and_every_outcome_occurs(computed: list[Numbers]) -> None:
    assert len(computed) == PAIRS
    assert {numbers.index for numbers in computed} == set(range(6))
    assert {numbers.matches for numbers in computed} == {True, False}


def test_every_number_of_both_hashes_is_the_one_of_the_vendors_code(
    drawn: tuple[list[dict[str, Any]], list[Pair]], compiled: list[Experience], computed: list[Numbers]
) -> None:
    for pair, numbers in zip(drawn[1], computed, strict=True):
        experience = compiled[pair.experience]
        traffic = hash_fraction(experience.traffic_prefix + pair.stable_id)
        distribution = hash_fraction(experience.distribution_prefix + pair.stable_id)
        assert (traffic, distribution) == (numbers.traffic, numbers.distribution), pair
        assert traffic == numbers.traffic_hash / LARGEST_HASH, pair
        assert distribution == numbers.distribution_hash / LARGEST_HASH, pair


def test_every_visitor_gets_the_variant_that_the_vendors_code_selects(
    drawn: tuple[list[dict[str, Any]], list[Pair]], compiled: list[Experience], computed: list[Numbers]
) -> None:
    for pair, numbers in zip(drawn[1], computed, strict=True):
        experience = compiled[pair.experience]
        index = experience.assign(experience.allocated(pair.stable_id), pair.audiences, {})
        assert index == (numbers.index if numbers.matches else None), pair


def test_the_numbers_that_the_specification_names_are_those_of_the_vendors_code(computed: list[Numbers]) -> None:
    assert [numbers.distribution for numbers in computed[-2:]] == [0.1082723711403721, 0.6206237130380756]
