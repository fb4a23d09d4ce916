"""What a stranger could do with nothing but somebody's e-mail address, in every way of use of a guarded API."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from proxies import behind_nginx
from serving import ROOT, Server, page, serving

from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.testing import Client, Harness
from ninetailed_wsgi.testing.live import LiveServer

PREFIXES = {
    "organizations": "/v2/organizations/default/environments/main",
    "spaces": "/v3/spaces/default/environments/main",
}
"""Of the routes that the classic and the newest SDKs use."""

_numbers = count()


class Place:
    """A guarded API, asked by a stranger through ``call``, and by the site with a key through ``own``.

    Attributes:
        prefix: of the routes that both use.
    """

    prefix = PREFIXES["organizations"]

    def __init__(self, call: Callable[..., Any], key: str, own: Callable[..., Any] | None = None) -> None:
        self._call, self._own, self._key = call, own or call, key

    def stranger(self, method: str, name: str = "", *events: dict[str, Any]) -> tuple[int, Any]:
        return self._ask(self._call, method, name, events, {})

    def trusted(self, method: str, name: str = "", *events: dict[str, Any]) -> dict[str, Any]:
        status, body = self._ask(self._own, method, name, events, {"Authorization": f"Bearer {self._key}"})
        assert status == 200, body
        profile: dict[str, Any] = body["data"]["profile"]
        return profile

    def _ask(self, call: Callable[..., Any], method: str, name: str, events: Any, headers: Any) -> tuple[int, Any]:
        path = f"{self.prefix}/profiles" + (f"/{name}" if name else "")
        answer = call(method, path, {"events": list(events)} if events else None, headers=headers)
        json = answer.headers.get("content-type", "").startswith("application/json")
        return answer.status, (answer.json() if hasattr(answer, "json") else answer.document) if json else None


def identify(user_id: str, **traits: Any) -> dict[str, Any]:
    event = page(f"attack-{next(_numbers)}")
    del event["properties"]
    return {**event, "type": "identify", "userId": user_id, "traits": traits}


def in_process(mounted: bool) -> Iterator[Place]:
    with Harness(access="guarded") as harness:
        key = harness.key("events", "read")
        client = Client(harness.mount(lambda environ, start_response: [], prefix="/api")) if mounted else harness.client
        before = "/api" if mounted else ""
        yield Place(lambda method, path, *rest, **named: client.call(method, before + path, *rest, **named), key)


@pytest.fixture(scope="module", params=["app", "mount", "serve", "harness", "nginx"])
def somewhere(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if request.param in ("app", "mount"):
        yield from in_process(request.param == "mount")
        return
    if request.param == "harness":  # as tests of a site in another language have it
        with Harness(access="guarded") as harness, LiveServer(harness) as live:
            port = int(live.url.rpartition(":")[2])
            yield Place(Server(None, port, Path()).call, harness.key("events", "read"))  # type: ignore[arg-type]
        return
    folder = tmp_path_factory.mktemp(request.param)
    keys, key = str(folder / "keys.json"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda text, **_: key.append(text))
        assert main(["key", "new", "crm", "--scope", "events,read", "--keys-file", keys]) == 0
    options = ("--access", "guarded", "--keys-file", keys, "--environments", "default/main", "--store-shards", "2")
    with serving(folder, *options, "--trusted-proxies", "127.0.0.1") as server:
        if request.param == "serve":
            yield Place(server.call, key[0])
        else:
            with behind_nginx(tmp_path_factory.mktemp("proxy"), "nginx.conf", server.port) as proxy:
                yield Place(proxy.call, key[0], server.call)


@pytest.fixture(params=PREFIXES.values(), ids=PREFIXES.keys())
def place(somewhere: Place, request: pytest.FixtureRequest) -> Place:
    somewhere.prefix = request.param
    return somewhere


@pytest.fixture
def user(place: Place) -> str:
    """The user id of a visitor whom the site knows, with a phone number."""
    name = f"anna-{next(_numbers)}@example.com"
    place.trusted("POST", "", identify(name, phone="555"))
    return name


def test_nobody_reads_a_visitor_by_their_address(place: Place, user: str) -> None:
    assert place.stranger("GET", user) == place.stranger("GET", "nobody@example.com")
    assert place.stranger("GET", user)[0] == 404


def test_nobody_overwrites_a_visitor_by_their_address(place: Place, user: str) -> None:
    before = place.trusted("GET", user)
    status, body = place.stranger("POST", user, identify("", phone="666"))
    assert (status, body["data"]["profile"]["traits"]) == (200, {"phone": "666"})
    assert body["data"]["profile"]["id"] != before["id"]
    assert place.trusted("GET", user)["traits"] == {"phone": "555"}


def test_nobody_deletes_a_visitor_by_their_address_or_their_id(place: Place, user: str) -> None:
    for name in (user, place.trusted("GET", user)["id"]):
        assert place.stranger("DELETE", name)[0] in (401, 403)
    assert place.trusted("GET", user)["traits"] == {"phone": "555"}


def test_nobody_takes_a_visitor_over_by_an_identify(place: Place, user: str) -> None:
    status, body = place.stranger("POST", "", identify(user, color="red"))
    assert (status, body["data"]["profile"]["traits"]) == (200, {"color": "red"})
    found = place.trusted("GET", user)
    assert found["id"] != body["data"]["profile"]["id"]
    assert found["traits"] == {"phone": "555"}


def test_nobody_waits_for_the_next_visitor_by_claiming_an_address_ahead(place: Place) -> None:
    name = f"next-{next(_numbers)}@example.com"
    _, body = place.stranger("POST", "", identify(name, trap=True))
    planted = body["data"]["profile"]["id"]
    found = place.trusted("POST", "", identify(name, phone="777"))
    assert found["id"] != planted
    assert found["traits"] == {"phone": "777"}
    assert place.stranger("GET", planted)[1]["data"]["profile"]["traits"] == {"trap": True}


def test_each_promise_of_the_page_names_a_test_that_exists() -> None:
    named = re.findall(r"\btest_\w+\b(?!\.py)", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"))
    texts = [file.read_text(encoding="utf-8") for at in ("", "*/") for file in (ROOT / "tests").glob(f"{at}test_*.py")]
    assert len(named) > 6
    assert [name for name in named if not any(f"def {name}(" in text for text in texts)] == []
