"""Every answer satisfies every generation of clients on the routes that it uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support import Clock, Server
from support import page as page_event

from ninetailed_wsgi import create_app
from ninetailed_wsgi.contract.answers import Answer, document_of
from ninetailed_wsgi.contract.run import CaseRun, Send
from ninetailed_wsgi.contract.target import ROUTES, prefix
from ninetailed_wsgi.testing import Client
from tests.clients.generations import GENERATIONS, Generation, refusals
from tests.conformance.cases import cases_in, files_of, load_cases
from tests.contract.servers import CASES, breaches, speaking_with
from tests.tables import by_id, check_each

SENTENCES = [(each, one) for each in GENERATIONS for one in each.forbidden]
DECISIONS = load_cases("audiences", "experiences")


@pytest.mark.parametrize(
    ("generation", "one"), SENTENCES, ids=lambda given: getattr(given, "client", None) or given["name"]
)
def test_a_shape_that_a_client_refuses_is_noticed(generation: Generation, one: dict[str, Any]) -> None:
    assert not generation.takes("profile", one["answer"])


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda each: each.client)
def test_a_shape_that_a_client_takes_is_accepted(generation: Generation) -> None:
    assert [one["name"] for one in generation.accepted if not generation.takes("profile", one["answer"])] == []


def checking(send: Send, routes: str, refused: list[str]) -> Send:
    """Hold every answer of an environment against the clients of these routes."""

    def checked(method: str, path: str, body: bytes | None, headers: Any) -> Answer:
        answer = send(method, path, body, headers)
        below = path.removeprefix(prefix("acme", "main", routes))
        if below != path and method not in ("OPTIONS", "HEAD"):
            clients = refusals(routes, method, below, answer.status, document_of(answer))
            refused.extend(f"{client}: {method} {below}" for client in clients)
        return answer

    return checked


@pytest.mark.parametrize("routes", ROUTES)
def test_every_answer_of_the_contract_satisfies_the_clients_of_its_routes(tmp_path: Path, routes: str) -> None:
    refused: list[str] = []
    send = checking(speaking_with(create_app(data_dir=tmp_path, store_shards=2, access="open")), routes, refused)
    # Answers about flags are for OpenFeature's providers.
    cases = [case for case in CASES if case.claim != "flags"]
    results = [*CaseRun(send, prefix("acme", "main", routes), ("deduplication", "choices"), routes).results(cases)]
    assert breaches(results) == []
    assert refused == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("clients")
    (folder / "content" / "cases").mkdir(parents=True)
    for case in DECISIONS:
        _publish(folder / "content" / "cases" / f"{case['id']}.json", case["content"])
    running = Server(folder, content=folder / "content", geo=None, clock=Clock())
    yield running
    running.close()


def _publish(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("file", files_of("audiences", "experiences"))
def test_every_decision_satisfies_the_clients_of_either_routes_and_is_the_same_on_both(
    server: Server, file: str
) -> None:
    check_each(by_id(cases_in(file)), lambda case: _satisfies_the_clients(server, case))


def _satisfies_the_clients(server: Server, case: dict[str, Any]) -> None:
    client, answers = Client(server.app), {}
    path = f"/profiles/{quote(case['profile'], safe='')}"
    for step in case["steps"]:
        server.clock.is_at(step["at"])
        client.post(prefix("cases", case["id"], "spaces") + path, {"events": step["events"]})
    server.clock.is_at(case["now"])
    for routes in ROUTES:
        answer = client.get(prefix("cases", case["id"], routes) + path)
        assert answer.status == 200
        assert refusals(routes, "GET", path, answer.status, answer.document) == []
        data = answers[routes] = answer.document["data"]
        assert data["profile"]["audiences"] == case["expected"]["audiences"]
        assert data["experiences"] == case["expected"]["experiences"]
    assert answers["organizations"]["changes"] == case["expected"]["changes"]
    assert answers["spaces"]["changes"] == case.get("spaces", case["expected"]["changes"])


def test_an_answer_about_nobody_suits_every_client(server: Server) -> None:
    client = Client(server.app)
    for routes in ROUTES:
        for answer in (
            client.get(prefix("cases", "none", routes) + "/profiles/nobody"),
            client.post(prefix("cases", "none", routes) + "/profiles", {"events": [page_event(messageId=5)]}),
        ):
            assert answer.status in (400, 404)
            assert refusals(routes, "GET", "/profiles/nobody", answer.status, answer.document) == []
