"""The made-up tea shop of the fixtures as a Django site: variants, a flag and a merge tag rendered by the server.

Run it with ``make shop-django``. The browser SDK in the pages sends its events to the API under /ninetailed. Settings,
URLs and the WSGI application are in this one file; a site of its own has them in settings.py, urls.py and wsgi.py.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, re_path
from django.views.static import serve

from examples.shop_content import TITLES, content
from ninetailed_wsgi import Ninetailed, visitor_of

# Nothing inline: the block of nt_browser is no code, and beacon.js comes from this origin.
POLICY = "default-src 'self'; img-src data:"
ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SHOP_DATA") or ROOT / "examples" / "built" / "django" / "data")
# examples/made_up_visitors.py writes both, for previews and the inspector.
DRAFT, SECRET = DATA.parent / "draft.json", DATA.parent / "secret"

TEAS = [("sencha", "Sencha", 12), ("oolong", "Oolong", 18), ("rooibos", "Rooibos", 9)]
PAGES = {
    "": "Teas from small gardens, sent to {{ location_city }}.",
    "pricing": "Every tea in bags of 100 grams. Prices include taxes.",
    "pricing/business": "For cafés and offices: from ten bags on, every third one is free.",
    "journal": "What we drank, and where.",
}


def is_at_this_machine(environ: dict[str, Any]) -> bool:
    """Tell who gets the inspector and the panel: everybody who looks at the shop where it runs."""
    return environ["REMOTE_ADDR"] in ("127.0.0.1", "::1")


def page(request: HttpRequest, name: str) -> HttpResponse:
    """A page of the shop, personalized while it is rendered."""
    if name not in PAGES:
        raise Http404(name)
    visitor = visitor_of(request)
    visitor.page()
    shown = {id: TITLES[variant] for id in ("banner", "hero", "greeting") if (variant := visitor.variant(id))}
    shown["greeting"] = shown["greeting"].replace("{{name}}", "{{ traits_firstname }}")
    response = render(request, "page.html", {"visitor": visitor, "shown": shown, "text": PAGES[name], "teas": TEAS})
    response["Content-Security-Policy"] = POLICY
    return response


urlpatterns = [
    path("static/<path:path>", serve, {"document_root": ROOT / "examples" / "built" / "static"}),
    re_path("^(?P<name>.*)$", page),
]

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    INSTALLED_APPS=["ninetailed_wsgi.django"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for this example",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": [Path(__file__).parent / "templates"],
            "APP_DIRS": True,
        }
    ],
)
# The server evaluates each page, and the SDK in it sends the real page event: so the server's is a preflight.
app = Ninetailed(
    get_wsgi_application(),
    content=content,
    data_dir=DATA,
    geoip_database=ROOT / "fixtures" / "geo" / "demo.mmdb",
    identity_secret_file=SECRET if SECRET.exists() else None,
    draft_content=DRAFT if DRAFT.exists() else None,
    # A site that is served elsewhere says inspector=True, which asks for a key, and panel=True: in previews alone.
    inspector=is_at_this_machine,
    panel=is_at_this_machine if SECRET.exists() else False,
    preflight=True,
    consent=lambda environ: environ.get("HTTP_SEC_GPC") != "1",  # Global Privacy Control: the browser says no
    time_budget_ms=10_000,  # not the default of 100: a machine that a demo is shown on may be busy
)
