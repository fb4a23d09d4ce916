"""Finds the content files of a path, detects changes, and reads a file in any format."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ninetailed_wsgi.content.entries import Content, Faulty, refusal
from ninetailed_wsgi.content.formats.recognise import parse, read_document
from ninetailed_wsgi.core.names import Environment

EVERY = Environment("*", "*")
"""Stands for all environments that have no files of their own."""

Signature = tuple[int, int, int]

# A file may change twice within one tick of its file system's clock: 4 ms on Linux, up to 2 s elsewhere.
_COARSEST_TICK_NS = 2_000_000_000


class ContentFile(NamedTuple):
    """A content file as it was found.

    Attributes:
        signature: time of the last change in ns, size and inode; a changed file has a different signature.
        settled: whether that time is so long ago that no later change can have the same time. When this becomes true,
            some time after a change, the file counts as different once more and is read again.
    """

    path: Path
    signature: Signature
    settled: bool


def find_files(path: Path, now: float) -> dict[Environment, tuple[ContentFile, ...]]:
    """Find the files of each environment.

    A single file is for every environment. In a folder, ``{organizationId}/{environmentSlug}.json`` and the files
    ``{organizationId}/{environmentSlug}/*.json`` are for that environment. Files ``*.json`` at the top are for every
    environment, including those with files of their own. Names that begin with a dot are ignored. Names from a request
    are only compared with the names in the folder, so no request can reach a file outside it.

    Args:
        path: the file or folder.
        now: seconds since the epoch.

    Returns:
        the files by (organization, environment), sorted by path; ``EVERY`` is a key if a file is for all environments.

    Raises:
        OSError: the path cannot be read.
    """
    if not path.is_dir():
        return {EVERY: (_content_file(path, now),)}
    shared = _json_files(path, now)
    own: dict[Environment, list[ContentFile]] = {}
    for organization in _folders(path):
        for file in _json_files(organization, now):
            own.setdefault(Environment(organization.name, file.path.name.removesuffix(".json")), []).append(file)
        for environment in _folders(organization):
            if files := _json_files(environment, now):
                own.setdefault(Environment(organization.name, environment.name), []).extend(files)
    every = {EVERY: tuple(shared)} if shared else {}
    return every | {environment: (*shared, *files) for environment, files in own.items()}


def _content_file(path: Path, now: float) -> ContentFile:
    status = path.stat()
    settled = now * 1e9 - status.st_mtime_ns > _COARSEST_TICK_NS
    return ContentFile(path, (status.st_mtime_ns, status.st_size, status.st_ino), settled)


def _entries(folder: Path) -> list[Path]:
    return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]


def _json_files(folder: Path, now: float) -> list[ContentFile]:
    files = []
    for path in _entries(folder):
        # A file may be renamed or removed at this moment.
        with suppress(FileNotFoundError):
            if path.name.endswith(".json") and path.is_file():
                files.append(_content_file(path, now))
    return files


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def read_file(path: Path, locale: str | None, *, drafts: bool = False) -> Content:
    """Read a content file and detect its format; errors are in the content's problems and never raised.

    Args:
        path: the file.
        locale: the locale to read if fields have several; None: the file's default locale.
        drafts: whether unpublished entries count as published.
    """
    try:
        return read_document(parse(path.read_bytes()), str(path), locale, drafts=drafts)
    except OSError as error:
        return refusal(str(path), f"cannot be read: {error.strerror or error}")
    except Faulty as fault:
        return refusal(str(path), str(fault))
