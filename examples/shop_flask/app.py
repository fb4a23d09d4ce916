"""The made-up tea shop of the fixtures as a Flask site: variants, a flag and a merge tag rendered by the server.

Run it with ``make shop-flask``. The browser SDK in the pages sends its events to the API under /ninetailed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask, abort, render_template, request

from examples.shop_content import TITLES, content
from ninetailed_wsgi import Ninetailed, visitor_of

# Nothing inline: the block of nt_browser is no code, and beacon.js comes from this origin.
POLICY = "default-src 'self'; img-src data:"
ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SHOP_DATA") or ROOT / "examples" / "built" / "flask" / "data")
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


app = Flask(__name__, static_folder=str(ROOT / "examples" / "built" / "static"))
app.jinja_env.add_extension("ninetailed_wsgi.jinja.Ninetailed")
# The server evaluates each page, and the SDK in it sends the real page event: so the server's is a preflight.
app.wsgi_app = Ninetailed(  # type: ignore[method-assign]
    app.wsgi_app,
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


@app.get("/", defaults={"path": ""})
@app.get("/<path:path>")
def page(path: str) -> tuple[str, dict[str, str]]:
    """A page of the shop, personalized while it is rendered."""
    if path not in PAGES:
        abort(404)
    visitor = visitor_of(request)
    visitor.page()
    text = render_template("page.html", visitor=visitor, titles=TITLES, text=PAGES[path], teas=TEAS)
    return text, {"Content-Security-Policy": POLICY}
