"""Every operation by every caller in both modes, as fixtures/cases/access has it, in each way of use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ninetailed_wsgi.testing import Client, Harness
from ninetailed_wsgi.testing.client import Answer

TABLE = json.loads((Path(__file__).parents[2] / "fixtures/cases/access/operations.json").read_text())
PREFIX = "/v2/organizations/default/environments/main"
_numbers = count()
_keys: dict[Harness, dict[str, str]] = {}


class Place(NamedTuple):
    """An API somewhere, with what the table's callers need.

    Attributes:
        call: makes a request of a caller.
        keys: makes a key with scopes.
    """

    call: Callable[..., Answer]
    harness: Harness


def in_app(harness: Harness) -> Place:
    return Place(harness.client.call, harness)


def in_mount(harness: Harness) -> Place:
    def site(environ: Any, start_response: Any) -> Any:
        raise AssertionError("the API is below /api")

    client = Client(harness.mount(site, prefix="/api"))
    return Place(lambda method, path, *rest, **named: client.call(method, "/api" + path, *rest, **named), harness)


WAYS = {"app": in_app, "mount": in_mount}


@pytest.fixture(scope="module", params=["open", "guarded"])
def mode(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module", params=list(WAYS))
def place(request: pytest.FixtureRequest, mode: str) -> Iterator[Place]:
    with Harness(access=mode, metrics=True, trusted_senders="10.9.8.7") as harness:
        if mode == "guarded":
            # Before a mount reads the file: a process notices a new key within a second.
            _keys[harness] = {
                json.dumps(caller): harness.key(*caller.get("scopes", caller.get("expired")), days=days)
                for caller in TABLE["callers"].values()
                for name, days in (("scopes", None), ("expired", -1))
                if name in caller
            }
        yield WAYS[request.param](harness)


def headers_of(caller: Mapping[str, Any], harness: Harness) -> dict[str, str]:
    if harness.settings.access == "open":
        return {}
    key = _keys[harness].get(json.dumps(caller), caller.get("key"))
    return {"Authorization": f"Bearer {key}"} if key else {}


def profiles(place: Place) -> dict[str, str]:
    """A profile with a user id, another one, and one that may be deleted."""
    number = next(_numbers)
    harness = place.harness
    names = {"user": f"user-{number}@example.com", "message": f"message-{number}"}
    trusted = headers_of({"scopes": ["events"]}, harness)
    event = next(one["request"]["body"]["events"][0] for one in TABLE["operations"] if one["id"] == "identify-user")
    for name, user_id in (("own", names["user"]), ("other", ""), ("disposable", "")):
        body = {"events": [{**event, "messageId": f"{name}-{number}", "userId": user_id}]}
        answer = place.call("POST", f"{PREFIX}/profiles", body, headers=trusted)
        assert answer.status == 200, answer.body
        names[name] = answer.document["data"]["profile"]["id"]
    own = names["own"]
    names["altered"] = own[:-1] + ("0" if own[-1] != "0" else "1")
    return names


@pytest.mark.parametrize("caller", list(TABLE["callers"]))
@pytest.mark.parametrize("operation", TABLE["operations"], ids=[one["id"] for one in TABLE["operations"]])
def test_an_operation_is_answered_as_the_table_says(
    place: Place, mode: str, operation: dict[str, Any], caller: str
) -> None:
    names = profiles(place)
    request = json.dumps(operation["request"])
    for name, value in names.items():
        request = request.replace("{" + name + "}", value)
    asked = json.loads(request)
    path = asked.get("root") or (
        "/v2/organizations/default/environments/other" + asked["elsewhere"]
        if "elsewhere" in asked
        else PREFIX + asked["path"]
    )
    who = TABLE["callers"][caller]
    address = who.get("address", "203.0.113.9")
    answer = place.call(
        asked["method"], path, asked.get("body"), headers=headers_of(who, place.harness), address=address
    )

    def expected(column: Mapping[str, Any]) -> Any:
        return column.get(caller, column.get("*"))

    assert answer.status == expected(operation[mode]), answer.body
    if answer.status == 401:
        assert answer.document["error"]["code"] == "ERR_UNAUTHORIZED"
        assert answer.headers["www-authenticate"] == "Bearer"
    elif answer.status == 403:
        assert answer.document["error"]["code"] == "ERR_FORBIDDEN"
    if mode == "guarded" and answer.status == 200 and (kind := expected(operation.get("answers", {}))):
        id = answer.document["data"]["profile"]["id"]
        assert id == names[kind] if kind != "fresh" else id not in names.values()
    if mode == "guarded" and "unverified" in operation:
        assert (answer.headers.get("x-ninetailed-identity") == "unverified") is expected(operation["unverified"])


def test_nothing_tells_a_stranger_whether_a_user_id_exists(place: Place, mode: str) -> None:
    if mode == "open":
        return
    user = profiles(place)["user"]
    answers = [place.call("GET", f"{PREFIX}/profiles/{name}") for name in (user, "nobody@example.com")]
    assert answers[0].body == answers[1].body
    assert answers[0].headers.keys() == answers[1].headers.keys()
