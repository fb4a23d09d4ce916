"""Content that may change while it is served: a thread of each process follows changes and replaces it as a whole."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ninetailed_wsgi.content.compiling import Catalog, compile_content
from ninetailed_wsgi.content.entries import Content, Problem
from ninetailed_wsgi.content.files import EVERY
from ninetailed_wsgi.content.source import ContentState, ServedVersion
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.operations.forks import PerProcess
from ninetailed_wsgi.operations.watching import Watcher

_log = logging.getLogger("ninetailed_wsgi.content")


class _Versions(NamedTuple):
    """The catalogs served at one moment; replaced as a whole."""

    catalogs: Mapping[Environment, Catalog]
    default: Catalog


class LiveContent:
    """A `ContentSource` that reads its content and looks for changes; the base of folders and shared documents.

    Args:
        name: where the content comes from, for people.
        locale: the locale to read if fields have several; None: the content's default locale.
        history_events: how many of a profile's last events count for audiences.
        history_days: for how many days an event counts.
        check_every: seconds between two checks for changes.
        wall_clock: seconds since the epoch.

    Attributes:
        name: as given.
        seen_at: when the content's origin was last readable, in seconds since the epoch; None: not yet.
        is_part: whether this is a part of other content, which logs what all parts together serve.
    """

    def __init__(
        self,
        name: str,
        *,
        locale: str | None = None,
        history_events: int = 500,
        history_days: int = 365,
        check_every: float = 1.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.seen_at: float | None = None
        self._locale = locale
        self._history = (history_events, history_days)
        self._wall_clock = wall_clock
        self._lock = PerProcess(threading.Lock)
        self._watcher = Watcher(self.look, check_every, "ninetailed-content")
        self._followed = False
        self._empty = self._compiled(Content())
        self._versions = _Versions({}, self._empty)
        self._served_since: dict[Environment, float] = {}
        self._latest: dict[Environment, Catalog] = {}
        self._left_out: frozenset[Problem] = frozenset()
        self.is_part = False
        self._troubles: tuple[Problem, ...] = ()

    def load(self) -> None:
        """Read everything for the first time.

        Raises:
            SettingsError: the content cannot be served; one line for each error. `catalogs` and `problems` still
                return what could be read.
        """
        raise NotImplementedError

    def _look(self) -> None:
        """Look for changes and serve them; only one thread at a time calls this."""
        raise NotImplementedError

    def origin(self) -> str:
        """Describe what the origin contains now, for ``ninetailed-wsgi check``; empty for files."""
        return ""

    def refresh(self) -> None:
        """Look for changes sooner; do nothing if the content is checked every second anyway."""

    def look(self) -> None:
        """Look for changes now and serve them; the thread that `follow` starts calls this repeatedly."""
        with self._lock():
            self._look()

    def follow(self) -> None:
        """Follow changes in the background from now on, in this process and in those forked from it."""
        self._followed = True
        self._watcher.ensure()

    def catalog(self, organization: str, environment: str) -> Catalog:
        """Return an environment's catalog: a look-up that never reads, compiles or waits."""
        if self._followed:
            self._watcher.ensure()  # the first request after a fork starts the thread
        versions = self._versions
        return versions.catalogs.get(Environment(organization, environment), versions.default)

    def catalogs(self) -> Mapping[str, Catalog]:
        """Return what is served, by ``organization/environment``; ``*/*`` is for every other environment."""
        versions = self._versions
        every = {str(environment): catalog for environment, catalog in sorted(versions.catalogs.items())}
        return MappingProxyType({str(EVERY): versions.default} | every)

    def loaded_at(self) -> dict[str, float]:
        """Return when the served content was compiled, in seconds since the epoch, by environment as in `catalogs`."""
        return {str(environment): at for environment, at in self._served_since.items()}

    def state(self) -> ContentState:
        """Return what is served and the number of errors in the newest content."""
        if self._followed:
            self._watcher.ensure()
        since = self.loaded_at()
        versions = [ServedVersion(name, catalog.version, since.get(name)) for name, catalog in self.catalogs().items()]
        counts = Counter(problem.severity for problem in self.problems())
        return ContentState(versions, counts["error"], counts["left out"])

    def problems(self) -> tuple[Problem, ...]:
        """Return the problems of the newest content, whether it is served or not."""
        latest = (problem for _, catalog in sorted(self._latest.items()) for problem in catalog.problems)
        return tuple(dict.fromkeys([*self._troubles, *latest]))

    # For the subclasses

    def _compiled(self, content: Content) -> Catalog:
        events, days = self._history
        return compile_content(content, history_events=events, history_days=days)

    def _report(self, problems: Iterable[Problem]) -> None:
        """Store the problems of the content as a whole; log those that the previous look did not find."""
        unique = tuple(dict.fromkeys(problems))
        for problem in unique:
            if problem not in self._troubles:
                _log.error("%s; the previous version stays live", problem)
        self._troubles = unique

    def _serve(self, catalogs: Mapping[Environment, Catalog]) -> None:
        """Serve these catalogs, and keep serving those of other environments."""
        every = dict(self._versions.catalogs) | dict(catalogs)
        default = every.pop(EVERY, self._versions.default)
        self._versions = _Versions(every, default)
        self._served_since = self._served_since | dict.fromkeys(catalogs, self._wall_clock())
        if not self.is_part:
            self._left_out = _announce(catalogs, every | {EVERY: default}, self._left_out)

    def _serve_only(self, catalogs: Mapping[Environment, Catalog]) -> None:
        """Serve only these catalogs; an environment whose content did not change keeps its catalog."""
        before = {**self._versions.catalogs, EVERY: self._versions.default}
        changed = {one: catalog for one, catalog in catalogs.items() if not is_same(catalog, before.get(one))}
        every = {one: catalog if one in changed else before[one] for one, catalog in catalogs.items()}
        default = every.pop(EVERY, self._empty)
        self._versions = _Versions(every, default)
        self._served_since = self._served_since | dict.fromkeys(changed, self._wall_clock())
        if not self.is_part:
            self._left_out = _announce(changed, catalogs, self._left_out)


def _announce(
    catalogs: Mapping[Environment, Catalog], every: Mapping[Environment, Catalog], earlier: frozenset[Problem]
) -> frozenset[Problem]:
    """Log the newly served content, and each left-out entry once; return the problems of all left-out entries."""
    left_out = dict.fromkeys(problem for catalog in every.values() for problem in catalog.left_out)
    for problem in left_out:
        if problem not in earlier:
            _log.error("%s; this is left out, everything else is served", problem)
    for environment, catalog in catalogs.items():
        _log.info(
            "content of %s is version %s: %d audiences, %d experiences, %d merge tags",
            str(environment),
            catalog.version,
            len(catalog.audience_list),
            len(catalog.experience_list),
            len(catalog.merge_tags),
        )
    return frozenset(left_out)


def is_same(catalog: Catalog, other: Catalog | None) -> bool:
    """Return whether two catalogs serve the same content and have the same problems."""
    return other is not None and (catalog.version, catalog.problems) == (other.version, other.problems)
