"""No made-up name stands for a visitor, whoever sends it: ids that were issued certify themselves."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from support import identify, of, page

from ninetailed_wsgi.core.ids import issue
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.testing import Answer, Harness

EMAIL = "anna@example.com"


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness(access="guarded") as made:
        yield made


def names(harness: Harness, own: str) -> dict[str, str]:
    """Names that look like ids, or like the one of a visitor, and were issued to nobody here."""
    return {
        "SHA-256 of an address": hashlib.sha256(EMAIL.encode()).hexdigest(),
        "UUID": str(uuid.UUID(int=7, version=4)),
        "altered digit": own[:-1] + ("0" if own[-1] != "0" else "1"),
        "in capitals": own.upper(),
        "half of one": own[:32],
        "of another environment": issue(harness.ids.key, Environment("default", "elsewhere"), own[:32]),
        "of another store": issue(b"x" * 32, Environment(*harness.environment), own[:32]),
    }


KINDS = (
    *("SHA-256 of an address", "UUID", "altered digit", "in capitals", "half of one"),
    *("of another environment", "of another store"),
)


def send(harness: Harness, path: str, *events: Any, trusted: bool = False) -> Answer:
    headers = {"Authorization": f"Bearer {harness.key('events', 'read')}"} if trusted else {}
    return harness.client.post(path, {"events": [*events]}, headers=headers)


def profile(harness: Harness, name: str, trusted: bool = False) -> Any:
    headers = {"Authorization": f"Bearer {harness.key('read')}"} if trusted else {}
    answer = harness.client.get(f"/profiles/{name}", headers=headers)
    return answer.document["data"]["profile"] if answer.status == 200 else None


def begun(harness: Harness, **traits: Any) -> str:
    created = send(harness, "/profiles", page(), identify("", traits)).document
    return str(created["data"]["profile"]["id"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_name_that_nobody_was_issued_leads_a_stranger_to_a_new_visitor(harness: Harness, kind: str) -> None:
    own = begun(harness, plan="pro")
    name = names(harness, own)[kind]
    send(harness, "/events", of("device", identify(name, {"secret": 1})), trusted=True)
    assert profile(harness, name) is None
    answer = send(harness, f"/profiles/{name}", identify("", {"plan": "stolen"})).document["data"]["profile"]
    assert answer["id"] not in (own, name)
    assert answer["traits"] == {"plan": "stolen"}
    assert profile(harness, own)["traits"] == {"plan": "pro"}
    assert profile(harness, name, trusted=True)["traits"] == {"secret": 1}


@pytest.mark.parametrize("path", ["/events", "/import/events"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_a_trusted_sender_about_such_a_name_is_about_nobody_else(
    harness: Harness, kind: str, path: str
) -> None:
    own = begun(harness, plan="pro")
    name = names(harness, own)[kind]
    assert send(harness, path, of(name, identify("", {"plan": "free"})), trusted=True).status == 200
    assert profile(harness, own)["traits"] == {"plan": "pro"}
    assert profile(harness, name) is None


@pytest.mark.parametrize("path", ["/events", "/import/events"])
def test_the_id_of_a_visitor_is_nobodys_user_id_whoever_says_so(harness: Harness, path: str) -> None:
    own, other = begun(harness, plan="pro"), begun(harness, name="other")
    assert send(harness, path, of(other, identify(own, {"seen": True})), trusted=True).status == 200
    assert profile(harness, own)["traits"] == {"plan": "pro"}
    assert profile(harness, other)["traits"] == {"name": "other", "seen": True}
