"""The service as it is run: two workers under load, bad connections, and the death of a worker."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.protocol import StoreEntry
from tests.serving import PREFIX, PROFILES, ROOT, SERVERS, Answer, Server, call, page, serving, track, wait_until

THREADS = 8
EVENTS = 800
HEAD = f"POST {PROFILES} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds gunicorn's workers through /proc")


@pytest.fixture(scope="module", params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """What the app is served by."""
    return str(request.param)


@pytest.fixture(scope="module")
def server(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = ["--server", kind, "--workers", "2", "--threads", "4"]
    with serving(tmp_path_factory.mktemp(kind), *options) as running:
        wait_until(lambda: len(running.workers()) == 2, "both workers run")
        yield running


@pytest.fixture
def same_workers(server: Server) -> Iterator[None]:
    """What the test does kills no worker."""
    before = server.workers()
    yield
    assert server.workers() == before
    assert server.call("GET", "/health/ready").status == 200


def at_once(*works: Callable[[], None]) -> None:
    """Run all of them in threads of their own and raise what any of them raised."""
    with ThreadPoolExecutor(len(works)) as threads:
        for future in [threads.submit(work) for work in works]:
            future.result()


def stored(folder: Path, name: str, **options: Any) -> StoreEntry:
    """What the stopped server's data folder holds of a profile."""
    store = DiskStore(folder / "data", **options)
    entry = store.read(Key("acme", "main", name))
    entry.history()
    return entry


def asking_for(number: int, sys_id: str) -> dict[str, Any]:
    """A generic audience: performed the event "clicked" at least so many times."""
    rule = {"type": "track", "value": "clicked", "operator": "greaterThanInclusive", "count": str(number)}
    return {"id": sys_id, "name": sys_id, "rules": {"any": [{"all": [rule]}]}}


# Nothing is lost


def test_hundreds_of_events_from_eight_threads_to_one_profile_are_counted_exactly(tmp_path: Path) -> None:
    content = tmp_path / "content.json"
    audiences = [asking_for(EVENTS, "all-of-them"), asking_for(EVENTS + 1, "one-too-many")]
    content.write_text(json.dumps({"audiences": audiences, "experiences": []}))
    options = ["--workers", "2", "--threads", "4", "--history-events", "5000", "--content", str(content)]
    with serving(tmp_path, *options) as server:
        wait_until(lambda: len(server.workers()) == 2, "both workers run")

        def post(thread: int) -> None:
            with server.connection() as connection:
                for number in range(EVENTS // THREADS):
                    body = {"events": [track(f"{thread}-{number}")]}
                    answer = call(connection, "POST", PROFILES + "/busy", body)
                    assert answer.status == 200, answer.body

        at_once(*[lambda thread=thread: post(thread) for thread in range(THREADS)])  # type: ignore[misc]
        profile = server.call("GET", PROFILES + "/busy").json()["data"]["profile"]
    assert profile["audiences"] == ["all-of-them"]
    entry = stored(tmp_path, "busy", history_events=5000)
    assert entry.next_ordinal == EVENTS
    wanted = {f"{thread}-{number}" for thread in range(THREADS) for number in range(EVENTS // THREADS)}
    history = entry.history()
    assert len(history) == EVENTS
    assert {event["messageId"] for _, _, event in history} == wanted


@pytest.mark.parametrize("kind", SERVERS)
def test_everything_acknowledged_is_there_after_a_worker_is_killed_under_load(tmp_path: Path, kind: str) -> None:
    acknowledged: list[set[str]] = [set() for _ in range(THREADS)]
    enough = threading.Event()
    with serving(tmp_path, "--server", kind, "--workers", "2", "--history-events", "100000") as server:
        wait_until(lambda: len(server.workers()) == 2, "both workers run")

        def post(thread: int) -> None:
            # Half of the threads share a profile, the others have one each.
            path = f"{PROFILES}/{'shared' if thread % 2 else thread}"
            numbers = count()
            while not enough.is_set():
                with server.connection() as connection:
                    try:
                        while not enough.is_set():
                            message = f"{thread}-{next(numbers)}"
                            if call(connection, "POST", path, {"events": [track(message)]}).status == 200:
                                acknowledged[thread].add(message)
                    except (OSError, http.client.HTTPException):
                        pass  # the worker is gone, and with it this connection

        def kill() -> None:
            try:
                for victim in sorted(server.workers()):
                    before = [len(each) for each in acknowledged]
                    wait_until(lambda before=before: grown(before), "every client gets on")  # type: ignore[misc]
                    os.kill(victim, signal.SIGKILL)
                    wait_until(lambda victim=victim: replaced(victim), "a new worker runs")  # type: ignore[misc]
                after = [len(each) for each in acknowledged]
                wait_until(lambda: grown(after), "every client gets on")
            finally:
                enough.set()

        def grown(before: list[int]) -> bool:
            return all(len(each) > was + 20 for each, was in zip(acknowledged, before, strict=True))

        def replaced(victim: int) -> bool:
            return len(server.workers() - {victim}) == 2

        at_once(kill, *[lambda thread=thread: post(thread) for thread in range(THREADS)])  # type: ignore[misc]
        assert server.call("GET", "/health/ready").status == 200
    for name in ["shared", *(str(thread) for thread in range(0, THREADS, 2))]:
        expected = {id for thread, ids in enumerate(acknowledged) if owner(thread) == name for id in ids}
        messages = [event["messageId"] for _, _, event in stored(tmp_path, name, history_events=100_000).history()]
        assert expected - set(messages) == set()
        assert len(messages) == len(set(messages))


def owner(thread: int) -> str:
    return "shared" if thread % 2 else str(thread)


def test_a_low_limit_on_open_files_is_raised_as_far_as_the_system_lets_it() -> None:
    program = """
import resource
from ninetailed_wsgi.operations.files import allow_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 1000))
allow_open_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.stdout == "(1000, 1000)\n", ran.stderr


# Bad connections


@pytest.mark.usefixtures("same_workers")
def test_a_body_shorter_than_its_content_length_is_400_and_nothing_is_stored(server: Server) -> None:
    body = json.dumps({"events": [track("cut-off")]}).encode()
    head = HEAD.replace(PROFILES, PROFILES + "/cut-off") + f"Content-Length: {len(body) + 1}\r\n\r\n"
    with server.socket() as client:
        client.sendall(head.encode() + body)
        client.shutdown(socket.SHUT_WR)
        answer = read_answer(client)
    assert answer.status == 400
    assert answer.json()["message"].startswith(f"body: ended after {len(body)} of {len(body) + 1} bytes")
    assert server.call("GET", PROFILES + "/cut-off").status == 404


@pytest.mark.usefixtures("same_workers")
def test_a_client_that_goes_away_in_the_middle_of_its_body_stores_nothing(server: Server) -> None:
    for _ in range(20):
        with server.socket() as client:
            client.sendall((HEAD.replace(PROFILES, PROFILES + "/gone") + "Content-Length: 500\r\n\r\n{").encode())
    assert server.call("GET", PROFILES + "/gone").status == 404


@pytest.mark.usefixtures("same_workers")
def test_others_are_served_while_a_client_stalls_in_the_middle_of_its_body(server: Server) -> None:
    body = json.dumps({"events": [page("slow")]}).encode()
    with server.socket() as slow:
        slow.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body[:20])

        def post() -> None:
            for number in range(10):
                answer = server.call("POST", PROFILES, {"events": [page(str(number))]})
                assert answer.status == 200

        at_once(*[post] * THREADS)
        slow.sendall(body[20:])
        assert read_answer(slow).status == 200


@pytest.mark.usefixtures("same_workers")
def test_others_are_served_at_once_while_connections_are_open_that_say_nothing(server: Server) -> None:
    silent = [server.socket() for _ in range(20)]  # as browsers open them ahead of need
    started = time.monotonic()
    for _ in range(4):
        assert server.call("GET", "/health/live").status == 200
    assert time.monotonic() - started < 20  # gunicorn's own worker took 25 seconds
    for connection in silent:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert read_answer(connection).status == 200
        connection.close()


@pytest.mark.parametrize("kind", SERVERS)
def test_the_service_ends_at_once_though_connections_are_open_that_say_nothing(tmp_path: Path, kind: str) -> None:
    options = ["--server", kind, "--workers", "1", "--store-timeout", "100"]  # a request may take so long at the end
    with serving(tmp_path, *options) as server, server.socket():
        assert server.call("GET", "/health/live").status == 200
        server.process.terminate()
        server.process.wait(60)  # it would wait for 100 seconds


@pytest.mark.usefixtures("same_workers")
def test_a_body_of_chunks_that_are_none_is_400(server: Server, kind: str) -> None:
    with server.socket() as client:
        client.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode())
        answer = read_answer(client)
    assert answer.status == 400
    # Granian says of chunks that are none that they end the body.
    assert ("cannot be read" if kind == "gunicorn" else "found nothing") in answer.json()["message"]


@pytest.mark.usefixtures("same_workers")
@pytest.mark.parametrize("mebibytes", [2, 6])
def test_413_reaches_a_client_that_is_still_sending(server: Server, kind: str, mebibytes: int) -> None:
    """Up to 4 MiB are drained, of a longer body the rest is left; the answer says that the connection ends."""
    drained = 4 << 20
    if kind == "granian" and mebibytes << 20 > drained:
        pytest.skip("Granian ends such a connection at once")
    with server.socket() as client:
        client.sendall(f"{HEAD}Content-Length: {mebibytes << 20}\r\n\r\n".encode())
        left = min(mebibytes << 20, drained - 65_536)
        while left:
            left -= client.send(b"x" * min(left, 65_536))
        answer = read_answer(client)
        assert answer.status == 413
        assert kind == "granian" or answer.headers["connection"] == "close"  # Granian takes all of it and goes on


@pytest.mark.usefixtures("same_workers")
def test_a_body_of_two_mebibytes_is_413_and_no_worker_keeps_it(server: Server) -> None:
    body = b'{"events": "' + b"x" * (2 << 20) + b'"}'
    before = most_memory(server)
    for _ in range(128):
        answer = server.call("POST", PROFILES, body)
        assert answer.status == 413
        assert answer.json()["error"] == {"code": "ERR_INVALID_DATA"}
    grown = most_memory(server) - before
    sent = 128 * len(body)
    assert grown < sent / 3  # threads and allocators take 5 to 20 MB, however much is sent


@pytest.mark.usefixtures("same_workers")
def test_a_body_announced_too_long_is_refused_before_it_is_sent(server: Server) -> None:
    with server.socket() as client:
        client.sendall(f"{HEAD}Content-Length: {10**12}\r\n\r\n".encode())
        assert read_answer(client).status == 413


# Connections that are kept


def test_a_connection_is_kept_through_answers_of_every_kind(server: Server) -> None:
    with server.connection() as connection:
        call(connection, "GET", "/health/live")
        kept = connection.sock
        for number in range(20):
            assert call(connection, "POST", PROFILES + "/kept", {"events": [track(str(number))]}).status == 200
            assert call(connection, "GET", PROFILES + "/nobody").status == 404
            assert call(connection, "POST", PROFILES, b"{").status == 400
            assert call(connection, "POST", PREFIX + "/nowhere", {"events": []}).status == 404
            assert call(connection, "PUT", PROFILES, {"events": []}).status == 405
            assert call(connection, "OPTIONS", PROFILES).status == 204
            assert connection.sock is kept


def test_more_idle_connections_than_threads_keep_nobody_waiting(server: Server) -> None:
    idle = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=30) for _ in range(40)]
    try:
        for connection in idle:
            assert call(connection, "GET", "/health/live").status == 200
        assert server.call("POST", PROFILES, {"events": [page("not-waiting")]}).status == 200
        for connection in idle:
            assert call(connection, "GET", "/health/live").status == 200
    finally:
        for connection in idle:
            connection.close()


def read_answer(client: socket.socket) -> Answer:
    """The answer on a bare connection."""
    response = http.client.HTTPResponse(client)
    response.begin()
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def most_memory(server: Server) -> int:
    """The most memory that each worker has had at any time, in bytes, summed up."""
    statuses = [Path(f"/proc/{worker}/status").read_text().splitlines() for worker in server.workers()]
    return sum(int(line.split()[1]) * 1024 for status in statuses for line in status if line.startswith("VmHWM"))
