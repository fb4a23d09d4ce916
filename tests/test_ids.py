"""Profile ids certify themselves, and a message that is sent again makes the same one."""

from __future__ import annotations

import uuid

import pytest

from ninetailed_wsgi.core import ids
from ninetailed_wsgi.service.service import Environment

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SHOP = Environment("acme", "main")
HALF = "0123456789abcdef" * 2
MESSAGE = "2f1c9a52-8b5f-4d0e-9a53-0f6f6e3f7a01"


def test_an_issued_id_is_64_hex_characters_that_begin_with_the_random_half() -> None:
    id = ids.issue(KEY, SHOP, HALF)
    assert (len(id), id[:32]) == (64, HALF)
    assert set(id) <= set("0123456789abcdef")
    assert ids.certifies(KEY, SHOP, id)


@pytest.mark.parametrize("place", [0, 31, 32, 63])
def test_an_id_with_one_other_character_does_not_certify_itself(place: int) -> None:
    id = ids.issue(KEY, SHOP, HALF)
    other = "0" if id[place] != "0" else "1"
    assert not ids.certifies(KEY, SHOP, id[:place] + other + id[place + 1 :])


@pytest.mark.parametrize("name", ["", "anna", HALF, "f" * 64, "\ud800", "é" * 64, ids.issue(KEY, SHOP, HALF).upper()])
def test_a_made_up_name_does_not_certify_itself(name: str) -> None:
    assert not ids.certifies(KEY, SHOP, name)


@pytest.mark.parametrize("elsewhere", [Environment("acme", "draft"), Environment("acm", "emain"), Environment("", "")])
def test_an_id_of_one_environment_is_a_stranger_in_another(elsewhere: Environment) -> None:
    assert not ids.certifies(KEY, elsewhere, ids.issue(KEY, SHOP, HALF))
    assert ids.replayed_half(KEY, elsewhere, MESSAGE) != ids.replayed_half(KEY, SHOP, MESSAGE)


def test_names_that_read_the_same_when_joined_are_different_environments() -> None:
    first, second = Environment("a/b", "c"), Environment("a", "b/c")
    assert ids.issue(KEY, first, HALF) != ids.issue(KEY, second, HALF)


def test_an_id_of_another_store_does_not_certify_itself() -> None:
    assert not ids.certifies(OTHER_KEY, SHOP, ids.issue(KEY, SHOP, HALF))


def test_the_same_message_makes_the_same_half_in_any_spelling_and_another_one_another() -> None:
    half = ids.replayed_half(KEY, SHOP, MESSAGE)
    assert len(half) == 32
    assert ids.replayed_half(KEY, SHOP, MESSAGE.upper()) == half
    assert ids.replayed_half(KEY, SHOP, str(uuid.uuid4())) != half
    assert ids.replayed_half(OTHER_KEY, SHOP, MESSAGE) != half


def test_whoever_knows_an_id_cannot_make_the_second_half_of_another() -> None:
    half = ids.replayed_half(KEY, SHOP, MESSAGE)
    assert ids.issue(KEY, SHOP, half)[32:] != half


@pytest.mark.parametrize(
    "text",
    [
        "m-1",
        "",
        MESSAGE[:-1],
        MESSAGE + "\n",
        MESSAGE.replace("-", ""),
        f"{{{MESSAGE}}}",
        str(uuid.UUID(int=0)),
        str(uuid.UUID(int=2**128 - 1)),
        "F" * 8 + str(uuid.UUID(int=2**128 - 1))[8:],
    ],
)
def test_only_a_uuid_can_be_replayed(text: str) -> None:
    assert ids.is_replayable(MESSAGE)
    assert not ids.is_replayable(text)
