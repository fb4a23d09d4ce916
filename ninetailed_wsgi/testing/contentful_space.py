"""A local Contentful for tests: its Delivery, Sync and Preview APIs answer what is published in it."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from ninetailed_wsgi.testing.contentful_answers import SpaceAnswers
from ninetailed_wsgi.testing.contentful_documents import Refusal
from ninetailed_wsgi.testing.contentful_entries import entries_of


class ContentfulSpace:
    """One environment of a space, served on a free port of the loopback address until `close`; a context manager.

    Args:
        content: what is published at first, as for `publish`.
        space, environment: how they are named.
        token: of its Delivery API.
        preview_token: of its Preview API, which also gives out drafts.
        locales: the codes of its locales, the default one first.
        page_size: entries of a page of the Sync API at most, whatever a client asks for.
        personalization: whether it has the content types of personalization before any entry of them is published.
        largest_answer: bytes of an answer at most; a larger one is refused with 400, as Contentful does.

    Attributes:
        url: the host of both APIs, for ``--contentful-url``.
        address: of what is published, for ``--content``.
        preview_address: of the drafts.
        requests: paths and queries of the requests so far, the oldest first.

    Example::

        with ContentfulSpace([experience("hero", ["hero-b"])]) as space:
            app = create_app(content=space.address, contentful_url=space.url, contentful_token=space.token)
            space.publish(experience("hero", ["hero-b", "hero-c"]))
    """

    def __init__(
        self,
        content: Mapping[str, Any] | Iterable[Mapping[str, Any]] | str | Path = (),
        *,
        space: str = "space1",
        environment: str = "master",
        token: str = "delivery-token",
        preview_token: str = "preview-token",
        locales: Iterable[str] = ("en-US",),
        page_size: int = 1000,
        personalization: bool = True,
        largest_answer: int = 7 * 1024 * 1024,
    ) -> None:
        self.space, self.environment = space, environment
        self.token, self.preview_token = token, preview_token
        self.requests: list[str] = []
        self._answers = SpaceAnswers(space, environment, tuple(locales), page_size, personalization)
        self._lock = threading.Lock()
        self._limited: tuple[int, int] = (0, 0)
        self._failing: tuple[int, int] = (0, 503)
        self._delay = 0.0
        self._largest = largest_answer
        self._publish(content)
        self._server = _SpaceServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.address = f"contentful://{space}/{environment}"
        self.preview_address = f"contentful-preview://{space}/{environment}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> ContentfulSpace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering: the next connection is refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # What an editor does

    def publish(self, *content: Mapping[str, Any]) -> None:
        """Publish audiences, experiences and metrics as the builders make them, entries, or whole content documents.

        An entry is ``{"sys": {"id": ..., "contentType": ...}, "fields": {...}}``, its fields by locale or plain.
        """
        with self._lock:
            self._publish(content)

    def draft(self, *content: Mapping[str, Any]) -> None:
        """Change the same without publishing it: only the Preview API gives it out."""
        with self._lock:
            for entry in entries_of(content, self._answers.locales[0]):
                self._answers.change(entry, publish=False)

    def unpublish(self, *ids: str) -> None:
        """Unpublish entries by their ids; the Preview API still gives them out. ValueError for an unknown one."""
        with self._lock:
            for id in ids:
                self._answers.remove(id, draft=True)

    def delete(self, *ids: str) -> None:
        """Delete entries by their ids. ValueError for an unknown one."""
        with self._lock:
            for id in ids:
                self._answers.remove(id, draft=False)

    # What goes wrong

    def limit(self, requests: int = 1, *, reset: int = 1) -> None:
        """Answer the next requests 429, with so many whole seconds in ``X-Contentful-RateLimit-Reset``."""
        self._limited = (requests, reset)

    def fail(self, requests: int = 1, *, status: int = 503) -> None:
        """Answer the next requests with this status."""
        self._failing = (requests, status)

    def delay(self, seconds: float) -> None:
        """Wait so long before each answer from now on."""
        self._delay = seconds

    def forget_tokens(self) -> None:
        """Refuse every token of a synchronization that was given out so far."""
        with self._lock:
            self._answers.forget_tokens()

    # What a client gets

    def answer(self, target: str, authorization: str) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and document for a request of this path and query."""
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if self._delay:
            time.sleep(self._delay)
        with self._lock:
            self.requests.append(target)
            if (limited := self._limited)[0] > 0:
                self._limited = (limited[0] - 1, limited[1])
                headers = {"X-Contentful-RateLimit-Reset": str(limited[1])}
                return 429, headers, Refusal(429, "RateLimitExceeded", "You have exceeded the rate limit").document()
            if (failing := self._failing)[0] > 0:
                self._failing = (failing[0] - 1, failing[1])
                return failing[1], {}, Refusal(failing[1], "ServerError", "This was asked for").document()
            token = authorization.removeprefix("Bearer ") or query.pop("access_token", "")
            try:
                if token not in (self.token, self.preview_token):
                    raise Refusal(
                        401, "AccessTokenInvalid", "The access token you sent could not be found or is invalid."
                    )
                return 200, {}, self._answers.of(parts.path, query, self.url, drafts=token == self.preview_token)
            except Refusal as refusal:
                return refusal.status, {}, refusal.document()

    def _too_large(self) -> bytes:
        message = f"Response size too big. Maximum allowed response size: {self._largest}B."
        return orjson.dumps(Refusal(400, "BadRequest", message).document())

    def _publish(self, content: Mapping[str, Any] | Iterable[Mapping[str, Any]] | str | Path) -> None:
        for entry in entries_of(content, self._answers.locales[0]):
            self._answers.change(entry, publish=True)


class _SpaceServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        # http.server would look this machine's name up in the DNS.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])


def _handler(space: ContentfulSpace) -> type[BaseHTTPRequestHandler]:
    class SpaceHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, document = space.answer(self.path, self.headers.get("Authorization", ""))
            body = orjson.dumps(document)
            if len(body) > space._largest:
                status, body = 400, space._too_large()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.contentful.delivery.v1+json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in {"Access-Control-Allow-Origin": "*", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing: a test's output belongs to the test."""

    return SpaceHandler
