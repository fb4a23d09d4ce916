"""Requests that write the same profile at once wait for each other in order, and not more of them than may."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import wait_until
from support import Api, Server, data, error, identify, of, page

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import ProfileOverload
from ninetailed_wsgi.service.turns import Turns
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.protocol import Document, Fold, OutcomeT, Store, StoreEntry

MakeServer = Callable[..., Server]
BROWSER = 6  # connections that a browser opens to one host

HOT, OTHER = Key("acme", "main", "hot"), Key("acme", "main", "other")


class SlowStore:
    """A store that writes nothing of the profile "hot" before it may."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.may = threading.Event()

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        if any(key.name == "hot" for key in keys):
            assert self.may.wait(60)
        return self._store.update(keys, fold)

    def read(self, key: Key) -> StoreEntry:
        return self._store.read(key)

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        return self._store.documents(organization, environment)

    def check(self) -> None:
        self._store.check()

    def close(self) -> None:
        self._store.close()


@pytest.fixture
def slow(make_server: MakeServer) -> tuple[SlowStore, Callable[..., Api]]:
    store = SlowStore(make_server().store)
    return store, lambda **options: make_server(store=store, **options).environment()


def waiting(api: Api, name: str = "hot") -> int:
    """Requests that write a profile or wait for it."""
    turns = api.server.turns
    return sum(1 + len(queue) for key, queue in turns._waiting().queues.items() if key.name == name)


def test_a_hot_profile_is_429_at_once_when_too_many_write_it_and_others_are_served(
    slow: tuple[SlowStore, Callable[..., Api]],
) -> None:
    store, make = slow
    api = make(profile_concurrency=3, store_timeout=60)
    with ThreadPoolExecutor(3) as threads:
        writers = [threads.submit(api.update_answer, "hot", page()) for _ in range(3)]
        wait_until(lambda: waiting(api) == 3, "three requests write the profile")
        for refused in (
            api.update_answer("hot", page()),
            api.send("/events", {"events": [of("cold", page()), of("hot", page())]}),
            api.request("DELETE", "/profiles/hot"),
        ):
            assert error(refused, 429) == "ERR_PROFILE_OVERLOAD"
            assert refused.headers["retry-after"] == "1"
        assert not api.knows("cold")  # nothing of a batch that was refused is stored
        api.update("other", page())
        store.may.set()
        for writer in writers:
            data(writer.result())
    api.update("hot", page())


def test_a_burst_of_one_visitors_browser_is_served_by_default(slow: tuple[SlowStore, Callable[..., Api]]) -> None:
    store, make = slow
    api = make(store_timeout=60)
    with ThreadPoolExecutor(BROWSER) as threads:
        burst = [threads.submit(api.update_answer, "hot", page()) for _ in range(BROWSER)]
        wait_until(lambda: waiting(api) == BROWSER, "the whole burst is there")
        store.may.set()
        for answer in burst:
            data(answer.result())


def test_a_preflight_that_merges_nothing_needs_no_turn(slow: tuple[SlowStore, Callable[..., Api]]) -> None:
    store, make = slow
    api = make(profile_concurrency=1, store_timeout=60)
    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(api.update_answer, "hot", page())
        wait_until(lambda: waiting(api) == 1, "a request writes the profile")
        data(api.send("/profiles/hot?type=preflight", {"events": [page()]}))
        store.may.set()
        data(writer.result())


def test_the_default_lets_a_browser_in() -> None:
    assert Settings().profile_concurrency >= BROWSER


# The turns themselves


def test_turns_come_in_the_order_of_arrival() -> None:
    turns, order = Turns(10, 60), []

    def write(number: int) -> None:
        with turns.turn([HOT]):
            order.append(number)

    with ThreadPoolExecutor(5) as threads, turns.turn([HOT]):
        for number in range(5):
            threads.submit(write, number)
            wait_until(lambda number=number: len(turns._waiting().queues.get(HOT, ())) == number + 1, "it waits")  # type: ignore[misc]
    assert order == [0, 1, 2, 3, 4]


def test_who_waits_too_long_is_refused_and_the_next_one_is_not_kept_from_its_turn() -> None:
    turns = Turns(10, 0.01)
    with turns.turn([HOT]), pytest.raises(ProfileOverload), turns.turn([HOT]):
        pytest.fail("two at once")
    with turns.turn([HOT]):
        pass


def test_batches_that_name_the_same_profiles_in_another_order_both_come_to_an_end() -> None:
    turns = Turns(10, 60)

    def write(keys: list[Key]) -> None:
        for _ in range(500):
            with turns.turn(keys):
                pass

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(write, [HOT, OTHER]), threads.submit(write, [OTHER, HOT])]:
            done.result(60)
    assert turns._waiting().queues == {}


@pytest.mark.parametrize(
    "path", ["/profiles", "/profiles?type=preflight", "/profiles/own", "/profiles/own?type=preflight"]
)
def test_whoever_may_merge_into_a_profile_takes_its_turn_also_in_a_preflight(
    make_server: MakeServer, path: str
) -> None:
    api = make_server(profile_concurrency=1).environment()
    turns = api.server.turns
    organization, environment = api.prefix.split("/")[3::2]
    with turns.turn([Key(organization, environment, "user")]):
        assert error(api.send(path, {"events": [page(), identify("user")]}), 429) == "ERR_PROFILE_OVERLOAD"
        data(api.send(path, {"events": [page()]}))
    data(api.send(path, {"events": [page(), identify("user")]}))


def test_a_batch_that_may_merge_into_a_profile_takes_its_turn(make_server: MakeServer) -> None:
    api = make_server(profile_concurrency=1).environment()
    turns = api.server.turns
    organization, environment = api.prefix.split("/")[3::2]
    with turns.turn([Key(organization, environment, "user")]):
        batch = {"events": [of("device", identify("user"))]}
        assert error(api.send("/events", batch), 429) == "ERR_PROFILE_OVERLOAD"
    data(api.send("/events", batch))


def test_a_forked_process_does_not_wait_for_threads_that_its_parent_has() -> None:
    turns = Turns(10, 60)
    with turns.turn([HOT]):
        child = os.fork()
        if child == 0:  # pragma: no cover
            with turns.turn([HOT]):
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
