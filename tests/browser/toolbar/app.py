"""A Django site with django-debug-toolbar, and the panel from either kind of middleware: SITE_KIND wsgi or django."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from ninetailed_wsgi import Ninetailed, visitor_of

FOLDER = Path(os.environ["SITE_DATA"])
MOUNT: dict[str, Any] = {
    "data_dir": FOLDER / "data",
    "content": Path(__file__).resolve().parents[3] / "fixtures" / "spaces" / "shop.json",
    "identity_secret_file": FOLDER / "secret",
    "time_budget_ms": 20_000,
    "panel": lambda environ: True,
}
IN_DJANGO = os.environ["SITE_KIND"] == "django"
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Shop</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"></head>
<body><main><h1 id="hero" %s>%s</h1></main></body></html>"""


def page(request: HttpRequest) -> HttpResponse:
    """A page with one entry."""
    visitor = visitor_of(request)
    visitor.page()
    return HttpResponse(PAGE % (visitor.track_attributes("hero"), visitor.variant("hero")))


settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DEBUG=True,
    DEBUG_TOOLBAR_CONFIG={"SHOW_TOOLBAR_CALLBACK": lambda request: True},
    INSTALLED_APPS=["django.contrib.staticfiles", "debug_toolbar", "ninetailed_wsgi.django"],
    INTERNAL_IPS=["127.0.0.1"],
    MIDDLEWARE=[
        "debug_toolbar.middleware.DebugToolbarMiddleware",
        *(["ninetailed_wsgi.django.Middleware"] if IN_DJANGO else []),
    ],
    NINETAILED=MOUNT if IN_DJANGO else {},
    ROOT_URLCONF=__name__,
    SECRET_KEY="tests",
    STATIC_URL="/static/",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
)
application = get_wsgi_application()  # before the toolbar's URLs, which need its models
urlpatterns = [path("__debug__/", include("debug_toolbar.urls")), path("", page)]
if IN_DJANGO:
    urlpatterns.insert(0, path("ninetailed/", include("ninetailed_wsgi.django.urls")))
site = StaticFilesHandler(application)
app = site if IN_DJANGO else Ninetailed(site, **MOUNT)
