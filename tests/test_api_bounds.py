"""What one profile may hold: traits are refused beyond a limit, and whatever else is sent, its record stays small."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from support import Api, Clock, Server, component, identify, of, page, refusal, track

from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.service.imports import Consumer
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.disk.queue import ImportQueue
from ninetailed_wsgi.store.disk.store import DiskStore

MakeServer = Callable[..., Server]
LIMIT = 65_536


def traits(size: int, name: str = "a") -> dict[str, Any]:
    """Traits of one member that take so many bytes as JSON."""
    return {name: "x" * (size - len(json.dumps({name: ""}, separators=(",", ":"))))}


def test_traits_of_exactly_the_limit_are_stored_and_one_byte_more_is_refused_by_path_size_and_limit(api: Api) -> None:
    assert api.update("visitor", identify(traits=traits(LIMIT)))
    answer = api.update_answer("other", track(), identify(traits=traits(LIMIT + 1)))
    expected = "events[1].traits: found 65537 bytes of JSON with the profile's traits, expected at most 65536"
    assert refusal(answer) == expected
    assert not api.knows("other")


def test_traits_count_together_with_those_that_the_profile_has(api: Api) -> None:
    api.update("visitor", identify(traits=traits(LIMIT // 2)))
    assert "events[1].traits: found " in refusal(
        api.update_answer("visitor", track(), identify(traits=traits(LIMIT // 2 + 2, "b")))
    )
    assert api.profile("visitor")["session"]["activeSessionLength"] == 0
    assert api.update("visitor", identify(traits=traits(LIMIT // 3, "b")))
    assert api.update("visitor", identify(traits=traits(LIMIT // 2 + LIMIT // 7)))  # in place of the first


def test_what_is_too_much_only_together_is_refused_in_one_request(api: Api) -> None:
    both = [identify(traits=traits(LIMIT * 2 // 3, name)) for name in "ab"]
    assert "events[1].traits" in refusal(api.send("/profiles", {"events": both}))


def test_of_a_batch_with_too_many_traits_nothing_is_stored(api: Api) -> None:
    api.update("full", identify(traits=traits(LIMIT)))
    events = [of("new", track()), of("full", identify(traits={"b": 1})), of("newer", track())]
    assert "events[1].traits" in refusal(api.send("/events", {"events": events}))
    assert not api.knows("new")
    assert not api.knows("newer")


def test_traits_count_with_those_of_the_profile_that_the_event_identifies_and_then_nothing_merges(api: Api) -> None:
    api.update("known", identify("user", traits(LIMIT)))
    assert "events[0].traits" in refusal(api.update_answer("device", identify("user", {"b": 1})))
    assert not api.knows("device")
    assert api.update("device", identify("user"))["profile"]["id"] == "known"


def test_profiles_merge_whatever_traits_they_have_and_the_newer_ones_stay(api: Api, clock: Clock) -> None:
    api.update("known", identify("user", {**traits(LIMIT * 2 // 3, "old"), "small": 1}))
    api.clock.pass_(1000)
    api.update("device", identify(traits=traits(LIMIT * 2 // 3, "new")))
    merged = api.update("device", identify("user"))["profile"]
    assert merged["id"] == "known"
    assert set(merged["traits"]) == {"new", "small"}


def test_a_preflight_is_refused_as_the_request_would_be(api: Api) -> None:
    api.update("full", identify("user", traits(LIMIT)))
    for name, event in (("full", identify(traits={"b": 1})), ("device", identify("user", {"b": 1}))):
        assert "events[0].traits" in refusal(api.update_answer(name, event, query_string="type=preflight"))


def test_an_event_sent_again_is_not_refused_though_the_profile_has_grown(api: Api) -> None:
    first = identify(traits=traits(LIMIT // 2))
    api.update("visitor", first)
    api.update("visitor", identify(traits={"a": 1, **traits(LIMIT - 100, "b")}))
    assert api.update("visitor", first)["profile"]["traits"]["a"] == 1


def test_the_limit_is_a_setting_and_a_profile_that_has_more_may_still_shrink(make_server: MakeServer) -> None:
    server = make_server(max_traits_bytes=100)
    api = server.environment("org", "main")
    assert "found 101 bytes" in refusal(api.update_answer("visitor", identify(traits=traits(101))))
    before = make_server(store=server.store, max_traits_bytes=200).environment("org", "main")
    before.update("visitor", identify(traits=traits(200)))
    assert "found 201 bytes" in refusal(api.update_answer("visitor", identify(traits=traits(201))))
    assert api.update("visitor", identify(traits=traits(150)))


@pytest.fixture
def clock(api: Api) -> Clock:
    return api.clock


def test_an_import_is_refused_for_what_is_too_much_by_itself_and_else_applied_without_the_traits_that_do_not_fit(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Consumer, "ensure", lambda self: None)
    server = make_server()
    queue = ImportQueue(server.folder, clock=server.clock)
    service = ExperienceService(store=server.store, content=ContentFolder(None), queue=queue, clock=server.clock)
    assert service.consumer is not None
    where, api = Environment("org", "main"), server.environment("org", "main")
    with pytest.raises(Exception, match=r"events\[1\].traits: found 65537 bytes"):
        service.import_many(where, {"events": [of("b", track()), of("a", identify(traits=traits(LIMIT + 1)))]})
    assert queue.state().waiting == 0
    service.import_many(
        where, {"events": [of("a", identify("user", {"b": 1})), of("a", track()), of("c", identify(traits={"c": 1}))]}
    )
    api.update("a", identify(traits=traits(LIMIT)))
    assert service.consumer.drain()
    assert set(api.profile("user")["traits"]) == {"a"}
    assert api.profile("c")["traits"] == {"c": 1}
    assert queue.state().aside == 0
    queue.close()


# Everything else that grows


def test_a_record_stays_small_whatever_is_sent(make_server: MakeServer) -> None:
    huge = "x" * 60_000
    content = {"experiences": [{"id": "e", "name": "e", "type": "nt_experiment", "config": {"sticky": True}}]}
    server = make_server(content={**content, "audiences": []})
    api = server.environment("org", "main")
    location = {"city": huge, "region": huge, "country": huge, "postalCode": huge, "timezone": huge}
    query = {str(number): huge[:100] for number in range(1000)}
    for number in range(5):
        api.update(
            "visitor",
            page(
                huge, properties={"query": query, "referrer": huge}, context={"location": location, "userAgent": huge}
            ),
            identify(f"{number}-{huge[:1000]}"),
            component(huge, 2**31 - 1),
            component("e", 2**31 - 1),
            *[identify(f"{number}-{each}-" + "y" * 1000) for each in range(30)],
            track(huge, properties={"a": huge}, messageId=huge + str(number)),
        )
    store = server.store
    assert isinstance(store, DiskStore)
    [(_, record, events, size)] = [row for row in store.contents.sizes() if row[0].name == "visitor"]
    assert len(orjson.dumps(record)) < 300_000
    assert len(orjson.dumps(record["aliases"])) <= profile.NAMES_BYTES + 1
    assert record["sticky"] == {"e": 2**31 - 1}
    assert record["location"] == {}
    assert size - len(orjson.dumps(record)) < events * 66_000


def test_an_event_that_is_too_long_for_the_history_counts_and_is_kept_as_what_it_was(api: Api) -> None:
    content: dict[str, Any] = {"properties": {"a": "x" * 70_000}}
    api.update("visitor", track("bought", messageId="m1", **content))
    environment = Environment("org", api.prefix.rpartition("/")[2])
    [kept] = api.server.service.record(environment, "visitor", events=True)["events"]
    size = kept["event"].pop("omittedBytes")
    assert kept["event"] == {"type": "track", "event": "bought", "messageId": "m1", "channel": "web"}
    assert size > 70_000


def test_of_too_many_names_the_oldest_ids_of_devices_are_forgotten_and_the_user_ids_stay(api: Api) -> None:
    known = {**profile.new_record("known"), "aliases": ["user"]}
    for number in range(1100):
        device = {**profile.new_record(f"{number:064d}"), "updated": number}
        known = profile.merge(known, device)
    assert known["aliases"][0] == "user"
    assert known["aliases"][-1] == f"{1099:064d}"
    assert len(orjson.dumps(known["aliases"])) <= profile.NAMES_BYTES
    assert len(orjson.dumps(known["merged"])) <= profile.NAMES_BYTES
    assert len(known["aliases"]) > 900


def test_a_visitor_whose_oldest_device_was_forgotten_is_deleted_with_it_after_compact(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "NAMES_BYTES", 30)
    for name in ("first-device", "second-device", "third-device"):
        api.update(name, track(), identify("user"))
    assert not api.knows("second-device")  # a pointer that leads nowhere any more
    assert api.update("third-device", track())["profile"]["id"] == "first-device"
    api.delete("user")
    store = api.server.store
    identity.sweep(store, store.documents())
    environment = api.prefix.rpartition("/")[2]
    assert not [key for key, _ in store.documents("org", environment)]
