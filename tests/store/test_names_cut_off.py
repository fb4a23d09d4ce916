"""Claims, merges and deletions of names that are cut off after any write, and repeated or finished by others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from parties import CutAt, CutOff, contents
from support import identify, of, page, track
from visitors import WHERE, MakeStore, assert_one_visitor, assert_sound, at, delete, found, ids, send, send_batch, whole

from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import KeptStore


@pytest.fixture(params=["disk", pytest.param("redis", marks=pytest.mark.redis)])
def kind(request: pytest.FixtureRequest) -> str:
    """Redis is left to `make redis`, as all these orders of events take as long again there."""
    return str(request.param)


@pytest.fixture
def kept(make_kept: MakeStore) -> KeptStore:
    # A bound that no test reaches: what is tested here is not who gives up first.
    return make_kept(shards=1, timeout=30.0)


class Flow:
    """Requests in order, each a profile name and its events; the one that is cut off is the last."""

    def __init__(self, before: list[tuple[str, list[Any]]], name: str, events: list[Any], *names: str) -> None:
        self.before, self.name, self.events, self.names = before, name, events, names


def merging() -> Flow:
    """A known visitor's profile meets the one of a second device, in the middle of a request."""
    return Flow(
        [
            ("phone", [at(0, page()), at(1, identify("user", {"from": "phone", "phone": 1})), at(2, identify("mail"))]),
            ("laptop", [at(100, page()), at(101, identify("nick", {"from": "laptop", "laptop": 1}))]),
            ("laptop", [at(200, track())]),
        ],
        "laptop",
        [at(300, page()), at(301, identify("user", {"met": 1})), at(302, track())],
        "phone",
        "laptop",
        "user",
        "mail",
        "nick",
    )


def merging_merged() -> Flow:
    """Two profiles that have absorbed others each become one."""
    flow = merging()
    return Flow(
        [
            *flow.before,
            ("tablet", [at(50, page()), at(51, identify("mail"))]),
            ("desk", [at(150, page()), at(151, identify("nick", {"desk": 1}))]),
        ],
        *(flow.name, flow.events),
        *flow.names,
        "tablet",
        "desk",
    )


def claiming() -> Flow:
    return Flow(
        [("phone", [at(0, page())])],
        "phone",
        [at(1, identify("user", {"a": 1})), at(2, identify("mail")), at(100, track())],
        *("phone", "user", "mail"),
    )


def merging_a_new_name() -> Flow:
    """The first that a device sends is who its user is."""
    return Flow(
        [("phone", [at(0, page()), at(1, identify("user", {"a": 1}))])],
        "laptop",
        [at(100, identify("user", {"b": 1})), at(101, track())],
        *("phone", "laptop", "user"),
    )


def merging_twice() -> Flow:
    """One request makes three profiles one."""
    return Flow(
        [
            ("phone", [at(0, page()), at(1, identify("user", {"a": 1}))]),
            ("laptop", [at(100, page()), at(101, identify("mail", {"a": 2}))]),
            ("tablet", [at(200, page())]),
        ],
        "tablet",
        [at(300, track()), at(301, identify("user")), at(302, track()), at(303, identify("mail")), at(304, track())],
        *("phone", "laptop", "tablet", "user", "mail"),
    )


def outcome(make_kept: MakeStore, folder: Any, flow: Flow, cut: int | None, took_effect: bool) -> tuple[Any, bool]:
    """What a flow leaves when it is cut off, sent again, and goes on; and whether it was long enough to be cut."""
    store = make_kept(folder, shards=1)
    for name, events in flow.before:
        send(store, name, *events)
    cutting = CutAt(store, cut, took_effect=took_effect)
    try:
        send(cutting, flow.name, *flow.events)
        was_cut = False
    except CutOff:
        was_cut = True
        send(store, flow.name, *flow.events)
    send(store, flow.name, *flow.later)  # type: ignore[attr-defined]
    for name in flow.names:
        found(store, name)
    assert_sound(store)
    ends = [whole(store, name) for name in flow.names]
    assert all(end == ends[0] for end in ends)
    store.close()
    return ends[0], was_cut


@pytest.mark.parametrize("took_effect", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize("make_flow", [claiming, merging, merging_merged, merging_a_new_name, merging_twice])
def test_a_request_cut_off_at_any_write_loses_and_doubles_nothing_when_it_is_sent_again(
    make_kept: MakeStore, tmp_path: Any, make_flow: Callable[[], Flow], took_effect: bool
) -> None:
    flow = make_flow()
    flow.later = [at(400, track()), at(401, identify("", {"later": 1}))]  # type: ignore[attr-defined]
    expected, _ = outcome(make_kept, tmp_path / "whole", flow, None, took_effect)
    assert expected["messages"] == sorted(ids(*(events for _, events in flow.before), flow.events, flow.later))  # type: ignore[attr-defined]
    for cut in itertools.count():
        after, was_cut = outcome(make_kept, tmp_path / str(cut), flow, cut, took_effect)
        assert after == expected, f"cut off at write {cut}"
        if not was_cut:
            assert cut > 3
            break


@pytest.mark.parametrize("position", [1, 100, 199])
def test_the_largest_request_that_merges_is_not_applied_again_when_it_is_sent_again(
    kept: KeptStore, position: int
) -> None:
    before = [page(), identify("user")]
    send(kept, "phone", *before)
    events = [track() for _ in range(199)]
    events.insert(position, identify("user"))
    for _ in range(2):
        send(kept, "laptop", *events)
        assert whole(kept, "laptop")["messages"] == sorted(ids(before, events))


@pytest.mark.parametrize("took_effect", [False, True], ids=["before the write", "after the write"])
def test_a_batch_cut_off_at_any_write_loses_and_doubles_nothing_when_it_is_sent_again(
    make_kept: MakeStore, tmp_path: Any, took_effect: bool
) -> None:
    before = [of("phone", page()), of("phone", identify("user", {"a": 1})), of("laptop", page())]
    batch = [
        of("laptop", track()),
        of("laptop", identify("user", {"b": 1})),
        of("new", track()),
        of("new", identify("mail")),
        of("phone", identify("mail", {"c": 1})),
        of("other", track()),
    ]
    names = ["phone", "laptop", "new", "user", "mail"]
    for cut in itertools.count():
        store = make_kept(tmp_path / str(cut), shards=1)
        send_batch(store, *before)
        try:
            send_batch(CutAt(store, cut, took_effect=took_effect), *batch)
            was_cut = False
        except CutOff:
            was_cut = True
            send_batch(store, *batch)
        assert_sound(store)
        messages = sorted(ids(before, batch[:5]))
        assert [whole(store, name)["messages"] for name in names] == [messages] * len(names), f"cut at write {cut}"
        assert whole(store, "other")["messages"] == ids(batch[5:])
        assert whole(store, "user")["traits"] == {"a": 1, "b": 1, "c": 1}
        store.close()
        if not was_cut:
            break


@pytest.mark.parametrize("took_effect", [False, True], ids=["before the write", "after the write"])
def test_a_merge_cut_off_is_finished_by_whoever_comes_by_any_of_its_names(
    make_kept: MakeStore, tmp_path: Any, took_effect: bool
) -> None:
    flow = merging()
    for name in flow.names:
        for cut in itertools.count():
            store = make_kept(tmp_path / f"{name} {cut}", shards=1)
            for sender, events in flow.before:
                send(store, sender, *events)
            try:
                identity.merge(CutAt(store, cut, took_effect=took_effect), WHERE.key("laptop"), WHERE.key("phone"))
                was_cut = False
            except CutOff:
                was_cut = True
            later = track()
            send(store, name, later)
            for other in flow.names:
                found(store, other)
            if cut > 0 or took_effect:  # else the merge did not even begin
                assert_one_visitor(store, flow.names, ids(*(events for _, events in flow.before), [later]))
            store.close()
            if not was_cut:
                break


@pytest.mark.parametrize("took_effect", [False, True], ids=["before the write", "after the write"])
def test_a_deletion_cut_off_at_any_write_is_finished_by_whoever_comes_next(
    make_kept: MakeStore, tmp_path: Any, took_effect: bool
) -> None:
    for cut in itertools.count():
        store = make_kept(tmp_path / str(cut), shards=1)
        flow = merging()
        for name, events in [*flow.before, (flow.name, flow.events)]:
            send(store, name, *events)
        try:
            delete(CutAt(store, cut, took_effect=took_effect), "mail")
            was_cut = False
        except CutOff:
            was_cut = True
        began = cut > 0 or took_effect
        if not began:
            assert delete(store, "mail")
        for name in flow.names:
            assert found(store, name).record is None
        assert contents(store) == {}, f"cut at write {cut}"
        send(store, "laptop", track())
        assert len(whole(store, "laptop")["messages"]) == 1
        store.close()
        if not was_cut:
            break


@pytest.mark.parametrize("took_effect", [False, True], ids=["before the write", "after the write"])
def test_deleting_a_profile_that_was_absorbing_another_deletes_both_or_leaves_the_other_whole(
    make_kept: MakeStore, tmp_path: Any, took_effect: bool
) -> None:
    flow = merging()
    for cut in itertools.count():
        store = make_kept(tmp_path / str(cut), shards=1)
        for name, events in flow.before:
            send(store, name, *events)
        try:
            identity.merge(CutAt(store, cut, took_effect=took_effect), WHERE.key("laptop"), WHERE.key("phone"))
            was_cut = False
        except CutOff:
            was_cut = True
        store_again = store  # nobody looked at the laptop since
        assert delete(store_again, "phone")
        assert found(store, "phone").record is None
        left = found(store, "laptop").record
        assert_sound(store)
        if left is None:
            assert contents(store) == {}
        else:
            assert whole(store, "laptop")["messages"] == sorted(ids(flow.before[1][1], flow.before[2][1]))
        store.close()
        if not was_cut:
            assert left is None
            break
