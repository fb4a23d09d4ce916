"""The panel beside django-debug-toolbar, in a real browser: both are there, and neither hides the other."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from serving import running

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("kind", ["wsgi", "django"])
def test_both_work_at_each_width(kind: str, chromium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(secrets.token_hex(32))
    monkeypatch.setenv("SITE_DATA", str(tmp_path))
    monkeypatch.setenv("SITE_KIND", kind)
    screenshots = FOLDER / "screenshots" / "panel"
    screenshots.mkdir(parents=True, exist_ok=True)
    gunicorn = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--threads", "4", "--no-control-socket"]
    with running([*gunicorn, "--chdir", str(FOLDER / "toolbar"), "app:app"], tmp_path) as server:
        command = ["node", "toolbar.js", chromium, server.url, str(screenshots)]
        run = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, f"{run.stderr} {server.printed.read_text()[-2000:]}"
    told = json.loads(run.stdout)
    assert told["errors"] == []
    for look in told["looks"]:
        toolbar, panel = look["boxes"]["toolbar"], look["boxes"]["panel"]
        assert panel["x"] + panel["width"] <= toolbar["x"] or panel["y"] >= toolbar["y"] + toolbar["height"], look
        assert "Askedentry hero" in look["text"]
        assert (look["opened"], look["panels"]) == (True, 1)
