"""Content becomes one immutable compiled catalogue per environment, which follows the content as it changes."""

from __future__ import annotations

from ninetailed_wsgi.content.compiling import Catalog, ListedAudience, ListedExperience, MergeTag, compile_content
from ninetailed_wsgi.content.entries import Content, Problem
from ninetailed_wsgi.content.folder import ContentSource
from ninetailed_wsgi.content.report import report
from ninetailed_wsgi.settings import Settings

EMPTY = compile_content(Content())
"""The catalogue of no content."""


def content_source(settings: Settings) -> ContentSource:
    """The source that these settings name, not loaded yet; SettingsError when a package for it is missing."""
    if not isinstance(settings.content, str):
        return ContentSource(
            settings.content,
            locale=settings.content_locale,
            history_events=settings.history_events,
            history_days=settings.history_days,
        )
    # Here, as it imports what speaks HTTP and TLS, which files do not need.
    from ninetailed_wsgi.content.shared import SharedContent

    return SharedContent(
        settings.content,
        folder=settings.data_dir,
        locale=settings.content_locale,
        history_events=settings.history_events,
        history_days=settings.history_days,
    )


__all__ = [
    "EMPTY",
    "Catalog",
    "ContentSource",
    "ListedAudience",
    "ListedExperience",
    "MergeTag",
    "Problem",
    "content_source",
    "report",
]
