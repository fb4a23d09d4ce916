"""The examples for operators: the systemd unit, nginx before the service, and what docs/operation.md says."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from proxies import behind_nginx, installed
from serving import GEO, PREFIX, PROFILES, ROOT, SERVERS, Server, page, serving

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.server.gunicorn_server import configuration
from ninetailed_wsgi.settings import OPTIONS, Settings
from ninetailed_wsgi.store.disk.store import DiskStore

UNIT = ROOT / "examples" / "deploy" / "ninetailed-wsgi.service"
NGINX = ROOT / "examples" / "deploy" / "nginx.conf"
OPERATION = (ROOT / "docs" / "operation.md").read_text(encoding="utf-8")


# systemd


@pytest.mark.skipif(installed("systemd-analyze") is None, reason="systemd-analyze is not installed (Debian: systemd)")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/ninetailed/bin/ninetailed-wsgi", sys.executable))
    ran = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert UNIT.name not in ran.stderr, ran.stderr
    assert ran.returncode == 0, ran.stderr


def test_systemd_waits_longer_than_a_stop_takes() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) > configuration(Settings())["graceful_timeout"]


def test_the_unit_and_the_page_name_options_that_exist() -> None:
    variables = {option.variable for option in OPTIONS}
    assert set(re.findall(r"NINETAILED_[A-Z_]+(?==)", UNIT.read_text())) <= variables
    flags = set(re.findall(r"`(--[a-z-]+)", OPERATION))
    assert flags
    assert flags <= {option.flag for option in OPTIONS}


# nginx


@pytest.fixture(scope="module", params=SERVERS)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, socket.socket]]:
    """The service as systemd would start it, trusting a proxy on this machine."""
    folder = tmp_path_factory.mktemp("deployed")
    options = ["--trusted-proxies", "127.0.0.1", "--geoip-database", str(GEO), "--metrics", "--explain"]
    options += ["--store-shards", "2", "--server", request.param]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, pytest.MonkeyPatch.context() as patch:
        told.bind(str(folder / "notify"))
        told.settimeout(60)
        patch.setenv("NOTIFY_SOCKET", str(folder / "notify"))
        with serving(folder, *options) as server:
            yield server, told


def test_systemd_is_told_when_the_service_listens(served: tuple[Server, socket.socket]) -> None:
    assert b"READY=1" in served[1].recv(4096)


@pytest.fixture(scope="module")
def proxy(served: tuple[Server, socket.socket], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with behind_nginx(tmp_path_factory.mktemp("nginx"), NGINX.name, served[0].port) as there:
        yield there


def test_through_nginx_a_visitor_has_an_address_of_their_own_and_cannot_make_one_up(proxy: Server) -> None:
    body = {"events": [page("first")], "options": {"features": ["location"]}}
    claims = {"X-Forwarded-For": "192.0.2.7", "X-Force-IP": "192.0.2.7", "Forwarded": "for=192.0.2.7"}
    answer = proxy.call("POST", PROFILES, body, claims)
    assert answer.status == 200
    assert answer.json()["data"]["profile"]["location"]["city"] == "Berlin"  # where 127.0.0.1 is, in the demo


def test_nginx_passes_the_api_on_and_nothing_else(proxy: Server, served: tuple[Server, socket.socket]) -> None:
    assert (
        proxy.call("POST", f"{PROFILES}/a%2Fb%20c", {"events": [page("first")]}).json()["data"]["profile"]["id"]
        == "a/b c"
    )
    assert proxy.call("POST", PROFILES, b"{").json()["error"] == {"code": "ERR_INVALID_DATA"}
    assert proxy.call("OPTIONS", PROFILES).status == 204
    assert proxy.call("GET", f"{PROFILES}/{'x' * 1000}").status == 404
    # nginx lets long paths through, so that the service says in words that an id has at most 1,024 bytes.
    assert proxy.call("GET", f"{PROFILES}/{'x' * 9000}").json()["error"] == {"code": "ERR_INVALID_DATA"}
    for inside in ("/metrics", "/health/ready", "/openapi.json", f"{PROFILES}/a/explain", "/"):
        answer = proxy.call("GET", inside)
        assert (answer.status, answer.headers["content-type"]) == (404, "text/html")
    for batch in ("/events", "/import/events"):
        assert proxy.call("POST", PREFIX + batch, {"events": []}).status == 404
    assert proxy.call("DELETE", f"{PROFILES}/a").status == 403
    assert served[0].call("GET", "/metrics").status == 200


def test_nginx_writes_no_names_of_visitors_to_its_log(proxy: Server) -> None:
    proxy.call("GET", f"{PROFILES}/anna@example.com")
    logs = [file.read_text() for file in proxy.printed.parent.glob("*.log")]
    assert any(" GET " in log for log in logs)
    assert not any("anna" in log or "/profiles" in log for log in logs)


def test_nginx_refuses_what_is_too_large_and_too_much(proxy: Server) -> None:
    assert proxy.call("POST", PROFILES, b"x" * ((1 << 20) + 1)).status == 413
    # All at once: of requests that came one after another, a slow machine would send no more than are allowed.
    request = f"GET {PROFILES}/nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    with proxy.socket() as client:
        client.sendall((request + "\r\n").encode() * 249 + (request + "Connection: close\r\n\r\n").encode())
        answers = b"".join(iter(lambda: client.recv(65_536), b""))
    statuses = re.findall(rb"HTTP/1.1 (\d+)", answers)
    assert len(statuses) == 250
    assert b"429" in statuses
    assert {*statuses} <= {b"404", b"429"}


# What the page says


def test_the_backup_of_the_page_is_whole_while_the_service_serves(
    served: tuple[Server, socket.socket], tmp_path: Path
) -> None:
    server, _ = served
    for number in range(10):
        assert server.call("POST", f"{PROFILES}/kept-{number}", {"events": [page("first")]}).status == 200
    (command,) = re.findall(r"^ninetailed-wsgi (backup .*)$", OPERATION, re.MULTILINE)
    _, target, flag, folder = command.split()
    source, copy = server.printed.parent / "data", tmp_path / "copy"
    words = [{target: str(copy), folder: str(source)}.get(word, word) for word in ("backup", target, flag, folder)]
    subprocess.run([sys.executable, "-m", "ninetailed_wsgi", *words], check=True, timeout=120)
    store = DiskStore(copy)
    for number in range(10):
        assert store.read(Key("acme", "main", f"kept-{number}")).document is not None
    store.close()


def test_the_page_names_every_metric(served: tuple[Server, socket.socket]) -> None:
    text = served[0].call("GET", "/metrics").body.decode()
    families = {name.removesuffix("_created") for name in re.findall(r"^# TYPE (ninetailed_\w+)", text, re.MULTILINE)}
    named = OPERATION.replace("`..._oldest_seconds`", "`ninetailed_import_queue_oldest_seconds`")
    assert len(families) > 15
    assert [name for name in sorted(families) if f"`{name}`" not in named] == []
