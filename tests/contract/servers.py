"""Servers to hold to the contract: apps in this process, and apps behind a real port."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import WSGIApplication

from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.contract.answers import Answer
from ninetailed_wsgi.contract.cases import CLAIMS, load_cases
from ninetailed_wsgi.contract.run import CaseResult, CaseRun, Send
from ninetailed_wsgi.contract.target import prefix
from ninetailed_wsgi.testing import Client

CASES = load_cases()


def speaking_with(app: WSGIApplication, base: str = "") -> Send:
    """What stands in for HTTP with an app in this process that is mounted under ``base``."""
    client = Client(app)

    def send(method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        return Answer(*client.call(method, base + path, body, headers=headers))

    return send


def run_of(app: WSGIApplication, base: str = "", claims: Collection[str] = CLAIMS) -> CaseRun:
    """A run against an app in this process that is mounted under ``base``."""
    return CaseRun(speaking_with(app, base), prefix("acme", "main"), claims, "test")


def breaches(results: Collection[CaseResult]) -> list[str]:
    """What failed, a line each; nothing may be skipped."""
    assert not [result.reason for result in results if result.outcome == "skipped"]
    return [f"{result.case.id}: {result.breach.problems}" for result in results if result.breach]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def behind_a_port(app: WSGIApplication) -> Iterator[str]:
    """An app on a free port of the loopback address; its URL."""
    with make_server("127.0.0.1", 0, app, server_class=_Server, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Told:
    """What the command said and how it ended; ``report`` is the JSON one."""

    def __init__(self, url: str, folder: Path, *options: str) -> None:
        self.xml, file = folder / "report.xml", folder / "report.json"
        out, err = io.StringIO(), io.StringIO()
        reports = ["--report", str(self.xml), "--report", str(file)]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            self.status = main(["contract", "--base-url", url, "--organization", "acme", *reports, *options])
        self.out, self.err = out.getvalue(), err.getvalue()
        self.report: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def failed(self) -> list[str]:
        """The ids of the cases that failed."""
        return [case["id"] for case in self.report["cases"] if case["outcome"] == "failed"]
