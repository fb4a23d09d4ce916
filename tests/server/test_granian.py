"""What `serve --server granian` does besides what the tests of both servers ask."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from test_gunicorn import HEAD, read_answer

from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.server.granian_server import READERS_PER_ADDRESS, BoundedApp, _reserved
from tests.serving import Server, page, running, serving, wait_until


class Stream:
    """A body of which nothing comes until the test lets it."""

    def __init__(self, reading: threading.Semaphore, go_on: threading.Event) -> None:
        self._reading, self._go_on = reading, go_on

    def read(self, size: int) -> bytes:
        self._reading.release()
        assert self._go_on.wait(60)
        return b"{}"


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    body: bytes = environ["wsgi.input"].read()
    return [body]


def ask(app: Any, stream: Any, address: str, length: int = 2) -> tuple[str, bytes]:
    statuses: list[str] = []
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(length), "REMOTE_ADDR": address, "wsgi.input": stream}
    answer = b"".join(app(environ, lambda status, headers: statuses.append(status)))
    return statuses[0], answer


def test_connections_that_the_server_before_closed_keep_nobody_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as before:
        bind = before.getsockname()
        with socket.create_connection(bind) as client:
            before.accept()[0].close()  # first, so that the system remembers this connection for a while
            assert client.recv(1) == b""
    with _reserved(f"{bind[0]}:{bind[1]}") as place:
        assert place == bind


def test_an_address_that_sends_many_halves_of_bodies_is_refused_and_no_other() -> None:
    app, reading, go_on = BoundedApp(echo, 1, 1000), threading.Semaphore(0), threading.Event()
    slow = [threading.Thread(target=ask, args=(app, Stream(reading, go_on), "a")) for _ in range(READERS_PER_ADDRESS)]
    for thread in slow:
        thread.start()
    for _ in slow:
        assert reading.acquire(timeout=60)
    assert ask(app, io.BytesIO(b"{}"), "a")[0] == "429 Too Many Requests"
    assert ask(app, io.BytesIO(b"{}"), "b") == ("200 OK", b"{}")
    go_on.set()
    for thread in slow:
        thread.join(60)
    assert ask(app, io.BytesIO(b"{}"), "a") == ("200 OK", b"{}")


def test_so_many_requests_are_answered_at_a_time_and_no_more() -> None:
    running, most, entered, go_on = 0, 0, threading.Semaphore(0), threading.Event()
    lock = threading.Lock()

    def wait(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        nonlocal running, most
        with lock:
            running, most = running + 1, max(most, running + 1)
        entered.release()
        assert go_on.wait(60)
        with lock:
            running -= 1
        return echo(environ, start_response)

    app = BoundedApp(wait, 2, 1000)
    threads = [threading.Thread(target=ask, args=(app, io.BytesIO(b"{}"), "a")) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        assert entered.acquire(timeout=60)
    assert app.is_busy()
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert most == 2
    assert not app.is_busy()


def test_a_body_that_is_too_long_is_taken_and_not_kept() -> None:
    app, stream = BoundedApp(echo, 1, 10), io.BytesIO(b"x" * 100)
    assert ask(app, stream, "a", 100) == ("200 OK", b"")  # the app looks at the length
    assert stream.tell() == 100


def test_a_listening_socket_that_is_handed_down_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--server", "granian", "--bind", "127.0.0.1:0"]) != 0
    assert "server: granian cannot take over a listening socket; use --server gunicorn" in capsys.readouterr().err


SECOND_STARTS_LATE = """
import os, sys, time
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.server import granian_server
load = granian_server.worker_app
def worker_app(settings, sources):
    try:
        os.mkdir("first")
    except FileExistsError:
        open("second", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)
    return load(settings, sources)
granian_server.worker_app = worker_app
main(sys.argv[1:])
"""


def test_a_stop_while_a_worker_starts_ends_that_one_too_and_what_the_other_reads_is_answered(tmp_path: Path) -> None:
    body = json.dumps({"events": [page("last")]}).encode()
    serve = ["serve", "--server", "granian", "--workers", "2", "--bind", "127.0.0.1:0"]
    serve += ["--store-timeout", "100"]  # a worker that does not end is killed after that
    with running([sys.executable, "-c", SECOND_STARTS_LATE, *serve, "--data-dir", "data"], tmp_path) as server:
        wait_until((tmp_path / "second").exists, "the second worker is about to load")
        with server.socket() as client:
            client.sendall(f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body[:20])
            assert server.call("GET", "/health/live").status == 200
            server.process.terminate()
            wait_until(lambda: is_refused(server), "the first worker takes no new connection")
            (tmp_path / "go").touch()
            client.sendall(body[20:])
            assert read_answer(client).status == 200
        assert server.process.wait(60) == 0


def is_refused(server: Server) -> bool:
    try:
        return server.socket().close() is not None
    except ConnectionError:
        return True


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the workers through /proc")
def test_no_worker_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    with serving(tmp_path, "--server", "granian", "--workers", "2") as server:
        wait_until(lambda: len(server.workers()) == 2, "both workers run")
        workers = server.workers()
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(60)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers end")
