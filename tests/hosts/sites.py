"""A site of each framework, as one that exists would be built; HOST_FORM says what of the middleware is in it.

``bare``: nothing. ``unused``: the middleware, and no page uses it. ``used``: each page records a view and shows its
baseline. ``twice``: the same with a second middleware around it. ``unmounted``: pages use their visitor, and no
middleware is there, as in a site's own unit tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

FORM = os.environ.get("HOST_FORM", "bare")
MOUNTED = FORM in ("unused", "used", "twice")
OPTIONS: dict[str, Any] = {
    "content": os.environ.get("HOST_CONTENT"),
    "data_dir": os.environ.get("HOST_DATA", "ninetailed-data"),
    "store_shards": 1,
    "time_budget_ms": 20_000,
}


def heading(request: Any) -> str:
    """Return what a page shows: the id of a baseline entry."""
    if FORM in ("bare", "unused"):
        return "banner"
    from ninetailed_wsgi import visitor_of

    visitor = visitor_of(request)
    visitor.page()
    return str(visitor.variant("banner"))


def numbers(request: Any) -> Iterator[str]:
    """Yield a response that streams, and that uses its visitor too late."""
    for number in range(100):
        yield f"{number},"
    yield heading(request)


def wrapped(app: Any) -> Any:
    if not MOUNTED:
        return app
    from ninetailed_wsgi import Ninetailed

    return Ninetailed(app, **OPTIONS)


def twice(app: Any) -> Any:
    """Put a second middleware around a site that has its own."""
    return wrapped(app) if FORM == "twice" else app


def fails() -> Any:
    raise ValueError("the site's own")


def flask_app() -> Any:
    """An app factory."""
    import flask

    app = flask.Flask("site")

    @app.get("/")
    def front() -> str:
        return f"<h1>{heading(flask.request)}</h1>"

    @app.post("/form")
    def form() -> tuple[str, int]:
        return flask.request.form["name"], 201

    @app.get("/stream")
    def stream() -> flask.Response:
        return flask.Response(flask.stream_with_context(numbers(flask.request)), mimetype="text/csv")

    app.add_url_rule("/fails", view_func=fails)
    if MOUNTED:
        from ninetailed_wsgi import Ninetailed

        Ninetailed(**OPTIONS).init_app(app)
    return app


def set_django_up() -> None:
    """A site with Django's cache middleware around every page."""
    import django
    from django.conf import settings
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    urls = [
        path("", lambda request: HttpResponse(f"<h1>{heading(request)}</h1>")),
        path("form", lambda request: HttpResponse(request.POST["name"], status=201)),
        path("stream", lambda request: StreamingHttpResponse(numbers(request), content_type="text/csv")),
        path("fails", lambda request: fails()),
    ]
    cache = "django.middleware.cache"
    own = ["ninetailed_wsgi.django.Middleware"] if MOUNTED else []
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="of a test",
        ROOT_URLCONF=type("Urls", (), {"urlpatterns": urls}),
        MIDDLEWARE=[f"{cache}.UpdateCacheMiddleware", *own, f"{cache}.FetchFromCacheMiddleware"],
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        NINETAILED=OPTIONS,
    )
    django.setup()


def django_site() -> Any:
    from django.core.handlers.wsgi import WSGIHandler

    set_django_up()
    return WSGIHandler()


def django_asgi_site() -> Any:
    from django.core.handlers.asgi import ASGIHandler

    set_django_up()
    return ASGIHandler()


def pyramid_site() -> Any:
    from pyramid.config import Configurator
    from pyramid.response import Response

    def stream(request: Any) -> Response:
        return Response(app_iter=(part.encode() for part in numbers(request)), content_type="text/csv")

    views: dict[str, Callable[[Any], Response]] = {
        "/": lambda request: Response(f"<h1>{heading(request)}</h1>"),
        "/form": lambda request: Response(request.POST["name"], status=201),
        "/stream": stream,
        "/fails": lambda request: fails(),
    }
    config = Configurator()
    for route, view in views.items():
        config.add_route(route, route)
        config.add_view(view, route_name=route)
    return wrapped(config.make_wsgi_app())


def cherrypy_site() -> Any:
    import cherrypy

    class Root:
        @cherrypy.expose
        def index(self) -> str:
            return f"<h1>{heading(cherrypy.request)}</h1>"

        @cherrypy.expose
        def form(self, name: str) -> str:
            cherrypy.response.status = 201
            return name

        @cherrypy.expose
        def stream(self) -> Iterator[str]:
            cherrypy.response.headers["Content-Type"] = "text/csv"
            return numbers(cherrypy.serving.request)

        @cherrypy.expose
        def fails(self) -> str:
            return str(fails())

    cherrypy.config.update({"environment": "embedded"})
    site = cherrypy.Application(Root(), "", {"/stream": {"response.stream": True}})
    if MOUNTED:
        from ninetailed_wsgi import Ninetailed

        site.wsgiapp.pipeline.append(("ninetailed", Ninetailed))
        site.wsgiapp.config["ninetailed"] = OPTIONS
    return site


def fastapi_app() -> Any:
    from fastapi import FastAPI, Request
    from fastapi.responses import HTMLResponse, StreamingResponse

    def front(request: Request) -> HTMLResponse:
        return HTMLResponse(f"<h1>{heading(request)}</h1>")

    def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(numbers(request), media_type="text/csv")

    app = FastAPI()
    app.add_route("/", front, methods=["GET", "HEAD"])
    app.add_route("/stream", stream)
    return app


def fastapi_site() -> Any:
    """FastAPI behind a bridge, inside the middleware."""
    from a2wsgi import ASGIMiddleware

    return wrapped(ASGIMiddleware(fastapi_app()))


def fastapi_asgi_site() -> Any:
    from a2wsgi import WSGIMiddleware

    return WSGIMiddleware(fastapi_site())


SITES = {
    "flask": flask_app,
    "django": django_site,
    "pyramid": pyramid_site,
    "cherrypy": cherrypy_site,
    "fastapi": fastapi_site,
}
ASGI_SITES = {"django-asgi": django_asgi_site, "fastapi-asgi": fastapi_asgi_site}


def make() -> Any:
    """Return the site that HOST_SITE names."""
    name = os.environ["HOST_SITE"]
    return ASGI_SITES[name]() if name in ASGI_SITES else twice(SITES[name]())
