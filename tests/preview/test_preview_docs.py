"""The examples of docs/preview.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi import visitor_of
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
