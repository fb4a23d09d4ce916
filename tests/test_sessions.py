"""Visitors of many sessions: what is told of them when the oldest are no longer kept one by one."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ninetailed_wsgi.core.session import SPANS_KEPT, TIMEOUT, answer, count, landing_page, merge, new_session, touch

HOUR = 3_600_000
MINUTE = 60_000
FIRST = 1_700_000_000_000


def visited(*times: int) -> dict[str, Any]:
    """The session state after events at these times, sent in this order; session ids count from 1."""
    session, ids = new_session(), itertools.count(1)
    for at in times:
        touch(session, at, None, lambda: f"session-{next(ids)}")
    return session


def hourly(number: int, start: int = FIRST, minutes: int = 2) -> list[int]:
    """Sessions of so many minutes, one each hour."""
    return [at for index in range(number) for at in (start + index * HOUR, start + index * HOUR + minutes * MINUTE)]


def told(session: dict[str, Any]) -> tuple[int, float]:
    """Count, and the minutes of all sessions together."""
    said = answer(session)
    return said["count"], round(said["averageSessionLength"] * said["count"] / 60, 6)


@pytest.mark.parametrize("number", [1, SPANS_KEPT, SPANS_KEPT + 1, SPANS_KEPT + 2, 3 * SPANS_KEPT])
def test_sessions_count_and_last_alike_however_many_there_are(number: int) -> None:
    session = visited(*hourly(number))
    assert told(session) == (count(session), 2 * number) == (number, 2 * number)
    assert len(session["spans"]) == min(number, SPANS_KEPT)
    assert answer(session)["activeSessionLength"] == 120


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SPANS_KEPT + 3, SPANS_KEPT + 5),
        (SPANS_KEPT + 3, 2),
        (2, SPANS_KEPT + 3),
        (2, 3),
        (SPANS_KEPT + 3, 0),
        (0, SPANS_KEPT + 3),
    ],
)
def test_the_sessions_of_two_profiles_add_up(one: int, other: int) -> None:
    known, device = visited(*hourly(one)), visited(*hourly(other, FIRST + 1000 * HOUR, minutes=3))
    merged = merge(known, device)
    assert told(merged) == (one + other, 2 * one + 3 * other)
    assert told(merge(device, known)) == told(merged)
    # And they go on adding up.
    touch(merged, FIRST + 5000 * HOUR, None, lambda: "new")
    assert told(merged) == (one + other + 1, 2 * one + 3 * other)
    assert len(merged["spans"]) <= SPANS_KEPT


def test_after_a_merge_the_spans_are_in_the_order_of_their_ends() -> None:
    known = visited(FIRST, FIRST + 20 * MINUTE, FIRST + 10 * HOUR)
    device = visited(FIRST + 10 * MINUTE, FIRST + 5 * HOUR)
    merged = merge(known, device)
    ends = [span[1] for span in merged["spans"]]
    assert ends == sorted(ends)
    assert merged["id"] == known["id"]


def test_spans_that_end_at_the_same_moment_keep_the_current_one_last() -> None:
    known, device = visited(FIRST, FIRST + 20 * MINUTE), visited(FIRST + 10 * MINUTE, FIRST + 20 * MINUTE)
    assert merge(known, device)["spans"] == [[FIRST + 10 * MINUTE, FIRST + 20 * MINUTE], [FIRST, FIRST + 20 * MINUTE]]


@pytest.fixture
def long_known() -> dict[str, Any]:
    """More sessions than are kept one by one: of the three oldest, only begin, end and sum are known."""
    return visited(*hourly(SPANS_KEPT + 3))


@pytest.mark.parametrize(
    ("at", "sessions", "minutes"),
    [
        # Among the oldest an event changes nothing, not even between two of them.
        (FIRST + HOUR, 0, 0),
        (FIRST + HOUR + 45 * MINUTE, 0, 0),
        # At their ends it makes them longer, up to the timeout.
        (FIRST - 10 * MINUTE, 0, 10),
        (FIRST - TIMEOUT, 0, 30),
        (FIRST - TIMEOUT - 1, 1, 0),
        (FIRST + 2 * HOUR + 2 * MINUTE + 29 * MINUTE, 0, 29),
    ],
)
def test_a_late_event_among_the_oldest_sessions(
    long_known: dict[str, Any], at: int, sessions: int, minutes: int
) -> None:
    before = told(long_known)
    touch(long_known, at, None, lambda: "never")
    assert told(long_known) == (before[0] + sessions, before[1] + minutes)


def test_the_oldest_sessions_grow_as_a_whole(long_known: dict[str, Any]) -> None:
    for at in (FIRST - 20 * MINUTE, FIRST - 40 * MINUTE, FIRST - 60 * MINUTE):
        touch(long_known, at, None, lambda: "never")
    assert told(long_known) == (SPANS_KEPT + 3, 2 * (SPANS_KEPT + 3) + 60)
    assert long_known["older"] == [3, 66 * MINUTE, FIRST - HOUR, FIRST + 2 * HOUR + 2 * MINUTE]


def test_two_that_were_long_known_are_remembered_from_the_first_begin_to_the_last_end() -> None:
    known, device = visited(*hourly(SPANS_KEPT + 3)), visited(*hourly(SPANS_KEPT + 2, FIRST + 1000 * HOUR))
    expected = [5, 10 * MINUTE, FIRST, FIRST + 1001 * HOUR + 2 * MINUTE]
    assert merge(known, device)["older"] == merge(device, known)["older"] == expected


def test_a_visitor_without_an_event_has_no_session() -> None:
    session = new_session()
    assert answer(session) == {
        "id": "",
        "isReturningVisitor": False,
        "landingPage": {"path": "", "query": {}, "referrer": "", "search": "", "url": ""},
        "count": 0,
        "activeSessionLength": 0,
        "averageSessionLength": 0,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1", "1"), (1, "1"), (1.5, "1.5"), (False, "false"), ("", ""), (None, None), ({}, None), ([], None),
        (["1", None], "1"), ([None, "1"], "1"), (["1", {"b": "2"}], "1"), (["1", ["2"]], "1"), (["1", 2], "2"),
        (["1", True, None], "true"), (["1", ""], ""), ([None, {}, [["1"]]], None), (["1"] * 9 + [None] * 9, "1"),
    ],
)  # fmt: skip
def test_a_landing_page_has_the_last_text_of_each_parameter(value: object, text: str | None) -> None:
    expected = {"b": "c"} if text is None else {"a": text, "b": "c"}
    assert landing_page({"query": {"a": value, "b": "c"}})["query"] == expected
