"""The service as an operator sees it: metrics of several workers, logs, limits of requests, a stop, new files."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving import GEO, PROFILES, SERVERS, Server, page, serving, wait_until
from test_gunicorn import HEAD, read_answer

from ninetailed_wsgi.server.granian_server import HEAD_BYTES

PROFILE = "/v2/organizations/{organization}/environments/{environment}/profiles/{name:path}"
EMAIL, TRAIT = "anna.secret@example.com", "trait-that-nobody-may-read"

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds gunicorn's workers through /proc")


@pytest.fixture(scope="module", params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """What the app is served by."""
    return str(request.param)


@pytest.fixture(scope="module")
def geo(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Path:
    file = tmp_path_factory.mktemp(f"geo-{kind}") / "City.mmdb"
    shutil.copy(GEO, file)
    return file


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, geo: Path, kind: str) -> Iterator[Server]:
    options = ["--metrics", "--access-log", "--log-format", "json", "--geoip-database", str(geo), "--workers", "2"]
    with serving(tmp_path_factory.mktemp(f"operation-{kind}"), "--server", kind, *options) as running:
        wait_until(lambda: len(running.workers()) == 2, "both workers run")
        yield running


def scrape(server: Server) -> dict[str, float]:
    """Each sample as it is written, labels and all."""
    answer = server.call("GET", "/metrics")
    assert answer.status == 200
    families = text_string_to_metric_families(answer.body.decode())
    return {
        each.name + "".join(f" {name}={value}" for name, value in sorted(each.labels.items())): each.value
        for family in families
        for each in family.samples
    }


def logged(server: Server) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.printed.read_text().splitlines() if line.startswith("{")]


def served_by(server: Server) -> set[object]:
    """The processes that have answered posts."""
    return {line["process"] for line in logged(server) if line.get("method") == "POST"}


def test_what_all_workers_counted_is_told_by_whichever_is_asked_and_stays_when_one_dies(server: Server) -> None:
    posted = 0

    def both_have_answered() -> bool:
        nonlocal posted
        for _ in range(10):
            assert server.call("POST", f"{PROFILES}/{posted}", {"events": [page("first")]}).status == 200
            posted += 1
        return len(served_by(server)) == 2

    wait_until(both_have_answered, "both workers answer posts")
    key = f"ninetailed_requests_total method=POST route={PROFILE} status=200"
    for _ in range(5):
        told = scrape(server)
        assert told[key] == told["ninetailed_events_applied_total environment= type=page"] == posted
        assert told["ninetailed_workers"] == 2
    pids = {f"process_resident_memory_bytes pid={worker}" for worker in server.workers()}
    assert pids == {name for name in told if name.startswith("process_resident_memory_bytes")}
    victim = min(server.workers())
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(server.workers() - {victim}) == 2, "a new worker runs")
    wait_until(lambda: scrape(server)["ninetailed_workers"] == 2, "the new worker is told, the dead one is not")
    assert scrape(server)[key] == posted


def test_no_line_that_the_server_prints_holds_what_a_visitor_sent(server: Server, kind: str) -> None:
    secret = {**page("secret"), "type": "identify", "userId": EMAIL, "traits": {"name": TRAIT}}
    path = f"{PROFILES}/{EMAIL}"
    statuses = [
        server.call("POST", path, {"events": [secret]}).status,
        server.call("POST", path, {"events": [{**secret, "channel": TRAIT}]}).status,
        server.call("GET", f"/nowhere/{EMAIL}").status,
    ]
    for head in (f"GE T /{EMAIL} HTTP/1.1\r\n\r\n", f"GET / HTTP/1.1\r\n{EMAIL}: x\r\n\r\n"):
        with server.socket() as client:
            client.sendall(head.encode())
            statuses.append(read_answer(client).status)
    assert statuses == [200, 400, 404, 400, 400]
    if kind == "gunicorn":  # Granian says nothing of them
        wait_until(lambda: sum(line["logger"] == "gunicorn.error" for line in logged(server)) >= 2, "they are logged")
    text = server.printed.read_text()
    for private in (EMAIL, "anna.secret", TRAIT, "ip=127.0.0.1"):
        assert private not in text


@pytest.mark.parametrize("head", ["".join(f"X-Header-{number}: x\r\n" for number in range(101)), "long"])
def test_too_many_or_too_long_headers_are_431(server: Server, kind: str, head: str) -> None:
    if head == "long":  # Granian bounds all of a head, not each field
        head = f"X-Header: {'x' * (9000 if kind == 'gunicorn' else 2 * HEAD_BYTES)}\r\n"
    with server.socket() as client:
        client.sendall(f"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode())
        assert read_answer(client).status == 431


@pytest.mark.parametrize("head", ["X-Header: " + "x" * 9000, "X: 1\r\n" * 200], ids=["one without an end", "many"])
def test_headers_that_never_end_are_431_at_once(server: Server, kind: str, head: str) -> None:
    if kind == "granian" and head.startswith("X-Header"):
        head += "x" * 2 * HEAD_BYTES  # it bounds all of a head, not each field
    with server.socket() as client:
        client.sendall(f"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}".encode())
        client.settimeout(20)  # a request that is slow is cut off after 30
        assert read_answer(client).status == 431


def test_a_request_line_that_is_too_long_is_414(server: Server) -> None:
    with server.socket() as client:
        client.sendall(f"GET /{'x' * (130 * 1024)} HTTP/1.1\r\n\r\n".encode())
        assert read_answer(client).status == 414
    with server.socket() as client:
        client.sendall(f"GET {PROFILES}/{'x' * 60_000} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert read_answer(client).status in (400, 404)


def test_a_new_location_database_is_served_by_every_worker_without_a_restart(server: Server, geo: Path) -> None:
    def city() -> object:
        body = {"events": [page("here")], "options": {"features": ["location"]}}
        answer = server.call("POST", PROFILES, body, {"X-Force-IP": "192.0.2.7"}).json()
        return answer["data"]["profile"]["location"].get("city")

    assert city() == "Tokyo"
    workers = server.workers()
    new = geo.with_suffix(".new")
    write_database(new, "Osaka")
    os.replace(new, geo)
    wait_until(lambda: [city() for _ in range(20)] == ["Osaka"] * 20, "the new database is served")
    assert server.workers() == workers
    told = scrape(server)
    assert told["ninetailed_location_database_refused"] == 0
    geo.write_bytes(b"damaged")
    wait_until(lambda: scrape(server)["ninetailed_location_database_refused"] == 1, "that a file is refused is told")
    assert city() == "Osaka"


def write_database(file: Path, city: str) -> None:
    from mmdb_writer import MMDBWriter
    from netaddr import IPSet

    writer = MMDBWriter(ip_version=6, database_type="GeoLite2-City", languages=["en"], ipv4_compatible=True)
    writer.insert_network(IPSet(["192.0.2.0/24"]), {"city": {"names": {"en": city}}, "country": {"iso_code": "JP"}})
    writer.to_db_file(str(file))


@pytest.mark.parametrize("kind", SERVERS)
def test_a_request_in_progress_at_the_stop_is_answered_and_nothing_is_left_behind(tmp_path: Path, kind: str) -> None:
    with serving(tmp_path, "--server", kind, "--workers", "2", "--metrics") as server:
        assert server.call("GET", "/health/live").status == 200
        counts = counted_in(server)
        assert counts.is_dir()
        body = json.dumps({"events": [page("last")]}).encode()
        with server.socket() as client:
            client.sendall(f"{HEAD}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
            assert client.recv(4096).startswith(b"HTTP/1.1 100")  # now a thread waits for the body
            server.process.terminate()
            wait_until(lambda: refuses(server), "no new connection is taken")
            client.sendall(body)
            assert read_answer(client).status == 200
        assert server.process.wait(60) == 0
    assert not counts.exists()


def counted_in(server: Server) -> Path:
    """The folder in which the workers count together."""

    def found() -> list[str]:
        lines = [line for pid in server.workers() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
        return [line.split()[-1] for line in lines if "ninetailed-metrics-" in line]

    wait_until(lambda: found() != [], "a worker counts")
    return Path(found()[0]).parent


def refuses(server: Server) -> bool:
    """Whether a new connection is not served; it may still be taken by the operating system."""
    try:
        with server.socket() as probe:
            probe.settimeout(0.2)
            probe.sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            return probe.recv(1) == b""
    except (ConnectionError, TimeoutError):
        return True
