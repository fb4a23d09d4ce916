"""Settings of the documentation site, which `make docs` builds. Each build generates the reference from the code."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import diagrams
import generated

from ninetailed_wsgi import __version__

project = "ninetailed-wsgi"
version = release = __version__
author = copyright = "the authors of ninetailed-wsgi, Apache-2.0"
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
templates_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
# Without this, a default such as os.environ shows the values of the machine that builds the site.
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"ninetailed-wsgi {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

# Shell sessions and plain outputs have no language of their own.
highlight_language = "text"

# Pages at the top of the repository, and the pages of the site that include them.
PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}
_MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def _complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Put generated text in the place of its mark, and drawn diagrams beside their Mermaid text."""
    source[0] = _MARK.sub(lambda match: generated.PARTS[match[1]](), source[0])
    source[0] = diagrams.drawn(source[0])


def _complete_included(app: Sphinx, path: Path, page: str, source: list[str]) -> None:
    """The same for the pages at the top of the repository, whose links are relative to it."""
    text = re.sub(r"\]\(docs/", "](", diagrams.drawn(source[0]))
    source[0] = re.sub(r"\]\((\w+\.md)\)", lambda match: f"]({PAGES.get(match[1], match[1])})", text)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _complete)
    app.connect("include-read", _complete_included)
