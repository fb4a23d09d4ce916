"""A browser that visits a WSGI app; without any framework, as scripts of tests start it in processes of their own."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from werkzeug.middleware.lint import LintMiddleware

Environ = dict[str, Any]
App = Callable[..., Iterable[bytes]]


class Answer(NamedTuple):
    """What a browser gets: headers in their order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def all(self, name: str) -> list[str]:
        """Every header of this name."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def set_cookie(self) -> str | None:
        """The cookie that is set, as it is sent; None where none is."""
        found = self.all("Set-Cookie")
        assert len(found) <= 1, found
        return found[0].strip() if found else None  # Django puts a space before it


class Browser:
    """Visits an app with werkzeug's lint around it, and keeps cookies.

    Args:
        app: what a server would call.
        root: the prefix of all paths.
    """

    def __init__(self, app: App, root: str = "") -> None:
        self._app = LintMiddleware(app)
        self._root = root
        self.cookies: dict[str, str] = {}

    def get(self, url: str = "/", **environ: Any) -> Answer:
        """GET a path with a query; further keywords are members of the environ."""
        return self.send("GET", url, **environ)

    def send(self, method: str, url: str = "/", body: bytes = b"", **environ: Any) -> Answer:
        parts = urlsplit(url)
        whole: Environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": self._root + parts.path,
            "QUERY_STRING": parts.query,
            "SERVER_NAME": "shop.example",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "shop.example",
            "REMOTE_ADDR": "8.8.8.8",
            "REMOTE_PORT": "50000",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if body:
            whole |= {"CONTENT_LENGTH": str(len(body)), "CONTENT_TYPE": "application/json"}
        if self.cookies:
            whole["HTTP_COOKIE"] = "; ".join(f"{name}={quote(value)}" for name, value in self.cookies.items())
        answer = call(self._app, {**whole, **environ})
        if answer.set_cookie:
            name, _, rest = answer.set_cookie.partition("=")
            self.cookies[name] = rest.partition(";")[0]
        return answer


def call(app: App, environ: Mapping[str, Any]) -> Answer:
    """One request, as a server makes it; what lint finds is an error."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        started.append((status, headers))
        return written.append

    written: list[bytes] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="werkzeug.middleware.lint")
        warnings.filterwarnings("error", category=UserWarning)
        iterable = app(dict(environ), start_response)
        try:
            body = b"".join([*written, *iterable])
        finally:
            if hasattr(iterable, "close"):
                iterable.close()
    status, headers = started[-1]
    return Answer(int(status.split()[0]), headers, body)
