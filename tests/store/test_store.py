"""What every store does, whatever it is made of: the statements of ``store/protocol.py``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

import orjson
import pytest
from folds import TwiceFolded
from hypothesis import given
from hypothesis import strategies as st
from parties import NOW, append, happened, history, key, numbers, put
from support import Clock

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.protocol import Document, Store, StoreEntry, Write
from tests.searches import search

DAY = 86_400_000
MakeStore = Callable[..., Any]

STRANGE_NAMES = [
    "",
    " ",
    "a",
    "A",
    "a\0",
    "\0a",
    "a/b",
    "..",
    "../a",
    "a%2Fb",
    "é",
    "e\u0301",
    "日本語",
    "😀",
    "\ud800",
    "\udc00",
    "\\ud800",
    "1:a",
    "x" * 10_240,
    "x" * 10_241,
]


# Reading and writing


def test_an_unknown_key_has_no_document_and_no_history(store: Store) -> None:
    entry = store.read(key())
    assert (entry.document, entry.next_ordinal, entry.history()) == (None, 0, [])


def test_what_was_written_is_read_back(store: Store) -> None:
    document = {"text": "é\0😀", "number": 1.5, "big": 2**53, "list": [None, True, {}], "": {"to": ""}}
    put(store, key(), document)
    assert store.read(key()).document == document


def test_a_document_of_a_megabyte_is_kept(store: Store) -> None:
    document = {"text": "x" * 1_000_000}
    put(store, key(), document, happened(0))
    assert store.read(key()).document == document


def test_a_document_may_have_members_of_any_name(store: Store) -> None:
    document = {"text": "x"}
    put(store, key(), document)
    append(store, key("other"), *happened(0))
    assert store.read(key()).document == document


def test_a_fold_sees_what_the_one_before_it_wrote(store: Store) -> None:
    for _ in range(3):
        append(store, key(), *happened(0))
    assert store.read(key()).document == {"count": 3}


def test_a_fold_that_returns_nothing_changes_nothing(store: Store) -> None:
    put(store, key(), {"a": 1}, happened(0))

    store.update([key(), key("unknown")], lambda _key, _entry: None)
    assert store.read(key()).document == {"a": 1}
    assert numbers(store, key()) == [0]
    assert store.read(key("unknown")).document is None


def test_an_update_returns_what_was_decided_for_each_key_whether_it_wrote_or_not(store: Store) -> None:
    class Decision(NamedTuple):
        write: Write | None
        number: int

    def fold(where: Key, entry: StoreEntry) -> Decision:
        return Decision(Write({"a": 1}) if where == key("written") else None, entry.next_ordinal)

    append(store, key("kept"), *happened(1, 2))
    decisions = store.update([key("written"), key("kept"), key("unknown")], fold)
    assert decisions[key("written")] == (Write({"a": 1}), 0)
    assert decisions[key("kept")] == (None, 2)
    assert decisions[key("unknown")] == (None, 0)
    assert store.read(key("written")).document == {"a": 1}
    assert store.read(key("unknown")).document is None
    assert store.update([key()], lambda _key, _entry: None) == {key(): None}


def test_a_fold_that_changes_something_outside_is_noticed_by_the_tests_of_folds(store: Store) -> None:
    numbers = count()
    with pytest.raises(AssertionError, match="decided"):
        TwiceFolded(store).update([key()], lambda _key, _entry: Write({"n": next(numbers)}))


def test_a_fold_that_changes_its_document_is_noticed_by_the_tests_of_folds(store: Store) -> None:
    put(store, key(), {"list": [1]})

    def fold(_: Key, entry: StoreEntry) -> Write:
        assert entry.document is not None
        entry.document["list"].append(2)
        return Write({"list": [1, 2]})

    with pytest.raises(AssertionError, match="changed what was stored"):
        TwiceFolded(store).update([key()], fold)


def test_whoever_changes_a_document_later_is_noticed_by_the_tests_of_folds(make_disk: MakeStore) -> None:
    store = TwiceFolded(make_disk())
    written: Document = {"list": [1]}
    put(store, key(), written)
    assert store.read(key()).document == {"list": [1]}
    written["list"].append(2)
    with pytest.raises(AssertionError, match="became"):
        store.read(key())


def test_a_fold_that_fails_changes_nothing_and_its_error_arrives(store: Store) -> None:
    put(store, key(), {"a": 1})

    def fold(_: Key, entry: StoreEntry) -> Write:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.update([key()], fold)
    assert store.read(key()).document == {"a": 1}
    put(store, key(), {"a": 2})
    assert store.read(key()).document == {"a": 2}


def test_a_document_that_is_no_json_is_refused_and_changes_nothing(kept: Store) -> None:
    put(kept, key(), {"a": 1}, happened(0))
    with pytest.raises(TypeError):
        put(kept, key(), {"a": object()}, happened(1))
    assert kept.read(key()).document == {"a": 1}
    assert numbers(kept, key()) == [0]


def test_what_another_process_writes_is_read_although_this_one_remembers_what_it_wrote(make_kept: MakeStore) -> None:
    one, other = make_kept(), make_kept()
    for number in range(3):
        put(one, key(), {"n": number}, happened(number))
        assert one.read(key()).document == {"n": number}
        put(other, key(), {"n": -number})
        assert one.read(key()).document == {"n": -number}
        decisions = one.update([key()], lambda _, entry: Write({**entry.document, "more": 1}, happened(7)))
        assert decisions[key()].document == {"n": -number, "more": 1}
        assert other.read(key()).document == {"n": -number, "more": 1}
    put(other, key(), None)
    assert one.read(key()).document is None
    put(other, key(), {"n": 2})
    assert one.read(key()).document == {"n": 2}


def test_a_fold_can_read_the_history_and_write_on_it(store: Store) -> None:
    append(store, key(), *happened(1, 2))

    def double(_: Key, entry: StoreEntry) -> Write:
        return Write({}, happened(*(2 * event["number"] for _, _, event in entry.history())), replace_history=True)

    store.update([key()], double)
    assert numbers(store, key()) == [2, 4]


def test_several_keys_are_folded_each_with_its_own_entry(store: Store) -> None:
    keys = [key(f"visitor {number}") for number in range(50)]
    store.update(keys, lambda where, entry: Write({"name": where.name, "was": entry.document}))
    store.update(keys, lambda where, entry: Write({"name": where.name, "was": entry.document}))
    for where in keys:
        assert store.read(where).document == {"name": where.name, "was": {"name": where.name, "was": None}}


def test_a_store_that_serves_says_so(store: Store) -> None:
    store.check()


# Deleting


def test_deleting_removes_the_document_and_its_history(store: Store) -> None:
    put(store, key(), {}, happened(0, 1))
    append(store, key("other"), *happened(7))
    put(store, key(), None)
    entry = store.read(key())
    assert (entry.document, entry.next_ordinal, entry.history()) == (None, 0, [])
    assert numbers(store, key("other")) == [7]


def test_deleting_what_is_not_there_is_no_error(store: Store) -> None:
    put(store, key(), None)
    assert store.read(key()).document is None


def test_what_comes_after_a_deletion_begins_anew(store: Store) -> None:
    put(store, key(), {}, happened(0, 1))
    put(store, key(), None)
    put(store, key(), {"again": True}, happened(2))
    assert history(store, key()) == [(0, NOW, {"number": 2})]


# History


def test_events_are_appended_in_order_with_growing_ordinals(store: Store) -> None:
    append(store, key(), *happened(10, 11, at=NOW - 2))
    append(store, key(), *happened(12, at=NOW - 4))
    append(store, key())
    append(store, key(), *happened(13, at=NOW - 3))
    assert history(store, key()) == [
        (0, NOW - 2, {"number": 10}),
        (1, NOW - 2, {"number": 11}),
        (2, NOW - 4, {"number": 12}),
        (3, NOW - 3, {"number": 13}),
    ]
    assert store.read(key()).next_ordinal == 4


def test_a_document_is_written_without_touching_its_history(store: Store) -> None:
    append(store, key(), *happened(0, 1))
    put(store, key(), {"new": True})
    assert numbers(store, key()) == [0, 1]
    assert store.read(key()).next_ordinal == 2


def test_replacing_the_history_keeps_only_the_new_events_and_no_ordinal_is_given_twice(store: Store) -> None:
    append(store, key(), *happened(0, 1))
    append(store, key(), *happened(2))
    put(store, key(), {}, happened(7, 8), replace_history=True)
    assert history(store, key()) == [(3, NOW, {"number": 7}), (4, NOW, {"number": 8})]
    put(store, key(), {}, replace_history=True)
    assert history(store, key()) == []
    put(store, key(), {}, happened(9))
    assert history(store, key()) == [(5, NOW, {"number": 9})]


def test_events_before_the_first_that_a_write_names_are_dropped_and_few_of_them_stay(kept: Store) -> None:
    for number in range(30):
        append(kept, key(), *happened(number))
    put(kept, key(), {}, happened(30), first=25)
    left = numbers(kept, key())
    assert left == list(range(31))[-len(left) :]
    assert 6 <= len(left) <= 10


def test_a_history_that_is_replaced_by_a_long_one_is_dropped_in_parts(kept: Store) -> None:
    long = [(NOW, orjson.dumps({"number": number, "text": "x" * 10_000})) for number in range(20)]
    put(kept, key(), {}, long, replace_history=True)
    assert numbers(kept, key()) == list(range(20))
    put(kept, key(), {}, happened(20), first=15)
    left = numbers(kept, key())
    assert left == list(range(21))[-len(left) :]
    assert 6 <= len(left) <= 10


def test_a_history_is_read_as_it_is_when_asked_for(store: Store) -> None:
    append(store, key(), *happened(0))
    entry = store.read(key())
    assert [event["number"] for _, _, event in entry.history()] == [0]
    assert [event["number"] for _, _, event in entry.history()] == [0]


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_the_newest_events_are_kept_however_they_came(make_kept: MakeStore, chunk: int) -> None:
    store = make_kept(history_events=10)
    for first in range(0, 42, chunk):
        append(store, key(), *happened(*range(first, first + chunk)))
    end = store.read(key()).next_ordinal
    assert numbers(store, key()) == list(range(end - 10, end))
    assert [ordinal for ordinal, _, _ in history(store, key())] == list(range(end - 10, end))


def test_more_events_at_once_than_are_kept_leave_the_newest(make_kept: MakeStore) -> None:
    store = make_kept(history_events=10)
    append(store, key(), *happened(*range(3)))
    append(store, key(), *happened(*range(3, 28)))
    assert history(store, key()) == [(number, NOW, {"number": number}) for number in range(18, 28)]
    append(store, key(), *happened(28))
    assert history(store, key()) == [(number, NOW, {"number": number}) for number in range(19, 29)]


def test_500_events_are_kept_when_nothing_else_is_said(make_kept: MakeStore) -> None:
    store = make_kept()
    for first in range(0, 800, 200):
        append(store, key(), *happened(*range(first, first + 200)))
    assert numbers(store, key()) == list(range(300, 800))


def test_events_count_for_365_days_and_not_a_millisecond_longer(make_kept: MakeStore, clock: Clock) -> None:
    store = make_kept()
    append(store, key(), *happened(0, at=clock.now - 365 * DAY), *happened(1, at=clock.now))
    append(store, key(), *happened(2, at=clock.now - 365 * DAY - 1))
    assert numbers(store, key()) == [0, 1]
    clock.pass_(1)
    assert numbers(store, key()) == [1]


def test_ordinals_go_on_when_every_event_became_too_old(make_kept: MakeStore, clock: Clock) -> None:
    store = make_kept(history_days=1)
    append(store, key(), *happened(0, 1, at=clock.now))
    clock.pass_(2 * DAY)
    append(store, key(), *happened(2, at=0))
    assert (history(store, key()), store.read(key()).next_ordinal) == ([], 3)
    append(store, key(), *happened(3, at=clock.now))
    assert history(store, key()) == [(3, clock.now, {"number": 3})]


def test_smaller_limits_hold_for_what_was_stored_before(make_kept: MakeStore) -> None:
    append(make_kept(history_events=20), key(), *happened(*range(20)))
    store = make_kept(history_events=5)
    assert numbers(store, key()) == [15, 16, 17, 18, 19]
    append(store, key(), *happened(20))
    assert numbers(store, key()) == [16, 17, 18, 19, 20]


# Keys


def test_strange_keys_never_meet(store: Store) -> None:
    keys = [
        key(*parts)
        for name in STRANGE_NAMES
        for parts in ((name,), ("visitor", name), ("visitor", "main", name), (name, "a"), ("a", name))
    ]
    distinct = dict.fromkeys(keys)
    for number, where in enumerate(distinct):
        put(store, where, {"number": number}, happened(number))
    for number, where in enumerate(distinct):
        assert store.read(where).document == {"number": number}
        assert numbers(store, where) == [number]
    assert {where: document["number"] for where, document in store.documents()} == {
        where: number for number, where in enumerate(distinct)
    }


_text = st.text(alphabet=st.characters(codec=None), max_size=4) | st.sampled_from(STRANGE_NAMES)


@search(40)
@given(first=st.tuples(_text, _text, _text), second=st.tuples(_text, _text, _text))
def test_two_keys_of_any_text_meet_only_when_they_are_equal(store: Store, first: Any, second: Any) -> None:
    put(store, Key(*first), None)
    put(store, Key(*second), {"second": True})
    assert (store.read(Key(*first)).document is None) == (first != second)
    put(store, Key(*second), None)


# All documents


def test_all_documents_are_given_with_their_keys(store: Store) -> None:
    expected = {}
    for organization in ("org", "another"):
        for environment in ("main", "test"):
            for number in range(130):
                where = key(f"visitor {number}", environment, organization)
                expected[where] = {"number": number}
    store.update(list(expected), lambda where, _: Write(expected[where], happened(1, 2)))
    assert dict(store.documents()) == expected
    for organization, environment in (("org", None), ("org", "main"), (None, "test"), ("none", None)):
        assert dict(store.documents(organization, environment)) == {
            where: document
            for where, document in expected.items()
            if organization in (None, where.organization) and environment in (None, where.environment)
        }


def test_documents_written_and_deleted_during_an_iteration_do_not_disturb_it(store: Store) -> None:
    keys = [key(f"visitor {number}") for number in range(450)]
    store.update(keys, lambda where, _: Write({"round": 0}, happened(0)))
    stays, seen = keys[::3], []
    for where, _ in store.documents():
        seen.append(where)
        if len(seen) == 10:
            store.update(keys[1::3], lambda _key, _entry: Write(None))
            store.update(keys[2::3], lambda _key, _entry: Write({"round": 1}, happened(1)))
    assert len(seen) == len(set(seen))
    assert set(stays) | set(keys[2::3]) <= set(seen)


# Several parties at once (an Overlay serves one thread)


def test_writers_of_one_key_lose_nothing(make_kept: MakeStore) -> None:
    store = make_kept(timeout=30.0)

    def write(first: int) -> None:
        for number in range(first, first + 50):
            append(store, key(), *happened(number))

    threads = [threading.Thread(target=write, args=(100 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read(key()).document == {"count": 200}
    assert sorted(numbers(store, key())) == [100 * index + number for index in range(4) for number in range(50)]


def test_reading_goes_on_while_a_key_is_being_written(make_kept: MakeStore) -> None:
    store = make_kept()
    append(store, key(), *happened(0))
    seen: list[tuple[Any, list[int]]] = []

    def read() -> None:
        seen.append((store.read(key()).document, numbers(store, key())))

    def fold(_: Key, entry: StoreEntry) -> Write:
        reader = threading.Thread(target=read)
        reader.start()
        reader.join()
        return Write({"count": 2}, happened(1))

    store.update([key()], fold)
    read()
    assert seen == [({"count": 1}, [0]), ({"count": 2}, [0, 1])]


def test_a_history_that_is_trimmed_while_it_is_read_is_read_as_a_whole(make_kept: MakeStore) -> None:
    store = make_kept(history_events=5, timeout=30.0)
    append(store, key(), *happened(0))
    stop = threading.Event()

    def write() -> None:
        number = 1
        while not stop.is_set():
            append(store, key(), *happened(number))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(200):
            found = numbers(store, key())
            assert found == list(range(found[0], found[0] + len(found)))
            assert 1 <= len(found) <= 5
    finally:
        stop.set()
        writer.join()


def test_another_store_on_the_same_data_sees_every_write_at_once(make_kept: MakeStore) -> None:
    first, second = make_kept(), make_kept()
    for number in range(20):
        append((first, second)[number % 2], key(), *happened(number))
    assert numbers(first, key()) == numbers(second, key()) == list(range(20))


def test_a_fold_whose_key_is_written_meanwhile_runs_again_with_what_was_written(make_kept: MakeStore) -> None:
    store = make_kept()
    put(store, key(), {"turns": 0}, happened(0))
    runs = []

    def fold(where: Key, entry: StoreEntry) -> Write:
        assert entry.document is not None
        runs.append((entry.document["turns"], [event["number"] for _, _, event in entry.history()]))
        if len(runs) == 1:
            put(make_kept(), key(), {"turns": 7}, happened(1))
        return Write({"turns": entry.document["turns"] + 1}, happened(2))

    store.update([key()], fold)
    assert runs == [(0, [0]), (7, [0, 1])]
    assert store.read(key()).document == {"turns": 8}
    assert numbers(store, key()) == [0, 1, 2]
