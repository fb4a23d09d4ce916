"""Follows content files: a file or a folder, compiled for each environment.

Served content is replaced as a whole or not at all: if a changed file has an error, it is reported once, and the
previous catalog of its environments stays live.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ninetailed_wsgi.content.compiling import Catalog
from ninetailed_wsgi.content.entries import Content, Problem
from ninetailed_wsgi.content.files import ContentFile, find_files, read_file
from ninetailed_wsgi.content.live import LiveContent, is_same
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import SettingsError

_log = logging.getLogger("ninetailed_wsgi.content")
_Files = Mapping[Environment, tuple[ContentFile, ...]]


class ContentFolder(LiveContent):
    """The catalogs of a content file or folder, by environment (spec section 7).

    Args:
        path: a file or a folder, laid out as `find_files` describes; None: no content, every catalog is empty.
        drafts: whether unpublished entries count as published.

    The other arguments and the attributes are those of `LiveContent`; ``wall_clock`` must match the files' times.
    """

    def __init__(
        self,
        path: str | Path | None,
        *,
        drafts: bool = False,
        locale: str | None = None,
        history_events: int = 500,
        history_days: int = 365,
        check_every: float = 1.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._drafts = drafts
        self._path = None if path is None else Path(path)
        super().__init__(
            "" if self._path is None else str(self._path.absolute()),
            locale=locale,
            history_events=history_events,
            history_days=history_days,
            check_every=check_every,
            wall_clock=wall_clock,
        )
        self._files: dict[Environment, tuple[ContentFile, ...]] = {}
        self._unsettled: dict[Environment, tuple[ContentFile, ...]] = {}

    def load(self) -> None:
        """Read everything for the first time.

        Raises:
            SettingsError: the path or a file is unreadable, is not JSON or has an unknown format, there is no file, or
                an entry has an error; one line for each. `catalogs` and `problems` still return what could be read.
        """
        if self._path is None:
            return
        with self._lock():
            self._load(self._path)
        if errors := [str(problem) for problem in self.problems() if problem.severity == "error"]:
            raise SettingsError([f"content: {error}" for error in errors])

    def follow(self) -> None:
        """Follow changes in the background from now on, in this process and in those forked from it."""
        if self._path is not None:
            super().follow()

    def _load(self, path: Path) -> None:
        try:
            files = find_files(path, self._wall_clock())
        except OSError as error:
            self._troubles = (_unreadable(path, error),)
            return
        self.seen_at = self._wall_clock()
        if not files:
            expected = "expected {organizationId}/{environmentSlug}.json or *.json in this folder"
            self._troubles = (Problem("error", str(path), "", f"contains no content file: {expected}"),)
        self._latest = self._read(files)
        self._serve(self._latest)
        self._files = dict(files)

    def _read(self, environments: _Files) -> dict[Environment, Catalog]:
        """Compile each environment's files; read a file that several environments share only once."""
        contents: dict[Path, Content] = {}
        catalogs = {}
        for environment, files in environments.items():
            content = Content()
            for file in files:
                if file.path not in contents:
                    contents[file.path] = read_file(file.path, self._locale, drafts=self._drafts)
                content.add(contents[file.path])
            catalogs[environment] = self._compiled(content)
        return catalogs

    def _look(self) -> None:
        path = self._path
        if path is None:
            return
        try:
            files = find_files(path, self._wall_clock())
        except OSError as error:
            self._report([_unreadable(path, error)])
            return
        self.seen_at = self._wall_clock()
        losses = self._losses(files)
        # A missing file may just be in the middle of a copy: accept its loss if a second look finds the same files.
        settled = {one for one in losses if one in files and self._unsettled.get(one) == files[one]}
        self._unsettled = {one: files[one] for one in losses if one in files}
        waiting = losses.keys() - settled
        changed = {one: now for one, now in files.items() if one not in waiting and now != self._files.get(one)}
        self._report(problem for one in sorted(waiting) for problem in losses[one])
        if changed:
            self._replace(self._read(changed))
            self._files = self._files | changed  # last, so that a process forked in the middle looks again

    def _losses(self, files: _Files) -> dict[Environment, list[Problem]]:
        """Return an error for each file that an environment had before and that is now missing, by environment."""
        losses: dict[Environment, list[Problem]] = {}
        for environment, before in self._files.items():
            there = {file.path for file in files.get(environment, ())}
            if missing := [str(file.path) for file in before if file.path not in there]:
                losses[environment] = [Problem("error", file, "", "is gone") for file in missing]
        return losses

    def _replace(self, read: Mapping[Environment, Catalog]) -> None:
        catalogs = {one: catalog for one, catalog in read.items() if not is_same(catalog, self._latest.get(one))}
        self._latest = self._latest | catalogs
        broken = [environment for environment, catalog in catalogs.items() if catalog.errors]
        for problem in dict.fromkeys(problem for one in broken for problem in catalogs[one].errors):
            _log.error("%s; the previous version stays live", problem)
        self._serve({environment: catalog for environment, catalog in catalogs.items() if not catalog.errors})


def _unreadable(path: Path, error: OSError) -> Problem:
    return Problem("error", str(path), "", f"cannot be read: {error.strerror or error}")
