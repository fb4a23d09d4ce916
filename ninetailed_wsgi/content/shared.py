"""Follows one document that all servers read, on a web server or in Redis.

The document is replaced as a whole or not at all. Its last valid version is kept in the data folder, as a fallback if
the document cannot be fetched at startup.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import orjson

from ninetailed_wsgi.content.entries import Content, Faulty, Problem, refusal
from ninetailed_wsgi.content.files import EVERY
from ninetailed_wsgi.content.formats.recognise import parse, read_document
from ninetailed_wsgi.content.live import LiveContent
from ninetailed_wsgi.content.remote import Remote, opened
from ninetailed_wsgi.content.web import Unfetched
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.problems import excerpt
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.files import replacement
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.settings.masking import masked

COPY = ".shared-content"
"""The file in the data folder with the last valid version: a line that describes it, then the document.

Its name begins with a dot, so that a folder with only this file can still become a store.
"""

_log = logging.getLogger("ninetailed_wsgi.content")


class _OriginVersion(NamedTuple):
    """The version that the origin returned last, whether it is served or not."""

    digest: str
    validator: str | None
    changed: float | None


@dataclass(slots=True)
class _Connection:
    """How one process reaches the origin, and what it saw there."""

    remote: Remote
    version: _OriginVersion | None = None


class SharedContent(LiveContent):
    """The catalogs of a document that all servers share, by environment.

    Args:
        address: as `settings` accepts it: ``https://...`` or ``redis://...?key=NAME``.
        folder: the data folder, for a copy of the last valid version; None: no copy is kept.
        alone: whether this is the only document with a copy there.
        drafts: whether unpublished entries count as published.

    The other arguments and the attributes are those of `LiveContent`.

    Raises:
        SettingsError: the address needs a package that is not installed.
    """

    def __init__(
        self,
        address: str,
        *,
        folder: Path | None = None,
        alone: bool = True,
        drafts: bool = False,
        locale: str | None = None,
        history_events: int = 500,
        history_days: int = 365,
        check_every: float = 1.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            masked(address),
            locale=locale,
            history_events=history_events,
            history_days=history_days,
            check_every=check_every,
            wall_clock=wall_clock,
        )
        self._address = address
        self._drafts = drafts
        self._copy = None if folder is None else folder / (COPY if alone else f"{COPY}-{self._of()[:8]}")
        self._unkept: bytes | None = None
        self._is_unwritable = False
        self._broken: tuple[Problem, ...] = ()
        self._connection = PerProcess(lambda: _Connection(opened(address)))
        self._connection()

    def load(self) -> None:
        """Fetch the content for the first time; if that fails, serve the copy in the data folder.

        Raises:
            SettingsError: there is no copy, and the document cannot be fetched, has an unknown format or has errors.
        """
        with self._lock():
            if not (problems := self._fetch()):
                return
            self._troubles = problems
            if (copy := self._copy_of_origin()) and not self._take(copy.document):
                day = datetime.fromtimestamp(copy.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
                for problem in problems:
                    _log.warning("%s; the copy of %s is served", problem, day)
                return
        raise SettingsError([f"content: {problem}" for problem in problems])

    def _look(self) -> None:
        problems = self._fetch()
        if self._troubles and not problems:
            _log.info("%s: can be served again", self.name)
        self._report(problems)
        self._keep()

    def origin(self) -> str:
        """Describe the version that the origin returns now, for ``ninetailed-wsgi check``."""
        if (version := self._connection().version) is None:
            return "not seen"
        parts = [f"document {version.digest[:16]}"]
        parts += [version.validator] if version.validator else []
        parts += [f"{_age(self._wall_clock() - version.changed)} old"] if version.changed is not None else []
        return ", ".join(parts)

    def _fetch(self) -> tuple[Problem, ...]:
        """Fetch and serve new content; return its errors, on every call until they are fixed."""
        connection = self._connection()
        version = connection.version
        try:
            fetched = connection.remote.fetch(version.validator if version else None)
        except Unfetched as error:
            return (Problem("error", self.name, "", str(error)),)
        self.seen_at = self._wall_clock()
        if fetched is not None:
            digest = hashlib.sha256(fetched.document).hexdigest()
            if version is None or digest != version.digest:
                self._broken = self._take(fetched.document)
                self._unkept = None if self._broken or self._copy is None else fetched.document
            connection.version = _OriginVersion(digest, fetched.validator, fetched.changed)
        return self._broken

    def _take(self, document: bytes) -> tuple[Problem, ...]:
        """Serve a document, or return the errors that prevent this."""
        catalogs = {one: self._compiled(content) for one, content in self._contents(document).items()}
        self._latest = catalogs
        errors = tuple(dict.fromkeys(error for catalog in catalogs.values() for error in catalog.errors))
        if not errors:
            self._serve_only(catalogs)
        return errors

    def _contents(self, raw: bytes) -> dict[Environment, Content]:
        try:
            document = parse(raw)
        except Faulty as fault:
            return {EVERY: refusal(self.name, str(fault))}
        if not isinstance(document, dict) or "environments" not in document:
            return {EVERY: read_document(document, self.name, self._locale, drafts=self._drafts)}
        environments = document["environments"]
        if not isinstance(environments, dict) or not environments:
            expected = "expected an object with the content of each organization/environment"
            return {EVERY: refusal(self.name, f"environments: found {excerpt(environments)}, {expected}")}
        return self._by_environment(environments)

    def _by_environment(self, environments: Mapping[str, object]) -> dict[Environment, Content]:
        read: dict[Environment, Content] = {}
        for name, document in environments.items():
            try:
                environment = Environment.parse(name)
            except ValueError:
                message = f"environments: found {excerpt(name)}, expected organization/environment, or */* for all"
                return {EVERY: refusal(self.name, message)}
            read[environment] = read_document(document, f"{self.name}: {name}", self._locale, drafts=self._drafts)
        every = read.get(EVERY, Content())
        for environment, content in read.items():
            if environment != EVERY:
                content.add(every)
        return read

    def _keep(self) -> None:
        """Write the copy if there is a new valid version; log only once if the folder is not writable."""
        document, file = self._unkept, self._copy
        if document is None or file is None:
            return
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(file, _Copy(self._of(), self._wall_clock(), document))
        except OSError as error:
            if not self._is_unwritable:
                _log.warning("%s: no copy of the shared content can be kept: %s", file, error.strerror)
            self._is_unwritable = True
        else:
            self._unkept, self._is_unwritable = None, False

    def _copy_of_origin(self) -> _Copy | None:
        copy = None if self._copy is None else _read(self._copy)
        return copy if copy and copy.of == self._of() else None

    def _of(self) -> str:
        """Return a digest of the address without its login, which may change."""
        scheme, _, rest = self._address.partition("://")
        host, slash, path = rest.partition("/")
        return hashlib.sha256(f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".encode()).hexdigest()


class _Copy(NamedTuple):
    """A valid version: its address, as `SharedContent._of` returns it, when it was stored, and the document."""

    of: str
    at: float
    document: bytes


def _write(file: Path, copy: _Copy) -> None:
    header = {"of": copy.of, "at": copy.at, "sha256": hashlib.sha256(copy.document).hexdigest()}
    with replacement(file, durable=True) as output:
        output.write(orjson.dumps(header) + b"\n" + copy.document)


def _read(file: Path) -> _Copy | None:
    """Return the copy; None if it is missing or damaged."""
    try:
        first, _, document = file.read_bytes().partition(b"\n")
        header = orjson.loads(first)
        if header["sha256"] == hashlib.sha256(document).hexdigest():
            return _Copy(str(header["of"]), float(header["at"]), document)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _age(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0, seconds):.0f} seconds"
