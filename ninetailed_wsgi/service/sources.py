"""What a service reads at startup and follows afterward: published content and the location database."""

from __future__ import annotations

from typing import NamedTuple

from ninetailed_wsgi.content import ContentSource, content_source, items_errors
from ninetailed_wsgi.enrichment.geoip import LocationDatabase
from ninetailed_wsgi.enrichment.source import LocationSource
from ninetailed_wsgi.settings import Settings


class Sources(NamedTuple):
    """Content and location database, which may be read before a fork, once for all processes that come from it."""

    content: ContentSource
    location: LocationSource | None

    @classmethod
    def read(cls, settings: Settings) -> Sources:
        """Read both for the first time; SettingsError names what cannot be used."""
        content = content_source(settings)
        content.load()
        return cls(content, LocationDatabase(settings.geoip_database) if settings.geoip_database else None)

    @staticmethod
    def problems(settings: Settings) -> list[str]:
        """Return what is wrong with content that was passed as a list in code; nothing is read."""
        return [f"content: {error}" for error in items_errors(settings)]

    def follow(self) -> None:
        """Let this process notice changes of both."""
        self.content.follow()
        if self.location:
            self.location.follow()
