"""Each recipe of the documentation runs as it stands there: a visitor views prices twice and gets another banner."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
RECIPES = re.findall(r"<!-- recipe: (\w+) (\S+) -->\n```\w+\n(.*?)```\n", TEXT, re.DOTALL)

VISIT = """
import json
from tests.mount.browser import Browser
from ninetailed_wsgi import Ninetailed
# Not 100 ms, which a machine that runs other tests beside this one may need for the first page.
Ninetailed.__init__.__kwdefaults__["time_budget_ms"] = 20_000
{load}
browser = Browser(app)
print(json.dumps([browser.get("/pricing").text.strip(), browser.get("/pricing").text.strip(), [*browser.cookies]]))
"""
LOAD = {
    "readme": "from app import app",
    "flask": "from app import app",
    "falcon": "from app import app",
    "fastapi": "from a2wsgi import ASGIMiddleware\nfrom app import app as served\napp = ASGIMiddleware(served)",
    "django": "import os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'\n"
    "from django.core.wsgi import get_wsgi_application\napp = get_wsgi_application()",
    "pyramid": "from paste.deploy import loadapp\napp = loadapp('config:site.ini', relative_to='.')",
}

# What a site of each kind has already.
DJANGO_SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = "tests"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = []
MIDDLEWARE = []
ROOT_URLCONF = "shop.urls"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [BASE_DIR / "shop/templates"]}]
"""
DJANGO_URLS = """
from django.urls import path
from shop.views import pricing
urlpatterns = [path("pricing", pricing)]
"""
PYRAMID_SITE = """
from pyramid.config import Configurator
from pyramid.response import Response
from ninetailed_wsgi import visitor_of

def pricing(request):
    visitor = visitor_of(request)
    visitor.page()
    return Response(f"Hello {visitor.merge_tag('traits.firstname', 'friend')}: {visitor.variant('banner')}")

def main(global_config, **settings):
    with Configurator() as config:
        config.add_route("pricing", "/pricing")
        config.add_view(pricing, route_name="pricing")
        return config.make_wsgi_app()
"""


def prepare(folder: Path, recipe: str) -> None:
    """The site around a recipe, and the recipe's files."""
    shutil.copy(ROOT / "fixtures" / "spaces" / "shop.json", folder / "content.json")
    if recipe == "django":
        (folder / "shop" / "templates").mkdir(parents=True)
        (folder / "shop" / "settings.py").write_text(DJANGO_SETTINGS)
        (folder / "shop" / "urls.py").write_text(DJANGO_URLS)
    if recipe == "pyramid":
        (folder / "shop.py").write_text(PYRAMID_SITE)
        declare(folder, "shop", "[paste.app_factory]\nmain = shop:main\n")
        # As the installed package has it, also where the package is not installed.
        config = configparser.ConfigParser()
        config.read(ROOT / "setup.cfg")
        filters = config["options.entry_points"]["paste.filter_app_factory"].strip()
        declare(folder, "ninetailed-wsgi", f"[paste.filter_app_factory]\n{filters}\n")
    if any(name == recipe and file == "content.json" for name, file, _ in RECIPES):
        (folder / "content.json").unlink()
    for name, file, text in RECIPES:
        if name == recipe:
            with (folder / file).open("a", encoding="utf-8") as written:
                written.write(text)


def declare(folder: Path, distribution: str, entry_points: str) -> None:
    metadata = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry_points)


def test_there_is_a_recipe_for_each_framework() -> None:
    assert {name for name, _, _ in RECIPES} == set(LOAD)
    assert TEXT.count("<!-- recipe:") == len(RECIPES)


@pytest.mark.parametrize("recipe", LOAD)
def test_the_recipe_personalizes_a_page(tmp_path: Path, recipe: str) -> None:
    prepare(tmp_path, recipe)
    given = {name: value for name, value in os.environ.items() if not name.startswith(("NINETAILED_", "DJANGO_"))}
    run = subprocess.run(
        [sys.executable, "-c", VISIT.format(load=LOAD[recipe])],
        cwd=tmp_path,
        env={**given, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    greeting = "" if recipe == "readme" else "Hello friend: "
    assert json.loads(run.stdout) == [f"{greeting}banner", f"{greeting}banner-offer", ["ntaid"]]


def test_the_test_of_the_readme_passes(tmp_path: Path) -> None:
    prepare(tmp_path, "readme")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "ninetailed_wsgi.testing.plugin", "test_offer.py"]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "1 passed" in run.stdout, run.stdout + run.stderr
