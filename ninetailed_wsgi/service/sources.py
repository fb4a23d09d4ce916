"""What a service reads at startup and follows afterward: published content, drafts and the location database."""

from __future__ import annotations

import logging
from typing import NamedTuple

from ninetailed_wsgi.content import ContentSource, content_source, draft_source, items_errors
from ninetailed_wsgi.enrichment.geoip import LocationDatabase
from ninetailed_wsgi.enrichment.source import LocationSource
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings import Settings

_log = logging.getLogger("ninetailed_wsgi")


class Sources(NamedTuple):
    """What may be read before a fork, once for all processes that come from it.

    Attributes:
        content: what is published.
        location: the location database; None: there is none.
        draft: what previews may show besides; None: there is none.
    """

    content: ContentSource
    location: LocationSource | None
    draft: ContentSource | None = None

    @classmethod
    def read(cls, settings: Settings) -> Sources:
        """Read all for the first time; SettingsError names what cannot be used."""
        content, draft = content_source(settings), draft_source(settings)
        content.load()
        if draft:
            try:
                draft.load()
            except SettingsError as error:  # only previews miss what is wrong with a draft
                _log.warning("draft %s", error)
        return cls(content, LocationDatabase(settings.geoip_database) if settings.geoip_database else None, draft)

    @staticmethod
    def problems(settings: Settings) -> list[str]:
        """Return what is wrong with content that was passed as a list in code; nothing is read."""
        return [f"content: {error}" for error in items_errors(settings)]

    def follow(self) -> None:
        """Let this process notice changes."""
        self.content.follow()
        if self.draft:
            self.draft.follow()
        if self.location:
            self.location.follow()
