"""Content files become one immutable compiled catalogue per environment, which follows the files as they change."""

from __future__ import annotations

from ninetailed_wsgi.catalog.compiling import Catalog, ListedAudience, ListedExperience, MergeTag, compile_content
from ninetailed_wsgi.catalog.entries import Content, Problem
from ninetailed_wsgi.catalog.report import report
from ninetailed_wsgi.catalog.source import ContentSource

EMPTY = compile_content(Content())
"""The catalogue of no content."""

__all__ = [
    "EMPTY",
    "Catalog",
    "ContentSource",
    "ListedAudience",
    "ListedExperience",
    "MergeTag",
    "Problem",
    "report",
]
