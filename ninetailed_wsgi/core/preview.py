"""What a preview changes in a decision: one person sees a site as another visitor would (spec section 13).

Pure functions: they take overrides and a profile, and return what is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ninetailed_wsgi.core.events import EventTimeError, event_time
from ninetailed_wsgi.core.experiences import Experience, ExperienceSet
from ninetailed_wsgi.core.location import given_members
from ninetailed_wsgi.core.problems import excerpt, shorten
from ninetailed_wsgi.core.profile import Record, english_location
from ninetailed_wsgi.errors import InvalidData

ContentName = Literal["published", "draft"]

MEMBERS = ("audiences", "experiences", "traits", "location", "at", "content")
_LATEST = 253_402_300_799_999  # the last millisecond of the year 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """How a preview differs from what the visitor would get.

    Attributes:
        audiences: audience id to whether the visitor belongs to it.
        experiences: experience id to the variant index that is shown.
        traits: replace those of the profile, one by one.
        location: members that replace those of the profile, with English names.
        at: the time that the decision uses as now, ms since the epoch; None: the real time.
        content: which content decides.
        explains: whether to answer with the reasons, like `ExperienceService.explain`; not part of the JSON.
        visitor: a UUID that makes somebody without an id the same new visitor on each page; not part of the JSON.
    """

    audiences: Mapping[str, bool] = field(default_factory=dict)
    experiences: Mapping[str, int] = field(default_factory=dict)
    traits: Mapping[str, Any] = field(default_factory=dict)
    location: Mapping[str, Any] = field(default_factory=dict)
    at: int | None = None
    content: ContentName = "published"
    explains: bool = False
    visitor: str = ""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Overrides:
        """Read overrides that satisfy ``preview.schema.json``; raise InvalidData for any other error in them."""
        problems = [
            f"preview.{shorten(name)}: no such member, expected one of {', '.join(MEMBERS)}"
            for name in document
            if name not in MEMBERS
        ]
        audiences, experiences = document.get("audiences") or {}, document.get("experiences") or {}
        for id, belongs in audiences.items():
            if not isinstance(belongs, bool):
                problems.append(f"preview.audiences.{shorten(id)}: found {excerpt(belongs)}, expected true or false")
        for id, index in experiences.items():
            if isinstance(index, bool) or not isinstance(index, int | float) or not 0 <= index == index // 1:
                problems.append(
                    f"preview.experiences.{shorten(id)}: found {excerpt(index)}, expected the index of a variant"
                )
        if problems:
            raise InvalidData(problems[:10])
        at = document.get("at")
        return cls(
            audiences=dict(audiences),
            experiences={id: int(index) for id, index in experiences.items()},  # JSON may write 1 as 1.0
            traits=dict(document.get("traits") or {}),
            location=given_members({"context": {"location": document.get("location") or {}}}),
            at=None if at is None or at == "" else moment(at),
            content=document.get("content") or "published",
        )

    def now(self, now: int) -> int:
        """Return the time that counts as now, ms."""
        return now if self.at is None else self.at

    def document(self) -> dict[str, Any]:
        """Return the overrides as JSON, without those that change nothing."""
        members: dict[str, Any] = {
            "audiences": dict(self.audiences),
            "experiences": dict(self.experiences),
            "traits": dict(self.traits),
            "location": dict(self.location),
            "at": self.at,
            "content": self.content if self.content != "published" else None,
        }
        return {name: value for name, value in members.items() if value not in (None, {})}

    def check(self, audiences: Collection[str], experiences: ExperienceSet) -> None:
        """Reject overrides for audiences, experiences or variants that the content does not have.

        Raises:
            InvalidData: an audience or experience is not published, or an experience has no such variant.
        """
        problems = [
            f"preview.audiences: found {excerpt(id)}, expected {_one_of(audiences, 'audience')}"
            for id in self.audiences
            if id not in audiences
        ]
        by_id = {experience.id: experience for experience in experiences.experiences}
        for id, index in self.experiences.items():
            if id not in by_id:
                expected = _one_of(by_id, "experience")
                problems.append(f"preview.experiences: found {excerpt(id)}, expected {expected}")
            elif not 0 <= index < len(by_id[id].outcomes):
                last = len(by_id[id].outcomes) - 1
                problems.append(f"preview.experiences.{shorten(id)}: found {index}, expected 0 to {last}")
        if problems:
            raise InvalidData(problems[:10])


def moment(value: object) -> int:
    """Return a time (ISO 8601 text or milliseconds since the epoch) in milliseconds; raise InvalidData otherwise."""
    try:
        return event_time({"timestamp": value}, _LATEST)
    except (EventTimeError, TypeError):
        raise InvalidData(
            f"preview.at: found {excerpt(value)}, expected an ISO 8601 time or milliseconds since 1970-01-01"
        ) from None


def overridden(record: Record, overrides: Overrides) -> Record:
    """Return a profile with the traits and the location of a preview; the record itself does not change."""
    if not overrides.traits and not overrides.location:
        return record
    previewed = {**record, "traits": {**record["traits"], **overrides.traits}}
    if overrides.location:
        previewed["location"] = {**record["location"], **overrides.location}
        previewed["location_en"] = {**english_location(record), **overrides.location}
    return previewed


def belongs(matched: Sequence[str], overrides: Overrides, published: Sequence[str]) -> list[str]:
    """Return the audiences of a preview.

    Args:
        matched: ids of the audiences whose rules match, sorted ignoring case.
        published: ids of all published audiences, in the same order.
    """
    if not overrides.audiences:
        return list(matched)
    natural = set(matched)
    return [id for id in published if overrides.audiences.get(id, id in natural)]


def select(
    experiences: ExperienceSet,
    stable_id: str,
    audiences: Collection[str],
    sticky: Mapping[str, int],
    overrides: Overrides,
    *,
    entities: bool = False,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return ``experiences`` and ``changes`` as `ExperienceSet.select` does, with the variants of a preview."""
    items: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for experience in experiences.experiences:
        index = _index(experience, stable_id, audiences, sticky, overrides)
        if index is not None:
            outcome = experience.outcome(index)
            items.append(outcome.item)
            changes.extend(outcome.entity_changes if entities else outcome.changes)
    return items, changes


def explain(
    experiences: ExperienceSet,
    stable_id: str,
    audiences: Collection[str],
    sticky: Mapping[str, int],
    overrides: Overrides,
) -> list[dict[str, Any]]:
    """Explain each experience as `ExperienceSet.explain` does; ``decided_by`` is ``"preview"`` for forced variants."""
    rows = experiences.explain(stable_id, audiences, sticky)
    for experience, reasons in zip(experiences.experiences, rows, strict=True):
        index = experience.previewed(overrides.experiences)
        if index is not None:
            reasons["decided_by"], reasons["variantIndex"] = "preview", index
            reasons["variants"] = experience.outcome(index).item["variants"]
    return rows


def _index(
    experience: Experience,
    stable_id: str,
    audiences: Collection[str],
    sticky: Mapping[str, int],
    overrides: Overrides,
) -> int | None:
    # Content may have changed since the preview was made: ignore overrides for what no longer exists.
    forced = experience.previewed(overrides.experiences)
    return experience.assign(experience.allocated(stable_id), audiences, sticky) if forced is None else forced


def _one_of(names: Collection[str], kind: str) -> str:
    if not names:
        return f"no {kind}: none is published"
    choice = ", ".join(shorten(name, 40) for name in sorted(names)[:10])
    return f"the id of a published {kind}: {choice}{', ...' if len(names) > 10 else ''}"
