"""How to test what a browser shows: a site with the API mounted in it, behind the live server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.testing import Harness, LiveServer, audience, experience, viewed

OFFER = experience("hero", ["offer"], audience=audience(viewed("/", at_least=2), id="interested"))

# Looks at the page a second time, as a returning visitor does, and shows what it got.
PAGE = """<h1>%s</h1>
<script>
  if (!location.search)
    fetch("/?again").then(answer => answer.text()).then(text => { document.body.innerHTML += text; });
</script>"""


def site(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Your site."""
    visitor = visitor_of(environ)
    visitor.page()
    start_response("200 OK", [("Content-Type", "text/html")])
    return [(PAGE % visitor.variant("hero")).encode()]


@pytest.mark.ninetailed(content=[OFFER])
def test_the_second_look_shows_the_offer(ninetailed: Harness, chromium: list[str], tmp_path: Path) -> None:
    with LiveServer(ninetailed, ninetailed.mount(site)) as server:
        look = [*chromium, f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000", "--dump-dom", server.url]
        shown = subprocess.run(look, capture_output=True, text=True, timeout=120, check=True).stdout

    assert shown.index("<h1>hero</h1>") < shown.index("<h1>offer</h1>")
