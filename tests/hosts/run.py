"""Runs each site in its forms under each server and compares the answers: ``python -m tests.hosts.run [SERVER]``.

Answers must be equal but for the cookie, and for what forbids shared caches to keep a page that used its visitor. The
faults that sites had met with, and what shows that they are gone:

- pages without a visitor in a site's own tests: ``own tests`` in the form ``unmounted``
- orphan profiles of responses that stream: ``/stream`` uses its visitor too late, and must set no cookie
- a second middleware: the form ``twice``
- a cookie with every answer: the second page of a visitor must set none
- a site that does not stop: each server must end within 20 seconds of its signal
- a sub-interpreter that hangs: mod_wsgi's default application group must refuse within 20 seconds, in one sentence
- a site's own gunicorn: the oldest and the newest, in environments without ours
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.hosts.sites import ASGI_SITES, SITES
from tests.serving import free_port

ROOT = Path(__file__).parent.parent.parent
BUILD = ROOT / "build" / "hosts"
SITE_PACKAGES = (
    "a2wsgi>=1.10",
    "cherrypy>=18.10",
    "django>=5.2",
    "fastapi>=0.115",
    "flask>=3.1",
    "httpx",
    "pyramid>=2.0",
    "setuptools<81",
)
FORMS = ("bare", "unused", "used")
CLOSES = "within 20 seconds of its signal"


class Server(NamedTuple):
    """A server: what is installed for it, its command, the sites that it can serve, and how it is asked to end."""

    package: str | None
    words: tuple[str, ...]
    sites: Sequence[str] = tuple(SITES)
    forms: Sequence[str] = FORMS
    end: signal.Signals = signal.SIGTERM


GUNICORN = ("-m", "gunicorn.app.wsgiapp", "--workers", "1", "--bind", "127.0.0.1:{port}", "hosts.sites:make()")
UWSGI = (
    "-c", "import pyuwsgi; pyuwsgi.run()", "--http-socket", "127.0.0.1:{port}", "--module", "hosts.sites:make()",
    "--enable-threads", "--master", "--die-on-term", "--need-app",
)  # fmt: skip
SERVERS: Mapping[str, Server] = {
    "gunicorn-oldest": Server("gunicorn==20.0.4 setuptools<81", GUNICORN),
    "gunicorn-newest": Server("gunicorn", GUNICORN, forms=(*FORMS, "twice")),
    "waitress": Server("waitress", ("-m", "waitress", "--listen", "127.0.0.1:{port}", "--call", "hosts.sites:make")),
    "cheroot": Server(None, ("-m", "hosts.serve", "cheroot", "{port}")),
    # A bridge to ASGI has a thread of its own from the start, which a fork ends.
    "uwsgi": Server("pyuwsgi", UWSGI, tuple(site for site in SITES if site != "fastapi")),
    "uwsgi-lazy": Server("pyuwsgi", (*UWSGI, "--lazy-apps"), ("fastapi",)),
    "reloader": Server(None, ("-m", "hosts.serve", "reloader", "{port}")),
    "uvicorn": Server(
        "uvicorn", ("-m", "uvicorn", "--factory", "hosts.sites:make", "--port", "{port}"), tuple(ASGI_SITES)
    ),
    "mod_wsgi": Server(None, ("%{{GLOBAL}}",)),
    "mod_wsgi-default": Server(None, ("%{{RESOURCE}}",), ("flask",)),
}  # fmt: skip
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


class Host(NamedTuple):
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path


def environment() -> Path:
    """Return the Python of an environment with the package and the sites, and with no server of ours."""
    python = BUILD / "sites" / "bin" / "python"
    if not python.exists():
        venv.create(BUILD / "sites", with_pip=True)
    pip(python, "--force-reinstall", "--no-deps", str(ROOT))
    pip(python, str(ROOT), *SITE_PACKAGES)
    return python


def server_packages(name: str, python: Path) -> Path:
    """Install a server beside the environment, so that each has its own version; return the folder."""
    folder = BUILD / name
    package = SERVERS[name].package
    if package is not None and not folder.exists():
        pip(python, "--target", str(folder), *package.split())
    return folder


def pip(python: Path, *words: str) -> None:
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", *words]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


@contextlib.contextmanager
def running(name: str, python: Path, site: str, form: str) -> Iterator[Host]:
    """A server with one site in one form, until the block ends; RuntimeError when it does not end itself then."""
    server = SERVERS[name]
    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        folder.chmod(0o755)
        (folder / "data").mkdir(mode=0o777)
        (folder / "data").chmod(0o777)  # Apache's own user writes it
        port = free_port()
        variables = variables_of(name, site, form, folder)
        words = [word.format(port=port) for word in server.words]
        command = apache(folder, port, python, words[0]) if name.startswith("mod_wsgi") else [str(python), *words]
        log = folder / "log.txt"
        with log.open("wb") as out:
            process = subprocess.Popen(command, cwd=folder, env=variables, stdout=out, stderr=out)
        try:
            listening(process, port)
            yield Host(port, process, log)
            process.send_signal(server.end)
            process.wait(60)  # nothing of ours keeps a host from stopping
        except BaseException:
            sys.stderr.write(log.read_text(errors="replace")[-3000:])
            raise
        finally:
            process.kill()
            process.wait()


def variables_of(name: str, site: str, form: str, folder: Path) -> dict[str, str]:
    """Return the variables of a server's process."""
    content = folder / "content.json"
    shutil.copy(ROOT / "fixtures" / "spaces" / "shop.json", content)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NINETAILED_", "PYTHON"))}
    path = os.pathsep.join([str(BUILD / name), str(ROOT / "tests")])
    site_variables = {"HOST_SITE": site, "HOST_FORM": form, "HOST_CONTENT": str(content)}
    return {**kept, **site_variables, "HOST_DATA": str(folder / "data" / "of"), "PYTHONPATH": path}


def apache(folder: Path, port: int, python: Path, group: str) -> list[str]:
    """Write the configuration of an Apache with mod_wsgi; return its command."""
    (folder / "site.wsgi").write_text("from hosts.sites import make\n\napplication = make()\n")
    packages = next(python.parent.parent.glob("lib/python*/site-packages"))
    modules = "/usr/lib/apache2/modules/mod_"
    lines = [
        *(f"LoadModule {each}_module {modules}{each}.so" for each in ("mpm_event", "authz_core", "wsgi")),
        f"ServerRoot {folder}",
        "ServerName localhost",
        f"Listen 127.0.0.1:{port}",
        f"PidFile {folder}/pid",
        "ErrorLog /dev/stderr",
        *(["User www-data", "Group www-data"] if os.geteuid() == 0 else []),
        f"WSGISocketPrefix {folder}/socket",
        f"WSGIDaemonProcess site processes=1 threads=4 python-path={packages}:{ROOT / 'tests'}",
        "WSGIProcessGroup site",
        f"WSGIApplicationGroup {group}",
        f"WSGIScriptAlias / {folder}/site.wsgi",
        f"<Directory {folder}>",
        "Require all granted",
        "</Directory>",
    ]
    (folder / "apache.conf").write_text("\n".join(lines) + "\n")
    return ["/usr/sbin/apache2", "-DFOREGROUND", "-f", str(folder / "apache.conf")]


def listening(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a server accepts connections."""
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError("the server does not listen")


def answers(port: int) -> Answers:
    """Return what a visitor gets, who keeps the cookie of the first page; status 0: the server ended the connection."""
    got: Answers = []
    cookies: dict[str, str] = {}
    for method, path, body in REQUESTS:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, {**(_FORM_TYPE if body else {}), **cookies})
            try:
                response = connection.getresponse()
            except http.client.RemoteDisconnected:  # as uWSGI does where a site lets an exception through
                got.append((0, [], b""))
                continue
            headers = [(name.lower(), value) for name, value in response.getheaders()]
            got.append((response.status, [each for each in headers if each[0] not in _OF_THE_MOMENT], response.read()))
        if cookie := next((value for _, value in headers if value.startswith("ntaid=")), None):
            cookies["Cookie"] = cookie.partition(";")[0]
    return got


def faults_of(forms: Mapping[str, Answers]) -> Iterator[str]:
    """Yield what differs between the forms of a site."""
    bare, used = forms["bare"], forms["used"]
    for request, before, after in zip(REQUESTS, bare, forms["unused"], strict=True):
        if before != after:
            yield f"unused: {request[:2]} answered {before} and is now {after}"
    for form in set(forms) & {"used", "twice"}:
        for request, before, after in zip(REQUESTS, plain(bare), plain(forms[form]), strict=True):
            if before != after:
                yield f"{form}: {request[:2]} answered {before} and is now {after}"
    if bare[0][0] != 200:
        yield f"the front page answers {bare[0][0]}"
    cookies = [any(value.startswith("ntaid=") for _, value in headers) for _, headers, _ in used]
    if cookies != [True, *[False] * (len(REQUESTS) - 1)]:
        yield f"the first page sets the cookie, and it alone; found {cookies}"


def plain(each: Answers) -> Answers:
    """Leave out what a page that used its visitor has besides."""
    return [
        (status, [line for line in headers if line[0] not in _OF_A_VISITOR], body) for status, headers, body in each
    ]


def run(name: str, python: Path) -> list[str]:
    """Return what is wrong under one server, and print a line for each site."""
    server_packages(name, python)
    if name == "mod_wsgi-default":
        return refused(name, python)
    faults = []
    for site in SERVERS[name].sites:
        forms = {}
        for form in SERVERS[name].forms:
            with running(name, python, site, form) as host:
                forms[form] = answers(host.port)
        found = list(faults_of(forms))
        print(f"{name:16} {site:12} {len(REQUESTS)} requests, {', '.join(forms)}: {found or 'equal'}", flush=True)
        faults += [f"{name}: {site}: {fault}" for fault in found]
    return faults


def refused(name: str, python: Path) -> list[str]:
    """Return what is wrong in mod_wsgi's default group: a site is refused in one sentence, and nothing hangs."""
    (site,) = SERVERS[name].sites
    faults = []
    for form, expected in (("bare", 200), ("used", 500)):
        with running(name, python, site, form) as host:
            connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=60)
            with contextlib.closing(connection):
                connection.request("GET", "/")
                status = connection.getresponse().status
            log = host.log.read_text(errors="replace")
        said = [line for line in log.splitlines() if "set WSGIApplicationGroup %{GLOBAL}" in line]
        if status != expected or bool(said) != (expected == 500):
            faults.append(f"{name}: {form}: status {status}, {len(said)} lines name the remedy\n{log[-2000:]}")
        print(f"{name:16} {site:12} {form}: status {status}{', refused in one sentence' if said else ''}", flush=True)
    return faults


def own_tests(python: Path) -> list[str]:
    """Return which sites' own tests fail, and in which form."""
    faults = []
    for site in SITES:
        for form in ("bare", "unused", "used", "unmounted"):
            with tempfile.TemporaryDirectory() as folder:
                command = [python, "-m", "hosts.own"]
                variables = variables_of("own", site, form, Path(folder))
                done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120)
            if done.returncode:
                faults.append(f"own tests of {site}, {form}:\n{done.stderr[-2000:]}")
        print(f"{'own tests':16} {site:12} bare, unused, used, unmounted", flush=True)
    return faults


def has_mod_wsgi() -> bool:
    """Tell whether Debian's mod_wsgi is there, for the version of Python that runs this."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return Path(f"/usr/lib/apache2/modules/mod_wsgi.so-{version}").exists()


def main(names: Sequence[str]) -> int:
    """Run what is named, or everything; return the exit status."""
    chosen = list(names) or ["own", *SERVERS]
    if not has_mod_wsgi():
        print(
            "mod_wsgi: not run, as Debian's packages apache2 and libapache2-mod-wsgi-py3 are not there for this Python"
        )
        chosen = [name for name in chosen if not name.startswith("mod_wsgi")]
    python = environment()
    faults: list[str] = []
    for name in chosen:
        try:
            faults += own_tests(python) if name == "own" else run(name, python)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            faults.append(f"{name}: {error}")
    print("\n".join(faults) or "no deviation")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
