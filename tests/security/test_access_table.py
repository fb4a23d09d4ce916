"""Every operation by every caller in both modes, as fixtures/cases/access has it, in each way of use."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from proxies import behind_nginx
from serving import Server, serving

from ninetailed_wsgi.service.keys import changing, new_key
from ninetailed_wsgi.testing import Answer, Client, Harness
from ninetailed_wsgi.testing.live import LiveServer
from tests.tables import check_each

TABLE = json.loads((Path(__file__).parents[2] / "fixtures/cases/access/operations.json").read_text())
PREFIX = "/v2/organizations/default/environments/main"
SPACES = "/v3/spaces/default/environments/main"
_numbers = count()

BEHIND_NGINX = ("create", "preflight", "update", "get", "identify", "environment")
"""How the ids of operations begin that examples/deploy/nginx.conf lets through."""

NAMES = {"own": ("own", "user", "altered"), "other": ("other",), "disposable": ("disposable",)}
"""The names in a request that need each of the profiles that tests make."""

Headers = dict[str, str]


class Place(NamedTuple):
    """An API somewhere, with what the table's callers need.

    Attributes:
        call: makes a request of a caller.
        headers: of a caller's requests.
        mode: ``open`` or ``guarded``.
        inside: makes a request that no proxy sees.
        passes: whether an operation reaches the API.
        prefix: of the routes of the environment.
    """

    call: Callable[..., Any]
    headers: Callable[[Mapping[str, Any]], Headers]
    mode: str
    inside: Callable[..., Any]
    passes: Callable[[str], bool] = lambda operation: True
    prefix: str = PREFIX


def bearer(keys: Mapping[str, str], caller: Mapping[str, Any]) -> Headers:
    key = keys.get(json.dumps(caller), caller.get("key"))
    return {"Authorization": f"Bearer {key}"} if key else {}


def keys_made(make: Callable[..., str]) -> dict[str, str]:
    """A key for each caller that has one; ``make`` takes scopes, and after how many days it expires."""
    return {
        json.dumps(caller): make(*caller.get("scopes", caller.get("expired")), days=days)
        for caller in TABLE["callers"].values()
        for name, days in (("scopes", None), ("expired", -1))
        if name in caller
    }


def in_app(harness: Harness) -> Callable[..., Answer]:
    return harness.client.call


def in_mount(harness: Harness) -> Callable[..., Answer]:
    def site(environ: Any, start_response: Any) -> Any:
        raise AssertionError("the API is below /api")

    client = Client(harness.mount(site, prefix="/api"))
    return lambda method, path, *rest, **named: client.call(method, "/api" + path, *rest, **named)


WAYS = {"app": in_app, "mount": in_mount}


def in_process(way: str, mode: str, prefix: str = PREFIX) -> Iterator[Place]:
    with Harness(access=mode, metrics=True, trusted_senders="10.9.8.7", inspector=True) as harness:
        # Before a mount reads the file: a process notices a new key within a second.
        keys = keys_made(harness.key) if mode == "guarded" else {}
        call = WAYS[way](harness)
        yield Place(call, lambda caller: bearer(keys, caller) if keys else {}, mode, call, prefix=prefix)


def on_server(folder: Path, nginx: bool) -> Iterator[Place]:
    """``serve``, which is told by a proxy on this machine where requests come from; perhaps behind nginx."""
    file, now = folder / "keys.json", int(time.time())
    keys = keys_made(lambda *scopes, days: _added(file, scopes, now, days))
    options = [
        "--access",
        "guarded",
        "--keys-file",
        str(file),
        "--environments",
        "default/main",
        "--metrics",
        "--inspector",
        "--explain",
    ]
    options += ["--trusted-proxies", "127.0.0.1", "--trusted-senders", "10.9.8.7", "--store-shards", "2"]
    options += ["--new-profiles-per-minute", "1000000"]
    with contextlib.ExitStack() as running:
        server = proxy = running.enter_context(serving(folder, *options))
        header = "X-Forwarded-For"
        if nginx:
            header = "X-Test-Address"  # where nginx takes its client's address from, as all of them come from here
            told = ("X-Forwarded-For $remote_addr", "X-Forwarded-For $http_x_test_address")
            slower = ("rate=20r/s", "rate=100000r/s")
            (folder / "nginx").mkdir()
            proxy = running.enter_context(behind_nginx(folder / "nginx", "nginx.conf", server.port, told, slower))

        passes = (lambda operation: operation.startswith(BEHIND_NGINX)) if nginx else lambda operation: True
        inside = calling(server, "X-Forwarded-For")
        yield Place(calling(proxy, header), lambda caller: bearer(keys, caller), "guarded", inside, passes)


def on_live_server() -> Iterator[Place]:
    """The harness behind a port, as tests of a site in another language have it."""
    proxied = {"trusted_senders": "10.9.8.7", "trusted_proxies": "127.0.0.1"}
    with Harness(access="guarded", metrics=True, inspector=True, **proxied) as harness, LiveServer(harness) as live:
        keys = keys_made(harness.key)
        server = Server(None, int(live.url.rpartition(":")[2]), Path())  # type: ignore[arg-type]
        call = calling(server, "X-Forwarded-For")
        yield Place(call, lambda caller: bearer(keys, caller), "guarded", call)


def calling(to: Server, name: str) -> Callable[..., Any]:
    """What makes requests to a server, with the caller's address in the header of this name."""
    return lambda method, path, body=None, *, headers=(), address="203.0.113.9": to.call(
        method, path, body, {name: address, **dict(headers)}
    )


def _added(file: Path, scopes: Sequence[str], now: int, days: int | None) -> str:
    key, entry = new_key("table", scopes, now, None if days is None else now + days * 86_400)
    with changing(file) as keys:
        keys.append(entry)
    return key


@pytest.fixture(
    scope="module",
    params=["app open", "app guarded", "app guarded spaces", "mount open", "mount guarded", "live", "serve", "nginx"],
)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    way, *rest = request.param.split()
    if way == "live":
        yield from on_live_server()
        return
    if len(rest) == 2:
        yield from in_process(way, rest[0], SPACES)
        return
    yield from in_process(way, *rest) if rest else on_server(tmp_path_factory.mktemp(way), way == "nginx")


def document(answer: Any) -> Any:
    return json.loads(answer.body)


def profiles(place: Place, request: str) -> dict[str, str]:
    """What the request names: a profile with a user id, another one, one that may be deleted."""
    number = next(_numbers)
    names = {"user": f"user-{number}@example.com", "message": f"message-{number}"}
    trusted = place.headers({"scopes": ["events"]})
    event = next(one["request"]["body"]["events"][0] for one in TABLE["operations"] if one["id"] == "identify-user")
    for name, user_id in (("own", names["user"]), ("other", ""), ("disposable", "")):
        if not any(f"{{{each}}}" in request for each in NAMES[name]):
            continue
        body = {"events": [{**event, "messageId": f"{name}-{number}", "userId": user_id}]}
        answer = place.inside("POST", f"{place.prefix}/profiles", body, headers=trusted)
        assert answer.status == 200, answer.body
        names[name] = document(answer)["data"]["profile"]["id"]
    own = names.get("own", "")
    names["altered"] = own[:-1] + ("0" if own[-1:] != "0" else "1")
    return names


@pytest.mark.parametrize("operation", TABLE["operations"], ids=[one["id"] for one in TABLE["operations"]])
def test_an_operation_is_answered_as_the_table_says(place: Place, operation: dict[str, Any]) -> None:
    callers = [(caller, caller) for caller in TABLE["callers"]]
    check_each(callers, lambda caller: answered_as_the_table_says(place, operation, caller))


def answered_as_the_table_says(place: Place, operation: dict[str, Any], caller: str) -> None:
    request = json.dumps(operation["request"])
    names = profiles(place, request)
    for name, value in names.items():
        request = request.replace("{" + name + "}", value)
    asked = json.loads(request)
    path = asked.get("root") or (
        place.prefix.replace("/main", "/other") + asked["elsewhere"]
        if "elsewhere" in asked
        else place.prefix + asked["path"]
    )
    who = TABLE["callers"][caller]
    address = who.get("address", "203.0.113.9")
    answer = place.call(asked["method"], path, asked.get("body"), headers=place.headers(who), address=address)

    if not place.passes(operation["id"]):
        assert (answer.status, answer.headers["content-type"]) == (
            403 if asked["method"] == "DELETE" else 404,
            "text/html",
        )
        return

    def expected(column: Mapping[str, Any]) -> Any:
        return column.get(caller, column.get("*"))

    assert answer.status == expected(operation[place.mode]), answer.body
    if answer.status == 401:
        assert document(answer)["error"]["code"] == "ERR_UNAUTHORIZED"
        assert answer.headers["www-authenticate"] == "Bearer"
    elif answer.status == 403:
        assert document(answer)["error"]["code"] == "ERR_FORBIDDEN"
    if place.mode == "guarded" and answer.status == 200 and (kind := expected(operation.get("answers", {}))):
        id = document(answer)["data"]["profile"]["id"]
        assert id == names[kind] if kind != "fresh" else id not in names.values()
    if place.mode == "guarded" and "unverified" in operation:
        assert (answer.headers.get("x-ninetailed-identity") == "unverified") is expected(operation["unverified"])


FORGED = ("X_Forwarded_For", "X-Forwarded_For", "X_FORWARDED_FOR", "x_forwarded_for")


def test_a_header_that_is_almost_that_of_the_proxy_makes_nobody_trusted(
    place: Place, request: pytest.FixtureRequest
) -> None:
    """In a WSGI environ both have one key, so the server, or the proxy, has to leave it out."""
    if not {"serve", "nginx"} & set(request.node.callspec.params.values()):
        return  # the headers are read by no server, or by that of a test suite
    user = f"{place.prefix}/profiles/{profiles(place, '{own}')['user']}"
    assert place.call("GET", user, address="10.9.8.7").status == 200, "the real one does"

    def check(name: str) -> None:
        assert place.inside("POST", f"{place.prefix}/events", {"events": []}, headers={name: "10.9.8.7"}).status == 401
        assert place.call("GET", user, headers={name: "10.9.8.7"}).status == 404

    check_each([(name, name) for name in FORGED], check)


def test_nothing_tells_a_stranger_whether_a_user_id_exists(place: Place) -> None:
    if place.mode == "open":
        return
    user = profiles(place, "{own}")["user"]
    answers = [place.call("GET", f"{place.prefix}/profiles/{name}") for name in (user, "nobody@example.com")]
    assert answers[0].body == answers[1].body
    assert answers[0].headers.keys() == answers[1].headers.keys()
