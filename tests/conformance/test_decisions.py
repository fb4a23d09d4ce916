"""Every audience and experience case, decided in-process by the core alone: no server, no store, no clock."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from ninetailed_wsgi.core import profile, session
from ninetailed_wsgi.core.audiences import AudienceSet, Facts, compile_audience
from ninetailed_wsgi.core.events import Event, event_time, in_order, message_key
from ninetailed_wsgi.core.experiences import ExperienceSet, compile_experience
from ninetailed_wsgi.enrichment.device import device_type
from tests.tables import by_id, check_each

from .cases import cases_in, files_of, load_cases, milliseconds

CASES = load_cases()


def applied(body: dict[str, Any], arrival: int) -> Event:
    agent = body["context"].get("userAgent")
    device = device_type(agent) if agent else None
    key = message_key(body["messageId"])
    return Event(event_time(body, arrival), body, b"", key, body.get("userId", ""), device)


def visitor(case: dict[str, Any], experiences: ExperienceSet) -> tuple[dict[str, Any], list[tuple[int, int, Any]]]:
    """The profile after all steps, and its history."""
    record = profile.new_record(case["profile"])
    history: list[tuple[int, int, Any]] = []
    for step in case["steps"]:
        for event in in_order([applied(body, milliseconds(step["at"])) for body in step["events"]]):
            profile.apply(record, event, lambda: "session", experiences.sticky)
            history.append((len(history), event.at, event.body))
    return record, history


def decide(case: dict[str, Any], *, counted_late: bool) -> dict[str, Any]:
    content = case["content"]
    audiences = AudienceSet(compile_audience(one["id"], one["name"], one["rules"]) for one in content["audiences"])
    experiences = ExperienceSet(compile_experience(**one) for one in content["experiences"])
    record, history = visitor(case, experiences)
    counts: dict[str, Any] = {}
    audiences.recount(counts, history if counted_late else ())
    for ordinal, at, body in () if counted_late else history:
        audiences.count(counts, ordinal, at, body)
    facts = Facts(
        traits=record["traits"],
        location=profile.english_location(record),
        session_count=session.count(record["session"]),
        device=record["device"],
        # As it comes back from a store.
        counts=json.loads(json.dumps(counts)),
        now=milliseconds(case["now"]),
        next_ordinal=len(history),
    )
    matched = audiences.matched(facts)
    assert [one["id"] for one in audiences.explain(facts) if one["matched"]] == matched
    selected, changes = experiences.select(record["stable_id"], matched, record["sticky"])
    return {"audiences": matched, "experiences": selected, "changes": changes}


@pytest.mark.parametrize("file", files_of())
def test_each_case_of_a_file_is_decided_as_expected(file: str) -> None:
    def decided(case: dict[str, Any]) -> None:
        assert decide(case, counted_late=False) == case["expected"], case["name"]

    check_each(by_id(cases_in(file)), decided)


@pytest.mark.parametrize("file", files_of("audiences"))
def test_audiences_published_after_the_visits_count_them_alike(file: str) -> None:
    def decided(case: dict[str, Any]) -> None:
        assert decide(case, counted_late=True) == case["expected"], case["name"]

    check_each(by_id(cases_in(file)), decided)


def test_there_are_at_least_150_cases_each_with_its_own_id_and_sentence() -> None:
    assert len(CASES) >= 150
    for member in ("id", "name"):
        assert [text for text, times in Counter(case[member] for case in CASES).items() if times > 1] == []
