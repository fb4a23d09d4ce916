"""Every audience and experience case again, over HTTP: content from files, events and answers through a socket."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from support import Clock, Server

from tests.tables import by_id, check_each

from .cases import cases_in, files_of, load_cases

CASES = load_cases()


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


class Client:
    """Sends a case's steps to a server whose clock it moves."""

    def __init__(self, server: Server, port: int) -> None:
        self._server = server
        self._port = port

    def decided(self, case: dict[str, Any]) -> dict[str, Any]:
        """What ``GET`` answers after the case's steps, at its time."""
        path = f"/v2/organizations/cases/environments/{case['id']}/profiles/{quote(case['profile'], safe='')}"
        for step in case["steps"]:
            self._server.clock.is_at(step["at"])
            self._call("POST", path, {"events": step["events"]})
        self._server.clock.is_at(case["now"])
        answered = self._call("GET", path)
        decided = {name: answered[name] for name in ("experiences", "changes")}
        return {"audiences": answered["profile"]["audiences"], **decided}

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request(method, path, json.dumps(body).encode() if body else None)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        assert response.status == 200, answer
        data: dict[str, Any] = answer["data"]
        return data


@pytest.fixture(scope="module", params=["disk", pytest.param("redis", marks=pytest.mark.redis)])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("decisions")
    environments = folder / "content" / "cases"
    environments.mkdir(parents=True)
    for case in CASES:
        (environments / f"{case['id']}.json").write_text(json.dumps(case["content"]))
    clock, store = Clock(), None
    if request.param == "redis":
        store = request.getfixturevalue("make_redis_store")(clock)
    server = Server(folder, content=folder / "content", geo=None, clock=clock, store=store)
    http_server = make_server("127.0.0.1", 0, server.app, handler_class=_Quiet)
    thread = threading.Thread(target=http_server.serve_forever, args=(0.02,))
    thread.start()
    yield Client(server, http_server.server_port)
    http_server.shutdown()
    thread.join()
    http_server.server_close()
    server.close()


@pytest.mark.parametrize("file", files_of())
def test_each_case_of_a_file_is_answered_as_expected(file: str, client: Client) -> None:
    def answered(case: dict[str, Any]) -> None:
        assert client.decided(case) == case["expected"], case["name"]

    check_each(by_id(cases_in(file)), answered)
