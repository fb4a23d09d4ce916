"""Host sites of several frameworks that all do what a test says, and a browser that visits them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import django
import falcon
import flask
from a2wsgi import ASGIMiddleware, WSGIMiddleware
from django.conf import settings as django_settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from fastapi import FastAPI, Request
from fastapi.responses import Response as FastApiResponse
from pyramid.config import Configurator
from pyramid.response import Response as PyramidResponse
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.lint import LintMiddleware

Environ = dict[str, Any]
App = Callable[..., Iterable[bytes]]
RESPOND = "tests.respond"


class Reply(NamedTuple):
    """What a page answers; more headers come after its content type, in this order."""

    body: bytes = b"the site's page"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    kind: str = "text/plain"


Respond = Callable[[Environ], Reply]
"""A page: gets the environ and answers, whatever framework calls it."""


def bare_site(environ: Environ, start_response: Any) -> Iterable[bytes]:
    reply = environ[RESPOND](environ)
    headers = [("Content-Type", reply.kind), ("Content-Length", str(len(reply.body))), *reply.headers]
    start_response(f"{reply.status} Said", headers)
    return [reply.body]


def flask_site() -> App:
    site = flask.Flask("site")

    @site.route("/", defaults={"path": ""}, methods=["GET", "POST"])
    @site.route("/<path:path>", methods=["GET", "POST"])
    def page(path: str) -> flask.Response:
        reply = flask.request.environ[RESPOND](flask.request.environ)
        response = flask.Response(reply.body, status=reply.status, content_type=reply.kind)
        response.headers.extend(reply.headers)
        return response

    return site


def _django_page(request: HttpRequest) -> HttpResponse:
    reply = request.META[RESPOND](request.META)
    response = HttpResponse(reply.body, status=reply.status, content_type=reply.kind)
    for name, value in reply.headers:
        response[name] = value
    return response


urlpatterns = [re_path("", _django_page)]


def set_django_up() -> None:
    """Once for each process of the tests; Django knows only one set of settings."""
    if not django_settings.configured:
        django_settings.configure(
            ALLOWED_HOSTS=["*"],
            INSTALLED_APPS=["ninetailed_wsgi.django"],
            ROOT_URLCONF=__name__,
            SECRET_KEY="tests",
            TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        )
        django.setup()


def django_site() -> App:
    set_django_up()
    return WSGIHandler()


def pyramid_site() -> App:
    def page(request: Any) -> PyramidResponse:
        reply = request.environ[RESPOND](request.environ)
        response = PyramidResponse(reply.body, status=reply.status, content_type=reply.kind, charset="utf-8")
        response.headerlist.extend(reply.headers)
        return response

    with Configurator() as config:
        config.add_route("page", "/*path")
        config.add_view(page, route_name="page")
        made: App = config.make_wsgi_app()
    return made


def falcon_site() -> App:
    def page(request: falcon.Request, response: falcon.Response) -> None:
        reply = request.env[RESPOND](request.env)
        response.status = reply.status
        response.data = reply.body
        response.content_type = reply.kind
        for name, value in reply.headers:
            response.append_header(name, value)

    site = falcon.App()
    site.add_sink(page)
    return site


def fastapi_site() -> App:
    """An ASGI site, made WSGI so that the middleware can wrap it."""
    site = FastAPI()

    @site.api_route("/{path:path}", methods=["GET", "POST"])
    def page(request: Request) -> FastApiResponse:
        environ = request.scope["wsgi_environ"]
        reply = environ[RESPOND](environ)
        response = FastApiResponse(reply.body, reply.status, media_type=reply.kind)
        for name, value in reply.headers:
            response.headers.append(name, value)
        return response

    return ASGIMiddleware(site)  # type: ignore[arg-type]


def served_as_asgi(app: App) -> App:
    """What an ASGI server would be given; and WSGI around that, so that one browser can visit all sites."""
    return ASGIMiddleware(WSGIMiddleware(app))  # type: ignore[arg-type]


def as_it_is(app: App) -> App:
    return app


SITES: dict[str, tuple[Callable[[], App], Callable[[App], App]]] = {
    "wsgi": (lambda: bare_site, as_it_is),
    "flask": (flask_site, as_it_is),
    "django": (django_site, as_it_is),
    "pyramid": (pyramid_site, as_it_is),
    "falcon": (falcon_site, as_it_is),
    "a2wsgi": (fastapi_site, served_as_asgi),
}
"""For each framework: how a site is made, and what a server is given once the middleware is around it."""


def answering(site: App, respond: Respond) -> App:
    """The site with the page of one test."""

    def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
        return site({**environ, RESPOND: respond}, start_response)

    return app


def below(prefix: str, app: App) -> App:
    """The app below an outer prefix, such as a dispatcher makes it."""
    return DispatcherMiddleware(_nothing_else, {prefix: app}) if prefix else app


def _nothing_else(environ: Environ, start_response: Any) -> Iterable[bytes]:
    raise AssertionError(f"{environ['PATH_INFO']} is outside of the prefix")


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
