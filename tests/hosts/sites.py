"""A site of each framework, as one that exists would be built; HOST_FORM says whether the middleware is around it.

``bare``: without it. ``unused``: with it, and no page uses it. ``used``: each page records a view and shows
its baseline.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

FORM = os.environ.get("HOST_FORM", "bare")
CONTENT = os.environ.get("HOST_CONTENT")
DATA = os.environ.get("HOST_DATA", "ninetailed-data")

OPTIONS: dict[str, Any] = {"content": CONTENT, "data_dir": DATA, "store_shards": 1, "time_budget_ms": 20_000}


def heading(request: Any) -> str:
    """Return what a page shows: the id of a baseline entry."""
    if FORM != "used":
        return "journal-teaser"
    from ninetailed_wsgi import visitor_of

    visitor = visitor_of(request)
    visitor.page()
    return str(visitor.variant("journal-teaser"))


def wrapped(app: Any) -> Any:
    if FORM == "bare":
        return app
    from ninetailed_wsgi import Ninetailed

    return Ninetailed(app, **OPTIONS)


def flask_site() -> Any:
    """An app factory."""
    import flask

    def create_app() -> flask.Flask:
        app = flask.Flask("site")

        @app.get("/")
        def front() -> str:
            return f"<h1>{heading(flask.request)}</h1>"

        @app.post("/form")
        def form() -> tuple[str, int]:
            return flask.request.form["name"], 201

        @app.get("/stream")
        def stream() -> flask.Response:
            return flask.Response((f"{number}," for number in range(100)), mimetype="text/csv")

        @app.get("/fails")
        def fails() -> str:
            raise ValueError("the site's own")

        if FORM != "bare":
            from ninetailed_wsgi import Ninetailed

            Ninetailed(**OPTIONS).init_app(app)
        return app

    return create_app()


def django_site() -> Any:
    """A site with Django's cache middleware around every page."""
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path

    def fails(request: Any) -> HttpResponse:
        raise ValueError("the site's own")

    urls = [
        path("", lambda request: HttpResponse(f"<h1>{heading(request)}</h1>")),
        path("form", lambda request: HttpResponse(request.POST["name"], status=201)),
        path("stream", lambda request: StreamingHttpResponse((f"{n}," for n in range(100)), content_type="text/csv")),
        path("fails", fails),
    ]
    cache = "django.middleware.cache"
    own = ["ninetailed_wsgi.django.Middleware"] if FORM != "bare" else []
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="of a test",
        ROOT_URLCONF=type("Urls", (), {"urlpatterns": urls}),
        MIDDLEWARE=[f"{cache}.UpdateCacheMiddleware", *own, f"{cache}.FetchFromCacheMiddleware"],
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        NINETAILED=OPTIONS,
    )
    django.setup()
    return WSGIHandler()


def pyramid_site() -> Any:
    from pyramid.config import Configurator
    from pyramid.response import Response

    def fails(request: Any) -> Response:
        raise ValueError("the site's own")

    views: dict[str, Callable[[Any], Response]] = {
        "/": lambda request: Response(f"<h1>{heading(request)}</h1>"),
        "/form": lambda request: Response(request.POST["name"], status=201),
        "/stream": lambda request: Response(app_iter=(b"%d," % n for n in range(100)), content_type="text/csv"),
        "/fails": fails,
    }
    config = Configurator()
    for route, view in views.items():
        config.add_route(route, route)
        config.add_view(view, route_name=route)
    return wrapped(config.make_wsgi_app())


def asgi_site() -> Any:
    """FastAPI behind a bridge, inside the middleware."""
    from a2wsgi import ASGIMiddleware
    from fastapi import FastAPI, Request
    from fastapi.responses import HTMLResponse, StreamingResponse

    def front(request: Request) -> HTMLResponse:
        return HTMLResponse(f"<h1>{heading(request)}</h1>")

    def stream(request: Request) -> StreamingResponse:
        return StreamingResponse((f"{number}," for number in range(100)), media_type="text/csv")

    app = FastAPI()
    app.add_route("/", front, methods=["GET", "HEAD"])
    app.add_route("/stream", stream)
    return wrapped(ASGIMiddleware(app))


SITES = {"flask": flask_site, "django": django_site, "pyramid": pyramid_site, "asgi": asgi_site}


def make() -> Any:
    """Return the site that HOST_SITE names."""
    return SITES[os.environ["HOST_SITE"]]()
