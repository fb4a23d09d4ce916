"""Content is replaced while clients post: every answer is of one version, none is an error."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

from serving import GEO, PROFILES, Server, call, page, serving, wait_until

VERSIONS = 50
CLIENTS = 8
WATCHED = {20: "audiences: found an object", 45: "not JSON"}  # broken versions, and what the server says of them


def version(number: int) -> bytes:
    """Content whose audience, experience and flag all name one version; every fifth version is broken."""
    if number % 5 == 0:
        return b'{"audiences": [{"id": "broken"' if number % 2 else b'{"audiences": {"id": "broken"}}'
    return json.dumps(content(number)).encode()


def content(number: int) -> dict[str, Any]:
    name = f"version-{number}"
    condition = {"key": {"key": "context_page_path", "value": ""}, "operator": "contains", "value": "/"}
    rule = {"type": "page", "operator": "greaterThanInclusive", "count": "1", "conditions": [condition]}
    flag = {"type": "InlineVariable", "key": "version", "valueType": "Number"}
    component = {**flag, "baseline": {"value": number}, "variants": [{"value": number}]}
    config = {"traffic": 1, "distribution": [0, 1], "components": [component]}
    experience = {"id": name, "name": name, "type": "nt_personalization", "audience": {"id": name}, "config": config}
    return {"audiences": [{"id": name, "name": name, "rules": {"any": [{"all": [rule]}]}}], "experiences": [experience]}


def replace(file: Path, text: bytes) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(text)
    os.replace(new, file)


def versions_of(data: dict[str, Any]) -> set[str]:
    """Every version that an answer names; one, when it is of one version."""
    named = {*data["profile"]["audiences"], *(each["experienceId"] for each in data["experiences"])}
    return named | {f"version-{change['value']}" for change in data["changes"]}


class Clients:
    """Threads that post page events until they are told to stop, and what they were answered."""

    def __init__(self, server: Server) -> None:
        self.seen: set[str] = set()
        self.wrong: list[Any] = []
        self._server = server
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._post, args=(client,)) for client in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _post(self, client: int) -> None:
        with self._server.connection() as connection:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                body = {"events": [page(f"{client}-{number}")]}
                answer = call(connection, "POST", f"{PROFILES}/client-{client}-{number % 20}", body)
                versions = versions_of(answer.json()["data"]) if answer.status == 200 else set()
                if len(versions) == 1:
                    self.seen |= versions
                else:
                    self.wrong.append((answer.status, answer.body))


def test_content_is_swapped_whole_while_eight_clients_post(tmp_path: Path) -> None:
    file = tmp_path / "content.json"
    replace(file, version(1))
    with serving(tmp_path, "--content", str(file), "--workers", "2") as server, Clients(server) as clients:
        wait_until(lambda: "version-1" in clients.seen, "the first version is answered")
        for number in range(2, VERSIONS):
            replace(file, version(number))
            if number in WATCHED:
                reported = WATCHED[number]
                wait_until(lambda text=reported: text in server.printed.read_text(), f"reported: {reported}")  # type: ignore[misc]
            if number % 13 == 0:  # at times wait until the version is served, else change again at once
                wait_until(lambda name=f"version-{number}": name in clients.seen, "the new version is answered")  # type: ignore[misc]
        replace(file, version(VERSIONS + 1))
        wait_until(lambda: f"version-{VERSIONS + 1}" in clients.seen, "the last version is answered")
    assert clients.wrong == []
    broken = {f"version-{number}" for number in range(5, VERSIONS, 5)}
    assert not clients.seen & broken


def test_a_worker_that_starts_while_content_and_location_database_are_broken_serves_those_of_the_start(
    tmp_path: Path,
) -> None:
    file, database = tmp_path / "content.json", tmp_path / "places.mmdb"
    replace(file, version(1))
    replace(database, GEO.read_bytes())
    options = ["--content", str(file), "--geoip-database", str(database), "--workers", "1"]
    with serving(tmp_path, *options) as server:
        body = {"events": [page("first")], "options": {"features": ["location"]}}
        first = server.call("POST", f"{PROFILES}/anna", body).json()["data"]
        assert versions_of(first) == {"version-1"}
        assert first["profile"]["location"]
        replace(file, version(20))
        replace(database, b"no database")
        [worker] = server.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: bool(server.workers() - {worker}), "another worker is there")
        second = server.call("POST", f"{PROFILES}/bert", {**body, "events": [page("second")]}).json()["data"]
        assert versions_of(second) == {"version-1"}
        assert second["profile"]["location"] == first["profile"]["location"]

        def answered() -> set[str]:
            return versions_of(server.call("GET", f"{PROFILES}/bert").json()["data"])

        def reported() -> bool:
            assert answered() == {"version-1"}
            return WATCHED[20] in server.printed.read_text()

        wait_until(reported, "the broken version is reported")
        replace(file, version(2))
        wait_until(lambda: answered() == {"version-2"}, "the mended version is answered")
