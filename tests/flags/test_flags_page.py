"""What docs/flags.md shows runs: a flag that changes with what the visitor did, in Flask and in Django."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from ninetailed_wsgi.testing import Harness, LiveServer

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "flags.md").read_text(encoding="utf-8")
EXAMPLES = dict(
    re.findall(r"<!-- tests/flags/test_flags_page.py: (\w+) -->\n```(?:json|python|js)\n(.*?)```\n", PAGE, re.DOTALL)
)

FLASK = """
from app import app
"""
DJANGO = """
import django
from django.conf import settings
settings.configure(
    ROOT_URLCONF="urls",
    SECRET_KEY="tests",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["ninetailed_wsgi.django.Middleware"],
    NINETAILED={"content": "content.json", "data_dir": "ninetailed-data", "time_budget_ms": 20_000},
)
django.setup()
import app as views
views.ready()
from django.core.wsgi import get_wsgi_application
app = get_wsgi_application()
"""
VISIT = """
from tests.mount.browser import Browser
from ninetailed_wsgi import Ninetailed
# Not 100 ms, which a machine that runs other tests beside this one may need for the first page.
Ninetailed.__init__.__kwdefaults__["time_budget_ms"] = 20_000
{site}
browser = Browser(app)
print(browser.get("/").text)
from openfeature import api
api.shutdown()
"""


@pytest.mark.parametrize(("name", "site"), [("flask", FLASK), ("django", DJANGO)])
def test_the_example_serves_the_value_of_a_flag(tmp_path: Path, name: str, site: str) -> None:
    (tmp_path / "app.py").write_text(EXAMPLES[name])
    (tmp_path / "urls.py").write_text(
        "from app import home\nfrom django.urls import path\nurlpatterns = [path('', home)]"
    )
    (tmp_path / "content.json").write_text(EXAMPLES["content"])
    done = subprocess.run(
        [sys.executable, "-c", VISIT.format(site=site)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Free shipping from 30 euros\n"


def test_the_example_for_node_reads_a_flag_of_a_mount(ninetailed: Harness, modules: Path, tmp_path: Path) -> None:
    ninetailed.publish(json.loads(EXAMPLES["content"]))
    (tmp_path / "flags.mjs").write_text(EXAMPLES["node"])
    (tmp_path / "node_modules").symlink_to(modules)

    def site(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return []

    with LiveServer(ninetailed, ninetailed.mount(site)) as server:
        done = subprocess.run(
            ["node", "flags.mjs"],
            cwd=tmp_path,
            env={**os.environ, "SITE": server.url, "VISITOR": "anna"},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.stdout == "Free shipping from 30 euros\n", done.stderr


def test_every_example_that_can_run_here_is_run() -> None:
    assert [*EXAMPLES] == ["content", "flask", "django", "node"]
    assert PAGE.count("```python") == 2
