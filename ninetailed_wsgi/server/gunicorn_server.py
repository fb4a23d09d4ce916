"""Runs the app under gunicorn, with our own configuration, which nothing outside changes."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gunicorn.http.message
from gunicorn.app.base import BaseApplication

from ninetailed_wsgi.operations.metrics import worker_ended
from ninetailed_wsgi.server import worker
from ninetailed_wsgi.server.announcement import announcement
from ninetailed_wsgi.server.arrival import LONGEST_REQUEST_LINE
from ninetailed_wsgi.server.checks import Finding
from ninetailed_wsgi.server.lingering_worker import worker_class
from ninetailed_wsgi.server.worker import JsonLog, Log, Worker
from ninetailed_wsgi.server.worker_app import WorkerApp, expiry_lock, start_expiry, worker_app
from ninetailed_wsgi.settings import Settings

if TYPE_CHECKING:
    from ninetailed_wsgi.service.expiry import Expiry
    from ninetailed_wsgi.service.sources import Sources


def run(settings: Settings, findings: Sequence[Finding], sources: Sources) -> None:
    """Serve until a signal says stop; ends by SystemExit, as gunicorn does."""
    gunicorn.http.message.MAX_REQUEST_LINE = LONGEST_REQUEST_LINE
    GunicornServer(settings, findings, sources).run()


class GunicornServer(BaseApplication):  # type: ignore[misc]  # gunicorn has no type hints
    """gunicorn's application class with our configuration.

    The base class reads neither ./gunicorn.conf.py nor GUNICORN_CMD_ARGS. That is intended: a file that happens to
    lie in the current folder must not change how this service runs. To use all of gunicorn's options, run
    ``gunicorn 'ninetailed_wsgi:create_app()'``.
    """

    def __init__(self, settings: Settings, findings: Sequence[Finding], sources: Sources | None = None) -> None:
        self.settings = settings
        self.findings = findings
        self.sources = sources
        self._app: WorkerApp | None = None
        self._expiry: Expiry | None = None
        self._expiry_lock = expiry_lock(settings)
        super().__init__()

    def load_config(self) -> None:
        for name, value in configuration(self.settings, when_ready=self._announce).items():
            self.cfg.set(name, value)
        self.cfg.set("child_exit", self._end_of_worker)
        if self.settings.expire_after:
            self.cfg.set("post_worker_init", self._expire)

    def load(self) -> Any:
        """Return the WSGI app; called in each worker, so that no database file is open across a fork."""
        self._app = worker_app(self.settings, self.sources)
        return self._app.app

    def _expire(self, worker: Worker) -> None:
        """Let this worker remove inactive visitors unless another one does."""
        assert self._app is not None
        self._expiry = start_expiry(self.settings, self._app.service, self._expiry_lock, worker.is_busy)

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
        print(announcement(self.settings, self.findings, address[0], address[1]), flush=True)  # or workers repeat it


def configuration(settings: Settings, *, when_ready: Callable[[Any], None] = lambda server: None) -> dict[str, Any]:
    """Return gunicorn's options for these settings, each with its reason."""
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
        # The longest that a request waits is for a lock, and container runtimes kill after 10 s.
        "graceful_timeout": int(settings.store_timeout) + 3,
        "limit_request_line": LONGEST_REQUEST_LINE,
        # The kernel would send a file before the head, which the worker sends with the start of the body.
        "sendfile": False,
        # The app finds the visitor's address itself (--trusted-proxies); no other part may believe a header.
        "forwarded_allow_ips": "",
        # Workers touch a file every second: on a slow disk that alone can make one look dead.
        "worker_tmp_dir": str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None,
        # gunicorn would open a socket under the home folder, which the service must not touch.
        "control_socket_disable": True,
        "accesslog": None,
        "logger_class": JsonLog if settings.log_format == "json" else Log,
        # We announce the startup in our own words; warnings and errors still appear.
        "loglevel": "warning",
        "proc_name": "ninetailed-wsgi",
        "when_ready": when_ready,
    }
