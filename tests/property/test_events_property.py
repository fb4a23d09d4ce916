"""Whatever is sent: splitting it over requests changes nothing, nothing is answered 500, preflights leave no trace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import DAY, HOUR, MINUTE, START, Api, Server, milliseconds, profile_path

from tests.searches import search

BOUNDED = search(20)
NOW = milliseconds(START)
VISITORS = ["a", "b", "c"]
NAMES = [*VISITORS, "user-1", "user-2"]

CONTENT = {
    "audiences": [
        {
            "id": "twice",
            "name": "Clicked twice",
            "rules": {
                "any": [
                    {"all": [{"type": "track", "value": "click", "operator": "greaterThanInclusive", "count": "2"}]}
                ]
            },
        },
        {
            "id": "viewed",
            "name": "Viewed a page",
            "rules": {"any": [{"all": [{"type": "page", "operator": "greaterThan", "count": 0}]}]},
        },
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
        },
    ],
    "experiences": [
        {
            "id": "hero",
            "name": "Hero",
            "type": "nt_experiment",
            "audience": None,
            "config": {
                "traffic": 1,
                "distribution": [0.4, 0.3, 0.3],
                "sticky": True,
                "components": [{"baseline": {"id": "base"}, "variants": [{"id": "v1"}, {"id": "v2"}]}],
            },
        }
    ],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("property"), content=CONTENT)
    yield server
    server.close()


# Events as the schemas allow them

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile/15E148"
TIMES = st.one_of(
    # Close to each other, so that events share sessions, end them and come late; and far apart.
    st.integers(0, 12).map(lambda steps: NOW - steps * 10 * MINUTE),
    st.integers(0, 40).map(lambda days: NOW - days * DAY),
    st.integers(0, 3 * HOUR).map(lambda ms: NOW - ms),
    st.just(NOW + DAY),
)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3), st.lists(st.integers(0, 3), max_size=2)
)
TEXTS = st.sampled_from(["", "/", "/a", "https://shop.example/a?b=c"])


def contexts() -> st.SearchStrategy[dict[str, Any]]:
    place = st.one_of(
        st.just(""),
        st.fixed_dictionaries(
            {},
            optional={
                "city": st.sampled_from(["", "Berlin", "Köln"]),
                "countryCode": st.sampled_from(["DE", "AT", "Germany", ""]),
                "coordinates": st.just({"latitude": 50, "longitude": 7.5}),
            },
        ),
    )
    return st.fixed_dictionaries(
        {"library": st.fixed_dictionaries({"name": st.just("tests"), "version": st.sampled_from(["7.26.0", "3.0.0"])})},
        optional={"location": place, "userAgent": st.sampled_from(["", PHONE]), "gdpr": st.just({})},
    )


def members(kind: str) -> dict[str, st.SearchStrategy[Any]]:
    pages = st.fixed_dictionaries(
        {"path": TEXTS, "referrer": TEXTS, "search": TEXTS, "url": TEXTS},
        optional={"query": st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=2), max_size=2)},
    )
    return {
        "page": {"properties": pages},
        "track": {"event": st.sampled_from(["click", "buy"])},
        "identify": {
            "userId": st.sampled_from(["", "", *NAMES]),
            "traits": st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=2),
        },
        "component": {"experienceId": st.sampled_from(["hero", "other"]), "variantIndex": st.integers(0, 2)},
        "screen": {},
    }[kind]


def events(timed: bool = True) -> st.SearchStrategy[dict[str, Any]]:
    def of_kind(kind: str) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries(
            {
                "type": st.just(kind),
                "channel": st.just("web"),
                # Few enough that some are sent twice.
                "messageId": st.integers(0, 60).map(str),
                "context": contexts(),
                "anonymousId": st.sampled_from(NAMES),
                "timestamp": TIMES,
                **members(kind),
            }
        )

    return st.sampled_from(["page", "track", "identify", "identify", "component", "screen"]).flatmap(of_kind)


@st.composite
def split_sequences(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[int]]:
    sequence = draw(st.lists(events(), min_size=2, max_size=16))
    cuts = draw(st.sets(st.integers(1, len(sequence) - 1)))
    return sequence, sorted(cuts)


def parts(sequence: Sequence[Any], cuts: Sequence[int]) -> list[Sequence[Any]]:
    borders = [0, *cuts, len(sequence)]
    return [sequence[first:last] for first, last in pairwise(borders)]


def as_applied(sequence: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events in the order in which one request applies them: by their times, none later than the arrival."""
    return sorted(sequence, key=lambda event: min(event["timestamp"], NOW))


def seen(api: Api) -> dict[str, Any]:
    """Everything that can be seen of an environment. Session ids are random, so only which are equal counts."""
    answers = {name: api.get(name) if api.knows(name) else None for name in NAMES}
    sessions: list[str] = []
    for answer in filter(None, answers.values()):
        session = answer["profile"]["session"]
        if session["id"] not in sessions:
            sessions.append(session["id"])
        session["id"] = sessions.index(session["id"])
    return answers


# The properties


@BOUNDED
@given(split=split_sequences(), name=st.sampled_from(NAMES))
def test_the_events_of_a_profile_split_over_requests_give_the_same_as_one_request(
    server: Server, split: tuple[list[dict[str, Any]], list[int]], name: str
) -> None:
    sequence, cuts = split
    once, often = server.environment(), server.environment()
    once.update(name, *sequence)
    for part in parts(as_applied(sequence), cuts):
        often.update(name, *part)
    assert seen(often) == seen(once)


@BOUNDED
@given(split=split_sequences())
def test_a_batch_split_over_requests_gives_the_same_as_one_request(
    server: Server, split: tuple[list[dict[str, Any]], list[int]]
) -> None:
    sequence, cuts = split
    once, often = server.environment(), server.environment()
    once.batch(*sequence)
    for part in parts(as_applied(sequence), cuts):
        often.batch(*part)
    assert seen(often) == seen(once)


@BOUNDED
@given(sequence=st.lists(events(), min_size=1, max_size=10))
def test_a_batch_gives_the_same_as_its_events_sent_one_by_one_to_their_profiles(
    server: Server, sequence: list[dict[str, Any]]
) -> None:
    together, alone = server.environment(), server.environment()
    together.batch(*sequence)
    for event in as_applied(sequence):
        alone.update(event["anonymousId"], event)
    assert seen(together) == seen(alone)


@BOUNDED
@given(
    before=st.lists(events(), max_size=8), tried=st.lists(events(), min_size=1, max_size=6), name=st.sampled_from(NAMES)
)
def test_a_preflight_changes_nothing_that_can_be_seen_and_answers_what_the_real_request_will(
    server: Server, before: list[dict[str, Any]], tried: list[dict[str, Any]], name: str
) -> None:
    api = server.environment()
    if before:
        api.batch(*before)
    state = seen(api)
    answered = api.update(name, *tried, params={"type": "preflight"})
    assert seen(api) == state
    real = api.update(name, *tried)
    for answer in (answered, real):
        answer["profile"]["session"].pop("id")
    assert answered == real


@BOUNDED
@given(sequence=st.lists(events(), min_size=1, max_size=10), deleted=st.sampled_from(NAMES))
def test_after_a_deletion_no_name_leads_to_the_profile(
    server: Server, sequence: list[dict[str, Any]], deleted: str
) -> None:
    api = server.environment()
    api.batch(*sequence)
    if not api.knows(deleted):
        return
    id = api.profile(deleted)["id"]
    others = {name: api.get(name) for name in NAMES if api.knows(name) and api.profile(name)["id"] != id}
    api.delete(deleted)
    assert {name: api.get(name) for name in NAMES if api.knows(name)} == others


# Anything at all

POSTS = ["/profiles", "/profiles/visitor", "/events", "/import/events"]
KEYS = [
    "events",
    "options",
    "type",
    "channel",
    "messageId",
    "context",
    "library",
    "version",
    "properties",
    "traits",
    "userId",
    "timestamp",
    "anonymousId",
    "location",
    "features",
    "page",
    "coordinates",
    "variantIndex",
]
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["page", "track", "identify", "component", "web", "", "location", START]),
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=20,
)


@st.composite
def damaged_requests(draw: st.DrawFn) -> Any:
    """A request of which one member, at any depth, is anything."""
    body: Any = {"events": draw(st.lists(events(), min_size=1, max_size=3)), "options": {"features": ["location"]}}
    place: Any = body
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        child = place[key]
        if not isinstance(child, dict | list) or not child or draw(st.booleans()):
            place[key] = draw(JSON)
            return body
        place = child


BODIES = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    damaged_requests().map(lambda value: json.dumps(value).encode()),
    damaged_requests().map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
)


@search(40)
@given(body=BODIES, path=st.sampled_from(POSTS), preflight=st.booleans())
def test_no_body_is_answered_500(server: Server, body: bytes, path: str, preflight: bool) -> None:
    answer = server.environment().send(path, body, params={"type": "preflight"} if preflight else {})
    assert answer.status_code in (200, 400)


@BOUNDED
@given(
    name=st.text(min_size=1, max_size=20), method=st.sampled_from(["GET", "POST", "DELETE"]), query=st.text(max_size=20)
)
def test_no_id_and_no_query_is_answered_500(server: Server, name: str, method: str, query: str) -> None:
    try:
        path = profile_path(name)
    except UnicodeEncodeError:
        return
    answer = server.environment().request(
        method, path, params={"locale": query, "type": query} if method == "POST" else {"locale": query}
    )
    assert answer.status_code in (400, 404)


HEADERS = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40)


@BOUNDED
@given(forced=HEADERS, forwarded=HEADERS, trace=HEADERS, media_type=HEADERS)
def test_no_header_is_answered_500(server: Server, forced: str, forwarded: str, trace: str, media_type: str) -> None:
    event = {"type": "screen", "channel": "web", "messageId": "m", "context": {"library": {"name": "", "version": ""}}}
    names = ("X-Force-IP", "X-Forwarded-For", "Forwarded", "traceparent", "Content-Type", "Origin")
    values = (forced, forwarded, forwarded, trace, media_type, trace)
    answer = server.environment().send(
        "/profiles",
        {"events": [event], "options": {"features": ["location"]}},
        media_type=None,
        headers=dict(zip(names, values, strict=True)),
    )
    assert answer.status_code == 200
