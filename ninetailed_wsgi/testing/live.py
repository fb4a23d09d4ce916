"""A harness behind a real port, for browsers and SDKs in other languages, with its controls as HTTP routes.

The control routes exist only here, and only for loopback hosts and pages of loopback origins. Each answers
``{"data": ..., "error": null, "message": "ok"}``, or 400 with what is wrong:

- ``GET /control/clock``, ``POST /control/clock`` ``{"advance_seconds": 1860}`` or ``{"now": "2026-01-05T12:31:00Z"}``
- ``POST /control/force`` ``{"experience": "id", "variant": 1}``; variant null: decided normally again
- ``POST /control/content``: audiences and experiences to publish, in any form that content files have
- ``POST /control/reset``: restore the initial state
- ``GET /control/events``: what was acknowledged, the oldest first
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import orjson

from ninetailed_wsgi.api.origins import Origins
from ninetailed_wsgi.api.validation.json_body import read_json
from ninetailed_wsgi.errors import Forbidden, InvalidData, NinetailedError
from ninetailed_wsgi.service.access import Access
from ninetailed_wsgi.testing.harness import Harness

CONTROL = "/control/"
_Start = Callable[[str, list[tuple[str, str]]], Any]
_PREFLIGHT = [
    ("Access-Control-Allow-Methods", "GET, POST, OPTIONS"),
    ("Access-Control-Allow-Headers", "*"),
    ("Access-Control-Max-Age", "86400"),
]


class LiveServer:
    """Serves a harness on a free port of the loopback address, until `close`; a context manager.

    Args:
        harness: its app is served, with its controls under ``/control/``.
        app: another WSGI app to serve in place of the harness's own, such as a site that the API is mounted in.

    Attributes:
        url: such as ``http://127.0.0.1:40123``; the base address for SDKs.
        api_url: the same with the path of the environment, to which ``/profiles`` is added.
    """

    def __init__(self, harness: Harness, app: WSGIApplication | None = None) -> None:
        self.harness = harness
        self._server = _HarnessServer(("127.0.0.1", 0), _HarnessHandler)
        self._server.set_app(_Controlled(app or harness.app, harness))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.api_url = self.url + harness.client.prefix
        # The most that `close` waits for the server to notice.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> LiveServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop; the harness stays open."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _HarnessServer(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        # http.server would look this machine's name up in the DNS.
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)
        self.setup_environ()


class _HarnessHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: a test's output belongs to the test."""


class _Controlled:
    """A WSGI app behind the control routes."""

    def __init__(self, app: WSGIApplication, harness: Harness) -> None:
        self._app = app
        self._harness = harness
        self._origins = Origins(Access(local=True, origins=()))
        self._routes: Mapping[tuple[str, str], Callable[[Any], object]] = {
            ("GET", "clock"): lambda _: self._clock(),
            ("POST", "clock"): self._move_clock,
            ("POST", "force"): self._force,
            ("POST", "content"): self._publish,
            ("POST", "reset"): self._reset,
            ("GET", "events"): lambda _: self._events(),
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if not path.startswith(CONTROL):
            return self._app(environ, start_response)
        try:
            origin = self._origins.allow(environ)
        except Forbidden as error:  # a page of the internet that found this port must not control anything
            return _answer(start_response, 403, str(error))
        cors = [("Vary", "Origin"), *([("Access-Control-Allow-Origin", origin)] if origin else [])]
        if method == "OPTIONS":
            start_response("204 No Content", cors + _PREFLIGHT)
            return []
        return self._controlled(method, path, environ, lambda status, headers: start_response(status, headers + cors))

    def _controlled(self, method: str, path: str, environ: WSGIEnvironment, start_response: _Start) -> list[bytes]:
        route = self._routes.get((method, path.removeprefix(CONTROL)))
        if route is None:
            routes = ", ".join(f"{one} {CONTROL}{name}" for one, name in self._routes)
            return _answer(start_response, 404, f"no control route {method} {path}, only {routes}")
        try:
            return _answer(start_response, 200, "ok", route(_body(environ) if method == "POST" else None))
        except (NinetailedError, ValueError, TypeError, OverflowError) as error:
            return _answer(start_response, 400, str(error))

    def _clock(self) -> object:
        return {"now": self._harness.clock.now.isoformat()}

    def _move_clock(self, body: Any) -> object:
        move = _member(body, ("advance_seconds", int | float), ("now", str))
        if isinstance(move, str):
            self._harness.clock.at(move)
        else:
            self._harness.clock.advance(seconds=move)
        return self._clock()

    def _force(self, body: Any) -> object:
        id, index = _member(body, ("experience", str)), body.get("variant")
        if index is None:
            self._harness.release(id)
        elif isinstance(index, int) and not isinstance(index, bool):
            self._harness.force(id, index)
        else:
            raise InvalidData("variant: expected a variant index, or null")
        return {}

    def _publish(self, body: Any) -> object:
        self._harness.publish(*(body if isinstance(body, list) else [body]))
        return {}

    def _reset(self, _: Any) -> object:
        self._harness.reset()
        return {}

    def _events(self) -> object:
        return [{"profile": one.profile, "at": one.at, "event": one.event} for one in self._harness.events]


def _body(environ: WSGIEnvironment) -> object:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    return read_json(environ["wsgi.input"].read(length)) if length else {}


def _member(body: Any, *expected: tuple[str, Any]) -> Any:
    """Return the value of the first of these members that exists with its type."""
    for name, kind in expected:
        value = body.get(name) if isinstance(body, dict) else None
        if isinstance(value, kind) and not isinstance(value, bool):
            return value
    raise InvalidData(f"body: expected {' or '.join(name for name, _ in expected)}")


def _answer(start_response: _Start, status: int, message: str, data: object = None) -> list[bytes]:
    code = "ERR_FORBIDDEN" if status == 403 else "ERR_INVALID_DATA"
    error = None if status == 200 else {"code": code}
    body = orjson.dumps({"data": {} if data is None else data, "error": error, "message": message})
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response(f"{status} {HTTPStatus(status).phrase}", headers)
    return [body]
