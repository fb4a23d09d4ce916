"""Runs the app under gunicorn, with a configuration of ours that nothing outside changes."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import shlex
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import gunicorn.http.message
from gunicorn import glogging
from gunicorn.app.base import BaseApplication
from gunicorn.workers import gthread

from ninetailed_wsgi import __version__
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.operations.files import allow_open_files
from ninetailed_wsgi.operations.logs import FORMATS, JsonFormat, TextFormat, of_gunicorn
from ninetailed_wsgi.operations.metrics import counting_together, worker_ended
from ninetailed_wsgi.server.checks import Finding
from ninetailed_wsgi.settings import Settings

if TYPE_CHECKING:
    from ninetailed_wsgi.service.service import Sources

# Ids may be 10 kB each, and percent-encoding makes three bytes of one: organization, environment and profile id
# together reach 90 kB, over gunicorn's ceiling of 8190 bytes. Its "unlimited" (0) is no way out: its parser written
# in Python then collects a request line without end. So its ceiling is raised to one that still bounds the memory.
LONGEST_REQUEST_LINE = 128 * 1024

STALLED_AFTER = 10  # seconds without a byte in the middle of a request; phones on bad networks pause for some
LONGEST_REQUEST = 30  # seconds for a whole request to arrive: 1 MiB at 35 kB/s; and as long again to take the answer

DRAINED_BYTES = 4 << 20  # of a body that is refused, so that its sender reads the answer instead of a broken pipe
DRAINED_WITHIN = 5  # seconds
DRAINED_AT_ONCE = 65_536


def serve(settings: Settings, findings: Sequence[Finding]) -> None:
    """Serve until a signal says stop; ends by SystemExit, as gunicorn does.

    Args:
        findings: what `checks.check_start` found; shown when the server listens.

    Raises:
        OSError: the address cannot be listened on.
        SettingsError: content or location database became unusable after ``findings``.
    """
    _refuse_taken_address(settings.bind)
    allow_open_files()
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATS[settings.log_format]())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("ninetailed_wsgi").setLevel(logging.INFO)
    gunicorn.http.message.MAX_REQUEST_LINE = LONGEST_REQUEST_LINE
    with counting_together() if settings.metrics else contextlib.nullcontext():
        Server(settings, findings, _prepared(settings)).run()


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's application class with our configuration.

    The base class reads neither ./gunicorn.conf.py nor GUNICORN_CMD_ARGS, and that is meant: a file that happens to
    lie in the current folder must not change how this service runs. Who wants all of gunicorn's options runs
    ``gunicorn 'ninetailed_wsgi:create_app()'``.
    """

    def __init__(self, settings: Settings, findings: Sequence[Finding], sources: Sources | None = None) -> None:
        self.settings = settings
        self.findings = findings
        self.sources = sources
        super().__init__()

    def load_config(self) -> None:
        for name, value in configuration(self.settings, when_ready=self._announce).items():
            self.cfg.set(name, value)
        if self.settings.metrics:
            self.cfg.set("child_exit", lambda server, worker: worker_ended(worker.pid))

    def load(self) -> Any:
        """The WSGI app; called in each worker, so that no database file is open across a fork."""
        from ninetailed_wsgi.api.app import api
        from ninetailed_wsgi.service.service import ExperienceService

        with _quietly():
            return api(ExperienceService.from_settings(self.settings, self.sources), self.settings)

    def _announce(self, server: Any) -> None:
        for listener in server.LISTENERS:
            # gunicorn's threads read and write without a timeout: a few clients that stop in the middle of a request or
            # an answer would stop the service. Accepted sockets inherit these (Linux: struct timeval).
            for waiting in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                listener.sock.setsockopt(socket.SOL_SOCKET, waiting, struct.pack("ll", STALLED_AFTER, 0))
        address = server.LISTENERS[0].getsockname()
        print(announcement(self.settings, self.findings, address[0], address[1]), flush=True)  # else workers repeat it


class Worker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's worker with threads; a connection gets one of them when its first byte is there, not before.

    gunicorn lets a thread wait five seconds for that byte. Browsers and load balancers open connections ahead of need:
    with 2 processes of 4 threads, 20 such connections kept everybody else waiting for 25 seconds.

    A request that does not arrive in time, byte after byte, is cut off; so is an answer that is not taken.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._since: dict[Any, float] = {}  # connections that have a thread

    def handle(self, conn: Any) -> Any:
        """In a thread: one request of a connection."""
        self._since[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            del self._since[conn]

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Announce the end of a connection whose body is too long to be drained behind the answer."""
        lengths = [value for name, value in req.headers if name == "CONTENT-LENGTH"]
        if lengths and lengths[0].isdecimal() and int(lengths[0]) > DRAINED_BYTES:
            req.force_close()
        return super().handle_request(req, conn)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """Drain what the app did not read, so that a client that is still sending gets the answer, such as a 413.

        gunicorn drains 64 kB and closes; the client then meets a broken pipe before it looks for an answer.
        """
        message, unreader = conn.parser.mesg, conn.parser.unreader
        unreader.max_body_chunk = DRAINED_AT_ONCE  # else it holds a mebibyte, and copies that for each kilobyte
        deadline = time.monotonic() + DRAINED_WITHIN
        left = DRAINED_BYTES
        try:
            while left > 0 and (seconds := deadline - time.monotonic()) > 0:
                conn.sock.settimeout(seconds)
                part = message.body.read(DRAINED_AT_ONCE)
                if not part:
                    return bool(super()._keepalive_after(conn, keepalive))
                left -= len(part)
        except Exception:  # it went away or stalled, or its chunks are none
            return False
        finally:
            conn.sock.settimeout(None)
        return False

    def enqueue_req(self, conn: Any) -> None:
        """Called by the thread that watches all sockets: give the connection to a thread, or go on watching it."""
        if conn.initialized or conn.wait_for_data(0):
            super().enqueue_req(conn)
        else:
            silent: Future[object] = Future()
            silent.set_result(gthread._DEFER)
            self.finish_request(conn, silent)

    def murder_pending(self) -> None:
        """Close connections that have been silent too long; at the end, all that have not sent anything."""
        self._cut_off_the_slow()
        if not self.alive:
            for conn in self.pending_conns:
                conn.timeout = 0.0
        super().murder_pending()

    def _cut_off_the_slow(self) -> None:
        """Every second. The end of reading wakes a thread that reads and harms none that has read its request."""
        now = time.monotonic()
        # The app itself may wait for the store: an answer has that long on top.
        answered_within = 2 * LONGEST_REQUEST + self.cfg.graceful_timeout
        for conn, since in list(self._since.items()):
            if now - since > LONGEST_REQUEST:
                with contextlib.suppress(OSError):  # it may be closed by now
                    conn.sock.shutdown(socket.SHUT_RDWR if now - since > answered_within else socket.SHUT_RD)


class Log(glogging.Logger):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's own log, in the form of ours and without what it would tell of visitors."""

    form = TextFormat()

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.addFilter(_in_one_line)
        self.error_log.addFilter(of_gunicorn)
        for handler in self.error_log.handlers:
            handler.setFormatter(self.form)


class JsonLog(Log):
    """The same as JSON."""

    form = JsonFormat()


def configuration(settings: Settings, *, when_ready: Callable[[Any], None] = lambda server: None) -> dict[str, Any]:
    """gunicorn's options for these settings, each with its reason."""
    memory = Path("/dev/shm")
    return {
        "bind": settings.bind,
        "workers": settings.workers,
        # Threads share one process's compiled schemas and content, and idle connections take no thread.
        "worker_class": Worker,
        "threads": settings.threads,
        # Each worker opens the store for itself: SQLite connections do not survive a fork.
        "preload_app": False,
        # Longer than the 60 s after which common proxies drop idle connections: the proxy must be the one that closes,
        # or it sends a request into a connection that is just going away and answers 502.
        "keepalive": 75,
        # A request waits at most for a lock, and container runtimes kill after 10 s.
        "graceful_timeout": int(settings.store_timeout) + 3,
        "limit_request_line": LONGEST_REQUEST_LINE,
        # The app finds the visitor's address itself (--trusted-proxies); no other part may believe a header.
        "forwarded_allow_ips": "",
        # Workers touch a file every second: on a slow disk that alone can make one look dead.
        "worker_tmp_dir": str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None,
        # gunicorn would open a socket under the home folder, where the service has no business.
        "control_socket_disable": True,
        "accesslog": None,
        "logger_class": JsonLog if settings.log_format == "json" else Log,
        # The start is announced in our own words; warnings and errors still come.
        "loglevel": "warning",
        "proc_name": "ninetailed-wsgi",
        "when_ready": when_ready,
    }


def announcement(settings: Settings, findings: Sequence[Finding], host: str, port: int) -> str:
    """What a person reads when the server listens: where, what was found, and a command that works when pasted."""
    processes = "1 process" if settings.workers == 1 else f"{settings.workers} processes"
    threads = "1 thread" if settings.threads == 1 else f"{settings.threads} threads"
    lines = [f"ninetailed-wsgi {__version__} listens on {_url(host, port)} ({processes}, {threads} each)"]
    for finding in findings:
        warning = "warning: " if finding.status == "warn" else ""
        lines.append(f"  {finding.subject:<12}  {warning}{finding.text}")
    lines += ["Try it:", f"  {curl_line(settings, host, port)}"]
    return "\n".join(lines)


def curl_line(settings: Settings, host: str, port: int) -> str:
    """One shell command that creates a profile with a page event and shows its location."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # "every address" is none that can be called
    organization, environment = Environment.parse((settings.environments or ("default/main",))[0])
    path = f"/v2/organizations/{quote(organization, safe='')}/environments/{quote(environment, safe='')}/profiles"
    page = {"path": "/", "query": {}, "referrer": "", "search": "", "url": "https://www.example.com/"}
    event = {
        "type": "page",
        "channel": "server",
        "messageId": "first-visit",
        "context": {"library": {"name": "curl", "version": "8.0.0"}},
        "properties": page,
    }
    body = json.dumps({"events": [event], "options": {"features": ["location"]}}, separators=(",", ":"))
    words = ["curl", _url(here, port) + path, "-H", "Content-Type: application/json", "--data", body]
    return " ".join(shlex.quote(word) for word in words)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refuse_taken_address(bind: str) -> None:
    """Try the address once before gunicorn does, which repeats itself for five seconds."""
    if "GUNICORN_PID" in os.environ or "LISTEN_PID" in os.environ:
        return  # the listening socket is handed down, by the gunicorn being replaced or by systemd
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host.strip("[]"), int(port)))
        probe.listen(1)


def _prepared(settings: Settings) -> Sources:
    """Load, before the workers are forked, what holds no database or connection: all share its memory and its time.

    A worker that starts while a content file or the location database is broken then serves what was read here.
    """
    import ninetailed_wsgi.api.app  # noqa: F401
    from ninetailed_wsgi.api.validation.schemas import schemas
    from ninetailed_wsgi.enrichment.device import device_type
    from ninetailed_wsgi.service.service import Sources

    with _quietly():
        sources = Sources.read(settings)
    schemas()
    device_type("warm")
    gc.collect()
    gc.freeze()  # else the first collection would write to, and so copy, every page
    return sources


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The announcement says what the start finds; it need not be said once more by each worker."""
    log = logging.getLogger("ninetailed_wsgi")
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(logging.INFO)


def _in_one_line(record: logging.LogRecord) -> bool:
    """A client that stalls in the middle of its head or of our answer is no fault of this service: no traceback."""
    if record.exc_info and isinstance(record.exc_info[1], BlockingIOError):
        record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
        record.msg, record.args = (
            "a client stalled for %d seconds in the middle of a request or answer",
            (STALLED_AFTER,),
        )
    return True
