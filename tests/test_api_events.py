"""Events through the API: what real clients send, when it happened, and what is sent twice (spec section 2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    START,
    Api,
    Server,
    component,
    event,
    having,
    identify,
    milliseconds,
    of,
    page,
    refusal,
    track,
    without,
)

from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.service.imports import Consumer
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store.disk.queue import ImportQueue

MakeServer = Callable[..., Server]

BROWSER = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36"
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1"
)


# What real clients send

SLOPPY = {
    "without any time": page(),
    "with only an originalTimestamp": page(originalTimestamp=START),
    "with a timestamp as text": page(timestamp=START),
    "with a timestamp in milliseconds": page(timestamp=milliseconds(START)),
    "with a timestamp in milliseconds with a fraction": page(timestamp=milliseconds(START) + 0.5),
    "with an empty timestamp": page(timestamp=""),
    "with a timestamp of nanoseconds": page(timestamp="2024-05-06T07:00:00.123456789Z"),
    "with a timestamp of another offset": page(timestamp="2024-05-06T09:00:00+02:00"),
    "with a timestamp without offset": page(timestamp="2024-05-06 07:00:00"),
    "without anything in the context but the library": page(),
    "with a campaign and its members empty": page(context={"campaign": {"name": "", "source": ""}}),
    "with an empty campaign": page(context={"campaign": {}}),
    "with an empty locale": page(context={"locale": ""}),
    "with an empty page": page(context={"page": {}}),
    "with page members that are empty": page(
        context={"page": {"path": "", "query": {}, "referrer": "", "search": "", "url": "", "title": ""}}
    ),
    "with an empty object as location": page(context={"location": {}}),
    "with an empty text as location": page(context={"location": ""}),
    "with location members that are empty": page(context={"location": {"city": "", "country": "", "coordinates": {}}}),
    "with a country's name as its code": page(context={"location": {"countryCode": "Germany"}}),
    "with consent not given": page(context={"gdpr": {"isConsentGiven": False}}),
    "with an empty gdpr": page(context={"gdpr": {}}),
    "without a title": page(),
    "with nested properties": page(properties={"product": {"name": "a", "tags": ["b", {"c": None}]}}),
    "with properties that are null": page(properties={"title": None, "campaign": None}),
    "with a relative url": page(properties={"url": "/pricing?x=1"}),
    "with an empty url": page(properties={"url": "", "path": ""}),
    "without a query": without(page(), "properties", "query"),
    "with an anonymousId": page(anonymousId="someone-else"),
    "with an empty anonymousId": page(anonymousId=""),
    "with an empty userId": page(userId=""),
    "with an empty user agent": page(context={"userAgent": ""}),
    "with a user agent of 100 kB": page(context={"userAgent": "x" * 100_000}),
    "with an empty library version": having(page(), "", "context", "library", "version"),
}


@pytest.mark.parametrize("sent", SLOPPY.values(), ids=SLOPPY)
def test_a_page_event_is_applied(api: Api, sent: dict[str, Any]) -> None:
    assert api.update("visitor", sent)["profile"]["session"]["count"] == 1
    assert api.profile("visitor")["session"]["count"] == 1


OTHERS = {
    "an identify with an empty user id": identify("", {"a": 1}),
    "an identify with empty traits": identify("user", {}),
    "an identify without consent": identify("", {"a": 1}, context={"gdpr": {"isConsentGiven": False}}),
    "a component without a componentType": component("experience", 1),
    "a component without any of its members": event("component"),
    "a track event without properties": track(),
    "a track event whose properties are null": track(properties=None),
    "a track event of an empty name": track(""),
    "a screen event": event("screen", name="Home"),
    "a group event": event("group", groupId="g", traits={"plan": "pro"}),
    "an alias event": event("alias", userId="new", previousId="old"),
    "a component click": event("component_click", componentId="c"),
    "a component hover": event("component_hover", componentId="c", durationMs=5),
}


@pytest.mark.parametrize("sent", OTHERS.values(), ids=OTHERS)
def test_an_event_of_another_type_is_applied(api: Api, sent: dict[str, Any]) -> None:
    assert api.update("visitor", sent)["profile"]["session"]["count"] == 1


@pytest.mark.parametrize("value", [["e"], {"e": 1}, "e"])
def test_a_member_without_a_name_says_nothing(make_server: MakeServer, value: object) -> None:
    experience = {"id": "e", "name": "e", "type": "nt_experiment", "config": {"sticky": True}}
    server = make_server(content={"experiences": [experience], "audiences": []})
    server.environment("org", "main").update("ada", track(**{"": value}, variantIndex=1))
    assert server.service.record(Environment("org", "main"), "ada")["assignments"] == {}


def test_an_identify_without_a_user_id_sets_traits_only(api: Api) -> None:
    api.update("visitor-1", identify("", {"a": 1}))
    api.update("visitor-2", identify("", {"b": 2}))
    assert api.profile("visitor-1")["traits"] == {"a": 1}
    assert api.profile("visitor-2")["traits"] == {"b": 2}


def test_only_identify_events_identify(api: Api) -> None:
    api.update("visitor", event("alias", userId="user"), page(userId="user"), event("group", userId="user"))
    assert not api.knows("user")


def test_only_identify_events_set_traits(api: Api) -> None:
    answered = api.update("visitor", event("group", traits={"a": 1}), page(traits={"a": 1}), track(traits={"a": 1}))
    assert answered["profile"]["traits"] == {}


def test_an_anonymous_id_of_a_single_profile_call_does_not_choose_the_profile(api: Api) -> None:
    assert api.update("visitor", page(anonymousId="other"))["profile"]["id"] == "visitor"
    assert not api.knows("other")


def test_events_of_visitors_who_gave_no_consent_are_applied(api: Api) -> None:
    declined = {"gdpr": {"isConsentGiven": False}}
    profile = api.create(page(context=declined), identify("user", {"a": 1}, context=declined))["profile"]
    assert profile["traits"] == {"a": 1}
    assert profile["session"]["landingPage"]["path"] == "/"


# The device comes from context.userAgent alone

PHONES = {
    "audiences": [
        {
            "id": "phones",
            "name": "On a phone",
            "rules": {
                "any": [
                    {
                        "all": [
                            {
                                "type": "device",
                                "operator": "equal",
                                "conditions": [{"key": {"key": "type"}, "operator": "equal", "value": "mobile"}],
                            }
                        ]
                    }
                ]
            },
        }
    ]
}


def test_the_user_agent_of_the_sender_of_a_request_is_not_the_visitors(make_server: MakeServer) -> None:
    api = make_server(content=PHONES).environment()
    assert api.create(page(), headers={"User-Agent": PHONE})["profile"]["audiences"] == []
    assert api.create(page(context={"userAgent": PHONE}), headers={"User-Agent": BROWSER})["profile"]["audiences"] == [
        "phones"
    ]


def test_the_device_is_that_of_the_latest_event_which_names_one(make_server: MakeServer) -> None:
    api = make_server(content=PHONES).environment()
    phone = page(context={"userAgent": PHONE}, timestamp="2024-05-06T06:00:00Z")
    desktop = page(context={"userAgent": BROWSER}, timestamp="2024-05-06T06:30:00Z")
    assert api.update("one", desktop, phone)["profile"]["audiences"] == []
    assert api.update("two", having(phone, "2024-05-06T06:45:00Z", "timestamp"), page())["profile"]["audiences"] == [
        "phones"
    ]


# When an event happened


def session_of(api: Api, *events: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = api.create(*events)["profile"]["session"]
    return found


def at(minutes: float) -> str:
    """A time so many minutes after 06:00 of the day on which all tests happen, an hour before they do."""
    seconds = round(minutes * 60)
    return f"2024-05-06T06:{seconds // 60:02d}:{seconds % 60:02d}Z"


@pytest.mark.parametrize(
    "second",
    [
        {"timestamp": at(10), "originalTimestamp": at(15), "sentAt": at(20)},
        {"originalTimestamp": at(10), "sentAt": at(20)},
        {"sentAt": at(10)},
        {"timestamp": "", "originalTimestamp": "", "sentAt": at(10)},
        {"timestamp": milliseconds(at(10))},
        {"timestamp": "2024-05-06T08:10:00+02:00"},
        {"timestamp": "2024-05-06T06:10:00.000"},
    ],
)
def test_an_event_happened_at_its_timestamp_else_original_timestamp_else_sent_at(
    api: Api, second: dict[str, Any]
) -> None:
    session = session_of(api, page(timestamp=at(0)), page(**second))
    assert session["activeSessionLength"] == 600


def test_an_event_without_a_time_happened_when_it_arrived(api: Api) -> None:
    api.update("visitor", page())
    api.clock.pass_(10 * MINUTE)
    assert api.update("visitor", page())["profile"]["session"]["activeSessionLength"] == 600


def test_a_time_in_the_future_counts_as_the_arrival(api: Api) -> None:
    api.update("visitor", page(timestamp="2030-01-01T00:00:00Z"))
    api.clock.pass_(5 * MINUTE)
    session = api.update("visitor", page(timestamp=api.clock.now + 1))["profile"]["session"]
    assert (session["count"], session["activeSessionLength"]) == (1, 300)


def test_a_future_time_is_not_replaced_by_the_next_time_member(api: Api) -> None:
    session = session_of(api, page(), page(timestamp="2030-01-01T00:00:00Z", sentAt="2020-01-01T00:00:00Z"))
    assert (session["count"], session["activeSessionLength"]) == (1, 0)


@pytest.mark.parametrize(("last", "length"), [("06:00:02.000", 1), ("06:00:02.001", 2)])
def test_milliseconds_count(api: Api, last: str, length: int) -> None:
    events = (page(timestamp="2024-05-06T06:00:00.001Z"), page(timestamp=f"2024-05-06T{last}Z"))
    assert session_of(api, *events)["activeSessionLength"] == length


# The order of events


def test_the_events_of_a_request_apply_in_the_order_of_the_list(api: Api) -> None:
    profile = api.create(
        identify(traits={"a": 1, "b": 1}),
        identify(traits={"a": 2}),
        identify(traits={"a": 3, "c": 3}),
    )["profile"]
    assert profile["traits"] == {"a": 3, "b": 1, "c": 3}


def test_the_events_of_a_profile_in_a_batch_apply_in_the_order_of_the_list(api: Api) -> None:
    profiles = api.batch(
        of("a", identify(traits={"x": 1})),
        of("b", identify(traits={"x": 2})),
        of("a", identify(traits={"x": 3})),
        of("b", identify(traits={"x": 4})),
    )
    assert [profile["traits"] for profile in profiles] == [{"x": 3}, {"x": 4}]


def test_events_through_an_id_and_its_aliases_apply_in_the_order_of_the_list(api: Api) -> None:
    api.update("visitor", identify("user"))
    profiles = api.batch(
        of("visitor", identify(traits={"x": 1})),
        of("user", identify(traits={"x": 2})),
        of("visitor", identify(traits={"x": 3})),
    )
    assert [profile["traits"] for profile in profiles] == [{"x": 3}]


def test_events_through_an_alias_apply_in_the_order_of_the_list_when_a_later_one_gives_another_alias(api: Api) -> None:
    api.update("visitor", identify("user"))
    profile = api.update(
        "user", identify(traits={"x": 1}), identify("user-2", {"x": 2}), identify(traits={"y": 3}), page("/last")
    )["profile"]
    assert (profile["id"], profile["traits"]) == ("visitor", {"x": 2, "y": 3})


@pytest.mark.parametrize("number", range(8))
def test_events_through_an_alias_that_the_batch_itself_gives_apply_in_the_order_of_the_list(
    api: Api, number: int
) -> None:
    user = f"user-{number}"
    profiles = api.batch(
        of("visitor", identify(user, {"x": 1})),
        of(user, identify(traits={"x": 2})),
        of("visitor", identify(traits={"x": 3})),
    )
    assert [(profile["id"], profile["traits"]) for profile in profiles] == [("visitor", {"x": 3})]


def test_the_events_of_an_import_apply_in_the_order_of_their_times_and_its_batches_overwrite_nothing_later(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Consumer, "ensure", lambda self: None)
    server = make_server()
    queue = ImportQueue(server.folder, clock=server.clock)
    service = ExperienceService(store=server.store, content=ContentFolder(None), queue=queue, clock=server.clock)
    assert service.consumer is not None
    where, api = Environment("org", "main"), server.environment("org", "main")
    newer = of("a", identify(traits={"plan": "pro"}, timestamp="2024-05-06T06:05:00Z"))
    older = of("a", identify(traits={"plan": "free"}, timestamp="2024-05-06T06:01:00Z"))
    oldest = of("a", identify(traits={"plan": "none", "city": "Graz"}, timestamp="2024-05-06T06:00:00Z"))
    for batch in ([newer, older], [oldest]):
        service.import_many(where, {"events": batch})
    assert service.consumer.drain()
    assert api.profile("a")["traits"] == {"plan": "pro", "city": "Graz"}
    queue.close()


# Events that are sent twice


def test_an_event_that_is_sent_again_is_not_applied_again(api: Api) -> None:
    first = identify(traits={"a": 1})
    api.update("visitor", first)
    before = api.update("visitor", identify(traits={"a": 2}))
    api.clock.pass_(2 * HOUR)
    assert api.update("visitor", first) == before
    assert api.get("visitor") == before


def test_a_message_id_alone_decides_what_was_seen(api: Api) -> None:
    api.update("visitor", identify(traits={"a": 1}, messageId="same"))
    assert api.update("visitor", identify("user", {"b": 1}, messageId="same"))["profile"]["traits"] == {"a": 1}
    assert not api.knows("user")


def test_a_message_id_twice_in_one_request_is_applied_once(api: Api) -> None:
    profile = api.create(
        identify(traits={"a": 1}, messageId="same"),
        identify(traits={"a": 2}, messageId="same"),
        identify(traits={"b": 1}, messageId="other"),
    )["profile"]
    assert profile["traits"] == {"a": 1, "b": 1}


def test_a_message_id_is_seen_by_each_profile_for_itself(api: Api) -> None:
    sent = identify(traits={"a": 1})
    assert [profile["traits"] for profile in api.batch(of("x", sent), of("y", sent))] == [{"a": 1}, {"a": 1}]


def test_a_message_id_is_seen_in_each_environment_for_itself(api: Api) -> None:
    sent = identify(traits={"a": 1})
    api.update("visitor", sent)
    assert api.server.environment().update("visitor", sent)["profile"]["traits"] == {"a": 1}


@pytest.mark.parametrize("requests", [1, 100])
def test_the_last_100_message_ids_are_recognised(api: Api, requests: int) -> None:
    first = identify(traits={"first": 1})
    rest = [track() for _ in range(99)]
    if requests == 1:
        api.update("visitor", first, *rest)
    else:
        for sent in (first, *rest):
            api.update("visitor", sent)
    changed = having(first, {"first": 2}, "traits")
    assert api.update("visitor", changed)["profile"]["traits"] == {"first": 1}


def test_a_whole_request_of_200_events_that_is_sent_again_changes_nothing(api: Api) -> None:
    events = [identify(traits={f"t{n}": n}) for n in range(50)] + [page(f"/{n}") for n in range(150)]
    before = api.update("visitor", *events)
    api.clock.pass_(DAY)
    assert api.update("visitor", *events) == before


def test_a_whole_batch_that_is_sent_again_changes_nothing(api: Api) -> None:
    events = [of(f"visitor-{n % 50}", page()) for n in range(150)]
    events += [of(f"visitor-{n}", identify(f"user-{n}", {"n": n})) for n in range(50)]
    before = api.batch(*events)
    api.clock.pass_(DAY)
    assert api.batch(*events) == before


def test_a_request_of_which_a_part_was_already_applied_applies_the_rest(api: Api) -> None:
    events = [identify(traits={"a": 1}), identify(traits={"b": 2}), identify(traits={"c": 3})]
    api.update("visitor", events[0], events[2])
    api.update("visitor", identify(traits={"a": 5}))
    assert api.update("visitor", *events)["profile"]["traits"] == {"a": 5, "b": 2, "c": 3}


def test_a_refused_request_can_be_sent_again_when_it_is_right(api: Api) -> None:
    good = identify(traits={"a": 1})
    refusal(api.update_answer("visitor", good, event("unknown")))
    assert api.update("visitor", good)["profile"]["traits"] == {"a": 1}


def test_a_preflight_does_not_make_the_real_event_a_second_one(api: Api) -> None:
    sent = identify("user", {"a": 1})
    api.update("visitor", sent, params={"type": "preflight"})
    assert api.update("visitor", sent)["profile"]["traits"] == {"a": 1}
    assert api.knows("user")


def test_message_ids_that_only_look_alike_are_different(api: Api) -> None:
    ids = ["1", "01", "1 ", " 1", "é", "e\u0301", "\0", "\0\0", "x" * 10_000, "x" * 10_001, "null", "a/b", "A/B"]
    profile = api.create(*(identify(traits={str(n): n}, messageId=id) for n, id in enumerate(ids)))["profile"]
    assert len(profile["traits"]) == len(ids)


def test_message_ids_of_both_profiles_are_recognised_after_they_merge(api: Api) -> None:
    of_one, of_other = identify("user", {"a": 1}), identify(traits={"b": 1})
    api.update("one", of_one)
    api.update("other", of_other)
    joining = identify("user", {"c": 1})
    api.update("other", joining)
    api.update("one", identify(traits={"a": 2, "b": 2, "c": 2}))
    for sent in (of_one, of_other, joining):
        for name in ("one", "other", "user"):
            assert api.update(name, sent)["profile"]["traits"] == {"a": 2, "b": 2, "c": 2}


def test_the_last_100_message_ids_are_recognised_after_merging_with_a_busy_profile(api: Api) -> None:
    quiet = identify("user", {"quiet": 1})
    busy = [track() for _ in range(97)]
    api.update("busy", *busy)
    api.update("visitor", quiet)
    api.update("busy", identify("user"))
    assert api.update("visitor", having(quiet, {"quiet": 2}, "traits"))["profile"]["traits"] == {"quiet": 1}
    before = api.get("visitor")
    assert api.update("visitor", *busy) == before


def test_the_last_100_message_ids_are_recognised_after_merging_twice(api: Api) -> None:
    old = [[track(timestamp=api.clock.now - DAY + n * SECOND) for n in range(150)] for _ in range(2)]
    api.update("old-1", *old[0])
    api.update("old-2", *old[1])
    last = identify("user", {"n": 1})
    api.update("visitor", last)
    api.update("old-1", identify("user"))
    api.update("old-2", identify("user"))
    assert api.update("visitor", having(last, {"n": 2}, "traits"))["profile"]["traits"] == {"n": 1}


# Imports of old events


def test_an_import_of_old_events_computes_the_sessions_of_back_then(api: Api) -> None:
    days = [
        page(f"/{day}/{minute}", timestamp=f"2024-04-{day:02d}T12:{minute:02d}:00Z")
        for day in (1, 2, 3)
        for minute in (0, 10)
    ]
    session = session_of(api, *days)
    assert session["count"] == 3
    assert session["activeSessionLength"] == 600
    assert session["averageSessionLength"] == 600
    assert session["landingPage"]["path"] == "/3/0"


def visits(days: int) -> list[dict[str, Any]]:
    """On each day a visit of two pages, two minutes apart."""
    first = milliseconds("2024-01-01T12:00:00Z")
    return [
        page(f"/{day}/{minute}", timestamp=first + day * DAY + minute * MINUTE)
        for day in range(days)
        for minute in (0, 2)
    ]


def test_an_import_counts_every_session_however_many_there_were(api: Api) -> None:
    session = session_of(api, *visits(100))
    assert (session["count"], session["averageSessionLength"]) == (100, 120)
    assert session["landingPage"]["path"] == "/99/0"


def test_an_import_from_the_newest_to_the_oldest_counts_every_session(api: Api) -> None:
    session = session_of(api, *reversed(visits(100)))
    assert (session["count"], session["averageSessionLength"]) == (100, 120)
    assert session["landingPage"]["path"] == "/99/0"


def test_old_events_that_arrive_late_change_no_current_session(api: Api) -> None:
    api.update("visitor", page("/now"))
    before = api.profile("visitor")["session"]
    after = api.update("visitor", page("/old", timestamp="2024-04-01T12:00:00Z"))["profile"]["session"]
    assert (after["id"], after["landingPage"]) == (before["id"], before["landingPage"])
    assert (after["count"], after["activeSessionLength"], after["isReturningVisitor"]) == (2, 0, True)


def test_an_event_that_arrives_late_belongs_to_the_session_it_happened_in(api: Api) -> None:
    api.update("visitor", page(timestamp="2024-05-05T12:00:00Z"), page())
    session = api.update("visitor", page(timestamp="2024-05-05T12:20:00Z"))["profile"]["session"]
    assert (session["count"], session["activeSessionLength"], session["averageSessionLength"]) == (2, 0, 600)
