"""The beacon of a site without any SDK, in a real browser under a strict policy: views, clicks, consent."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from html import unescape
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from ninetailed_wsgi.testing import Client, Harness, LiveServer, experience

HERO = experience("hero", ["hero-b"], distribution=[0, 1], id="hero-test")
POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'"
CLICK = b"setTimeout(() => document.getElementById('hero').click(), 1500)"


def site(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/click.js":
        start_response("200 OK", [("Content-Type", "text/javascript")])
        return [CLICK]
    visitor = environ["ninetailed.visitor"]
    visitor.page()
    hero = f'<h1 id="hero" {visitor.track_attributes("hero")}>{visitor.variant("hero")}</h1>'
    far = f"<p>{'<br>' * 300}</p><h2 {visitor.track_attributes('footer')}>far below</h2>"
    scripts = '<script src="/ninetailed/beacon.js" defer></script><script src="/click.js" defer></script>'
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Security-Policy", POLICY)])
    return [f"<!doctype html>{scripts}{hero}{far}".encode()]


def look(url: str, folder: Path) -> None:
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("a real browser needs chromium; in CI this test must run")
        pytest.skip("a real browser needs chromium, which this machine does not have")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={folder}"]
    command = [browser, *flags, "--virtual-time-budget=8000", "--dump-dom", url]
    subprocess.run(command, capture_output=True, timeout=90, check=True)


@pytest.mark.ninetailed(content=[HERO, experience("footer", ["footer-b"], distribution=[0, 1], id="footer-test")])
def test_what_is_half_visible_for_a_second_and_what_is_clicked_is_reported(ninetailed: Harness, tmp_path: Path) -> None:
    with LiveServer(ninetailed, ninetailed.mount(site)) as server:
        look(server.url, tmp_path)
    [profile] = {captured.profile for captured in ninetailed.events}
    exposures = ninetailed.service.record(ninetailed.environment, profile)["exposures"]
    assert list(exposures) == ["hero-test"]  # nobody saw what lies far below
    [entry] = exposures["hero-test"].values()
    assert (entry["index"], entry["views"], entry["clicks"], entry["longest"]) == (1, 1, 1, 1000)


@pytest.mark.ninetailed(content=[HERO])
def test_without_consent_nothing_is_reported(ninetailed: Harness, tmp_path: Path) -> None:
    requests: list[str] = []
    mounted = ninetailed.mount(site, consent=lambda environ: False)

    def watched(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        requests.append(environ["PATH_INFO"])
        return mounted(environ, start_response)

    with LiveServer(ninetailed, watched) as server:
        look(server.url, tmp_path)
    assert "/ninetailed/beacon.js" in requests
    assert [path for path in requests if path.endswith("/events")] == []


@pytest.mark.ninetailed(content=[HERO])
def test_the_script_is_small_and_cached(ninetailed: Harness) -> None:
    mounted = ninetailed.mount(site)
    answer: dict[str, Any] = {}

    def ask(**more: str) -> bytes:
        def start(status: str, headers: list[tuple[str, str]]) -> None:
            answer.update(status=status, **dict(headers))

        environ: WSGIEnvironment = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/ninetailed/beacon.js",
            "wsgi.url_scheme": "http",
            **more,
        }
        return b"".join(mounted(environ, start))

    data = ask()
    assert (answer["status"], answer["Content-Type"]) == ("200 OK", "text/javascript; charset=utf-8")
    assert 0 < len(data) <= 2048
    assert ask(HTTP_IF_NONE_MATCH=answer["ETag"]) == b""
    assert answer["status"] == "304 Not Modified"
    assert ask(REQUEST_METHOD="POST") == b""
    assert answer["status"] == "405 Method Not Allowed"


@pytest.mark.ninetailed(content=[experience('he"ro', ["<b>"], distribution=[0, 1], id="it's")])
def test_ids_of_authors_are_escaped(ninetailed: Harness) -> None:
    shown: list[str] = []

    def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        shown.append(environ["ninetailed.visitor"].track_attributes('he"ro'))
        start_response("200 OK", [])
        return []

    Client(ninetailed.mount(page), "").get("/")
    assert not set(shown[0].removeprefix('data-nt-track="').removesuffix('"')) & set("<>\"'")
    assert json.loads(unescape(shown[0]).removeprefix('data-nt-track="').removesuffix('"')) == ["<b>", "it's", 1]
