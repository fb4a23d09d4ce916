"""Compiles content into one immutable `Catalog`: follows links, ensures unique ids, compiles rules and configs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import TypeVar

from ninetailed_wsgi.content.entries import (
    AudienceEntry,
    BaselineEntry,
    Content,
    ExperienceEntry,
    MergeTagEntry,
    MetricEntry,
    Problem,
    Reference,
    Severity,
    is_equal,
)
from ninetailed_wsgi.core.audiences import Audience, AudienceSet, compile_audience
from ninetailed_wsgi.core.experiences import Experience, ExperienceSet, compile_experience
from ninetailed_wsgi.core.exposures import ExposureSet
from ninetailed_wsgi.core.flags import FlagSet
from ninetailed_wsgi.core.metrics import Metric, MetricSet, compile_metric
from ninetailed_wsgi.core.problems import ContentError, Remark, shorten

# Far above what the authoring tool writes, and below the depth at which compiling or answering would fail.
_DEEPEST = 200
_UNKNOWN = "is not there: missing, not published, or of another content type"


@dataclass(frozen=True, slots=True)
class MergeTag:
    """A published merge tag.

    Attributes:
        id: a path into the profile.
        fallback: what to show if that path has no value.
        entry: the id of its entry, to which rich text links.
    """

    id: str
    name: str
    fallback: str | None
    entry: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ListedAudience:
    """An audience as ``ninetailed-wsgi check`` lists it; ``entry`` and ``rules`` are as authored."""

    id: str
    name: str
    file: str
    entry: str = field(default="", compare=False)
    rules: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ListedExperience:
    """An experience as ``ninetailed-wsgi check`` lists it; ``audience`` is the audience's id, None for everyone.

    ``entry`` and ``config`` are as authored.
    """

    id: str
    name: str
    type: str
    audience: str | None
    traffic: float
    distribution: tuple[float, ...]
    sticky: bool
    file: str
    entry: str = field(default="", compare=False)
    config: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Catalog:
    """The published content of one environment, compiled; it never changes (spec sections 5 to 8).

    Attributes:
        content: what was read, not compiled.
        audiences, experiences, flags: compiled, ready to decide.
        exposures: the experiences, ready to judge reports about their components.
        metrics: what counts as success, compiled (spec section 12).
        primary_metrics: experience id to the id of the metric that its ``primaryMetric`` names.
        merge_tags: by their ``nt_mergetag_id``.
        merge_tag_entries: the merge tags by the ids of their entries.
        entry_experiences: baseline entry id to experience ids, the most important first.
        entry_ids: every baseline and variant that the content names.
        audience_list, experience_list: audiences and experiences for display, in the order of the files.
        problems: what a person should know about the content.
        version: a digest of the served content; equal content has the same version in any format and any files.
    """

    content: Content
    audiences: AudienceSet
    experiences: ExperienceSet
    flags: FlagSet
    exposures: ExposureSet
    metrics: MetricSet
    primary_metrics: Mapping[str, str]
    merge_tags: Mapping[str, MergeTag]
    merge_tag_entries: Mapping[str, MergeTag]
    entry_experiences: Mapping[str, tuple[str, ...]]
    entry_ids: frozenset[str]
    audience_list: tuple[ListedAudience, ...]
    experience_list: tuple[ListedExperience, ...]
    problems: tuple[Problem, ...]
    version: str

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that make the content invalid as a whole."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """Return the problems because of which single entries, or parts of them, are left out."""
        return tuple(problem for problem in self.problems if problem.severity == "left out")


def compile_content(content: Content, *, history_events: int = 500, history_days: int = 365) -> Catalog:
    """Compile everything that is usable and report everything else; never raise for invalid content.

    Args:
        content: of all files of the environment together.
        history_events: how many of a profile's last events count for audiences.
        history_days: for how many days an event counts.
    """
    return _Compilation(content).catalog(history_events, history_days)


_Entry = TypeVar("_Entry", AudienceEntry, ExperienceEntry, MergeTagEntry, MetricEntry)


class _Compilation:
    def __init__(self, content: Content) -> None:
        self._content = content
        self._absent = dict(content.absent)
        self._problems = list(content.problems)
        self._digests: list[str] = []
        self._audience_ids: dict[Reference, str] = {}
        self._experience_ids: dict[Reference, str] = {}

    def catalog(self, history_events: int, history_days: int) -> Catalog:
        audiences = [compiled for entry in self._unique(self._content.audiences) for compiled in self._audience(entry)]
        metrics = MetricSet(
            compiled for entry in self._unique(self._content.metrics) for compiled in self._metric(entry)
        )
        unique = self._unique(self._content.experiences)
        experiences = [compiled for entry in unique for compiled in self._experience(entry)]
        primary_metrics = {
            entry.id: metric.id for entry in unique for metric in self._primary_metric(entry, metrics) if metric
        }
        merge_tags = {
            entry.id: MergeTag(entry.id, entry.name, entry.fallback, entry.entry)
            for entry in self._unique(self._content.merge_tags)
        }
        entry_experiences = self._priorities(self._content.baselines)
        self._digests += [_digest("merge tag", tag.id, tag.name, tag.fallback) for tag in merge_tags.values()]
        self._digests += [_digest("entry", id, experiences_of) for id, experiences_of in entry_experiences.items()]
        return Catalog(
            content=self._content,
            audiences=AudienceSet(
                [audience for audience, _ in audiences], history_events=history_events, history_days=history_days
            ),
            experiences=(experience_set := ExperienceSet([experience for experience, _ in experiences])),
            flags=FlagSet(experience_set.experiences),
            exposures=ExposureSet(experience_set.experiences),
            metrics=metrics,
            primary_metrics=MappingProxyType(primary_metrics),
            merge_tags=MappingProxyType(merge_tags),
            merge_tag_entries=MappingProxyType({tag.entry: tag for tag in merge_tags.values()}),
            entry_experiences=MappingProxyType(entry_experiences),
            entry_ids=_entry_ids(entry_experiences, experience_set),
            audience_list=tuple(audience for _, audience in audiences),
            experience_list=tuple(experience for _, experience in experiences),
            problems=tuple(dict.fromkeys(self._problems)),
            version=hashlib.sha256("".join(sorted(self._digests)).encode()).hexdigest()[:16],
        )

    def _report(
        self,
        severity: Severity,
        entry: AudienceEntry | ExperienceEntry | MergeTagEntry | MetricEntry | BaselineEntry,
        message: str,
    ) -> None:
        self._problems.append(Problem(severity, entry.file, entry.entry, message))
        if severity == "left out":
            self._absent.setdefault(entry.entry, "has errors")

    def _unique(self, entries: Iterable[_Entry]) -> list[_Entry]:
        """Leave out duplicates: silently if they are equal, with an error if they differ."""
        by_entry: dict[str, _Entry] = {}
        by_id: dict[str, _Entry] = {}
        for entry in entries:
            same = by_entry.setdefault(entry.entry, entry)
            if same is not entry:
                if not is_equal(same, entry):
                    self._report("left out", entry, f"exists twice with different content, also in {same.file}")
                continue
            first = by_id.setdefault(entry.id, entry)
            if first is not entry:
                message = f'has the id "{entry.id}" of entry {first.entry} in {first.file}, expected an id of its own'
                self._report("left out", entry, message)
        return list(by_id.values())

    def _audience(self, entry: AudienceEntry) -> Iterator[tuple[Audience, ListedAudience]]:
        try:
            _check_depth(entry.rules)
            audience = compile_audience(entry.id, entry.name, entry.rules)
        except ContentError as error:
            self._report_each(entry, error)
            return
        self._remark_each(entry, audience.remarks)
        self._digests.append(_digest("audience", entry.id, entry.name, entry.rules))
        self._audience_ids[Reference("entry", entry.entry)] = self._audience_ids[Reference("id", entry.id)] = entry.id
        yield audience, ListedAudience(entry.id, entry.name, entry.file, entry.entry, entry.rules)

    def _experience(self, entry: ExperienceEntry) -> Iterator[tuple[Experience, ListedExperience]]:
        audience = None if entry.audience is None else self._audience_ids.get(entry.audience)
        try:
            _check_depth(entry.config)
            experience = compile_experience(entry.id, entry.name, entry.type, audience, entry.config)
        except ContentError as error:
            self._report_each(entry, error)
            return
        for path, message in experience.ignored:
            where = f"{_place(entry, path)}: {message}"
            self._problems.append(
                Problem("left out", entry.file, entry.entry, where, "only this component is not served")
            )
        self._remark_each(entry, experience.remarks)
        if entry.audience is not None and audience is None:
            reason = self._absent.get(entry.audience.target, _UNKNOWN)
            self._absent[entry.entry] = "is ignored, as its audience is"
            self._report(
                "ignored", entry, f"this experience is shown to nobody: its audience {entry.audience.target} {reason}"
            )
            return
        self._digests.append(_digest("experience", entry.id, entry.name, entry.type, audience, entry.config))
        self._experience_ids[Reference("entry", entry.entry)] = self._experience_ids[Reference("id", entry.id)] = (
            entry.id
        )
        yield (
            experience,
            ListedExperience(
                entry.id,
                entry.name,
                entry.type,
                audience,
                experience.traffic,
                tuple(round(end - start, 9) for start, end in pairwise((0, *experience.ends))),
                experience.sticky,
                entry.file,
                entry.entry,
                entry.config,
            ),
        )

    def _metric(self, entry: MetricEntry) -> Iterator[Metric]:
        defined = (entry.id, entry.name, entry.type, entry.event, entry.property, entry.direction)
        try:
            metric = compile_metric(*defined)
        except ContentError as error:
            for path, message in error.problems:
                self._report("left out", entry, f"{entry.prefix}{path}: {message}")
            return
        self._digests.append(_digest("metric", *defined))
        yield metric

    def _primary_metric(self, entry: ExperienceEntry, metrics: MetricSet) -> Iterator[Metric | None]:
        """Yield the metric that an experience's config names by id or name.

        Nothing else in the config depends on this metric.
        """
        name = entry.config.get("primaryMetric") if isinstance(entry.config, dict) else None
        if isinstance(name, str) and name:
            metric = metrics.find(name)
            # If the content defines no metrics, the name is one of the hosted service, which measures it.
            if metric is None and metrics.metrics:
                place = f"{entry.member}.primaryMetric"
                self._report("note", entry, f'{place}: found "{shorten(name)}", expected the id or name of a metric')
            yield metric

    def _report_each(self, entry: AudienceEntry | ExperienceEntry, error: ContentError) -> None:
        for path, message in error.problems:
            self._report("left out", entry, f"{_place(entry, path)}: {message}")

    def _remark_each(self, entry: AudienceEntry | ExperienceEntry, remarks: Iterable[Remark]) -> None:
        for kind, path, message in remarks:
            self._report(kind, entry, f"{_place(entry, path)}: {message}")

    def _priorities(self, entries: Iterable[BaselineEntry]) -> dict[str, tuple[str, ...]]:
        by_entry: dict[str, BaselineEntry] = {}
        for entry in entries:
            if (same := by_entry.setdefault(entry.entry, entry)) != entry:
                self._report("left out", entry, f"exists twice with different content, also in {same.file}")
        experiences_by_entry = {id: tuple(dict.fromkeys(self._followed(entry))) for id, entry in by_entry.items()}
        return {id: experiences for id, experiences in experiences_by_entry.items() if experiences}

    def _followed(self, entry: BaselineEntry) -> Iterable[str]:
        for index, reference in enumerate(entry.experiences):
            if (id := self._experience_ids.get(reference)) is not None:
                yield id
            else:
                reason = self._absent.get(reference.target, _UNKNOWN)
                self._report("ignored", entry, f"nt_experiences[{index}]: the experience {reference.target} {reason}")


def _place(entry: AudienceEntry | ExperienceEntry, path: str) -> str:
    """Return a path as the author sees it; the core calls all rules ``rules`` and a whole config ``config``."""
    if isinstance(entry, ExperienceEntry) and path == "type":
        return entry.member.replace("config", "type")
    whole = "rules" if isinstance(entry, AudienceEntry) else "config"
    inner = path.removeprefix(whole).removeprefix(".")
    return f"{entry.member}.{inner}" if inner else entry.member


def _check_depth(document: object) -> None:
    level, depth = [document], 0
    while level:
        if (depth := depth + 1) > _DEEPEST:
            raise ContentError([("", f"is nested deeper than {_DEEPEST} levels")])
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]


def _digest(*content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _entry_ids(baselines: Iterable[str], experiences: ExperienceSet) -> frozenset[str]:
    parts = [part for experience in experiences.experiences for part in experience.replacements]
    return frozenset(baselines).union(*[(part.baseline, *part.variants) for part in parts])
