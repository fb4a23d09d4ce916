"""A preflight and the create that repeats it: one profile, the same variants, whatever the clock and the events say."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from support import identify, page

from ninetailed_wsgi.testing import Answer, Client, Harness, experience, experience_replacement, flag

CONTENT = [
    experience(None, (), experience_replacement("home", control="home-a", variants=["home-b"])),
    flag("theme", control="light", variants=["dark"]),
]
MESSAGE = "5f0e5c1a-3f0b-4c8e-9d1e-6b1f2a7c9d10"
START = "2024-05-06T07:00:00Z"
TIMES: dict[str, dict[str, Any]] = {
    "no time": {},
    "an empty time": {"timestamp": "", "originalTimestamp": ""},
    "the time of the preflight": {"timestamp": START},
    "a time five minutes before": {"originalTimestamp": "2024-05-06T06:55:00Z"},
    "a time ten minutes before": {"sentAt": "2024-05-06T06:50:00Z"},
    "a time of yesterday": {"timestamp": "2024-05-05T07:00:00Z"},
    "a time in the future": {"timestamp": "2024-05-07T07:00:00Z"},
}


def data(answer: Answer) -> Any:
    assert answer.status == 200, answer.body
    return answer.document["data"]


def create(client: Client, *events: dict[str, Any], preflight: bool = False) -> Any:
    return data(client.post("/profiles" + "?type=preflight" * preflight, {"events": events}))


def clients(harness: Harness) -> tuple[Client, Client]:
    """A server that renders and a browser, of either generation."""
    return harness.space_client, harness.client


@pytest.mark.parametrize("members", TIMES.values(), ids=TIMES)
@pytest.mark.parametrize("seconds", [0, 301, 600])
def test_a_replay_to_no_id_is_the_profile_that_the_preflight_foresaw(members: dict[str, Any], seconds: int) -> None:
    with Harness(CONTENT, now=START) as harness:
        for minute in range(0, 10, 3):  # wherever a border of ten minutes may lie
            events = [page(messageId=str(uuid.uuid4()), **members), identify(traits={"plan": "pro"})]
            told = create(harness.space_client, *events, preflight=True)
            harness.clock.advance(seconds=seconds)
            real = create(harness.space_client, *events)
            assert real["profile"]["id"] == real["profile"]["stableId"] == told["profile"]["id"], minute
            assert (real["experiences"], real["changes"]) == (told["experiences"], told["changes"])
            harness.clock.advance(minutes=3)


@pytest.mark.parametrize("access", ["open", "guarded"])
def test_the_prefix_of_the_replay_does_not_matter(access: str) -> None:
    with Harness(CONTENT, access=access) as harness:
        for server, browser in (clients(harness), clients(harness)[::-1]):
            event = page(messageId=str(uuid.uuid4()))
            told = create(server, event, preflight=True)
            assert create(browser, event)["profile"]["id"] == told["profile"]["id"]


def test_a_replay_to_the_answered_id_creates_it() -> None:
    with Harness(CONTENT) as harness:
        event = page(messageId=str(uuid.uuid4()))
        told = create(harness.space_client, event, preflight=True)
        id = told["profile"]["id"]
        assert harness.client.get(f"/profiles/{id}").status == 404
        real = data(harness.space_client.post(f"/profiles/{id}", {"events": [event]}))
        assert (real["profile"]["id"], real["profile"]["stableId"]) == (id, id)
        assert real["experiences"] == told["experiences"]


@pytest.mark.parametrize("forms", ["none, id", "id, none", "none, none", "id, id"])
def test_a_replay_in_both_forms_is_one_profile_and_applies_no_event_twice(forms: str) -> None:
    with Harness(CONTENT) as harness:
        events = [page(messageId=str(uuid.uuid4())), identify(traits={"plan": "pro"}, messageId=str(uuid.uuid4()))]
        told = create(harness.space_client, *events, preflight=True)["profile"]
        paths = {"none": "/profiles", "id": f"/profiles/{told['id']}"}
        for form in forms.split(", "):
            real = data(harness.space_client.post(paths[form], {"events": events}))["profile"]
            assert {**real, "session": None} == {**told, "session": None}
            harness.clock.advance(minutes=4)
        assert len(harness.events) == 2


@pytest.mark.parametrize("path", ["/events", "/import/events"])
def test_a_batch_that_repeats_a_preflight_and_its_replay_are_one_profile(path: str) -> None:
    with Harness(CONTENT) as harness:
        events = [page(messageId=str(uuid.uuid4())), identify(traits={"plan": "pro"}, messageId=str(uuid.uuid4()))]
        told = create(harness.space_client, *events, preflight=True)
        id = told["profile"]["id"]
        data(harness.space_client.post(path, {"events": [{**event, "anonymousId": id} for event in events]}))
        for form in ("/profiles", f"/profiles/{id}"):
            real = data(harness.space_client.post(form, {"events": events}))
            assert (real["profile"]["id"], real["profile"]["stableId"]) == (id, id)
            assert real["profile"]["traits"] == {"plan": "pro"}
            assert (real["experiences"], real["changes"]) == (told["experiences"], told["changes"])
        assert len(harness.events) == 2


def test_a_message_leads_to_its_profile_for_ten_minutes_and_then_begins_others() -> None:
    # As in a page that a shared cache gives out with the events of one preflight.
    with Harness(CONTENT, now=START) as harness:
        event = page(messageId=str(uuid.uuid4()), timestamp=START)
        create(harness.space_client, event, preflight=True)
        first = create(harness.client, event)["profile"]["id"]
        harness.clock.advance(minutes=10)
        assert create(harness.client, event)["profile"]["id"] == first
        harness.clock.advance(seconds=1)
        later = {create(harness.client, event, preflight=each % 2 == 0)["profile"]["id"] for each in range(4)}
        assert len(later) == 4
        assert first not in later


def test_a_visitor_who_stays_does_not_keep_the_door_open() -> None:
    with Harness(CONTENT) as harness:
        event = page(messageId=str(uuid.uuid4()))
        visitor = harness.visitor(create(harness.client, event)["profile"]["id"])
        for _ in range(4):
            visitor.waits(minutes=3).views("/")
        assert create(harness.client, event)["profile"]["id"] != visitor.id


@pytest.mark.parametrize("text", ["message-1", "1", str(uuid.UUID(int=0)), "{" + MESSAGE + "}"])
def test_a_message_id_that_many_may_send_never_leads_to_the_same_profile(text: str) -> None:
    with Harness(CONTENT) as harness:
        event = page(messageId=text)
        ids = {create(harness.client, event, preflight=each == 0)["profile"]["id"] for each in range(3)}
        assert len(ids) == 3


def test_only_the_message_of_the_first_event_counts() -> None:
    with Harness(CONTENT) as harness:
        first, second = (page(messageId=str(uuid.uuid4())) for _ in range(2))
        told = create(harness.client, first, second, preflight=True)["profile"]["id"]
        assert create(harness.client, second)["profile"]["id"] != told
        assert create(harness.client, first)["profile"]["id"] == told


def test_a_replay_that_identifies_somebody_known_joins_their_profile() -> None:
    with Harness(CONTENT) as harness:
        known = harness.visitor("anna").identifies("user-7").id
        events = [identify("user-7", messageId=str(uuid.uuid4()))]
        told = create(harness.space_client, *events, preflight=True)
        real = create(harness.space_client, *events)
        assert told["profile"]["id"] == real["profile"]["id"] == known
        assert harness.service.record(harness.environment, "anna")["aliases"] == ["user-7"]


def test_a_deleted_visitor_does_not_come_back_by_the_old_message() -> None:
    with Harness(CONTENT) as harness:
        event = identify(traits={"plan": "pro"}, messageId=str(uuid.uuid4()))
        id = create(harness.client, event)["profile"]["id"]
        data(harness.client.delete(f"/profiles/{id}"))
        anew = create(harness.client, page(messageId=event["messageId"]))["profile"]
        assert anew["traits"] == {}


@pytest.mark.parametrize("access", ["open", "guarded"])
def test_creates_at_the_same_moment_are_one_profile(access: str) -> None:
    barrier = Barrier(8)
    with Harness(CONTENT, access=access) as harness, ThreadPoolExecutor(8) as pool:

        def begin(events: list[dict[str, Any]]) -> str:
            barrier.wait(60)
            id: str = create(harness.client, *events)["profile"]["id"]
            return id

        for number in range(6):
            events = [page(messageId=str(uuid.uuid4())), identify("" if number % 2 else f"user-{number}", {"a": 1})]
            assert len(set(pool.map(begin, [events] * 8))) == 1
        assert len(harness.events) == 12
