"""Computes what unpublished content would change, from what visitors did (spec section 15).

Pure: evaluates each visitor by both versions of the content and adds up the results. `replay.py` reads the visitors.
"""

from __future__ import annotations

import heapq
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import orjson

from ninetailed_wsgi.content import Catalog, ListedExperience
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.experiences import Experience

Change = Literal["added", "removed", "changed", "same"]
HistoryReader = Callable[[], Iterable[tuple[int, int, Mapping[str, Any]]]]

SAMPLES = 10
"""The most visitors that are shown as samples, with what they get before and after."""

NONE = "none"
_NORMAL_95 = 1.959963984540054  # the quantile of 0.975


class View(NamedTuple):
    """What a visitor gets from one version of the content.

    Attributes:
        audiences: the ids of the audiences that the visitor belongs to.
        indexes: experience id to variant index; None if the experience is not for this visitor.
        flags: key to value, for flags that have a value.
    """

    audiences: tuple[str, ...]
    indexes: Mapping[str, int | None]
    flags: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """Return the view as JSON."""
        variants = {id: index for id, index in self.indexes.items() if index is not None}
        return {"audiences": list(self.audiences), "experiences": variants, "flags": dict(self.flags)}


class ContentComparison:
    """Evaluates visitors by two versions of the content.

    Args:
        before: the published content.
        after: the content that would replace it.
        now: the time of the decision, ms.
    """

    def __init__(self, before: Catalog, after: Catalog, now: int) -> None:
        self.before = before
        self.after = after
        self.now = now

    def decide(self, record: profile.Record, next_ordinal: int, history: HistoryReader) -> tuple[View, View]:
        """Return what a visitor gets from each version; do not change the record, read the history only if needed.

        The result is the same as publishing the content and asking the API at that time.
        """
        before, after = self.before.audiences, self.after.audiences
        counts = record["counts"]
        published = counts
        if before.missing(counts):  # still counted by older content
            whole: dict[str, Any] = {}
            before.recount(whole, history())
            published = whole
        draft = after.counts_for(published, before, history)
        return (
            _view(self.before, {**record, "counts": published}, next_ordinal, self.now),
            _view(self.after, {**record, "counts": draft}, next_ordinal, self.now),
        )

    def is_incomplete(self, record: profile.Record, next_ordinal: int, events: int) -> bool:
        """Return whether the draft asks about dropped events; ``events`` is the number of events in the history."""
        return events < next_ordinal and self.after.audiences.reads_history(self.before.audiences)


def _view(catalog: Catalog, record: profile.Record, next_ordinal: int, now: int) -> View:
    audiences = catalog.audiences.matched(profile.facts(record, next_ordinal, now))
    belongs, stable_id, sticky = frozenset(audiences), record["stable_id"], record["sticky"]
    indexes = {
        experience.id: experience.assign(experience.allocated(stable_id), belongs, sticky)
        for experience in catalog.experiences.experiences
    }
    return View(tuple(audiences), indexes, catalog.flags.values(indexes))


@dataclass(slots=True)
class ChangeTally:
    """Adds up visitors; its size does not depend on the number of visitors.

    Attributes:
        evaluated: how many visitors were added.
        changed: how many of them would get something else.
        incomplete: for how many of them the history lacks events that the draft asks about.
    """

    comparison: ContentComparison
    evaluated: int = 0
    changed: int = 0
    incomplete: int = 0
    _audiences: dict[str, Counter[tuple[bool, bool]]] = field(default_factory=dict)
    _experiences: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    _flags: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    _samples: list[tuple[int, str, View, View]] = field(default_factory=list)

    def add(self, id: str, draw: int, before: View, after: View) -> None:
        """Add one visitor; ``draw`` is a hash of the visitor's id, by which samples are chosen."""
        self.evaluated += 1
        was, becomes = frozenset(before.audiences), frozenset(after.audiences)
        for audience in was | becomes:
            self._audiences.setdefault(audience, Counter())[audience in was, audience in becomes] += 1
        for experience in before.indexes.keys() | after.indexes.keys():
            move = _label(before.indexes.get(experience)), _label(after.indexes.get(experience))
            self._experiences.setdefault(experience, Counter())[move] += 1
        for key in before.flags.keys() | after.flags.keys():
            if (pair := (_text(before.flags, key), _text(after.flags, key)))[0] != pair[1]:
                self._flags.setdefault(key, Counter())[pair] += 1
        if before != after and not _is_same(before, after):
            self.changed += 1
            heapq.heappush(self._samples, (-draw, id, before, after))
            if len(self._samples) > SAMPLES:
                heapq.heappop(self._samples)

    def document(self, total: int) -> dict[str, Any]:
        """Return everything as JSON; ``total`` is the number of all visitors."""
        before, after = self.comparison.before, self.comparison.after
        sampled = self.evaluated < total
        changes = _experience_changes(before, after)
        return {
            "content": {"from": before.version, "to": after.version},
            "visitors": {"total": total, "evaluated": self.evaluated, "incomplete": self.incomplete},
            "audiences": [self._audience(*each, sampled) for each in _audience_changes(before, after)],
            "experiences": [self._experience(id, change) for id, change in changes],
            "flags": [{"key": key, "moves": _flag_moves(moves)} for key, moves in sorted(self._flags.items())],
            "visitorsChanged": {
                "any": self.changed,
                "share": self.changed / self.evaluated if self.evaluated else 0.0,
                "interval": interval(self.changed, self.evaluated) if sampled else None,
            },
            "spoiled": self._spoiled(),
            "samples": [
                {"profileId": id, "before": was.document(), "after": becomes.document()}
                for _, id, was, becomes in sorted(self._samples, key=lambda each: (-each[0], each[1]))
            ],
            "deterministic": True,
        }

    def _audience(self, id: str, name: str, change: Change, sampled: bool) -> dict[str, Any]:
        counts = self._audiences.get(id, Counter())
        after = counts[True, True] + counts[False, True]
        return {
            "id": id,
            "name": name,
            "change": change,
            "before": counts[True, True] + counts[True, False],
            "after": after,
            "enter": counts[False, True],
            "leave": counts[True, False],
            "interval": interval(after, self.evaluated) if sampled else None,
        }

    def _experience(self, id: str, change: Change) -> dict[str, Any]:
        moves = self._experiences.get(id, Counter())
        sides: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        for move, visitors in moves.items():
            for side, label in zip(sides, move, strict=True):
                side[label] += visitors
        return {
            "id": id,
            "change": change,
            "before": _by_label(sides[0]),
            "after": _by_label(sides[1]),
            "moves": [
                {"from": start, "to": end, "visitors": visitors}
                for (start, end), visitors in sorted(moves.items(), key=lambda each: (-each[1], each[0]))
                if start != end
            ],
        }

    def _spoiled(self) -> list[str]:
        """Return the running experiments whose numbers the draft would give another meaning."""
        before, after = self.comparison.before, self.comparison.after
        rules = {id: change for id, _, change in _audience_changes(before, after)}
        drafts = {each.id: each for each in after.experience_list}
        spoiled = []
        for each in before.experience_list:
            running = any(start != NONE for start, _ in self._experiences.get(each.id, ()))
            if each.type != "nt_experiment" or not running:
                continue
            draft = drafts.get(each.id)
            if (
                draft is None
                or (draft.type, draft.audience) != (each.type, each.audience)
                or after.exposures.phases[each.id] != before.exposures.phases[each.id]
                or rules.get(each.audience or "", "same") != "same"
            ):
                spoiled.append(each.id)
        return sorted(spoiled)


def why(comparison: ContentComparison, sample: Mapping[str, Any]) -> list[str]:
    """Return a line for each experience that says why a visitor of `ChangeTally.document` gets another variant."""
    before, after = sample["before"], sample["after"]
    rules = {id: change for id, _, change in _audience_changes(comparison.before, comparison.after)}
    compiled = {each.id: each for each in comparison.after.experiences.experiences}
    lines = []
    for id in sorted(before["experiences"].keys() | after["experiences"].keys()):
        was, becomes = before["experiences"].get(id), after["experiences"].get(id)
        if was != becomes:
            lines.append(f"{id}: {_label(was)} -> {_label(becomes)}, {_reason(compiled.get(id), before, after, rules)}")
    return lines


def _reason(
    experience: Experience | None, before: Mapping[str, Any], after: Mapping[str, Any], rules: Mapping[str, Change]
) -> str:
    if experience is None:
        return "the draft does not have it"
    audience = experience.audience
    if audience is not None and (audience in before["audiences"]) != (audience in after["audiences"]):
        verb = "enters" if audience in after["audiences"] else "leaves"
        return f"because the visitor {verb} the audience {audience}, which is {rules.get(audience, 'same')}"
    return "because its audience, traffic or distribution changed"


def interval(part: int, whole: int) -> list[float]:
    """Return the 95 % interval of a share found in a sample (Wilson's score interval)."""
    if not whole:
        return [0.0, 1.0]
    share, square = part / whole, _NORMAL_95**2 / whole
    middle = (share + square / 2) / (1 + square)
    half = _NORMAL_95 / (1 + square) * math.sqrt(share * (1 - share) / whole + square / (4 * whole))
    return [max(0.0, middle - half), min(1.0, middle + half)]


def _audience_changes(before: Catalog, after: Catalog) -> list[tuple[str, str, Change]]:
    """Return id, name and change of every audience in either version of the content, by id."""
    was = {each.id: each for each in before.audience_list}
    becomes = {each.id: each for each in after.audience_list}
    changes = []
    for id in sorted(was.keys() | becomes.keys()):
        start, end = was.get(id), becomes.get(id)
        same = start is not None and end is not None and _canonical(start.rules) == _canonical(end.rules)
        name = (end or start).name  # type: ignore[union-attr]
        changes.append((id, name, _change(start is None, end is None, same)))
    return changes


def _experience_changes(before: Catalog, after: Catalog) -> list[tuple[str, Change]]:
    was = {each.id: each for each in before.experience_list}
    becomes = {each.id: each for each in after.experience_list}
    return [
        (id, _change(id not in was, id not in becomes, _definition(was.get(id)) == _definition(becomes.get(id))))
        for id in sorted(was.keys() | becomes.keys())
    ]


def _definition(experience: ListedExperience | None) -> object:
    return experience and (experience.type, experience.audience, _canonical(experience.config))


def _change(is_new: bool, is_gone: bool, is_same: bool) -> Change:
    return "added" if is_new else "removed" if is_gone else "same" if is_same else "changed"


def _canonical(document: object) -> str:
    return json.dumps(document, sort_keys=True)


def _is_same(before: View, after: View) -> bool:
    """Return whether a visitor gets the same; an experience that is not for them counts like a missing one."""
    return before.document() == after.document()


def _label(index: int | None) -> str:
    return NONE if index is None else str(index)


def _by_label(visitors: Counter[str]) -> dict[str, int]:
    """Return the number of visitors by label, with the indexes in order and those without an index last."""
    return {label: visitors[label] for label in sorted(visitors, key=lambda label: (label == NONE, len(label), label))}


def _text(flags: Mapping[str, Any], key: str) -> str:
    """Return a value as text that can be counted; empty for a missing value."""
    return orjson.dumps(flags[key], option=orjson.OPT_SORT_KEYS).decode() if key in flags else ""


def _flag_moves(moves: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    return [
        {"from": orjson.loads(start or "null"), "to": orjson.loads(end or "null"), "visitors": visitors}
        for (start, end), visitors in sorted(moves.items(), key=lambda each: (-each[1], each[0]))
    ]
