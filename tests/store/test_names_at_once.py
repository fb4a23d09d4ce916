"""Claims, merges and deletions of many parties at once, in any order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from parties import Turns
from support import identify, page, track
from visitors import MakeStore, assert_one_visitor, delete, found, ids, send, whole

from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.store.protocol import KeptStore, Store


@pytest.fixture
def kept(make_kept: MakeStore) -> KeptStore:
    # A bound that no test reaches: what is tested here is not who gives up first.
    return make_kept(shards=1, timeout=30.0)


def test_many_threads_that_identify_merge_and_track_at_once_make_one_visitor_and_lose_nothing(kept: KeptStore) -> None:
    names, users = [f"device {number}" for number in range(6)], ["user", "mail", "nick"]
    requests = {
        name: [[track(), identify(users[(number + turn) % 3]), track()] for turn in range(4)]
        for number, name in enumerate(names)
    }
    failed: list[BaseException] = []

    def serve(name: str) -> None:
        try:
            for events in requests[name]:
                send(kept, name, *events)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=serve, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    messages = [message for sent in requests.values() for message in ids(*sent)]
    assert_one_visitor(kept, [*names, *users], messages)


@pytest.mark.parametrize("seed", range(30))
def test_parties_that_merge_claim_and_track_in_any_order_make_one_visitor(kept: KeptStore, seed: int) -> None:
    random = Random(seed)
    names, users = ["a", "b", "c"], ["user", "mail", "c"]
    before = {name: [page(), identify(f"own {name}")] for name in names if random.random() < 0.5}
    for name, events in before.items():
        send(kept, name, *events)
    sent = {name: [[identify(user) if user != name else track()] for user in random.sample(users, 3)] for name in names}

    def party(name: str) -> Callable[[Store], object]:
        return lambda store: [send(store, name, *events) for events in sent[name]]

    Turns(kept, seed).run(*map(party, names), lambda store: [delete(store, "nobody"), found(store, "user")])
    messages = ids(*before.values(), *(events for requests in sent.values() for events in requests))
    assert_one_visitor(kept, [*names, *users, *(f"own {name}" for name in before)], messages)


@pytest.mark.parametrize("seed", range(30))
def test_deletions_and_merges_in_any_order_keep_every_name_sound(kept: KeptStore, seed: int) -> None:
    random = Random(seed)
    names, users = ["a", "b"], ["user", "mail"]
    for name in names:
        send(kept, name, page(), identify(f"own {name}"))
    sent = {name: [[identify(user), track()] for user in random.sample(users, 2)] for name in names}

    def send_again(store: Store, name: str, events: list[Any]) -> None:
        try:
            send(store, name, *events)
        except StoreUnavailable:  # deleted in the middle: clients repeat what was answered 503
            send(store, name, *events)

    def party(name: str) -> Callable[[Store], object]:
        return lambda store: [send_again(store, name, events) for events in sent[name]]

    Turns(kept, seed).run(*map(party, names), lambda store: delete(store, random.choice([*names, *users, "own a"])))
    for name in [*names, *users]:
        found(kept, name)
    for where, document in kept.documents():
        assert "into" not in document
        if "to" not in document:
            messages = whole(kept, where.name)["messages"]
            assert len(messages) == len(set(messages))
            assert set(document["traits"]) == set()
    # What is left is usable: whoever comes next is one visitor under every name.
    for name in names:
        send(kept, name, *(identify(user) for user in users))
    assert len({found(kept, name).key for name in [*names, *users]}) == 1
    assert delete(kept, "user")
    assert [where for where, document in kept.documents() if "to" not in document] == []
