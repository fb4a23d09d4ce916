"""Keeps the number of visitors in each audience and variant, counted in the background, for the inspector to read.

There is a file for each environment in the folder ``population`` of the data folder. It holds a document of
`replay.what_if`: the published content, compared with the draft if there is one (spec sections 14 and 15).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.insights import drafts, environment_files
from ninetailed_wsgi.insights.replay import what_if
from ninetailed_wsgi.store.protocol import Store

Catalogs = Callable[[str, str], Catalog]
"""Returns the content of an organization's environment."""


class Population(NamedTuple):
    """What was counted last.

    Attributes:
        document: the document of `replay.what_if`, without visitors.
        computed_at: when it was computed, ms.
        draft_at: when the draft of the comparison was uploaded, ms; None: the draft is that of the options.
        problem: why the uploaded draft could not be used, so that no visitor moves; None: there was no problem.
    """

    document: dict[str, Any]
    computed_at: int
    draft_at: int | None = None
    problem: str | None = None


class PopulationContent(NamedTuple):
    """The content by which visitors are counted.

    Attributes:
        published: the content that is served.
        draft: the draft of the options; None: the options name no draft.
        locale, history_events, history_days: how to read an uploaded draft.
    """

    published: Catalogs
    draft: Catalogs | None = None
    locale: str | None = None
    history_events: int = 500
    history_days: int = 365

    def handed_in(self, draft: drafts.Draft) -> Catalog:
        """Return an uploaded draft, compiled; raise InvalidData if it has errors."""
        return draft.catalog(self.locale, self.history_events, self.history_days)


def compute(data_dir: Path, store: Store, contents: PopulationContent, now: int) -> None:
    """Count the visitors of every environment and store the numbers in place of the last ones.

    Raises:
        StoreUnavailable: the store cannot be read now; the last numbers stay.
        OSError: the numbers cannot be written.
    """
    there = {key.where for key, _ in store.documents()}
    for where in sorted(there.union(drafts.environments(data_dir))):
        count(data_dir, store, where, contents, now)


def compute_waiting(data_dir: Path, store: Store, contents: PopulationContent, now: int) -> None:
    """Count, as `compute` does, the environments for which a draft was uploaded since the last count."""
    for where in drafts.environments(data_dir):
        if waiting(data_dir, where) is not None:
            count(data_dir, store, where, contents, now)


def count(data_dir: Path, store: Store, where: Environment, contents: PopulationContent, now: int) -> None:
    """Count the visitors of one environment, compared with the uploaded draft or, without one, that of the options."""
    before, handed, problem = contents.published(*where), drafts.read(data_dir, where), None
    after = contents.draft(*where) if contents.draft and handed is None else before
    if handed is not None:
        try:
            after = contents.handed_in(handed)
        except InvalidData as error:
            problem = str(error)
    keep(data_dir, where, what_if(store, where, before, after, now)[0], now, handed and handed.at, problem)


def waiting(data_dir: Path, where: Environment) -> drafts.Draft | None:
    """Return the uploaded draft that was not counted yet; None if every draft was counted."""
    draft, last = drafts.read(data_dir, where), read(data_dir, where)
    return draft if draft and (last is None or last.draft_at != draft.at) else None


def keep(
    data_dir: Path,
    where: Environment,
    document: dict[str, Any],
    now: int,
    draft_at: int | None = None,
    problem: str | None = None,
) -> None:
    """Store the numbers of an environment; raise OSError if they cannot be written."""
    # Store no visitor by name, because a deletion does not reach this file.
    last = Population({**document, "samples": []}, now, draft_at, problem)
    environment_files.write(data_dir / drafts.FOLDER, where, last._asdict())


def read(data_dir: Path, where: Environment) -> Population | None:
    """Return what was counted last; None if nothing was counted yet, or the file is damaged."""
    return environment_files.read(data_dir / drafts.FOLDER, where, Population)
