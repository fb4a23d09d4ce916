"""Host sites of several frameworks that all do what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

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

from tests.mount.browser import App, Environ

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
