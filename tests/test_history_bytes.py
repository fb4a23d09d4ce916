"""A profile's history is bounded by bytes, and audiences count what is kept, no more and no less."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from ninetailed_wsgi.core import retention
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.testing import Harness, audience, performed, viewed

MOST = 65_536
EARLY = audience(viewed("/early"), id="early")
SINCE = audience(performed("other"), id="since")
LONG = {"text": "x" * 10_000}


def kept(harness: Harness, name: str) -> list[dict[str, Any]]:
    organization, environment = harness.settings.environments[0].split("/")
    record = harness.service.record(Environment(organization, environment), name, events=True)
    return [entry["event"] for entry in record["events"]]


@pytest.mark.parametrize("size", [10, 4_000, 60_000])
def test_the_oldest_events_go_first_and_the_newest_stay_within_the_bytes(size: int) -> None:
    with Harness(history_bytes=MOST) as harness:
        visitor = harness.visitor("anna")
        for number in range(30):
            visitor.tracks("long", number=number, text="x" * size)
        numbers = [event["properties"]["number"] for event in kept(harness, "anna")]
        assert numbers == list(range(30))[-len(numbers) :]
        assert len(numbers) == 30 or size > 2_000
        assert sum(len(orjson.dumps(event)) for event in kept(harness, "anna")) <= MOST * 1.5


def test_an_event_that_went_counts_no_more_also_for_an_audience_of_today() -> None:
    with Harness(history_bytes=MOST) as harness:
        harness.publish(EARLY)
        visitor = harness.visitor("anna").views("/early")
        for _ in range(3):
            visitor.tracks("long", **LONG)
        assert visitor.audiences == ["early"]
        for _ in range(5):
            visitor.tracks("long", **LONG)
        assert visitor.audiences == []
        harness.publish(audience(performed("long", at_least=1), id="new"), audience(viewed("/early"), id="again"))
        assert visitor.views("/").audiences == ["new"]


def test_two_histories_that_become_one_keep_to_the_bytes_with_the_next_events() -> None:
    with Harness(history_bytes=MOST) as harness:
        harness.publish(EARLY)
        first, second = harness.visitor("first"), harness.visitor("second")
        first.views("/early").identifies("user")
        for visitor in (first, second):
            for _ in range(5):
                visitor.tracks("long", **LONG)
        second.identifies("user")
        second.tracks("last")
        assert second.id == "first"
        assert second.audiences == []
        events = kept(harness, "first")
        assert events[-1]["event"] == "last"
        assert sum(len(orjson.dumps(event)) for event in events) <= MOST * 1.5


def test_a_history_of_the_time_before_sizes_were_noted_stays_until_its_bytes_are_needed() -> None:
    record: dict[str, Any] = {}
    retention.weigh(record, 400, 1_000, MOST)
    assert retention.first_ordinal(record) == 0
    for ordinal in range(401, 480):
        retention.weigh(record, ordinal, 1_000, MOST)
    assert retention.first_ordinal(record) > 400


@pytest.mark.parametrize("seed", range(5))
def test_of_any_events_what_is_noted_is_within_the_bytes_and_not_much_less(seed: int) -> None:
    draw, record, sizes = random.Random(seed), dict[str, Any](), list[int]()
    for ordinal in range(2_000):
        sizes.append(draw.choice((10, 300, 2_000, 20_000)))
        retention.weigh(record, ordinal, sizes[-1], MOST)
        left = sum(sizes[retention.first_ordinal(record) :])
        assert left == sum(record["sizes"][1::2]) <= MOST
        assert ordinal < 300 or left > MOST - 20_000 - MOST / 16
        assert len(record["sizes"]) <= 66


def test_a_history_written_as_a_whole_is_noted_as_a_whole() -> None:
    record: dict[str, Any] = {}
    retention.weigh_again(record, 70, [500] * 1_000)
    assert retention.first_ordinal(record) == 70
    assert sum(record["sizes"][1::2]) == 500_000
    assert len(record["sizes"]) <= 66
    retention.weigh(record, 1_070, 500, 100_000)
    assert 70 + 800 < retention.first_ordinal(record) <= 70 + 840
