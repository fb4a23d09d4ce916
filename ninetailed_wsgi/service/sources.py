"""What a service reads at startup and follows afterward: published content, drafts and the location database."""

from __future__ import annotations

import logging
import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ninetailed_wsgi.content import ContentSource, content_source, draft_source, items_errors
from ninetailed_wsgi.enrichment.company_database import CompanyDatabase
from ninetailed_wsgi.enrichment.geoip import LocationDatabase
from ninetailed_wsgi.enrichment.source import LocationSource
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings import Settings

_log = logging.getLogger("ninetailed_wsgi")


class Sources(NamedTuple):
    """What may be read before a fork, once for the parent and all its children.

    Attributes:
        content: the published content.
        location: the location database; None: there is none.
        draft: the draft that previews may show as well; None: there is none.
        company_database: a local database of companies; None: there is none.
        albacross_key: the key of Albacross; empty: Albacross is not asked.
    """

    content: ContentSource
    location: LocationSource | None
    draft: ContentSource | None = None
    company_database: CompanyDatabase | None = None
    albacross_key: str = ""

    @classmethod
    def read(cls, settings: Settings) -> Sources:
        """Read all sources for the first time; raise SettingsError for what cannot be used."""
        content, draft = content_source(settings), draft_source(settings)
        content.load()
        if draft:
            try:
                draft.load()
            except SettingsError as error:  # an invalid draft affects only previews
                _log.warning("draft %s", error)
        return cls(
            content,
            LocationDatabase(settings.geoip_database) if settings.geoip_database else None,
            draft,
            CompanyDatabase(settings.company_database) if settings.company_database else None,
            albacross_key(settings.albacross_key_file),
        )

    @staticmethod
    def problems(settings: Settings) -> list[str]:
        """Return what is wrong with content that was passed as a list in code; read nothing."""
        return [f"content: {error}" for error in items_errors(settings)]

    def follow(self) -> None:
        """Start to notice changes in this process."""
        self.content.follow()
        if self.draft:
            self.draft.follow()
        if self.location:
            self.location.follow()
        if self.company_database:
            self.company_database.follow()


def is_readable_by_all(file: Path) -> bool:
    """Return whether every user of the machine may read a file."""
    return bool(file.stat().st_mode & 0o004)


def albacross_key(file: Path | None) -> str:
    """Return the key of Albacross, the only line of a file, empty without a file; raise SettingsError if invalid."""
    if file is None:
        return ""
    try:
        key = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise SettingsError([f"albacross_key_file: {file} cannot be read: {error.strerror}"]) from None
    except ValueError:
        key = ""
    if not re.fullmatch(r"[!-~]{1,500}", key):
        raise SettingsError([f"albacross_key_file: {file} must hold the API key of Albacross, one line of text"])
    if find_spec("httpx") is None:
        raise SettingsError(["albacross_key_file requires an extra: pip install 'ninetailed-wsgi[companies]'"])
    if is_readable_by_all(file):
        _log.warning("albacross_key_file: every user of this machine can read %s: chmod o-r prevents that", file)
    return key
