"""Every entrance by every kind of page that may send a request to it, as fixtures/cases/access/origins.json has it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import page

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.testing import Answer, Client, Harness
from ninetailed_wsgi.testing.live import _Controlled
from tests.inspector.places import busy
from tests.inspector.test_inspector import sign_in
from tests.tables import check_each

TABLE = json.loads((Path(__file__).parents[2] / "fixtures/cases/access/origins.json").read_text())
HERE, LOOPBACK = {"Host": "shop.example"}, {"Host": "localhost:8000"}

Send = Callable[[str, Mapping[str, str]], Answer]


class Api:
    """Sends the requests of the table to an API."""

    def __init__(self, harness: Harness, client: Client, host: Mapping[str, str], prefix: str = "") -> None:
        self._client, self._host, self._prefix = client, host, prefix
        created = harness.client.post("/profiles", {"events": [page()]})
        self._id = created.document["data"]["profile"]["id"]

    def __call__(self, request: str, headers: Mapping[str, str]) -> Answer:
        routes = "/v3/spaces" if request == "space" else "/v2/organizations"
        if request.endswith("insights"):
            routes = "/v2/spaces" if request == "space-insights" else "/v1/organizations"
        method, path, body = {
            "create": ("POST", "/profiles", {"events": [page()]}),
            "update": ("POST", f"/profiles/{self._id}", {"events": [page()]}),
            "read": ("GET", f"/profiles/{self._id}", None),
            "flags": ("POST", "/ofrep/v1/evaluate/flags", {"context": {"targetingKey": self._id}}),
            "space": ("POST", "/profiles?type=preflight", {"events": [page()]}),
            "insights": ("POST", "/events", [{"profile": {"id": self._id}, "events": []}]),
            "space-insights": ("POST", "/events", [{"profile": {"id": self._id}, "events": []}]),
        }[request]
        place = f"{self._prefix}{routes}/default/environments/main{path}"
        return self._client.call(method, place, body, headers={**self._host, **headers})


def mounted(running: ExitStack) -> Send:
    harness = running.enter_context(Harness(access="guarded"))
    return Api(harness, Client(harness.mount(lambda environ, start: [], prefix="/api")), HERE, "/api")


def guarded(running: ExitStack) -> Send:
    harness = running.enter_context(Harness(access="guarded", cors_origins="https://app.example"))
    return Api(harness, harness.client, HERE)


def local(running: ExitStack) -> Send:
    harness = running.enter_context(Harness())
    return Api(harness, harness.client, LOOPBACK)


def inspector(running: ExitStack) -> Send:
    harness = running.enter_context(busy(access="guarded"))
    key = harness.key("admin")
    return lambda request, headers: sign_in(harness.client, {"key": key}, **{**HERE, **headers})


def panel(running: ExitStack) -> Send:
    harness = running.enter_context(Harness(access="guarded"))

    def site(environ: Any, start_response: Any) -> list[bytes]:
        visitor_of(environ).page()
        start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [b"<html><body></body></html>"]

    client = Client(harness.mount(site, panel=lambda environ: True))
    proof = re.search(r'"proof": ?"([^"]+)"', client.call("GET", "/").body.decode())
    assert proof is not None
    place = f"/ninetailed/panel?proof={proof[1]}&back=/&audience=any&to=auto"
    return lambda request, headers: client.call("GET", place, headers={**HERE, **headers})


def script(running: ExitStack) -> Send:
    harness = running.enter_context(Harness(access="guarded"))
    client = Client(harness.mount(lambda environ, start: []))
    return lambda request, headers: client.call("GET", f"/ninetailed/{request}", headers={**HERE, **headers})


def control(running: ExitStack) -> Send:
    harness = running.enter_context(Harness())
    client = Client(_Controlled(harness.app, harness))
    bodies = {"clock": {"advance_seconds": 1}, "reset": {}}
    return lambda request, headers: client.call(
        "POST", f"/control/{request}", bodies[request], headers={**LOOPBACK, **headers}
    )


ENTRANCES = {made.__name__: made for made in (mounted, guarded, inspector, panel, script, control, local)}


@pytest.fixture(params=TABLE["entrances"], ids=lambda entrance: entrance["id"])
def entrance(request: pytest.FixtureRequest) -> Iterator[tuple[Mapping[str, Any], Send]]:
    with ExitStack() as running:
        yield request.param, ENTRANCES[request.param["id"]](running)


def test_an_entrance_is_open_to_the_pages_of_the_table(entrance: tuple[Mapping[str, Any], Send]) -> None:
    row, send = entrance
    cases = [
        (f"{request} by {sender}", (request, sender)) for request in row["requests"] for sender in TABLE["senders"]
    ]

    def check(case: tuple[str, str]) -> None:
        request, sender = case
        answer = send(request, TABLE["senders"][sender])
        allowed = sender in row["allowed"] or "*" in row["allowed"]
        assert (answer.status != 403) is allowed, answer.body
        assert answer.status < 400 or not allowed, answer.body
        origin = answer.headers.get("access-control-allow-origin")
        assert origin == (TABLE["senders"][sender]["Origin"] if sender in row["shared"] else None)

    check_each(cases, check)


def test_the_table_names_no_sender_that_it_does_not_have() -> None:
    names = {name for row in TABLE["entrances"] for name in (*row["allowed"], *row["shared"])}
    assert names <= {"*", *TABLE["senders"]}
    assert [row["id"] for row in TABLE["entrances"]] == list(ENTRANCES)
