"""Finds the content files of a path, tells whether they changed, and reads one whatever its form."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from ninetailed_wsgi.content.entries import Content, Faulty, Problem
from ninetailed_wsgi.content.formats.contentful import read_delivery, read_export
from ninetailed_wsgi.content.formats.generic import MEMBERS, read_generic, read_list
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.problems import shown

EVERY = Environment("*", "*")
"""Stands for every environment that has no files of its own."""

Signature = tuple[int, int, int]

# A file may change twice within one tick of its file system's clock: 4 ms on Linux, up to 2 s elsewhere.
_COARSEST_TICK_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Found:
    """A content file as it was found.

    Attributes:
        signature: time of the last change in ns, size and inode; a changed file has another one.
        settled: whether that time is so long ago that no later change can have the same one. So a file differs from
            itself once, some time after a change, and is read again.
    """

    path: Path
    signature: Signature
    settled: bool


def find_files(path: Path, now: float) -> dict[Environment, tuple[Found, ...]]:
    """Find the files of each environment.

    A file is for every environment. In a folder, ``{organizationId}/{environmentSlug}.json`` and the files
    ``{organizationId}/{environmentSlug}/*.json`` are for that environment, and ``*.json`` at the top are for every
    environment, those with files of their own included. Names that begin with a dot are passed over. The names come
    from the folder and are only ever compared with those of a request, so that no request can lead out of it.

    Args:
        path: the file or folder.
        now: seconds since the epoch.

    Returns:
        the files by (organization, environment), sorted by path; ``EVERY`` is there when a file is for every one.

    Raises:
        OSError: the path cannot be read.
    """
    if not path.is_dir():
        return {EVERY: (_found(path, now),)}
    shared = _json_files(path, now)
    own: dict[Environment, list[Found]] = {}
    for organization in _folders(path):
        for file in _json_files(organization, now):
            own.setdefault(Environment(organization.name, file.path.name.removesuffix(".json")), []).append(file)
        for environment in _folders(organization):
            if files := _json_files(environment, now):
                own.setdefault(Environment(organization.name, environment.name), []).extend(files)
    every = {EVERY: tuple(shared)} if shared else {}
    return every | {environment: (*shared, *files) for environment, files in own.items()}


def _found(path: Path, now: float) -> Found:
    status = path.stat()
    settled = now * 1e9 - status.st_mtime_ns > _COARSEST_TICK_NS
    return Found(path, (status.st_mtime_ns, status.st_size, status.st_ino), settled)


def _entries(folder: Path) -> list[Path]:
    return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]


def _json_files(folder: Path, now: float) -> list[Found]:
    files = []
    for path in _entries(folder):
        # A file may be renamed away while we look.
        with suppress(FileNotFoundError):
            if path.name.endswith(".json") and path.is_file():
                files.append(_found(path, now))
    return files


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def read_file(path: Path, locale: str | None) -> Content:
    """Read a content file, recognising its form; what is wrong with it is in the content's problems, never raised.

    Args:
        path: the file.
        locale: the wanted locale of fields that have several; None: the file's default one.
    """
    try:
        return recognised(decoded(path.read_bytes()), str(path), locale)
    except OSError as error:
        return refused(str(path), f"cannot be read: {error.strerror or error}")
    except Faulty as fault:
        return refused(str(path), str(fault))


def decoded(raw: bytes) -> object:
    """Parse a content file; raises `Faulty` when it is no JSON."""
    try:
        return orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise Faulty(f"is not JSON: {error}" if raw.strip() else "is empty, expected JSON") from error


def recognised(document: object, file: str, locale: str | None) -> Content:
    """Read a parsed content file of any form; ``file`` names it in messages, ``locale`` as for `read_file`."""
    if isinstance(document, list):
        if any(isinstance(item, dict) and "sys" in item for item in document):
            return read_delivery({"items": document}, file, locale)
        return read_list(document, file)
    if isinstance(document, dict):
        if "items" in document:
            return read_delivery(document, file, locale)
        if isinstance(document.get("sys"), dict) and "fields" in document:
            return read_delivery({"items": [document]}, file, locale)
        if _is_generic(document):
            return read_generic(document, file)
        if "entries" in document:
            return read_export(document, file, locale)
    members = f" with {', '.join(sorted(map(str, document))[:8])}" if isinstance(document, dict) and document else ""
    return refused(
        file,
        f"is not recognised: found {shown(document)}{members}, expected a Contentful export (entries), "
        "Delivery API answer (items) or the generic form (audiences, experiences)",
    )


def _is_generic(document: Mapping[str, object]) -> bool:
    """Tell the generic form; only ``entries`` is a name that an export has too, and its entries have ``sys``."""
    if any(member in document for member in MEMBERS if member != "entries"):
        return True
    entries = document.get("entries")
    if not isinstance(entries, list) or not entries:
        return False
    return all(isinstance(one, dict) and "nt_experiences" in one for one in entries)


def refused(file: str, message: str) -> Content:
    """Content that is nothing but the reason why it is not served."""
    return Content(problems=[Problem("error", file, "", message)])
