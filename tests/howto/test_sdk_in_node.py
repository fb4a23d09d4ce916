"""How to test code that uses the SDK, in its own language, against the live server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ninetailed_wsgi.testing import LiveServer, flag

THEME = flag("theme", control="light", variants=["dark"], id="theme-test", distribution=[0.5, 0.5])

SCRIPT = """
const { NinetailedApiClient, buildPageEvent } = require("@ninetailed/experience.js-shared");

const client = new NinetailedApiClient({ clientId: "default", environment: "main", url: process.argv[1] });
const ctx = { url: "https://shop.example/", referrer: "", locale: "en", userAgent: "", document: { title: "Shop" } };
const event = buildPageEvent({ messageId: "first", timestamp: Date.now(), ctx, properties: {} });
client.createProfile({ events: [event] }).then(({ changes }) => console.log(JSON.stringify(changes)));
"""


@pytest.mark.ninetailed(content=[THEME])
def test_the_sdk_gets_the_dark_theme(ninetailed_server: LiveServer, node: str, sdk_folder: Path) -> None:
    ninetailed_server.harness.force("theme-test", 1)

    ran = subprocess.run(
        [node, "-e", SCRIPT, ninetailed_server.url],
        cwd=sdk_folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    (change,) = json.loads(ran.stdout.splitlines()[-1])
    assert (change["key"], change["value"]) == ("theme", "dark")
