"""The cases for a guarded server: the table of ``cases/access``, for the callers that one key makes possible.

The table has every operation by every caller (spec section 16). A run has one key with all scopes, so its callers are a
stranger, somebody with a wrong key, and the owner of the key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl

from ninetailed_wsgi.contract.cases import Case

CALLERS: Mapping[str, str] = {"stranger": "a stranger", "wrong": "a wrong key", "all": "a key with all scopes"}
WRONG_KEY = "nt_wrong"
_OWN = "/0/data/profile/id"
_SECOND = "/1/data/profile/id"
_POINTERS = {"{own}": f"{{{_OWN}}}", "{altered}": f"{{{_OWN}}}0", "{other}": f"{{{_SECOND}}}"}
_POINTERS |= {"{disposable}": f"{{{_SECOND}}}", "{user}": "user@example.com"}


def access_cases() -> list[Case]:
    """Return a case for each operation of the table by each caller of `CALLERS`, as a guarded server answers it."""
    file = resources.files("ninetailed_wsgi") / "cases" / "access" / "operations.json"
    operations = json.loads(file.read_text(encoding="utf-8"))["operations"]
    return [_case(operation, operations, caller) for operation in operations for caller in CALLERS]


def authorization(caller: str, key: str) -> dict[str, str]:
    """Return the headers by which a server knows a caller: a name of `CALLERS`, or empty for the owner of the key."""
    if caller == "stranger" or not key:
        return {}
    return {"Authorization": f"Bearer {WRONG_KEY if caller == 'wrong' else key}"}


def _case(operation: Mapping[str, Any], operations: list[Mapping[str, Any]], caller: str) -> Case:
    (identify,) = [one["request"]["body"]["events"][0] for one in operations if one["id"] == "identify-user"]
    before = [_setup(identify, "own", "user@example.com"), _setup(identify, "second", "")]
    steps = (*before, {"request": _request(operation["request"], caller), "expect": _expectation(operation, caller)})
    name = f"{operation['name']}, as {CALLERS[caller]}"
    return Case(f"access-{operation['id']}-{caller}", "access", name, "", steps)


def _setup(identify: Mapping[str, Any], message: str, user: str) -> dict[str, Any]:
    """Return a step that makes a profile, which has a user id where one is named."""
    event = {**identify, "messageId": message, "userId": user}
    return {"request": {"method": "POST", "path": "/profiles", "body": {"events": [event]}}, "expect": {"status": 200}}


def _request(request: Mapping[str, Any], caller: str) -> dict[str, Any]:
    text = json.dumps(request)
    for name, pointer in _POINTERS.items():
        text = text.replace(name, pointer)
    call: dict[str, Any] = json.loads(text.replace("{message}", "message"))
    for place in ("root", "elsewhere"):
        if place in call:
            call |= {"path": call.pop(place), "place": place}
    call["path"], _, query = call["path"].partition("?")
    return {**call, "query": dict(parse_qsl(query)), "caller": caller}


def _expectation(operation: Mapping[str, Any], caller: str) -> dict[str, Any]:
    def of(column: Mapping[str, Any]) -> Any:
        return column.get(caller, column.get("*"))

    expected: dict[str, Any] = {"status": of(operation["guarded"])}
    if operation.get("optional"):
        expected["or"] = 404
    if expected["status"] == 401:
        expected |= {"body": {"error": {"code": "ERR_UNAUTHORIZED"}}, "headers": {"WWW-Authenticate": "Bearer"}}
    if id := of(operation.get("answers", {})):
        same = {"own": {"$same": _OWN}, "other": {"$same": _SECOND}, "fresh": {"$other": _OWN}}[id]
        expected["body"] = {"data": {"profile": {"id": same}}}
    if "unverified" in operation:
        flag = "unverified" if of(operation["unverified"]) else {"$absent": True}
        expected["headers"] = {"X-Ninetailed-Identity": flag}
    return expected
