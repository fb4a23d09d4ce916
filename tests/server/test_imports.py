"""Imports under gunicorn: accepted batches are applied soon; test_crash.py says what holds whoever is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.store.disk.queue import ImportQueue, QueueState
from tests.serving import PREFIX, PROFILES, serving, track, wait_until

IMPORT = PREFIX + "/import/events"

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds gunicorn's workers through /proc")


def of(name: str, event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "anonymousId": name}


def test_an_accepted_batch_is_applied_soon(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2") as server:
        answer = server.call("POST", IMPORT, {"events": [of("anna", track("1")), of("ben", track("2"))]})
        assert (answer.status, answer.json()["data"]) == (200, {})
        for name in ("anna", "ben"):
            wait_until(lambda name=name: server.call("GET", f"{PROFILES}/{name}").status == 200, "it is applied")  # type: ignore[misc]
        bad = server.call("POST", IMPORT, {"events": [of("anna", {**track("3"), "timestamp": "yesterday"})]})
        assert bad.status == 400
    assert ImportQueue(tmp_path / "data").state() == QueueState(0, 0.0, 0)
