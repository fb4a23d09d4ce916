"""The command init: a first content file, and the lines that mount it, which are run here as they are printed."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.commands.init import CODE, CONTENT, MOUNTS, WSGI, Mount, mounts_of
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.testing import Harness

ROOT = Path(__file__).parent.parent

# A site of each framework as it is before: MOUNT is where `init` says that its lines go, the view has what it says.
SITES = {
    "django": """
        from django.conf import settings
        from pathlib import Path
        BASE_DIR, INSTALLED_APPS, MIDDLEWARE = Path(), [], []
        MOUNT
        from django.http import HttpResponse
        from django.urls import path
        def view(request):
            VIEW
            return HttpResponse(entry)
        urlpatterns = [path("pricing", view)]
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], INSTALLED_APPS=INSTALLED_APPS,
                           MIDDLEWARE=MIDDLEWARE, NINETAILED={**NINETAILED, "time_budget_ms": 20_000})
        from django.core.wsgi import get_wsgi_application
        app = get_wsgi_application()
    """,
    "flask": """
        from flask import Flask, request
        app = Flask(__name__)
        MOUNT
        @app.get("/pricing")
        def view():
            VIEW
            return entry
    """,
    "pyramid": """
        from pyramid.config import Configurator
        from pyramid.response import Response
        def view(request):
            VIEW
            return Response(entry)
        config = Configurator()
        config.add_route("pricing", "/pricing")
        config.add_view(view, route_name="pricing")
        MOUNT
    """,
    "falcon": """
        import falcon
        class Pricing:
            def on_get(self, req, resp):
                VIEW
                resp.text = entry
        app = falcon.App()
        app.add_route("/pricing", Pricing())
        MOUNT
    """,
    "fastapi": """
        from fastapi import FastAPI, Request
        from fastapi.responses import PlainTextResponse
        app = FastAPI()
        @app.get("/pricing", response_class=PlainTextResponse)
        def view(request: Request):
            VIEW
            return entry
        MOUNT
        from a2wsgi import ASGIMiddleware
        app = ASGIMiddleware(app)
    """,
    "cherrypy": """
        import cherrypy
        class Root:
            @cherrypy.expose
            def pricing(self):
                VIEW
                return entry
        MOUNT
        cherrypy.config.update({"environment": "embedded"})  # logs nothing
        app = cherrypy.tree
    """,
    "": """
        def app(environ, start_response):
            VIEW
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [entry.encode()]
        MOUNT
    """,
}
VISIT = """
from tests.mount.browser import Browser
browser = Browser(app)
print(browser.get("/pricing").text, browser.get("/pricing").text)
"""


def site(module: str, mount: str, view: str) -> str:
    """The site with the printed lines in their places."""
    lines = []
    for line in textwrap.dedent(SITES[module]).strip().splitlines():
        word = line.strip()
        part = {"MOUNT": mount, "VIEW": view}.get(word)
        lines.append(line if part is None else textwrap.indent(part, line.partition(word)[0]))
    # Not 100 ms, which a machine that runs other tests beside this one may need for the first page.
    slow = "from ninetailed_wsgi import Ninetailed\nNinetailed.__init__.__kwdefaults__['time_budget_ms'] = 20_000\n"
    return slow + "\n".join(lines) + "\n" + VISIT


Printed = Callable[[Mount, str], tuple[str, str]]


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Printed:
    """What ``init`` prints of a framework, with the content as ``json`` or ``python``: what mounts it, and a view."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ninetailed_wsgi.commands.init.find_spec", lambda name: None)

    def printed(mount: Mount, form: str) -> tuple[str, str]:
        (tmp_path / "requirements.txt").write_text(f"{mount.module}>=1\n")
        assert main(["init", "--python"] if form == "python" else ["init"]) == 0
        blocks = re.findall(r":\n\n((?:    [^\n]*\n|\n)+?)(?=\n\S|\Z)", capsys.readouterr().out)
        mounted, view = (textwrap.dedent(block).strip() for block in blocks)
        return mounted, view

    return printed


FRAMEWORKS = [*MOUNTS, WSGI]


@pytest.mark.parametrize("mount", FRAMEWORKS, ids=lambda mount: mount.name)
def test_content_as_code_is_mounted_by_the_same_lines(printed: Printed, mount: Mount) -> None:
    file, code = printed(mount, "json"), printed(mount, "python")
    assert code[1] == file[1]
    assert code[0] == file[0].replace('BASE_DIR / "content.json"', '"content.json"').replace(
        "content.json", "content:content"
    )


@pytest.mark.parametrize(
    ("mount", "form"),
    [*zip(FRAMEWORKS, itertools.cycle(["json", "python"])), (WSGI, "python")],
    ids=lambda each: getattr(each, "name", each),
)
def test_the_lines_that_are_printed_personalize_a_page_with_the_content_that_is_written(
    tmp_path: Path, printed: Printed, mount: Mount, form: str
) -> None:
    mounted, view = printed(mount, form)
    code = site(mount.module, mounted, view)
    (tmp_path / "site_of_test.py").write_text(code)
    given = {name: value for name, value in os.environ.items() if not name.startswith(("NINETAILED_", "DJANGO_"))}
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "tests")])
    run = subprocess.run(
        [sys.executable, "site_of_test.py"],
        cwd=tmp_path,
        env={**given, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout == "banner banner-offer\n", code + run.stderr


@pytest.mark.parametrize(
    ("file", "text", "module"),
    [
        ("manage.py", "    from django.core.management import execute_from_command_line\n", "django"),
        ("shop/app.py", "from flask import Flask\n", "flask"),
        ("pyproject.toml", 'dependencies = ["pyramid>=2"]\n', "pyramid"),
        ("requirements-dev.txt", "Flask==3.1\nflask-login\n", "flask"),
        ("setup.cfg", "install_requires =\n    cherrypy\n", "cherrypy"),
    ],
)
def test_the_framework_is_that_which_the_files_name(tmp_path: Path, file: str, text: str, module: str) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / file).write_text(text)
    assert [mount.module for mount in mounts_of(tmp_path)] == [module]


@pytest.mark.parametrize("text", ["# flask is not used\nimport flask_login\n", "from myflask import x\n", "\0\xff"])
def test_what_only_looks_like_a_framework_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "app.py").write_bytes(text.encode("latin-1"))
    assert len(list(mounts_of(tmp_path))) == len(MOUNTS) - 1  # all are installed here, and Falcon is everywhere


def test_a_file_that_is_there_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "content.json").write_text("mine")
    assert main(["init", str(tmp_path)]) == 0
    assert "exists already and was not changed" in capsys.readouterr().out
    assert (tmp_path / "content.json").read_text() == "mine"


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / "file").touch()
    assert main(["init", str(tmp_path / name)]) == 1
    assert f"{tmp_path / name} is not a folder" in capsys.readouterr().err


def test_check_accepts_what_init_writes_without_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", str(tmp_path)])
    main(["check", "--content", str(tmp_path / "content.json"), "--data-dir", str(tmp_path / "data")])
    checked = capsys.readouterr().out.partition("ok    content")[2]
    assert "distribution 0 % baseline / 100 % variant 1" in checked
    assert not re.search(r"error|ignored|warn", checked)


def test_the_code_says_what_the_json_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {}
    exec(compile(CODE, "content.py", "exec"), names)
    said, document = names["content"], json.loads(CONTENT)
    (from_code,), (from_json,) = said, document["experiences"]
    for member in ("id", "name", "type"):
        assert from_code[member] == from_json[member]
    assert from_code["config"]["distribution"] == from_json["config"]["distribution"]
    for content in (said, document):
        with Harness(content) as harness:
            visitor = harness.visitor().views("/pricing/business").views("/pricing")
            assert (visitor.variant("banner"), visitor.audiences) == ("banner-offer", ["interested"])
