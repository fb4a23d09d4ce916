"""Runs the app under gunicorn, with a configuration of ours that nothing outside changes."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gunicorn.http.message
from gunicorn.app.base import BaseApplication

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.operations.files import allow_open_files
from ninetailed_wsgi.operations.logs import FORMATS
from ninetailed_wsgi.operations.metrics import counting_together, process_metrics, worker_ended
from ninetailed_wsgi.server import computation, worker
from ninetailed_wsgi.server.announcement import announcement
from ninetailed_wsgi.server.arrival import LONGEST_REQUEST_LINE
from ninetailed_wsgi.server.checks import Finding, place_of
from ninetailed_wsgi.server.worker import JsonLog, Log, Worker, worker_class
from ninetailed_wsgi.settings import Settings

if TYPE_CHECKING:
    from ninetailed_wsgi.service.expiry import Expiry
    from ninetailed_wsgi.service.service import ExperienceService
    from ninetailed_wsgi.service.sources import Sources


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
    if settings.results_every:
        computation.start(settings)
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
        self._service: ExperienceService | None = None
        self._expiry: Expiry | None = None
        self._expiry_lock = tempfile.TemporaryFile() if settings.expire_after else None  # noqa: SIM115 - for as long as the server runs
        super().__init__()

    def load_config(self) -> None:
        for name, value in configuration(self.settings, when_ready=self._announce).items():
            self.cfg.set(name, value)
        self.cfg.set("child_exit", self._end_of_worker)
        if self.settings.expire_after:
            self.cfg.set("post_worker_init", self._expire)

    def load(self) -> Any:
        """The WSGI app; called in each worker, so that no database file is open across a fork."""
        from ninetailed_wsgi.api.app import api
        from ninetailed_wsgi.service.access import Access
        from ninetailed_wsgi.service.service import ExperienceService

        with _quietly():
            self._service = service = ExperienceService.from_settings(self.settings, self.sources)
            return api(service, self.settings, Access.of(self.settings, place_of(self.settings.bind)))

    def _expire(self, worker: Worker) -> None:
        """Let this worker remove inactive visitors unless another one does."""
        from ninetailed_wsgi.service.expiry import Expiry

        assert self._service is not None
        assert self._expiry_lock is not None
        self._expiry = Expiry(
            self._service.store,
            self.settings.expire_after,
            self._expiry_lock,
            worker.is_busy,
            environments=[Environment.parse(each) for each in self.settings.environments],
            metrics=process_metrics() if self.settings.metrics else None,
        )
        self._expiry.start()

    def _end_of_worker(self, server: Any, ended: Any) -> None:
        if isinstance(ended, Worker):
            ended.leave()
        if self.settings.metrics:
            worker_ended(ended.pid)

    def _announce(self, server: Any) -> None:
        for listener in server.LISTENERS:
            # gunicorn's threads read and write without a timeout: a few clients that stop in the middle of a request or
            # an answer would stop the service. Accepted sockets inherit these (Linux: struct timeval).
            for waiting in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                listener.sock.setsockopt(socket.SOL_SOCKET, waiting, struct.pack("ll", worker.STALLED_AFTER, 0))
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, worker.ANSWER_BUFFER)
        address = server.LISTENERS[0].getsockname()
        print(announcement(self.settings, self.findings, address[0], address[1]), flush=True)  # else workers repeat it


def configuration(settings: Settings, *, when_ready: Callable[[Any], None] = lambda server: None) -> dict[str, Any]:
    """gunicorn's options for these settings, each with its reason."""
    memory = Path("/dev/shm")
    return {
        "bind": settings.bind,
        "workers": settings.workers,
        # Threads share one process's compiled schemas and content, and idle connections take no thread.
        "worker_class": worker_class(settings.max_body_bytes),
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
    from ninetailed_wsgi.service.sources import Sources

    with _quietly():
        sources = Sources.read(settings)
    with contextlib.suppress(InvalidData):
        # What words a rejection takes a second to load: in a worker, a stranger could let others wait for it.
        schemas().check("profile-request", {})
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
