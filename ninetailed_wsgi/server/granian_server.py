"""Runs the app under Granian, whose HTTP code is written in Rust and takes half of gunicorn's processor time.

Granian reads heads without a Python thread, and bodies in the thread that asks for them, however long that takes.
So many threads read bodies here before they call the app; each address may use some of them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

from ninetailed_wsgi.enrichment.client_ip import subscriber
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.metrics import worker_ended
from ninetailed_wsgi.server.announcement import announcement
from ninetailed_wsgi.server.arrival import DRAINED_BYTES, LONGEST_REQUEST_LINE
from ninetailed_wsgi.server.checks import Finding
from ninetailed_wsgi.server.granian_stop import Stop
from ninetailed_wsgi.server.refusals import pause
from ninetailed_wsgi.server.worker_app import expiry_lock, start_expiry, worker_app
from ninetailed_wsgi.settings import Settings

if TYPE_CHECKING:
    from ninetailed_wsgi.service.expiry import Expiry
    from ninetailed_wsgi.service.sources import Sources

Environ = dict[str, Any]

READERS = 128
"""Bodies that one process reads at a time, besides the requests that it answers."""

READERS_PER_ADDRESS = 32
"""Those of one address: a client that stops in the middle of its body keeps a thread until it closes the connection."""

CONNECTIONS = 1000
"""Connections of one process at a time, as gunicorn's default."""

REFUSALS = 128
"""429s that one process delays at a time, each in a thread that waits; any others are sent at once."""

HEAD_BYTES = LONGEST_REQUEST_LINE + 65_536
"""Bytes of a whole head; Granian stops reading a longer one."""

_IDLE = 75_000  # milliseconds that a kept connection may be silent, or a head may take: longer than a proxy keeps one
_AT_ONCE = 65_536  # bytes of a body that nobody needs
_RESPAWN_SECONDS = 1.0
_BUSY = b'{"data":null,"error":{"code":"ERR_PROFILE_OVERLOAD"},"message":"too many requests are arriving; try again"}'


def run(settings: Settings, findings: Sequence[Finding], sources: Sources) -> None:
    """Serve until a signal says stop; SystemExit if the workers cannot start.

    Raises:
        SettingsError: a listening socket is handed down, which Granian cannot take.
    """
    if "LISTEN_PID" in os.environ or "GUNICORN_PID" in os.environ:
        raise SettingsError(["server: granian cannot take over a listening socket; use --server gunicorn"])
    with _reserved(settings.bind) as (host, port), _children_of_workers(settings.metrics) as workers:
        server = Granian("ninetailed-wsgi", host, port, **configuration(settings))
        server.on_startup(partial(_announce_when_listening, settings, findings, host, port))
        stopping = Stop()
        server.on_startup(stopping.note)
        load = partial(_load, settings, sources, expiry_lock(settings), workers, os.getpid(), stopping)
        server.serve(target_loader=load, wrap_loader=False)


def configuration(settings: Settings) -> dict[str, Any]:
    """Return Granian's options for these settings, each with its reason."""
    console = {"class": "logging.StreamHandler", "formatter": "ours", "filters": ["ours"]}
    form = f"ninetailed_wsgi.operations.logs.{'JsonFormat' if settings.log_format == 'json' else 'TextFormat'}"
    return {
        "interface": Interfaces.WSGI,
        "http": HTTPModes.http1,
        "websockets": False,
        "workers": settings.workers,
        # The threads that read bodies or delay refusals come on top of those that compute.
        "blocking_threads": settings.threads + READERS + REFUSALS,
        "backlog": 2048,
        "backpressure": CONNECTIONS,
        "http1_settings": HTTP1Settings(header_read_timeout=_IDLE, max_buffer_size=HEAD_BYTES),
        # We announce the startup in our own words; warnings and errors still appear, in the format of our log.
        "log_level": LogLevels.warning,
        "log_dictconfig": {
            "formatters": {"ours": {"()": form}},
            "filters": {"ours": {"()": _News}},
            "handlers": {"console": console},
            "loggers": {"_granian": {"handlers": ["console"], "level": "WARNING", "propagate": False}},
        },
        "log_access": False,
        "respawn_failed_workers": True,
        "respawn_interval": _RESPAWN_SECONDS,
        # The longest that a request waits is for a lock, and container runtimes kill after 10 s.
        "workers_kill_timeout": int(settings.store_timeout) + 3,
    }


class _Unreadable:
    """The body of a request that is malformed or cut off."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, size: int = -1) -> bytes:
        """Raise the error that occurred when the body was read."""
        raise OSError(str(self._error)) from self._error


class BoundedApp:
    """Gives an app whole requests only, and at most so many at a time.

    Args:
        app: a WSGI app.
        threads: requests that are answered at a time; more wait.
        longest_body: bytes; of a longer body no more is read, as the app refuses it.
        sleep: waits so many seconds.

    Attributes:
        expiry: removes inactive visitors beside the app, as long as something refers to it; None: nothing does.
    """

    def __init__(self, app: Any, threads: int, longest_body: int, sleep: Callable[[float], None] = time.sleep) -> None:
        self._app = app
        self._longest_body = longest_body
        self._turns = threading.Semaphore(threads)
        self._lock = threading.Lock()
        self._readers: Counter[object] = Counter()
        self._answering = 0
        self._sleep = sleep
        self._refusals = 0
        self.expiry: Expiry | None = None

    def is_busy(self) -> bool:
        """Return whether a request is being answered."""
        return self._answering > 0

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        statuses: list[str] = []

        def start(status: str, *rest: Any) -> Any:
            statuses.append(status)
            return start_response(status, *rest)

        answer = self._answer(environ, start)
        if statuses[-1].startswith("429"):
            self._wait_before_refusal()
        return answer

    def _answer(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if length := self._length(environ):
            address = subscriber(environ.get("REMOTE_ADDR") or "")
            if not self._take_reader(address):
                headers = [("Content-Type", "application/json"), ("Retry-After", "1"), ("Connection", "close")]
                start_response("429 Too Many Requests", headers)
                return [_BUSY]
            try:
                self._read_body(environ, length)
            finally:
                self._give_reader_back(address)
        with self._turns:
            self._count_answering(1)
            try:
                return list(self._app(environ, start_response))
            finally:
                self._count_answering(-1)

    def _count_answering(self, more: int) -> None:
        with self._lock:  # a thread that is interrupted here would leave the app busy for good
            self._answering += more

    def _wait_before_refusal(self) -> None:
        """Delay a client that would come back at once; no thread that computes waits."""
        with self._lock:
            if self._refusals >= REFUSALS:
                return
            self._refusals += 1
            seconds = pause(self._refusals)
        try:
            self._sleep(seconds)
        finally:
            with self._lock:
                self._refusals -= 1

    def _length(self, environ: Environ) -> int:
        """Return the stated length of a body in bytes; a chunked body counts as the longest one allowed."""
        length = environ.get("CONTENT_LENGTH") or ""
        if length.isdigit():
            return int(length[:19])
        return self._longest_body if "HTTP_TRANSFER_ENCODING" in environ else 0

    def _read_body(self, environ: Environ, length: int) -> None:
        """Read a body, so that the app need not wait for it; nothing of one that is too long is kept."""
        stream = environ["wsgi.input"]
        try:
            if length <= self._longest_body:
                environ["wsgi.input"] = io.BytesIO(stream.read(self._longest_body + 1))
            elif length <= DRAINED_BYTES and "HTTP_EXPECT" not in environ:
                while stream.read(_AT_ONCE):
                    pass
        except Exception as error:
            environ["wsgi.input"] = _Unreadable(error)

    def _take_reader(self, address: object) -> bool:
        """Count one more reader for an address; return False if there are already as many as allowed."""
        with self._lock:
            if self._readers[address] >= READERS_PER_ADDRESS or self._readers.total() >= READERS:
                return False
            self._readers[address] += 1
            return True

    def _give_reader_back(self, address: object) -> None:
        with self._lock:
            self._readers[address] -= 1
            if not self._readers[address]:
                del self._readers[address]


class _News(logging.Filter):
    """Drops the warning that there are more threads than cores, which is intended."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Configuration allows spawning up to" not in record.getMessage()


def _load(settings: Settings, sources: Sources, lock: Any, workers: Any, server: int, stopping: Stop) -> BoundedApp:
    """Return the WSGI app; called in each worker, so that no database file is open across a fork."""
    stopping.hold_back()
    stop = int(settings.store_timeout) + 3
    threading.Thread(target=_end_with, args=(server, stop), daemon=True).start()
    workers.send_bytes(b"%d" % os.getpid())
    parts = worker_app(settings, sources)
    app = BoundedApp(parts.app, settings.threads, settings.max_body_bytes)
    app.expiry = start_expiry(settings, parts.service, lock, app.is_busy)
    return app


def _end_with(server: int, seconds: float) -> None:
    """End this worker within ``seconds`` after its parent process is gone: the next server needs the address."""
    while os.getppid() == server:
        time.sleep(0.5)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(seconds)
    os._exit(1)


@contextlib.contextmanager
def _reserved(bind: str) -> Iterator[tuple[str, int]]:
    """Reserve the address to listen on, and yield its host and port; port 0 becomes a free port.

    Each of Granian's workers has a socket of its own there (`SO_REUSEPORT`).
    """
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as place:
        # Connections that a previous server closed must not block the address.
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        place.bind((host, int(port)))
        address = place.getsockname()
        yield address[0], address[1]


@contextlib.contextmanager
def _children_of_workers(metrics: bool) -> Iterator[Any]:
    """Yield the pipe into which workers write their process ids, and note the end of each for the metrics."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    if metrics:
        threading.Thread(target=_note_ends, args=(reader,), daemon=True).start()
    yield writer


def _note_ends(reader: Any) -> None:
    pids: set[int] = set()
    while True:
        while reader.poll(1):
            pids.add(int(reader.recv_bytes()))
        for pid in [pid for pid in pids if not _is_there(pid)]:
            worker_ended(pid)
            pids.remove(pid)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _announce_when_listening(settings: Settings, findings: Sequence[Finding], host: str, port: int) -> None:
    threading.Thread(target=_announce, args=(settings, findings, host, port), daemon=True).start()


def _announce(settings: Settings, findings: Sequence[Finding], host: str, port: int) -> None:
    """Announce the server once it listens: Granian's workers do after they have loaded the app."""
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while True:
        try:
            socket.create_connection((here, port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            break
    print(announcement(settings, findings, host, port), flush=True)
    _tell_systemd()


def _tell_systemd() -> None:
    """Tell systemd the same, if it waits for that (sd_notify(3))."""
    if name := os.environ.get("NOTIFY_SOCKET"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect("\0" + name[1:] if name.startswith("@") else name)
            channel.sendall(b"READY=1")
