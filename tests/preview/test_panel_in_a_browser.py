"""The panel in a real browser, under a strict policy: by mouse and keyboard, at two widths, with hostile content."""

from __future__ import annotations

import json
import secrets
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import Once

from ninetailed_wsgi import visitor_of
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.site.panel import script
from ninetailed_wsgi.testing import Harness, audience, experience, flag, trait, viewed
from tests.contract.servers import behind_a_port
from tests.preview.test_vendor_panel import FOLDER, chromium  # noqa: F401

SHOTS = Path(__file__).parents[1] / "browser" / "screenshots" / "panel"
HOSTILE = "</script><script>window.hostile=1</script><img src=x onerror=window.hostile=1>\u202egnp.exe\u2066"
CONTENT = [
    experience(
        "hero",
        ["hero-member", None],
        id="member-hero",
        name="A hero for members",
        audience=audience(
            trait("plan", "member"), viewed("/pricing", at_least=2), id="members", name="Members of the club"
        ),
    ),
    experience(
        "banner",
        ["banner-b"],
        id="banner-test",
        name=HOSTILE,
        audience=audience(trait("a", HOSTILE), id=HOSTILE, name=HOSTILE),
    ),
    flag(
        "limit",
        control=50,
        variants=[30],
        id="limit-test",
        name="Free shipping from",
        audience=audience(viewed("/x"), id="others"),
    ),
    experience("journal", ["journal-b"], id="journal-test", name="Only in the journal"),
    experience(
        "banner",
        ["w" * 200],
        id="long-test",
        name="W" * 10_000,
        audience=audience(trait("w" * 200, "W" * 10_000), id="w" * 200, name="W" * 10_000),
    ),
]
BODY = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Shop</title>
<style nonce="{nonce}">body {{ margin: 0; font: 16px sans-serif }} main {{ padding: 1rem; height: 2000px }}
button {{ background: magenta !important; font-size: 40px !important }} * {{ letter-spacing: .01em }}</style></head>
<body><main><h1 id="hero" {hero}>{shown}</h1><p {banner}>{other}</p><p>Free shipping from {limit}</p>
<div id="widget"></div>
<form method="dialog"><label>Name <input name="name"></label></form></main>
<script nonce="{nonce}">document.getElementById("widget").attachShadow({{mode: "open"}}).append("a widget");</script>
</body></html>"""
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)


WORKED = b"""<!doctype html><html lang="en"><title>Worked</title><body><h1 id="hero">%s</h1>
<script>navigator.serviceWorker.register("/worker.js")</script></body></html>"""
WORKER = b"""addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => event.respondWith(fetch(event.request)));"""


def worked(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A page with a service worker, and its script."""
    is_script = environ["PATH_INFO"] == "/worker.js"
    kind, text = ("text/javascript", WORKER) if is_script else ("text/html", WORKED)
    if not is_script:
        visitor = visitor_of(environ)
        visitor.page()
        text = text % visitor.variant("hero").encode()
    start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(text)))])
    return [text]


def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A page that lets no script run but those with its nonce."""
    if environ["PATH_INFO"].startswith("/work"):
        return worked(environ, start_response)
    visitor, nonce = visitor_of(environ), secrets.token_urlsafe(16)
    visitor.page()
    text = BODY.format(
        nonce=nonce,
        hero=visitor.track_attributes("hero"),
        shown=visitor.variant("hero"),
        banner=visitor.track_attributes("banner"),
        other=visitor.variant("banner"),
        limit=visitor.flag("limit", 50),
    ).encode()
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(text)))]
    start_response("200 OK", [*headers, ("Content-Security-Policy", POLICY.format(nonce))])
    return [text]


@pytest.fixture(scope="module")
def told(chromium: str, once: Once) -> dict[str, Any]:  # noqa: F811
    """What the person saw and the browser said."""
    seen: dict[str, Any] = once("panel", lambda folder: use_the_panel(chromium, folder))
    return seen


def use_the_panel(chromium: str, folder: Path) -> dict[str, Any]:  # noqa: F811
    SHOTS.mkdir(parents=True, exist_ok=True)
    secret = folder / "secret"
    secret.write_text(secrets.token_hex(32))
    with Harness(CONTENT, identity_secret_file=secret) as harness:
        mounted = harness.mount(site, panel=True)
        assert mounted.previews is not None
        overrides = Overrides.of({"experiences": {"member-hero": 1, "banner-test": 1}, "traits": {"name": HOSTILE}})
        link = mounted.previews.link("/pricing?a=1", overrides)

        def foreign(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            page = (
                f'<!doctype html><title>Other</title><a href="{url}/ninetailed/panel?experience=member-hero&to=2">x</a>'
            )
            start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(page)))])
            return [page.encode()]

        with behind_a_port(mounted) as url, behind_a_port(foreign) as other:
            given = {"link": url + link, "foreign": other.replace("127.0.0.1", "localhost")}
            run = subprocess.run(
                ["node", "panel.js", chromium, url, str(SHOTS)],
                input=json.dumps(given),
                cwd=FOLDER,
                capture_output=True,
                text=True,
                timeout=300,
            )
        assert run.returncode == 0, run.stderr
        assert len(harness.events) == 2, "only the pages after the end of a preview are visits"
    seen: dict[str, Any] = json.loads(run.stdout)
    assert seen["odd"].startswith(url), "it led to another host"
    return seen


def test_the_panel_fits_at_each_width_and_axe_finds_nothing_serious(told: dict[str, Any]) -> None:
    assert [(look["scheme"], look["width"]) for look in told["looks"]] == [
        ("light", 1280),
        ("light", 390),
        ("dark", 1280),
        ("dark", 390),
    ]
    for look in told["looks"]:
        assert (look["overlaps"], look["sideways"], look["serious"] or []) == ([], False, [])


def test_no_policy_is_broken_and_nothing_leaves(told: dict[str, Any]) -> None:
    # The other site's link is refused, which Chromium says in its console.
    assert [error for error in told["errors"] if "403" not in error] == []
    assert told["outside"] == []


def test_what_strangers_and_authors_wrote_is_text(told: dict[str, Any]) -> None:
    opened = told["looks"][0]["opened"]
    assert opened["hostile"] is None
    shown = HOSTILE.replace("\u202e", "[U+202E]").replace("\u2066", "[U+2066]")
    assert shown in opened["text"]
    assert f"name is {shown}" in opened["text"]


def test_it_says_what_is_asked_shown_natural_and_why(told: dict[str, Any]) -> None:
    look = told["looks"][0]
    assert (look["closed"]["hero"], look["closed"]["open"]) == ("hero-member", False)
    text = look["opened"]["text"]
    assert "Askedentry hero" in text
    assert "Shownvariant 1: hero-member" in text
    assert "ForMembers of the clubShownvariant 1: hero-member" in text
    assert 'Naturalbaseline. The visitor is not in the audience "Members of the club".' in text
    assert "WhyThis preview shows it, whatever the rules say." in text
    assert "Askedflag limit" in text
    assert "Experiences elsewhere (1)" in text
    assert "Members of the clubNot in it✗" in text


def test_elements_have_a_mark(told: dict[str, Any]) -> None:
    assert "A hero for members · variant 1" in told["looks"][0]["closed"]["marks"]
    assert len(told["looks"][0]["closed"]["marks"]) == 2


def test_a_keyboard_is_enough_and_a_switch_leads_back_to_its_place(told: dict[str, Any]) -> None:
    keyboard = told["keyboard"]
    assert (keyboard["opened"]["open"], keyboard["opened"]["focus"]) == (True, "body")
    switched = keyboard["switched"]
    assert (switched["hero"], switched["open"], switched["focus"]) == ("hero", True, "experience member-hero 0")
    assert switched["scroll"] == keyboard["opened"]["scroll"] == 300
    assert keyboard["natural"]["hero"] == "hero"
    assert keyboard["audience"]["hero"] in ("hero", "hero-member", "None")
    assert "In it, naturally not" in keyboard["audience"]["text"]
    assert (keyboard["escaped"]["open"], keyboard["escaped"]["focus"]) == (False, "tab preview")


def test_a_page_of_another_site_cannot_switch(told: dict[str, Any]) -> None:
    assert "This switch belongs to another page" in told["foreign"]["text"]
    assert told["after"]["hero"] == told["keyboard"]["audience"]["hero"]


def test_the_end_leaves_no_panel_and_no_trace(told: dict[str, Any]) -> None:
    assert told["ended"]["open"] is None
    assert told["address"].endswith("/pricing?a=1")
    assert "nt_preview" not in told["ended"]["cookies"]


def test_other_shadow_roots_are_as_they_were(told: dict[str, Any]) -> None:
    assert told["looks"][0]["opened"]["other"] == "a widget"


def test_a_page_with_a_service_worker_has_the_panel_and_its_switches(told: dict[str, Any]) -> None:
    assert told["worker"]["controlled"] is True
    assert (told["worker"]["hero"], told["worker"]["open"]) == ("hero-member", True)


def test_a_base_element_of_another_host_takes_no_switch_there(told: dict[str, Any]) -> None:
    assert (told["based"]["status"], told["based"]["hero"]) == (200, "hero")
    assert told["based"]["url"] == told["workedAt"]


def test_the_script_is_small() -> None:
    assert len(script()) < 13_000, "with what it says of a page, 15 kB"
