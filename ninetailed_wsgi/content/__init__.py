"""Content becomes one immutable compiled catalog per environment, replaced when the content changes."""

from __future__ import annotations

from ninetailed_wsgi.content.compiling import Catalog, ListedAudience, ListedExperience, MergeTag, compile_content
from ninetailed_wsgi.content.entries import Content, Problem
from ninetailed_wsgi.content.folder import ContentFolder
from ninetailed_wsgi.content.live import LiveContent
from ninetailed_wsgi.content.report import report
from ninetailed_wsgi.content.source import ContentSource, ContentState, ServedVersion
from ninetailed_wsgi.settings import Settings

EMPTY = compile_content(Content())
"""The catalog of no content."""


def content_source(settings: Settings) -> LiveContent:
    """Return the source that these settings name, not loaded yet; SettingsError when a package for it is missing."""
    if not isinstance(settings.content, str):
        return ContentFolder(
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
    "ContentFolder",
    "ContentSource",
    "ContentState",
    "ListedAudience",
    "ListedExperience",
    "LiveContent",
    "MergeTag",
    "Problem",
    "ServedVersion",
    "content_source",
    "report",
]
