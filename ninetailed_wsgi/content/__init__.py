"""Compiles content into one immutable catalog per environment, and replaces it when the content changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ninetailed_wsgi.content.code import INLINE, CodeContent, read_items
from ninetailed_wsgi.content.combined import CombinedContent
from ninetailed_wsgi.content.compiling import Catalog, ListedAudience, ListedExperience, MergeTag, compile_content
from ninetailed_wsgi.content.entries import STRICT, Content, Problem
from ninetailed_wsgi.content.folder import ContentFolder
from ninetailed_wsgi.content.live import LiveContent
from ninetailed_wsgi.content.report import report
from ninetailed_wsgi.content.source import ContentSource, ContentState, ServedVersion
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.settings.content_origins import Items
from ninetailed_wsgi.settings.contentful import SpaceAddress, Tokens

EMPTY = compile_content(Content())
"""The catalog for an environment without content."""


def draft_source(settings: Settings) -> LiveContent | None:
    """Return the source of ``draft_content``, in which drafts count as published; None if it is not set."""
    if not settings.draft_content:
        return None
    return content_source(replace(settings, content=settings.draft_content), read_only=True, drafts=True)


def content_source(settings: Settings, *, read_only: bool = False, drafts: bool = False) -> LiveContent:
    """Return the source that these settings name, not loaded yet.

    Args:
        settings: name the source.
        read_only: keep no copy of what is read from a space.
        drafts: whether unpublished entries of files and documents count as published; then no copy is kept.

    Raises:
        SettingsError: a required package or token is missing.
    """
    spaces = [origin for origin in settings.content if isinstance(origin, SpaceAddress)]
    others = [origin for origin in settings.content if not isinstance(origin, SpaceAddress)]
    shared = [origin for origin in others if isinstance(origin, str) and "://" in origin]
    parts = [_source(origin, settings, alone=len(shared) < 2, drafts=drafts) for origin in others]
    if spaces:
        parts.append(_contentful(spaces, settings, read_only))
    if len(parts) > 1:
        return CombinedContent(parts, history_events=settings.history_events, history_days=settings.history_days)
    return parts[0] if parts else ContentFolder(None)


def items_errors(settings: Settings) -> tuple[Problem, ...]:
    """Return the errors of the lists that were passed in code, without importing or reading anything."""
    lists = [origin.items for origin in settings.content if isinstance(origin, Items)]
    contents = [read_items(items, INLINE, settings.content_locale) for items in lists]
    catalogs = [compile_content(content) for content in contents]
    return tuple(error for catalog in catalogs for error in (*catalog.errors, *catalog.left_out))


def _source(origin: Path | str | Items, settings: Settings, *, alone: bool, drafts: bool) -> LiveContent:
    """Return the source of one origin; ``alone`` says that no other origin keeps a copy in the data folder."""
    options: dict[str, Any] = {
        "locale": settings.content_locale,
        "history_events": settings.history_events,
        "history_days": settings.history_days,
    }
    if isinstance(origin, Path):
        return ContentFolder(origin, drafts=drafts, **options)
    if isinstance(origin, Items):
        return CodeContent(origin.items, **options)
    if "://" not in origin:
        return CodeContent(origin, **options)
    # Imported here because it loads HTTP and TLS modules, which files do not need.
    from ninetailed_wsgi.content.shared import SharedContent

    # Drafts keep no copy: startup should not fall back to an older version of them.
    return SharedContent(origin, folder=None if drafts else settings.data_dir, alone=alone, drafts=drafts, **options)


def _contentful(spaces: Sequence[SpaceAddress], settings: Settings, read_only: bool) -> LiveContent:
    # Imported here because it loads HTTP and TLS modules.
    from ninetailed_wsgi.content.contentful.content import ContentfulContent

    try:
        text = settings.contentful_token
        if settings.contentful_token_file is not None:
            text = settings.contentful_token_file.read_text()
        tokens = Tokens.parse(text)
    except (OSError, ValueError) as error:  # a UnicodeError's text would reveal the token
        reason = "is not text" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or str(error)
        raise SettingsError([f"contentful_token_file: {settings.contentful_token_file}: {reason}"]) from None
    return ContentfulContent(
        spaces,
        tokens,
        url=settings.contentful_url,
        folder=settings.data_dir,
        poll=settings.contentful_poll,
        read_only=read_only,
        locale=settings.content_locale,
        history_events=settings.history_events,
        history_days=settings.history_days,
    )


__all__ = [
    "EMPTY",
    "STRICT",
    "Catalog",
    "CodeContent",
    "CombinedContent",
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
    "draft_source",
    "items_errors",
    "report",
]
