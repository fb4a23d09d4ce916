"""Runs the app under the server that the settings name, with our own configuration, which nothing outside changes."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Sequence

from ninetailed_wsgi.operations.files import allow_open_files
from ninetailed_wsgi.operations.logs import FORMATS
from ninetailed_wsgi.operations.metrics import counting_together
from ninetailed_wsgi.server.checks import Finding
from ninetailed_wsgi.server.worker_app import prepare
from ninetailed_wsgi.settings import Settings


def serve(settings: Settings, findings: Sequence[Finding]) -> None:
    """Serve until a signal says stop; may end by SystemExit.

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
    if settings.server == "granian":
        from ninetailed_wsgi.server.granian_server import run
    else:
        from ninetailed_wsgi.server.gunicorn_server import run
    if settings.results_every:
        from ninetailed_wsgi.server import computation

        computation.start(settings)
    with counting_together() if settings.metrics else contextlib.nullcontext():
        run(settings, findings, prepare(settings))


def _refuse_taken_address(bind: str) -> None:
    """Try the address once before the server: if taken, gunicorn retries for five seconds and Granian shares it."""
    if "GUNICORN_PID" in os.environ or "LISTEN_PID" in os.environ:
        return  # the listening socket is handed down, by the gunicorn being replaced or by systemd
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host.strip("[]"), int(port)))
        probe.listen(1)
