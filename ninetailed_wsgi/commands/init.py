"""The command ``init``: makes a first content file and says how to mount it in the framework that it finds."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ninetailed_wsgi.commands.command import Command, CommandError
from ninetailed_wsgi.operations.terminal import in_line

CONTENT = """\
{
  "audiences": [{
    "id": "interested", "name": "Viewed the prices at least twice",
    "rules": {"any": [{"all": [{
      "type": "page", "operator": "greaterThanInclusive", "count": "2",
      "conditions": [{"key": {"key": "context_page_path"}, "operator": "contains", "value": "/pricing"}]
    }]}]}
  }],
  "experiences": [{
    "id": "pricing-offer", "name": "An offer for interested visitors", "type": "nt_personalization",
    "description": "distribution: shares of banner and banner-offer; [0.5, 0.5] makes it an A/B test",
    "audience": {"id": "interested"}, "config": {"traffic": 1, "distribution": [0, 1], "components": [
      {"type": "EntryReplacement", "baseline": {"id": "banner"}, "variants": [{"id": "banner-offer"}]}]}}]
}
"""
"""What `init` writes, and the README and the tutorial show: an audience, and an experience for it."""

CODE = '''\
"""What visitors see: audiences, and experiences that replace entries for them."""

from ninetailed_wsgi.authoring import audience, experience, viewed

# Visitors who viewed a page with /pricing in its path at least twice.
interested = audience(
    viewed("/pricing", at_least=2, operator="contains"), id="interested", name="Viewed the prices at least twice"
)

content = [
    # They see banner-offer in place of banner. With distribution=[0.5, 0.5], half of them do: an A/B test.
    experience(
        "banner", ["banner-offer"], audience=interested, id="pricing-offer", name="An offer for interested visitors"
    ),
]
'''
"""The same as code, for ``init --python``."""


class Mount(NamedTuple):
    """How content is mounted in the sites of a framework.

    Attributes:
        module: the package by which it is found.
        name: as people write it.
        place: where the lines go.
        lines: what mounts it; ``{content}`` is the content as the site's code names it.
        request: how a view names its request.
    """

    module: str
    name: str
    place: str
    lines: str
    request: str = "request"


_IMPORT = "from ninetailed_wsgi import Ninetailed\n"
_OPTIONS = 'content={content}, data_dir="ninetailed-data"'
MOUNTS = (
    Mount(
        "django",
        "Django",
        "at the end of settings.py",
        'INSTALLED_APPS += ["ninetailed_wsgi.django"]\n'
        'MIDDLEWARE += ["ninetailed_wsgi.django.Middleware"]\n'
        'NINETAILED = {{"content": {content}, "data_dir": BASE_DIR / "ninetailed-data"}}',
    ),
    Mount("flask", "Flask", "after the line that makes the app", f"{_IMPORT}\nNinetailed(app, {_OPTIONS})"),
    Mount(
        "pyramid",
        "Pyramid",
        "where the application is made",
        f"{_IMPORT}\napp = Ninetailed(config.make_wsgi_app(), {_OPTIONS})",
    ),
    Mount("falcon", "Falcon", "after the routes", f"{_IMPORT}\napp = Ninetailed(app, {_OPTIONS})", "req"),
    Mount(
        "fastapi",
        "FastAPI",
        "after the routes (it needs the package a2wsgi)",
        f"from a2wsgi import ASGIMiddleware, WSGIMiddleware\n{_IMPORT}\n"
        f"app = WSGIMiddleware(Ninetailed(ASGIMiddleware(app), {_OPTIONS}))",
    ),
    Mount(
        "cherrypy",
        "CherryPy",
        "in place of cherrypy.tree.mount(Root())",
        f"{_IMPORT}\nsite = cherrypy.tree.mount(Root())\n"
        'site.wsgiapp.pipeline.append(("ninetailed", Ninetailed))\n'
        'site.wsgiapp.config["ninetailed"] = {{"content": {content}, "data_dir": "ninetailed-data"}}',
        "cherrypy.request",
    ),
)
"""The frameworks that `init` knows."""

WSGI = Mount("", "a WSGI site", "where the app is made", f"{_IMPORT}\napp = Ninetailed(app, {_OPTIONS})", "environ")
"""For sites in which none of them is found."""

_FILES = ("*.py", "*/*.py", "*.toml", "*.cfg", "*.ini", "requirements*.txt")
_MOST_FILES, _MOST_BYTES = 300, 200_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where to write."""
    parser.add_argument("--python", action="store_true", help="write content.py, the same as code")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="FOLDER", help="of the site [.]")


def run(arguments: argparse.Namespace) -> None:
    """Write the content, unless it is there, and print what mounts it."""
    folder: Path = arguments.folder
    if not folder.is_dir():
        raise CommandError(f"{folder.absolute()} is not a folder: pass the folder of your site")
    file = folder / ("content.py" if arguments.python else "content.json")
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(CODE if arguments.python else CONTENT)
    except FileExistsError:
        print(in_line(f"{file} exists already and was not changed"))
    else:
        print(
            in_line(f"wrote {file}: from the second view of /pricing on, visitors see banner-offer instead of banner")
        )
    content = "content:content" if arguments.python else "content.json"
    for mount in mounts_of(folder):
        literal = f'"{content}"'
        if mount.module == "django" and not arguments.python:
            literal = f"BASE_DIR / {literal}"
        print(f"\nMount it in {mount.name}, {mount.place}:\n")
        print(_indented(mount.lines.format(content=literal)))
        print("\nIn a view:\n")
        print(_indented(_view(mount.request)))
    checked = content if arguments.python else str(file)
    print(f"\nCheck it: {in_line(f'ninetailed-wsgi check --content {checked}')}")
    print("Keep ninetailed-data, where visitors are stored, out of version control.")


def mounts_of(folder: Path) -> Iterable[Mount]:
    """Return the frameworks that the files of a folder name; without any, those installed; without any, plain WSGI."""
    texts = list(_texts(folder))
    mounts = [mount for mount in MOUNTS if any(_names(mount.module, name, text) for name, text in texts)]
    # Falcon is always installed, because the API uses it.
    return mounts or [mount for mount in MOUNTS if mount.module != "falcon" and find_spec(mount.module)] or [WSGI]


def _texts(folder: Path) -> Iterable[tuple[str, str]]:
    """Yield the names and beginnings of files that tell what a site is made of."""
    files = [
        file for pattern in _FILES for file in sorted(folder.glob(pattern)) if not file.parent.name.startswith(".")
    ]
    for file in files[:_MOST_FILES]:
        try:
            with file.open(encoding="utf-8", errors="replace") as opened:
                yield file.name, opened.read(_MOST_BYTES)
        except OSError:
            continue


def _names(module: str, file: str, text: str) -> bool:
    if file.endswith(".py"):
        return re.search(rf"^\s*(?:from|import)\s+{module}\b", text, re.M) is not None
    return re.search(rf"(?<![\w-]){module}(?![\w-])", text, re.I) is not None


def _view(request: str) -> str:
    return (
        "from ninetailed_wsgi import visitor_of\n\n"
        f"visitor_of({request}).page()\n"
        f'entry = visitor_of({request}).variant("banner")'
    )


def _indented(lines: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in lines.splitlines())


COMMAND = Command(run, add_arguments=add_arguments)
