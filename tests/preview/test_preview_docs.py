"""The examples of docs/preview.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi import Ninetailed, visitor_of
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.testing import Client, Harness

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "preview.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    match = re.search(rf"<!-- tests/preview/test_preview_docs.py: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture
def harness() -> Any:
    with Harness(ROOT / "fixtures" / "spaces" / "shop.json", access="guarded") as made:
        yield made


def test_the_link_of_the_page_shows_the_variant(harness: Harness) -> None:
    def site(environ: Any, start_response: Any) -> Any:
        visitor = visitor_of(environ)
        shown = visitor.variant("hero") if visitor.preview else eval(example("link"), {"visitor": visitor})
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [shown.encode()]

    client = Client(harness.mount(site))
    answer = client.call("GET", client.call("GET", "/").body.decode())
    cookie = answer.headers["set-cookie"].partition(";")[0]
    assert client.call("GET", answer.headers["location"], headers={"Cookie": cookie}).body == b"hero-offer"


def test_the_body_of_the_page_is_answered_with_the_variant(harness: Harness) -> None:
    headers = {"Authorization": f"Bearer {harness.key('admin')}"}
    data = harness.client.post("/profiles", json.loads(example("body")), headers=headers).document["data"]
    assert {"experienceId": "pricing-offer", "variantIndex": 1} in [
        {name: each[name] for name in ("experienceId", "variantIndex")} for each in data["experiences"]
    ]
    assert data["profile"]["traits"] == {"plan": "pro"}


def test_the_mount_of_the_page_has_the_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "content.json").write_bytes((ROOT / "fixtures" / "spaces" / "shop.json").read_bytes())
    (tmp_path / "secret").write_text("0123456789abcdef" * 2)

    def site(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [b"<body>a page</body>"]

    names: dict[str, Any] = {"app": site, "Ninetailed": Ninetailed}
    exec(example("panel"), names)
    client = Client(names["app"])
    cookie = client.call("GET", names["app"].previews.link("/", Overrides())).headers["set-cookie"].partition(";")[0]
    assert b"panel.js" in client.call("GET", "/", headers={"Cookie": cookie}).body
    assert client.call("GET", "/").body == b"<body>a page</body>"
    names["app"].close()
