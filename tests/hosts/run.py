"""Runs each site in its three forms under each server and compares the answers: ``python -m tests.hosts.run [SERVER]``.

Equal but for the cookie, and what forbids shared caches to keep a page that used its visitor.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.hosts.sites import SITES

ROOT = Path(__file__).parent.parent.parent
SITE_PACKAGES = (
    "a2wsgi>=1.10",
    "fastapi>=0.115",
    "python-multipart",
    "django>=5.2",
    "flask>=3.1",
    "pyramid>=2.0",
    "setuptools<81",
)
GUNICORN = ("-m", "gunicorn", "--workers", "1", "--bind", "127.0.0.1:{port}", "tests.hosts.sites:make()")
SERVERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "gunicorn-oldest": ("gunicorn==20.1.0", GUNICORN),
    "gunicorn-newest": ("gunicorn", GUNICORN),
    "waitress": ("waitress", ("-m", "waitress", "--listen", "127.0.0.1:{port}", "--call", "tests.hosts.sites:make")),
    "cheroot": ("cheroot", ("-m", "tests.hosts.serve", "{port}")),
}
REQUESTS = (
    ("GET", "/", None),
    ("GET", "/", None),
    ("HEAD", "/", None),
    ("POST", "/form", b"name=Anna"),
    ("GET", "/stream", None),
    ("GET", "/fails", None),
    ("GET", "/nowhere", None),
)
_FORM_TYPE = {"Content-Type": "application/x-www-form-urlencoded"}
_OF_THE_MOMENT = {"date", "server", "expires", "last-modified", "age"}
_OF_A_VISITOR = {"set-cookie", "cache-control", "vary"}

Answers = list[tuple[int, list[tuple[str, str]], bytes]]


def environment(server: str, package: str) -> Path:
    """Return the Python of an environment that has this server and none of the others'."""
    folder = ROOT / "build" / "hosts" / server
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    subprocess.run([*pip, ROOT, *SITE_PACKAGES, package], check=True)
    return python


@contextlib.contextmanager
def running(command: list[str], variables: Mapping[str, str], port: int) -> Iterator[None]:
    with tempfile.TemporaryFile() as log:
        given = {**os.environ, **variables, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=ROOT, env=given, stdout=log, stderr=log)
        try:
            for _ in range(300):
                if process.poll() is not None:
                    break
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.1)
            yield
            process.send_signal(signal.SIGINT if "tests.hosts.serve" in command else signal.SIGTERM)
            process.wait(20)  # nothing of ours keeps a host from stopping
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-3000:])
            raise
        finally:
            process.kill()
            process.wait()


def answers(port: int) -> Answers:
    got: Answers = []
    for method, path, body in REQUESTS:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, _FORM_TYPE if body else {})
            response = connection.getresponse()
            headers = [(name.lower(), value) for name, value in response.getheaders()]
            got.append((response.status, [each for each in headers if each[0] not in _OF_THE_MOMENT], response.read()))
    return got


def faults_of(site: str, forms: Mapping[str, Answers]) -> Iterator[str]:
    """Yield what differs between the forms of a site."""
    if forms["bare"] != forms["unused"]:
        yield f"{site}: the middleware changes pages that do not use it"
    used = [
        (status, [each for each in headers if each[0] not in _OF_A_VISITOR], body)
        for status, headers, body in forms["used"]
    ]
    bare = [
        (status, [each for each in headers if each[0] not in _OF_A_VISITOR], body)
        for status, headers, body in forms["bare"]
    ]
    if used != bare:
        yield f"{site}: pages that use their visitor differ in more than the cookie"
    if bare[0][0] != 200:
        yield f"{site}: the front page answers {bare[0][0]}"
    if not any(name == "set-cookie" and value.startswith("ntaid=") for name, value in forms["used"][0][1]):
        yield f"{site}: a page that uses its visitor sets no cookie"


def run(server: str) -> list[str]:
    """Return what is wrong under one server."""
    package, words = SERVERS[server]
    python = environment(server, package)
    faults = []
    for site in SITES:
        forms = {}
        for form in ("bare", "unused", "used"):
            with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
                probe.close()
                content = str(ROOT / "fixtures" / "spaces" / "shop.json")
                variables = {"HOST_SITE": site, "HOST_FORM": form, "HOST_CONTENT": content, "HOST_DATA": folder}
                with running([str(python), *(word.format(port=port) for word in words)], variables, port):
                    forms[form] = answers(port)
        faults += [f"{server}: {fault}" for fault in faults_of(site, forms)]
        print(f"{server:16} {site:8} {forms['bare'][0][0]} {len(REQUESTS)} requests, {len(forms)} forms", flush=True)
    return faults


if __name__ == "__main__":
    found = [fault for server in sys.argv[1:] or SERVERS for fault in run(server)]
    print("\n".join(found) or "no deviation")
    sys.exit(bool(found))
