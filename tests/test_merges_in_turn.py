"""Large profiles merge one after the other, with rests between; small ones and everybody else as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import pytest
from support import Api, Server, data, error, identify, of, page, track

from ninetailed_wsgi.errors import ProfileOverload
from ninetailed_wsgi.service.incoming import prepared
from ninetailed_wsgi.service.merge_turns import LONGEST_REST, RESTS, MergeTurns, moved_bytes
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings

MakeServer = Callable[..., Server]
LARGE = {"text": "x" * 60_000}


class Time:
    """A clock that only sleeping, working and, by ``tick`` seconds, being read move."""

    def __init__(self, tick: float = 0) -> None:
        self.now = 0.0
        self.tick = tick
        self.slept: list[float] = []

    def __call__(self) -> float:
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time(tick=0.001)


@pytest.fixture
def api(make_server: MakeServer, time: Time) -> Api:
    """Two large profiles, one of them the user's, and two small ones with another user."""
    api = make_server(merges=MergeTurns(3, 0.2, time, time.sleep)).environment()
    for name, user in (("large", "user"), ("other", None)):
        api.update(name, track(properties=LARGE), track(properties=LARGE), *([identify(user)] if user else ()))
    api.update("small", page(), identify("small user"))
    api.update("tiny", page())
    return api


def busy(api: Api) -> AbstractContextManager[None]:
    """A ``with`` block in which another request merges large profiles."""
    return api.server.merges.large_turn()


JOINING = [
    ("a preflight", "/profiles/other?type=preflight", [page(), identify("user")]),
    ("an update", "/profiles/other", [page(), identify("user")]),
    ("an update of a small profile", "/profiles/tiny", [identify("user")]),
    ("a new profile", "/profiles", [page(), identify("user")]),
    ("a batch", "/events", [of("other", page()), of("other", identify("user"))]),
    ("a batch that claims a user before", "/events", [of("large", identify("new")), of("other", identify("new"))]),
]
APART = [
    ("a page", "/profiles/other", [page()]),
    ("the user again", "/profiles/large", [page(), identify("user")]),
    ("a new user", "/profiles/other", [page(), identify("somebody")]),
    ("a device of which only the user is known", "/profiles", [identify("user"), page()]),
    ("small profiles", "/profiles/tiny", [identify("small user")]),
]


@pytest.mark.parametrize(("path", "events"), [pytest.param(*case[1:], id=case[0]) for case in JOINING])
def test_who_merges_large_profiles_is_429_while_others_do_and_served_after(
    api: Api, time: Time, path: str, events: list[dict[str, Any]]
) -> None:
    with busy(api):
        refused = api.send(path, {"events": events})
        assert error(refused, 429) == "ERR_PROFILE_OVERLOAD"
        assert refused.headers["retry-after"] == "1"
    time.now += LONGEST_REST
    data(api.send(path, {"events": events}))
    with pytest.raises(ProfileOverload, match="just been merged"), busy(api):
        raise AssertionError("the process rests")


@pytest.mark.parametrize(("path", "events"), [pytest.param(*case[1:], id=case[0]) for case in APART])
def test_who_merges_nothing_large_is_served_meanwhile(api: Api, path: str, events: list[dict[str, Any]]) -> None:
    with busy(api):
        data(api.send(path, {"events": events}))


def test_a_request_that_was_refused_has_stored_nothing(api: Api) -> None:
    with busy(api):
        assert error(api.send("/events", {"events": [of("new", page()), *JOINING[4][2]]}), 429)
    assert not api.knows("new")
    assert api.profile("other")["id"] == "other"


def test_a_user_who_is_led_to_a_new_id_takes_a_turn(make_server: MakeServer) -> None:
    service = make_server().service
    api = make_server(store=service.store).environment()
    api.update("large", track(properties=LARGE), track(properties=LARGE))
    assert moved(service, api, guarded=True) > 100_000
    assert moved(service, api, guarded=False) == 0


def moved(service: ExperienceService, api: Api, guarded: bool) -> int:
    where = service.environment("org", api.prefix.rsplit("/", 1)[1])
    events = prepared([identify("user")], service.clock())
    return moved_bytes(service.store, [(where.key("large"), event) for event in events], guarded)


# The turns themselves


def test_the_next_one_waits_until_the_process_has_rested() -> None:
    time = Time()
    merges = MergeTurns(4, 1, time, time.sleep)
    for seconds in (0.02, 0.05, 10, 0):
        with merges.large_turn():
            time.now += seconds
    assert time.slept == pytest.approx([RESTS * 0.02, RESTS * 0.05, LONGEST_REST])


def test_one_that_fails_or_does_not_begin_lets_the_next_one_in() -> None:
    time = Time()
    merges = MergeTurns(3, 1, time, time.sleep)
    with pytest.raises(ZeroDivisionError), merges.large_turn():
        divmod(1, 0)
    with merges.large_turn():
        time.now += 0.1
    with pytest.raises(ProfileOverload, match="just been merged"), merges.large_turn():
        raise AssertionError("it rests, and there is no thread that could wait")
    time.now += 1
    with merges.large_turn():
        pass


@pytest.mark.parametrize(("threads", "at_once"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 6)])
def test_two_threads_stay_free_where_there_are_more(threads: int, at_once: int) -> None:
    merges = MergeTurns(threads, 1)
    with ExitStack() as places:
        for _ in range(at_once):
            places.enter_context(merges._place(merges._line(), False))
        with pytest.raises(ProfileOverload, match="other requests are merging"), merges.large_turn():
            raise AssertionError("one too many")


def test_imports_wait_however_many_are_there() -> None:
    merges, done = MergeTurns(1, 0.01), threading.Event()

    def consume() -> None:
        with merges.large_turn(waits=True):
            done.set()

    consumer = threading.Thread(target=consume)
    with merges.large_turn():
        consumer.start()
        assert not done.wait(0.05)
    assert done.wait(60)
    consumer.join()


def test_one_that_waited_too_long_is_refused() -> None:
    merges = MergeTurns(4, 0.01)
    with (
        merges.large_turn(),
        pytest.raises(ProfileOverload, match="for as long as this one may wait"),
        merges.large_turn(),
    ):
        raise AssertionError("two at once")


def test_a_server_takes_turns_by_default(tmp_path: Any) -> None:
    service = ExperienceService.from_settings(Settings(data_dir=tmp_path / "data"))
    assert service._merges is not None
    service.store.close()
