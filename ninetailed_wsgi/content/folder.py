"""Keeps the catalogue of each environment up to date with the content files.

Served content is swapped as a whole or not at all: a changed file that has any error is reported once, and the old
catalogue of its environments goes on serving. There is no thread of our own, so that forking servers need no care:
whoever asks for a catalogue looks for changes when the last look is old enough, and others meanwhile get the old one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ninetailed_wsgi.content.compiling import Catalog, compile_content
from ninetailed_wsgi.content.entries import Content, Problem
from ninetailed_wsgi.content.files import EVERY, Found, find_files, read_file
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import SettingsError

_log = logging.getLogger("ninetailed_wsgi.content")
_Files = Mapping[Environment, tuple[Found, ...]]


@dataclass(frozen=True, slots=True)
class _Served:
    """What is served at one moment; replaced as a whole."""

    catalogs: Mapping[Environment, Catalog]
    default: Catalog


class ContentSource:
    """The catalogues of a content file or folder, by environment (spec section 7).

    Args:
        path: a file or a folder, laid out as `find_files` says; None: no content, every catalogue is empty.
        locale: the locale to read where fields have several; None: the file's own default one.
        history_events: how many of a profile's last events count for audiences.
        history_days: and of how many days.
        check_every: seconds between two looks for changed files.
        clock: monotonic seconds.
        wall_clock: seconds since the epoch, as the files' times are.

    Attributes:
        name: where the content comes from, for people.
        seen_at: when its origin was last found readable, in seconds since the epoch; None: not yet.
    """

    def __init__(
        self,
        path: str | Path | None,
        *,
        locale: str | None = None,
        history_events: int = 500,
        history_days: int = 365,
        check_every: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = None if path is None else Path(path)
        self.name = "" if self._path is None else str(self._path.absolute())
        self.seen_at: float | None = None
        self._locale = locale
        self._history = (history_events, history_days)
        self._check_every = check_every
        self._clock = clock
        self._wall_clock = wall_clock
        self._looking = threading.Lock()
        self._next_look = clock() + check_every
        self._empty = self._compiled(Content())
        self._served = _Served({}, self._empty)
        self._served_since: dict[Environment, float] = {}
        self._latest: dict[Environment, Catalog] = {}
        self._files: dict[Environment, tuple[Found, ...]] = {}
        self._unsettled: dict[Environment, tuple[Found, ...]] = {}
        self._troubles: tuple[Problem, ...] = ()

    def load(self) -> None:
        """Read everything for the first time.

        Raises:
            SettingsError: the path or a file is unreadable, no JSON or not recognised, no file is there, or an entry
                has an error: all of them are listed. What could be read is there for `catalogs` and `problems` still.
        """
        if self._path is None:
            return
        with self._looking:
            self._load(self._path)
            self._next_look = self._clock() + self._check_every
        if errors := [str(problem) for problem in self.problems() if problem.severity == "error"]:
            raise SettingsError([f"content: {error}" for error in errors])

    def loaded_at(self) -> dict[str, float]:
        """Give when what is served was read, in seconds since the epoch, by environment as `catalogs` names them."""
        return {str(environment): at for environment, at in self._served_since.items()}

    def origin(self) -> str:
        """Say in a few words what the origin gives out now, for ``ninetailed-wsgi check``; empty for files."""
        return ""

    def follow(self) -> None:
        """Begin to look for changes; files need no beginning, whoever asks for a catalogue looks for them."""

    def catalog(self, organization: str, environment: str) -> Catalog:
        """Give an environment's catalogue: a look-up, and now and then a look for changed files; raises nothing."""
        if self._path is not None and self._clock() >= self._next_look and self._looking.acquire(blocking=False):
            try:
                if self._clock() >= self._next_look:
                    self._look(self._path)
            except Exception:  # whatever it is, a visitor's request must not fail for it
                _log.exception("%s could not be looked at; the content read before stays", self._path)
            finally:
                self._next_look = self._clock() + self._check_every
                self._looking.release()
        return self._found(organization, environment)

    def _found(self, organization: str, environment: str) -> Catalog:
        served = self._served
        return served.catalogs.get(Environment(organization, environment), served.default)

    def catalogs(self) -> Mapping[str, Catalog]:
        """Give what is served, by ``organization/environment``; ``*/*`` is for every other environment."""
        served = self._served
        every = {str(environment): catalog for environment, catalog in sorted(served.catalogs.items())}
        return MappingProxyType({str(EVERY): served.default} | every)

    def state(self) -> tuple[list[tuple[str, str, float | None]], int]:
        """Give name, version and time of reading (seconds since the epoch) of what is served; and the errors now."""
        self.catalog(*EVERY)  # looks for changes where nobody else has asked for long
        since = self.loaded_at()
        versions = [(name, catalog.version, since.get(name)) for name, catalog in self.catalogs().items()]
        return versions, sum(problem.severity == "error" for problem in self.problems())

    def problems(self) -> tuple[Problem, ...]:
        """Give the problems of the files as they were last seen, of a version that is not served too."""
        latest = (problem for _, catalog in sorted(self._latest.items()) for problem in catalog.problems)
        return tuple(dict.fromkeys([*self._troubles, *latest]))

    def _compiled(self, content: Content) -> Catalog:
        events, days = self._history
        return compile_content(content, history_events=events, history_days=days)

    def _load(self, path: Path) -> None:
        try:
            self._files = find_files(path, self._wall_clock())
        except OSError as error:
            self._troubles = (Problem("error", str(path), "", f"cannot be read: {error.strerror or error}"),)
            return
        self.seen_at = self._wall_clock()
        if not self._files:
            expected = "expected {organizationId}/{environmentSlug}.json or *.json in this folder"
            self._troubles = (Problem("error", str(path), "", f"holds no content file: {expected}"),)
        self._latest = self._read(self._files)
        self._serve(self._latest)

    def _read(self, environments: _Files) -> dict[Environment, Catalog]:
        """Compile each environment's files; a file that several share is read once."""
        contents: dict[Path, Content] = {}
        catalogs = {}
        for environment, files in environments.items():
            content = Content()
            for file in files:
                if file.path not in contents:
                    contents[file.path] = read_file(file.path, self._locale)
                content.add(contents[file.path])
            catalogs[environment] = self._compiled(content)
        return catalogs

    def _look(self, path: Path) -> None:
        try:
            files = find_files(path, self._wall_clock())
        except OSError as error:
            self._trouble([Problem("error", str(path), "", f"cannot be read: {error.strerror or error}")])
            return
        self.seen_at = self._wall_clock()
        gone = self._gone(files)
        # A file that is gone may be a copy in progress: it counts when a second look finds the same other files.
        settled = {one for one in gone if one in files and self._unsettled.get(one) == files[one]}
        self._unsettled = {one: files[one] for one in gone if one in files}
        waiting = gone.keys() - settled
        changed = {one: now for one, now in files.items() if one not in waiting and now != self._files.get(one)}
        self._trouble(problem for one in sorted(waiting) for problem in gone[one])
        if changed:
            self._files |= changed
            self._replace(self._read(changed))

    def _gone(self, files: _Files) -> dict[Environment, list[Problem]]:
        """Tell which environments miss a file that was there before."""
        gone: dict[Environment, list[Problem]] = {}
        for environment, known in self._files.items():
            there = {file.path for file in files.get(environment, ())}
            if missing := [str(file.path) for file in known if file.path not in there]:
                gone[environment] = [Problem("error", file, "", "is gone") for file in missing]
        return gone

    def _trouble(self, problems: Iterable[Problem]) -> None:
        """Keep what is wrong with the files as such, and report what was not wrong at the last look."""
        unique = tuple(dict.fromkeys(problems))
        for problem in unique:
            if problem not in self._troubles:
                _log.error("%s; the content read before stays", problem)
        self._troubles = unique

    def _replace(self, read: Mapping[Environment, Catalog]) -> None:
        catalogs = {one: catalog for one, catalog in read.items() if not _same(catalog, self._latest.get(one))}
        self._latest = self._latest | dict(catalogs)
        broken = [environment for environment, catalog in catalogs.items() if catalog.errors]
        for problem in dict.fromkeys(problem for one in broken for problem in catalogs[one].errors):
            _log.error("%s; the content read before stays", problem)
        sound = {environment: catalog for environment, catalog in catalogs.items() if not catalog.errors}
        self._serve(sound)

    def _serve(self, catalogs: Mapping[Environment, Catalog]) -> None:
        every = dict(self._served.catalogs) | dict(catalogs)
        default = every.pop(EVERY, self._served.default)
        self._served = _Served(every, default)
        self._announce(catalogs)

    def _serve_only(self, catalogs: Mapping[Environment, Catalog]) -> None:
        """Serve these and nothing besides; an environment whose content is as before keeps its catalogue."""
        before = {**self._served.catalogs, EVERY: self._served.default}
        changed = {one: catalog for one, catalog in catalogs.items() if not _same(catalog, before.get(one))}
        every = {one: catalog if one in changed else before[one] for one, catalog in catalogs.items()}
        default = every.pop(EVERY, self._empty)
        self._served = _Served(every, default)
        self._announce(changed)

    def _announce(self, catalogs: Mapping[Environment, Catalog]) -> None:
        self._served_since = self._served_since | dict.fromkeys(catalogs, self._wall_clock())
        for environment, catalog in catalogs.items():
            _log.info(
                "content of %s is version %s: %d audiences, %d experiences, %d merge tags",
                "/".join(environment),
                catalog.version,
                len(catalog.audience_list),
                len(catalog.experience_list),
                len(catalog.merge_tags),
            )


def _same(catalog: Catalog, other: Catalog | None) -> bool:
    return other is not None and (catalog.version, catalog.problems) == (other.version, other.problems)
