"""The content of a harness: set by a test instead of read from files, compiled by the same code, variants forced."""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from ninetailed_wsgi.content import Catalog, ContentState, ServedVersion, content_source
from ninetailed_wsgi.content.code import read_items
from ninetailed_wsgi.content.compiling import compile_content
from ninetailed_wsgi.content.entries import (
    AudienceEntry,
    BaselineEntry,
    Content,
    ExperienceEntry,
    MergeTagEntry,
    MetricEntry,
)
from ninetailed_wsgi.content.files import EVERY
from ninetailed_wsgi.core.experiences import Experience, ExperienceSet
from ninetailed_wsgi.core.exposures import ExposureSet
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings import Settings

ContentPart: TypeAlias = Mapping[str, Any]
"""An audience or experience as the builders make it, or a whole document of any form that content files have."""

GivenContent: TypeAlias = str | Path | ContentPart | Sequence[ContentPart | str | Path] | None
"""What a harness starts with: an origin as the option ``content`` has it, a document, or a list of both."""

_log = logging.getLogger("ninetailed_wsgi.content")
_Entry = TypeVar("_Entry", AudienceEntry, ExperienceEntry, MergeTagEntry, MetricEntry, BaselineEntry)


class PublishedContent:
    """The content of a harness, changed by `publish` and `force`: a `ContentSource`.

    Args:
        settings: give what is published at first, its locale and the bounds of the history.
        own: organization and environment, whose files are read where ``content`` is a folder.
        seconds: the time since the epoch, for `state`.

    Raises:
        SettingsError: the content has errors: all of them are listed.
    """

    def __init__(
        self,
        settings: Settings,
        own: Environment,
        seconds: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._own = own
        self._seconds = seconds
        self._forced: dict[str, int] = {}
        self._content = Content()
        self._first = self._content_of_settings(own)
        self._compile(self._first, {})

    def catalog(self, organization: str = "", environment: str = "") -> Catalog:
        """Return what is published now; the same for every environment."""
        return self._catalog

    def state(self) -> ContentState:
        """Return the version that is published; content with errors is never published."""
        return ContentState([ServedVersion(str(self._own), self._catalog.version, self._published_at)], 0)

    def follow(self) -> None:
        """Do nothing: content changes here when a test publishes it."""

    def refresh(self) -> None:
        """Do nothing: content changes here when a test publishes it."""

    def publish(self, *content: ContentPart) -> None:
        """Add to what is published, replacing items with the same id; all or nothing.

        Raises:
            SettingsError: it has errors: all of them are listed, and what was published before stays.
        """
        added = read_items(content, "publish(...)", self._settings.content_locale)
        self._compile(_laid_over(self._content, added), self._forced)

    def unpublish(self, *ids: str) -> None:
        """Remove audiences, experiences and metrics; ValueError for an unknown id."""
        published = self._content
        ids_in_content = [entry.id for entry in published.audiences] + [entry.id for entry in published.experiences]
        ids_in_content += [entry.id for entry in published.metrics]
        for id in ids:
            _check_id(id, ids_in_content, "audience, experience or metric")
        rest = replace(
            published,
            audiences=[entry for entry in published.audiences if entry.id not in ids],
            experiences=[entry for entry in published.experiences if entry.id not in ids],
            metrics=[entry for entry in published.metrics if entry.id not in ids],
        )
        self._compile(rest, self._forced)

    def force(self, id: str, index: int) -> None:
        """Let every visitor get this variant index of an experience, whatever audience, traffic and assignments say.

        Raises:
            ValueError: no such experience is published, or it has no such variant.
        """
        experiences = {experience.id: experience for experience in self._catalog.experiences.experiences}
        _check_id(id, experiences, "experience")
        last = len(experiences[id].outcomes) - 1
        if not 0 <= index <= last:
            raise ValueError(f"found variant index {index}, expected 0 to {last}: {id} has no other")
        self._compile(self._content, {**self._forced, id: index})

    def release(self, id: str | None = None) -> None:
        """Let an experience (None: every one) be decided normally again."""
        self._compile(self._content, {one: index for one, index in self._forced.items() if id not in (None, one)})

    def reset(self) -> None:
        """Publish the initial content and force nothing."""
        self._compile(self._first, {})

    def _compile(self, content: Content, forced: Mapping[str, int]) -> None:
        catalog = compile_content(
            content, history_events=self._settings.history_events, history_days=self._settings.history_days
        )
        if errors := [*catalog.errors, *catalog.left_out]:  # a test is to say what it means
            raise SettingsError([f"content: {problem}" for problem in errors])
        if content is not self._content:
            for problem in catalog.problems:
                _log.warning("%s", problem)
        experiences = [
            _forced(experience, forced[experience.id]) if experience.id in forced else experience
            for experience in catalog.experiences.experiences
        ]
        self._published_at = self._seconds()
        self._catalog = replace(catalog, experiences=ExperienceSet(experiences), exposures=ExposureSet(experiences))
        self._content, self._forced = content, dict(forced)

    def _content_of_settings(self, own: Environment) -> Content:
        source = content_source(self._settings)
        source.load()
        catalogs = source.catalogs()
        catalog = source.catalog(*own)
        if str(own) not in catalogs and len(catalogs) > 1 and catalog is catalogs[str(EVERY)] and not catalog.problems:
            raise SettingsError([f"content: {source.name} contains no content file for {own}"])
        return catalog.content


def _forced(experience: Experience, index: int) -> Experience:
    """Return an experience for everyone whose whole distribution is one variant.

    Its answers are the same as without forcing.
    """
    return replace(experience, audience=None, traffic=1.0, ends=(0.0,) * index + (1.0,), sticky=False)


def _laid_over(published: Content, added: Content) -> Content:
    return Content(
        audiences=_replaced(published.audiences, added.audiences),
        experiences=_replaced(published.experiences, added.experiences),
        merge_tags=_replaced(published.merge_tags, added.merge_tags),
        metrics=_replaced(published.metrics, added.metrics),
        baselines=_replaced(published.baselines, added.baselines),
        absent={**published.absent, **added.absent},
        problems=[*published.problems, *added.problems],
    )


def _replaced(published: list[_Entry], added: list[_Entry]) -> list[_Entry]:
    new = {_id(entry) for entry in added}
    return [entry for entry in published if _id(entry) not in new] + added


def _id(entry: AudienceEntry | ExperienceEntry | MergeTagEntry | MetricEntry | BaselineEntry) -> str:
    return entry.entry if isinstance(entry, BaselineEntry) else entry.id


def _check_id(id: str, ids: Iterable[str], kind: str) -> None:
    names = sorted(ids)
    if id not in names:
        close = difflib.get_close_matches(id, names, n=1)
        published = f"there are {', '.join(names)}" if names else "nothing is published"
        hint = f"; did you mean {close[0]!r}?" if close else f"; {published}"
        raise ValueError(f"no {kind} {id!r} is published{hint}")
