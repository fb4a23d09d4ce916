"""Every state that names can be left in is settled by whoever comes next, and serves."""

from __future__ import annotations

from typing import Any

import pytest
from parties import CutAt, CutOff
from support import identify, page, track
from visitors import WHERE, MakeStore, assert_one_visitor, assert_sound, delete, found, ids, send, whole

from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Document, KeptStore, StoreEntry, Write


@pytest.fixture
def kept(make_kept: MakeStore) -> KeptStore:
    # A bound that no test reaches: what is tested here is not who gives up first.
    return make_kept(shards=1, timeout=30.0)


def _record(name: str, *aliases: str, **members: Any) -> Document:
    return {**profile.new_record(name), "aliases": [*aliases], **members}


def _states() -> list[Any]:
    return [
        {"a": {"to": "a"}},
        {"a": {"to": "b"}, "b": {"to": "a"}},
        {"a": {"to": "b"}, "b": {"to": "c"}, "c": {"to": "b"}},
        {"a": {"to": "nobody"}},
        {"a": {"to": "b"}, "b": _record("b")},
        {"a": _record("a", into="a")},
        {"a": _record("a", into="b"), "b": _record("b", into="a")},
        {"a": _record("a", into="b"), "b": _record("b", into="c"), "c": _record("c", into="b")},
        {"a": _record("a", into="b"), "b": _record("b", into="c"), "c": _record("c", into="a")},
        {"a": _record("a", into="b"), "b": _record("b", "a", into="a", merged=["a"])},
        {"b": _record("b", into="a"), "a": _record("a", "b", into="b", merged=["b"])},
        {"a": _record("a", into="nobody")},
        {"a": _record("a", into="b"), "b": {"to": "a"}},
        {"a": _record("a", into="b"), "b": {"to": "c"}, "c": {"to": "a"}},
        {"a": _record("a", into="b"), "b": {"to": "nobody"}},
        {"a": _record("a", into="b"), "b": {"to": "c"}, "c": _record("c", "b", into="a")},
        {"a": _record("a", into="b"), "b": {"to": "c"}, "c": {"to": "b"}},
        {"a": _record("a", into=None)},
        {"a": _record("a", into="b"), "b": _record("b", into=None)},
        {"a": _record("a", into="b"), "b": _record("b", "a", into=None, merged=["a"])},
        {"a": _record("a", "b", into=None), "b": _record("b", into="a")},
    ]


def _told(state: dict[str, Document]) -> str:
    return " ".join(f"{name}-{document.get('to') or document.get('into')}" for name, document in state.items())


@pytest.mark.parametrize("state", _states(), ids=_told)
def test_whatever_state_a_name_is_in_it_is_settled_and_serves(kept: KeptStore, state: dict[str, Document]) -> None:
    keys = [WHERE.key(name) for name in state]
    kept.update(keys, lambda key, _: Write(state[key.name]))
    sent = [track(), identify("user"), track()]
    assert found(kept, "a").key.name in {*state, "nobody"}
    send(kept, "a", *sent)
    assert whole(kept, "a")["messages"] == sorted(ids(sent))
    assert found(kept, "user").key == found(kept, "a").key
    assert delete(kept, "user")
    assert found(kept, "a").record is None


def test_of_two_profiles_marked_for_each_other_none_is_absorbed_twice(kept: KeptStore) -> None:
    sent = {name: [page(), identify(f"user {name}")] for name in "ab"}
    for name, events in sent.items():
        send(kept, name, *events)
    with pytest.raises(CutOff):
        identity.merge(CutAt(kept, 1, took_effect=True), WHERE.key("a"), WHERE.key("b"))
    # b has absorbed a; whoever had decided before to merge b into a marks it now.
    kept.update([WHERE.key("b")], lambda _, entry: Write({**(entry.document or {}), "into": "a"}))
    assert_one_visitor(kept, ["a", "b", "user a", "user b"], ids(*sent.values()))


def test_an_alias_that_a_lost_claim_left_is_given_to_the_next_who_claims_it(kept: KeptStore) -> None:
    kept.update([WHERE.key("user")], lambda _key, _entry: Write({"to": "gone", "nonce": 1}))
    assert found(kept, "user").record is None
    send(kept, "a", identify("user"))
    assert found(kept, "user").key == WHERE.key("a")
    assert_sound(kept)


def test_two_profiles_that_list_the_same_alias_become_one_when_either_identifies_again(kept: KeptStore) -> None:
    # Only two failures at once leave this: a request cut off between its record and its second look at the alias.
    a, b = [page()], [page()]
    send(kept, "a", *a), send(kept, "b", *b)

    def list_alias(_: Key, entry: StoreEntry) -> Write:
        assert entry.document is not None
        return Write({**entry.document, "aliases": ["user"]})

    kept.update([WHERE.key("a"), WHERE.key("b")], list_alias)
    kept.update([WHERE.key("user")], lambda _key, _entry: Write({"to": "b", "nonce": 1}))
    again = [identify("user")]
    send(kept, "a", *again)
    assert_one_visitor(kept, ["a", "b", "user"], ids(a, b, again))


def test_an_alias_of_a_deleted_profile_is_free(kept: KeptStore) -> None:
    send(kept, "a", identify("user", {"secret": 1}))
    assert delete(kept, "a")
    assert send(kept, "b", identify("user"))["traits"] == {}
    assert found(kept, "user").key == WHERE.key("b")
    assert send(kept, "a", page())["traits"] == {}
    assert_sound(kept)


def test_aliases_point_straight_at_the_profile_after_several_merges(kept: KeptStore) -> None:
    for name in "abcd":
        send(kept, name, page(), identify(f"user {name}"))
    for name, user in (("b", "user a"), ("d", "user c"), ("c", "user b")):
        send(kept, name, identify(user))
    assert_sound(kept)
    for name in ("b", "c", "d", "user a", "user b", "user c", "user d"):
        document = kept.read(WHERE.key(name)).document
        assert document is not None
        assert document["to"] == "a"
