"""Calls a WSGI app without a server, for the visitors of a harness."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults

import orjson

from ninetailed_wsgi.contract.answers import Answer


class Refused(Exception):
    """The API answered a status other than 200; the text is its message.

    Attributes:
        status: the HTTP status.
        code: the envelope's ``error.code``.
    """

    def __init__(self, answer: Answer) -> None:
        self.status = answer.status
        self.code: str = answer.document["error"]["code"]
        super().__init__(f"{self.status} {self.code}: {answer.document['message']}")


class Client:
    """Sends requests to the app of a harness.

    Args:
        app: any WSGI app.
        prefix: a prefix for the paths of `get`, `post` and `delete`.
    """

    def __init__(self, app: WSGIApplication, prefix: str = "") -> None:
        self._app = app
        self.prefix = prefix

    def get(self, path: str, **options: Any) -> Answer:
        """Read ``path``, such as ``/profiles/anna``; options as `call` takes them."""
        return self.call("GET", self.prefix + path, **options)

    def post(self, path: str, body: object, **options: Any) -> Answer:
        """Send ``body`` to ``path``, such as ``/profiles?type=preflight``; options as `call` takes them."""
        return self.call("POST", self.prefix + path, body, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        """Delete what is at ``path``; options as `call` takes them."""
        return self.call("DELETE", self.prefix + path, **options)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        address: str = "127.0.0.1",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and return its answer, of any status.

        Args:
            path: percent-encoded, with the query if there is one; without the client's prefix.
            body: bytes as they are sent, None for no body, anything else as JSON.
            address: where the request comes from.
        """
        raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        path, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            # PEP 3333: the bytes of the path, read as Latin-1.
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "REMOTE_ADDR": address,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(raw)),
            "wsgi.input": io.BytesIO(raw),
            "wsgi.errors": sys.stderr,
        }
        for name, value in (headers or {}).items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        setup_testing_defaults(environ)
        return self._answered(environ)

    def _answered(self, environ: dict[str, Any]) -> Answer:
        started: list[Any] = []
        written: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started[:] = status, headers
            return written.append

        iterable = self._app(environ, start_response)
        try:
            # An app may start its response as late as with its first piece.
            pieces = list(iterable)
        finally:
            if hasattr(iterable, "close"):
                iterable.close()
        status, headers = started
        return Answer(
            int(status.split()[0]), {name.lower(): value for name, value in headers}, b"".join([*written, *pieces])
        )
