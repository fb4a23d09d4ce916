"""A server renders with the SDK for Node and a preflight; the browser's client sends the same events to no id."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.client import FOLDER
from tests.serving import ROOT, serving

NODE, SHARED = "experience.js-node 7.23", "experience.js-shared 7.26"


@pytest.mark.client(NODE, "preflight", how="client")
@pytest.mark.client(SHARED, "preflight", "create", how="client")
@pytest.mark.parametrize("access", ["open", "guarded"])
def test_a_rendered_page_and_its_browser_are_one_visitor_whichever_worker_answers(
    node: str, tmp_path: Path, access: str
) -> None:
    content = str(ROOT / "fixtures" / "spaces" / "shop.json")
    options = ["--content", content, "--workers", "2", "--access", access, "--environments", "acme/main"]
    with serving(tmp_path, *options) as server:
        order = {"url": server.url, "clientId": "acme", "environment": "main", "times": 10}
        command = [node, "replay.js"]
        done = subprocess.run(
            command, cwd=FOLDER, input=json.dumps(order), capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    visits: list[dict[str, Any]] = json.loads(done.stdout)
    ids = set()
    for visit in visits:
        foreseen, created, again = (visit[step] for step in ("foreseen", "created", "again"))
        assert created["profile"]["id"] == again["profile"]["id"] == foreseen["profile"]["id"]
        assert created["profile"]["session"]["count"] == again["profile"]["session"]["count"] == 1
        assert created["experiences"] == again["experiences"] == foreseen["experiences"]
        ids.add(created["profile"]["id"])
    assert len(ids) == len(visits)
