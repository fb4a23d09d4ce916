"""What a command on stored profiles works with: the service, its store, and the environment that was typed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import cast

from ninetailed_wsgi.commands.command import read_settings
from ninetailed_wsgi.commands.console import Console, Progress
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.disk.folder import examine
from ninetailed_wsgi.store.protocol import Document, KeptStore


@dataclass(frozen=True, slots=True)
class Work:
    """An opened service with its store, and where to print.

    Attributes:
        settings: the options that the command uses; all others have their defaults.
    """

    settings: Settings
    service: ExperienceService
    store: KeptStore
    console: Console

    def environment(self, where: Environment) -> Environment:
        """Return the environment that was typed; UnknownEnvironment when it is not served here."""
        return self.service.environment(*where)


def open_work(arguments: argparse.Namespace, uses: Collection[str], *, new_folder: bool = False) -> Work:
    """Open the service that the command's options describe; reads ORG/ENV in ``arguments``, where it was typed.

    Args:
        uses: keys of `settings.USES`; content is read only with ``decisions``.
        new_folder: whether the command may create the data folder.

    Raises:
        SettingsError: ORG/ENV or an option is bad, or nothing is stored.
    """
    if (where := getattr(arguments, "where", None)) is not None:
        arguments.where = _parse_environment(where)
    settings = read_settings(arguments, uses)
    if not new_folder:
        require_stored(settings)
    service = ExperienceService.from_settings(settings)
    store = cast("KeptStore", service.store)  # `from_settings` opens no other
    return Work(settings, service, store, Console(sys.stdout, sys.stderr))


def require_stored(settings: Settings) -> None:
    """Raise SettingsError where no profiles are stored, so that a wrong --data-dir does not create a folder."""
    folder = settings.data_dir
    if settings.store is None and (not folder.exists() or examine(folder) is None):
        raise SettingsError([f"data_dir: no profiles are stored in {folder.absolute()} (--data-dir)"])


def add_environment(parser: argparse.ArgumentParser, **options: str) -> None:
    """Add the argument ORG/ENV to a command's parser."""
    help = options.pop("help", "organization and environment")
    parser.add_argument("where", metavar="ORG/ENV", help=help, **options)  # type: ignore[arg-type]


def documents(store: KeptStore, where: Environment | None, progress: Progress) -> Iterator[tuple[Key, Document]]:
    """Yield the stored documents, of one environment where it is named; the progress counts those of all."""
    total = max(store.contents.count(), 1)
    for count, (key, document) in enumerate(store.documents(), start=1):
        progress.at(count, count / total)
        if where is None or key.where == where:
            yield key, document


def _parse_environment(text: str) -> Environment:
    try:
        return Environment.parse(text)
    except ValueError:
        expected = "expected ORGANIZATION/ENVIRONMENT, such as acme/main"
        raise SettingsError([f"ORG/ENV: found {text!r}, {expected}"]) from None
