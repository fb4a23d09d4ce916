"""The data of content files in any format: audiences, experiences, merge tags and baselines, not yet compiled.

The readers (`contentful`, `generic`) produce these objects; `compiling` makes a `Catalog` of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from ninetailed_wsgi.core.problems import excerpt

Severity = Literal["error", "left out", "odd", "ignored", "note"]

STRICT: frozenset[Severity] = frozenset({"error", "left out", "odd"})
"""What ``check --strict`` fails on: content in a form that no authoring tool stores."""


class Problem(NamedTuple):
    """One thing in the content that a person should know (spec section 7).

    Attributes:
        severity: ``error``: none of the content is served until this is fixed; ``left out``: this entry, or this part
            of it, is invalid, and everything else is served; ``odd``: understood and served, though no authoring tool
            stores it this way; ``ignored``: not served, perhaps on purpose (a draft); ``note``: served, but perhaps not
            as its author expects.
        file: the file's path.
        entry: the id of the entry; empty if the problem concerns the whole file.
        message: what is wrong, where in the entry, and what was expected.
        extent: the part that is left out, if it is less than the entry; empty otherwise.
    """

    severity: Severity
    file: str
    entry: str
    message: str
    extent: str = ""

    def __str__(self) -> str:
        """Return one line: ``shop.json: entry a1: nt_rules.any[0]: found ..., expected ...``."""
        place = f"{self.file}: entry {self.entry}" if self.entry else self.file
        return f"{place}: {self.message}{f': {self.extent}' if self.extent else ''}"


class Reference(NamedTuple):
    """How one entry names another: by the entry's own id (``entry``) or by the public id (``id``)."""

    by: Literal["entry", "id"]
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AudienceEntry:
    """A published audience; ``member`` is the name of the member with the rules, for messages."""

    entry: str
    id: str
    name: str
    rules: object
    member: str
    file: str = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperienceEntry:
    """A published experience; ``audience`` None means everyone; ``member`` is the member with the config."""

    entry: str
    id: str
    name: str
    type: str
    audience: Reference | None
    config: object
    member: str
    file: str = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeTagEntry:
    """A published merge tag; its id is a path into the profile (spec section 8)."""

    entry: str
    id: str
    name: str
    fallback: str | None
    file: str = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricEntry:
    """A metric (spec section 12); ``prefix`` stands before the names of its members, for messages."""

    entry: str
    id: str
    name: str
    type: object
    event: object
    property: object
    direction: object
    prefix: str = ""
    file: str = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineEntry:
    """An entry that lists its experiences, the most important first."""

    entry: str
    experiences: tuple[Reference, ...]
    file: str = field(compare=False)


@dataclass(slots=True)
class Content:
    """Everything that was read from one or several files.

    Attributes:
        absent: why a known entry is missing, by the entry's id: ``is not published``.
    """

    audiences: list[AudienceEntry] = field(default_factory=list)
    experiences: list[ExperienceEntry] = field(default_factory=list)
    merge_tags: list[MergeTagEntry] = field(default_factory=list)
    metrics: list[MetricEntry] = field(default_factory=list)
    baselines: list[BaselineEntry] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, other: Content) -> None:
        """Add the content of another file."""
        self.audiences += other.audiences
        self.experiences += other.experiences
        self.merge_tags += other.merge_tags
        self.metrics += other.metrics
        self.baselines += other.baselines
        self.absent.update(other.absent)
        self.problems += other.problems


class Faulty(Exception):
    """An entry cannot be used; the text says where the error is, what was found and what was expected."""


def text_of(fields: Mapping[str, object], name: str) -> str | None:
    """Return a member's text, or None if it is missing, null or empty; raise `Faulty` if it is not a text."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value or None
    raise Faulty(f"{name}: found {excerpt(value)}, expected a text")


def is_equal(one: object, other: object) -> bool:
    """Return whether two entries are equal; false if they are nested too deeply for Python to compare."""
    try:
        return one == other
    except RecursionError:
        return False


def refusal(file: str, message: str) -> Content:
    """Return content that contains only the reason why it is not served."""
    return Content(problems=[Problem("error", file, "", message)])
