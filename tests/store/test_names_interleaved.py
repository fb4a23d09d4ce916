"""Claims, merges and deletions of two parties, in every interleaving of one's step with the other's calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from parties import Interleaved, contents
from support import identify, page, track
from visitors import WHERE, MakeStore, assert_one_visitor, delete, found, ids, send, whole

from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import KeptStore, Store, Write


@pytest.fixture(params=["disk", pytest.param("redis", marks=pytest.mark.redis)])
def kind(request: pytest.FixtureRequest) -> str:
    """Redis is left to `make redis`, as all these orders of events take as long again there."""
    return str(request.param)


def every_interleaving(
    make_kept: MakeStore,
    folder: Any,
    prepare: Callable[[Store], object],
    one: Callable[[Store], object],
    other: Callable[[Store], object],
    check: Callable[[KeptStore], None],
) -> None:
    """Let ``other`` run between every two calls that ``one`` makes to the store, each time in a new store."""
    for number in itertools.count():
        store = make_kept(folder / str(number), shards=1)
        prepare(store)
        mixed = Interleaved(store, number, lambda store=store: other(store))
        one(mixed)
        done = mixed.count <= number
        if done:
            other(store)
        try:
            check(store)
        except AssertionError as error:
            raise AssertionError(f"with the other one before call {number}: {error}") from error
        store.close()
        if done:
            assert number > 0
            return


def both_ways(
    make_kept: MakeStore,
    folder: Any,
    prepare: Callable[[Store], object],
    one: Callable[[Store], object],
    other: Callable[[Store], object],
    check: Callable[[KeptStore], None],
) -> None:
    every_interleaving(make_kept, folder / "one", prepare, one, other, check)
    every_interleaving(make_kept, folder / "other", prepare, other, one, check)


@pytest.mark.parametrize("known", [True, False], ids=["known visitors", "new visitors"])
def test_two_profiles_that_claim_a_user_id_at_the_same_time_are_one_visitor(
    make_kept: MakeStore, tmp_path: Any, known: bool
) -> None:
    before = [[page()], [page()]] if known else [[], []]
    a, b = [track(), identify("user", {"a": 1})], [identify("user", {"b": 1}), track()]

    def prepare(store: Store) -> None:
        for name, events in zip("ab", before, strict=True):
            if events:
                send(store, name, *events)

    def check(store: KeptStore) -> None:
        assert_one_visitor(store, ["a", "b", "user"], ids(*before, a, b))
        assert whole(store, "user")["traits"] == {"a": 1, "b": 1}

    both_ways(
        make_kept, tmp_path, prepare, lambda store: send(store, "a", *a), lambda store: send(store, "b", *b), check
    )


def test_two_profiles_that_claim_two_user_ids_crosswise_are_one_visitor(make_kept: MakeStore, tmp_path: Any) -> None:
    a = [identify("user"), identify("mail"), track()]
    b = [identify("mail"), identify("user"), track()]
    both_ways(
        make_kept,
        tmp_path,
        lambda store: None,
        lambda store: send(store, "a", *a),
        lambda store: send(store, "b", *b),
        lambda store: assert_one_visitor(store, ["a", "b", "user", "mail"], ids(a, b)),
    )


def test_profiles_that_merge_into_each_other_at_the_same_time_are_one_visitor(
    make_kept: MakeStore, tmp_path: Any
) -> None:
    before = {"a": [page(), identify("user a")], "b": [page(), identify("user b")]}
    a, b = [identify("user b", {"a": 1})], [identify("user a", {"b": 1})]
    both_ways(
        make_kept,
        tmp_path,
        lambda store: [send(store, name, *events) for name, events in before.items()],
        lambda store: send(store, "a", *a),
        lambda store: send(store, "b", *b),
        lambda store: assert_one_visitor(store, ["a", "b", "user a", "user b"], ids(before["a"], before["b"], a, b)),
    )


def test_profiles_named_as_user_ids_of_each_other_are_one_visitor(make_kept: MakeStore, tmp_path: Any) -> None:
    a, b = [identify("b", {"a": 1}), track()], [track(), identify("a", {"b": 1})]
    both_ways(
        make_kept,
        tmp_path,
        lambda store: None,
        lambda store: send(store, "a", *a),
        lambda store: send(store, "b", *b),
        lambda store: assert_one_visitor(store, ["a", "b"], ids(a, b)),
    )


def test_three_profiles_that_merge_in_a_circle_are_one_visitor(make_kept: MakeStore, tmp_path: Any) -> None:
    before = {name: [page(), identify(f"user {name}")] for name in "abc"}
    sent = {one: [identify(f"user {other}")] for one, other in ("ab", "bc", "ca")}

    def others(store: Store) -> None:
        for name in "bc":
            send(store, name, *sent[name])

    every_interleaving(
        make_kept,
        tmp_path,
        lambda store: [send(store, name, *events) for name, events in before.items()],
        lambda store: send(store, "a", *sent["a"]),
        others,
        lambda store: assert_one_visitor(
            store, ["a", "b", "c", "user a", "user b", "user c"], ids(*before.values(), *sent.values())
        ),
    )


def test_events_that_arrive_at_a_profile_while_it_merges_are_not_lost(make_kept: MakeStore, tmp_path: Any) -> None:
    before = {"a": [page(), identify("user")], "b": [page(), identify("nick")]}
    merging, arriving = [identify("user")], [track(), identify("", {"late": 1})]

    def check(store: KeptStore) -> None:
        assert_one_visitor(store, ["a", "b", "user", "nick"], ids(*before.values(), merging, arriving))
        assert whole(store, "b")["traits"] == {"late": 1}

    for name in ("b", "nick", "a", "user"):
        both_ways(
            make_kept,
            tmp_path / name,
            lambda store: [send(store, name, *events) for name, events in before.items()],
            lambda store: send(store, "b", *merging),
            lambda store, name=name: send(store, name, *arriving),
            check,
        )


def test_a_claim_of_a_profile_that_is_merging_reaches_the_profile_that_it_became(
    make_kept: MakeStore, tmp_path: Any
) -> None:
    before = {"a": [page(), identify("user")], "b": [page()]}
    merging, claiming = [identify("user")], [identify("mail")]
    both_ways(
        make_kept,
        tmp_path,
        lambda store: [send(store, name, *events) for name, events in before.items()],
        lambda store: send(store, "b", *merging),
        lambda store: send(store, "b", *claiming),
        lambda store: assert_one_visitor(store, ["a", "b", "user", "mail"], ids(*before.values(), merging, claiming)),
    )


def test_a_deletion_during_a_claim_leaves_either_nothing_or_what_came_after_it(
    make_kept: MakeStore, tmp_path: Any
) -> None:
    before, sent = [page(), identify("old", {"old": 1})], [track(), identify("user", {"new": 1}), track()]

    def check(store: KeptStore) -> None:
        for name in ("a", "user", "old"):
            found(store, name)
        record = found(store, "a").record
        if record is not None:
            assert "old" not in record["traits"]
            assert found(store, "old").record is None
            assert set(whole(store, "a")["messages"]) <= set(ids(sent))
            for alias in record["aliases"]:
                assert found(store, alias).key == found(store, "a").key

    both_ways(
        make_kept,
        tmp_path,
        lambda store: send(store, "a", *before),
        lambda store: send(store, "a", *sent),
        lambda store: delete(store, "a"),
        check,
    )


@pytest.mark.parametrize("deleted", ["phone", "laptop"])
def test_a_deletion_during_a_merge_never_leaves_a_part_of_what_was_deleted(
    make_kept: MakeStore, tmp_path: Any, deleted: str
) -> None:
    phone, laptop = [page(), identify("user", {"phone": 1})], [page(), identify("nick", {"laptop": 1})]
    met = [identify("user", {"met": 1}), track()]

    def prepare(store: Store) -> None:
        send(store, "phone", *phone)
        send(store, "laptop", *laptop)

    def check(store: KeptStore) -> None:
        gone = ids(phone if deleted == "phone" else laptop)
        for name in ("phone", "laptop", "user", "nick"):
            found(store, name)
        for where, document in store.documents():
            assert "into" not in document
            if "to" not in document:
                messages = [event["messageId"] for _, _, event in store.read(where).history()]
                assert len(messages) == len(set(messages))
                assert not set(messages) & set(gone), "what was deleted came back"
                assert deleted not in document["traits"]
                assert [alias for alias in document["aliases"] if found(store, alias).key != where] == []

    both_ways(
        make_kept,
        tmp_path,
        prepare,
        lambda store: send(store, "laptop", *met),
        lambda store: delete(store, deleted),
        check,
    )


def test_what_is_sent_after_a_deletion_is_never_lost_to_it(make_kept: MakeStore, tmp_path: Any) -> None:
    before, sent = [page(), identify("user", {"old": 1})], [identify("user", {"new": 1}), track()]

    def again(store: Store) -> None:
        found(store, "a")
        if delete(store, "a") or not found(store, "a").record:
            send(store, "a", *sent)

    def check(store: KeptStore) -> None:
        assert whole(store, "a")["traits"] == {"new": 1}
        assert_one_visitor(store, ["a", "user"], ids(sent))

    every_interleaving(
        make_kept,
        tmp_path,
        lambda store: send(store, "a", *before),
        lambda store: delete(store, "user"),
        lambda store: None if found(store, "a").record else again(store),
        lambda store: None,
    )
    # Two deletions at once, the second of which is followed by new events.
    for number in range(40):
        store = make_kept(tmp_path / f"twice {number}", shards=1)
        send(store, "a", *before)
        done: list[bool] = []
        delete(Interleaved(store, number, lambda store=store, done=done: done.append(delete(store, "a"))), "a")
        send(store, "a", *sent)
        check(store)
        store.close()


def test_a_deletion_that_somebody_else_finishes_does_not_touch_who_takes_the_names_after_it(
    make_kept: MakeStore, tmp_path: Any
) -> None:
    after = [page(), identify("user")]

    def check(store: KeptStore) -> None:
        if found(store, "a").record is None:
            assert contents(store) == {}
        else:
            assert_one_visitor(store, ["a", "user"], ids(after))

    every_interleaving(
        make_kept,
        tmp_path,
        lambda store: send(store, "a", page(), identify("user")),
        lambda store: delete(store, "a"),
        lambda store: send(store, "a", *after),
        check,
    )


def test_a_merge_that_somebody_else_finishes_brings_back_nothing_that_was_deleted_after_it(
    make_kept: MakeStore, tmp_path: Any
) -> None:
    after = [page()]

    def others(store: Store) -> None:
        found(store, "b")  # finishes the merge if it has begun
        for name in "ab":
            delete(store, name)
        send(store, "a", *after)

    def check(store: KeptStore) -> None:
        assert set(ids(after)) <= set(whole(store, "a")["messages"]) <= {*ids(after), *ids(joining)}

    joining = [identify("user")]
    every_interleaving(
        make_kept,
        tmp_path,
        lambda store: [send(store, "a", page(), identify("user")), send(store, "b", page())],
        lambda store: send(store, "b", *joining),
        others,
        check,
    )


def test_two_deletions_at_once_leave_nothing(make_kept: MakeStore, tmp_path: Any) -> None:
    both_ways(
        make_kept,
        tmp_path,
        lambda store: send(store, "a", page(), identify("user"), identify("mail")),
        lambda store: delete(store, "user"),
        lambda store: delete(store, "a"),
        lambda store: _empty(store),
    )


def _empty(store: KeptStore) -> None:
    assert contents(store) == {}


def test_a_profile_that_is_to_merge_into_itself_is_not_doubled(make_kept: MakeStore, tmp_path: Any) -> None:
    before, a, b = [page(), identify("user")], [track()], [track()]

    def prepare(store: Store) -> None:
        send(store, "a", *before)
        assert identity.merge(store, WHERE.key("a"), WHERE.key("a")) == WHERE.key("a")
        store.update([WHERE.key("a")], lambda _, entry: Write({**(entry.document or {}), "into": "a"}))

    both_ways(
        make_kept,
        tmp_path,
        prepare,
        lambda store: send(store, "a", *a),
        lambda store: send(store, "user", *b),
        lambda store: assert_one_visitor(store, ["a", "user"], ids(before, a, b)),
    )
