"""Combines several content sources: for example a list in Python, a file and a shared document."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from ninetailed_wsgi.content.compiling import Catalog
from ninetailed_wsgi.content.entries import Content, Problem
from ninetailed_wsgi.content.files import EVERY
from ninetailed_wsgi.content.live import LiveContent
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.watching import Watcher


class CombinedContent(LiveContent):
    """The content of several sources, compiled together, so that their entries may name each other (spec section 7).

    Each part follows its own origin. The combined content is replaced as a whole, and only if it has no error, such as
    an id that two parts have.

    Args:
        parts: at least two, not loaded.

    The other arguments and the attributes are those of `LiveContent`.
    """

    def __init__(
        self,
        parts: Sequence[LiveContent],
        *,
        history_events: int = 500,
        history_days: int = 365,
        check_every: float = 0.2,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            "; ".join(part.name for part in parts),
            history_events=history_events,
            history_days=history_days,
            check_every=check_every,
            wall_clock=wall_clock,
        )
        # The parts look for changes themselves, each at an interval that suits its origin.
        self._watcher = Watcher(self.combine, check_every, "ninetailed-content")
        self._parts = tuple(parts)
        for part in parts:
            part.is_part = True
        self._catalogs_of_parts: list[dict[str, Catalog]] = []

    def load(self) -> None:
        """Load every part, then compile their combined content.

        Raises:
            SettingsError: a part or the whole cannot be served; one line for each error.
        """
        problems: list[str] = []
        for part in self._parts:
            try:
                part.load()
            except SettingsError as error:
                problems += error.problems
        with self._lock():
            errors = self._combine()
        problems = problems or [f"content: {error}" for error in errors]
        if problems:
            raise SettingsError(list(dict.fromkeys(problems)))

    def origin(self) -> str:
        """Describe what the origins of the parts contain now."""
        return "; ".join(filter(None, (part.origin() for part in self._parts)))

    def refresh(self) -> None:
        """Make every part look for changes at once; return before that is done."""
        for part in self._parts:
            part.refresh()

    def combine(self) -> None:
        """Serve what the parts serve now; the thread that `follow` starts calls this repeatedly."""
        for part in self._parts:
            part.follow()  # after a fork this starts its thread
        super().look()

    def look(self) -> None:
        """Look for changes of every part now and serve them."""
        for part in self._parts:
            part.look()
        super().look()

    def problems(self) -> tuple[Problem, ...]:
        """Return the problems of the newest content of all parts, whether it is served or not."""
        own = [problem for part in self._parts for problem in part.problems() if problem.severity == "error"]
        return tuple(dict.fromkeys([*own, *super().problems()]))

    def _look(self) -> None:
        self._report(self._combine())

    def _combine(self) -> tuple[Problem, ...]:
        """Compile and serve what the parts serve, if it changed; return the errors that prevent this."""
        versions = [dict(part.catalogs()) for part in self._parts]
        if versions != self._catalogs_of_parts:
            names = sorted({name for catalogs in versions for name in catalogs})
            self._latest = {Environment.parse(name): self._compiled(_joined(versions, name)) for name in names}
            self._catalogs_of_parts = versions
            self.seen_at = self._wall_clock()
            if not self._errors():
                self._serve_only(self._latest)
        return self._errors()

    def _errors(self) -> tuple[Problem, ...]:
        return tuple(dict.fromkeys(error for catalog in self._latest.values() for error in catalog.errors))


def _joined(parts: Sequence[Mapping[str, Catalog]], name: str) -> Content:
    content = Content()
    for catalogs in parts:
        content.add((catalogs.get(name) or catalogs[str(EVERY)]).content)
    return content
