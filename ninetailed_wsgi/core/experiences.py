"""The set of published experiences: which variant of each a visitor sees, and why.

Source: spec section 6. Every item of an answer is built when content loads; a decision is two hashes and a lookup.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import mmh3

from ninetailed_wsgi.core.problems import ContentError, Problems

__all__ = ["ContentError", "Experience", "ExperienceSet", "compile_experience", "hash_fraction"]

TYPES = ("nt_experiment", "nt_personalization")
VALUE_TYPES = ("String", "Boolean", "Number", "Object")
COMPONENT_TYPES = ("EntryReplacement", "InlineVariable")
DEFAULT_DISTRIBUTION = (0.5, 0.5)
LARGEST_HASH = 4294967295
ALLOCATIONS_KEPT = 2048
"""Visitors whose allocations an environment caches."""

# Far above any share; excludes numbers that cannot be added as floats.
LARGEST_SHARE = 1e9


class Replacement(NamedTuple):
    """One entry replacement: the baseline's id, and the ids to show instead at index 1, 2, ...; ``""`` hides it."""

    baseline: str
    variants: tuple[str, ...]


class Variable(NamedTuple):
    """One inline variable: its key, the baseline's value, and the values at index 1, 2, ..."""

    key: str
    baseline: object
    variants: tuple[object, ...]


class Outcome(NamedTuple):
    """What is answered for one variant index: the item of ``experiences`` and the items of ``changes``."""

    item: dict[str, Any]
    changes: tuple[dict[str, Any], ...]


def hash_fraction(text: str) -> float:
    """Hash the UTF-8 text with MurmurHash3 x86 32-bit, seed 0, as a fraction from 0 to 1 inclusive (spec section 6)."""
    # Bytes, never text: mmh3 5.3 aborts the process on half of a surrogate pair, which JSON allows in an id.
    return mmh3.hash(text.encode("utf-8", "surrogatepass"), 0, False) / LARGEST_HASH


@dataclass(frozen=True, slots=True)
class Experience:
    """One compiled experience.

    Attributes:
        audience: id of the audience it is for; ``None``: everyone.
        traffic: share of visitors that are eligible, 0 to 1.
        ends: where the range of each variant index ends; each range starts where the previous one ends, the first at 0.
        sticky: whether a stored assignment decides.
        outcomes: the answers by variant index, for every share or variant.
        traffic_prefix: followed by the stable id: the text whose hash must be below ``traffic``.
        distribution_prefix: followed by the stable id: the text whose hash chooses a range.
    """

    id: str
    name: str
    type: str
    audience: str | None
    traffic: float
    ends: tuple[float, ...]
    sticky: bool
    replacements: tuple[Replacement, ...]
    variables: tuple[Variable, ...]
    outcomes: tuple[Outcome, ...]
    traffic_prefix: str
    distribution_prefix: str

    def allocated(self, stable_id: str) -> int | None:
        """Return the variant index that traffic and distribution give a visitor.

        ``None``: not in the traffic.
        """
        if not self.traffic > hash_fraction(self.traffic_prefix + stable_id):
            return None
        return self.distributed(hash_fraction(self.distribution_prefix + stable_id))

    def assign(self, allocated: int | None, audiences: Collection[str], sticky: Mapping[str, int]) -> int | None:
        """Return the variant index of a visitor with this allocation (`allocated`).

        ``None`` where the experience is not for them.
        """
        # A stored assignment wins over distribution, traffic and audience.
        if self.sticky and (index := sticky.get(self.id)) is not None:
            return index
        if self.audience is not None and self.audience not in audiences:
            return None
        return allocated

    def distributed(self, fraction: float) -> int:
        """Return the first index whose range contains a fraction, both ends included; 0 if none does."""
        index = bisect_left(self.ends, fraction)
        return index if index < len(self.ends) else 0

    def outcome(self, index: int) -> Outcome:
        """Return the answer for a variant index; one beyond the variants shows the baselines."""
        if index < len(self.outcomes):
            return self.outcomes[index]
        return _outcome(self.id, index, self.sticky, self.replacements, self.variables)


class ExperienceSet:
    """All experiences of one environment, sorted by id ignoring case. Immutable, shared by all threads."""

    def __init__(self, experiences: Iterable[Experience]) -> None:
        """Sort the experiences.

        Raises:
            ValueError: two experiences have the same id.
        """
        self.experiences = tuple(sorted(experiences, key=lambda experience: (experience.id.casefold(), experience.id)))
        if len({experience.id for experience in self.experiences}) < len(self.experiences):
            raise ValueError("two experiences have the same id")
        self.sticky_ids = frozenset(experience.id for experience in self.experiences if experience.sticky)
        # PERF: visitors send several requests, and hashing took two thirds of a selection's time.
        self._allocated = lru_cache(maxsize=ALLOCATIONS_KEPT)(self._allocate)

    def _allocate(self, stable_id: str) -> tuple[int | None, ...]:
        return tuple(experience.allocated(stable_id) for experience in self.experiences)

    def select(
        self, stable_id: str, audiences: Collection[str], sticky: Mapping[str, int]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the ``experiences`` and ``changes`` that the API answers to a visitor.

        Args:
            stable_id: of the profile.
            audiences: ids that the profile belongs to.
            sticky: stored assignments, experience id to variant index.

        Returns:
            Both lists sorted by experience id ignoring case, changes of one experience by key. Their items are
            shared by all answers: do not change them.
        """
        belongs_to = frozenset(audiences)
        items: list[dict[str, Any]] = []
        changes: list[dict[str, Any]] = []
        for experience, allocated in zip(self.experiences, self._allocated(stable_id), strict=True):
            index = experience.assign(allocated, belongs_to, sticky)
            if index is not None:
                outcome = experience.outcome(index)
                items.append(outcome.item)
                if outcome.changes:
                    changes.extend(outcome.changes)
        return items, changes

    def explain(self, stable_id: str, audiences: Collection[str], sticky: Mapping[str, int]) -> list[dict[str, Any]]:
        """Explain each experience: the inputs of its decision, and the chosen index.

        Returns:
            ``{"id", "name", "type", "audience", "audience_matched", "traffic", "traffic_hash", "in_traffic", "ranges",
            "distribution_hash", "distribution_index", "sticky", "sticky_index", "decided_by", "variantIndex"}`` for
            each; ``decided_by`` is ``"sticky"``, ``"distribution"`` or ``None``, if the experience is left out.
        """
        return [_explain(experience, stable_id, audiences, sticky) for experience in self.experiences]


def _explain(
    experience: Experience, stable_id: str, audiences: Collection[str], sticky: Mapping[str, int]
) -> dict[str, Any]:
    index = experience.assign(experience.allocated(stable_id), audiences, sticky)
    kept = sticky.get(experience.id) if experience.sticky else None
    traffic_hash = hash_fraction(experience.traffic_prefix + stable_id)
    distribution_hash = hash_fraction(experience.distribution_prefix + stable_id)
    return {
        "id": experience.id,
        "name": experience.name,
        "type": experience.type,
        "audience": experience.audience,
        "audience_matched": experience.audience is None or experience.audience in audiences,
        "traffic": experience.traffic,
        "traffic_hash": traffic_hash,
        "in_traffic": experience.traffic > traffic_hash,
        "ranges": [list(ends) for ends in pairwise((0, *experience.ends))],
        "distribution_hash": distribution_hash,
        "distribution_index": experience.distributed(distribution_hash),
        "sticky": experience.sticky,
        "sticky_index": kept,
        "decided_by": None if index is None else "distribution" if kept is None else "sticky",
        "variantIndex": index,
    }


def compile_experience(id: str, name: str, type: str, audience: str | None, config: object) -> Experience:
    """Compile an experience.

    Args:
        id: ``nt_experience_id``.
        type: ``nt_experiment`` or ``nt_personalization``, evaluated in the same way.
        audience: id of its audience; ``None``: everyone.
        config: ``nt_config``; may be ``None``, and any member may be missing or ``null`` (spec section 6).

    Raises:
        ContentError: with every problem; paths are relative to the config, except ``type``, the experience's own.
    """
    problems = Problems()
    if type not in TYPES:
        problems.add_choice("type", type, TYPES)
    if config is not None and not isinstance(config, dict):
        problems.add("config", config, "an object")
    members: Mapping[str, Any] = config if isinstance(config, dict) else {}
    traffic = _traffic(members.get("traffic"), problems)
    distribution = _distribution(members.get("distribution"), problems)
    sticky = members.get("sticky")
    if sticky is not None and not isinstance(sticky, bool):
        problems.add("sticky", sticky, "true or false")
    replacements, variables = _components(members.get("components"), problems)
    problems.raise_any()
    parts: list[Replacement | Variable] = [*replacements, *variables]
    indices = max([1, len(distribution), *(1 + len(part.variants) for part in parts)])
    return Experience(
        id=id,
        name=name,
        type=type,
        audience=audience,
        traffic=traffic,
        # Add in the same order as the clients, so that the ends of ranges are the same floats.
        ends=tuple(accumulate(distribution)),
        sticky=bool(sticky),
        replacements=replacements,
        variables=variables,
        outcomes=tuple(_outcome(id, index, bool(sticky), replacements, variables) for index in range(indices)),
        traffic_prefix=f"traffic-{id}-",
        distribution_prefix=f"distribution-{id}-",
    )


def _outcome(
    id: str, index: int, sticky: bool, replacements: tuple[Replacement, ...], variables: tuple[Variable, ...]
) -> Outcome:
    variants: dict[str, str] = {}
    for part in replacements:
        # If two components replace one baseline, the first counts, as in the SDK.
        variants.setdefault(part.baseline, _chosen(part.baseline, part.variants, index))
    item: dict[str, Any] = {"experienceId": id, "variantIndex": index, "variants": variants}
    if sticky:
        item["sticky"] = True
    return Outcome(
        item,
        tuple(
            {
                "key": part.key,
                "value": _chosen(part.baseline, part.variants, index),
                "type": "Variable",
                "meta": {"experienceId": id, "variantIndex": index},
            }
            for part in variables
        ),
    )


def _chosen(baseline: Any, variants: tuple[Any, ...], index: int) -> Any:
    return variants[index - 1] if 0 < index <= len(variants) else baseline


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST_SHARE


def _traffic(given: Any, problems: Problems) -> float:
    if given is None:
        return 0
    if not _is_share(given) or given > 1:
        problems.add("traffic", given, "a number from 0 to 1")
        return 0
    return float(given)


def _distribution(given: Any, problems: Problems) -> tuple[float, ...]:
    if given is None:
        return DEFAULT_DISTRIBUTION
    if not isinstance(given, list):
        problems.add("distribution", given, "a list of shares")
        return DEFAULT_DISTRIBUTION
    for index, share in enumerate(given):
        if not _is_share(share):
            problems.add(f"distribution[{index}]", share, "a share, 0 or more")
    return tuple(given)


def _components(given: Any, problems: Problems) -> tuple[tuple[Replacement, ...], tuple[Variable, ...]]:
    replacements: list[Replacement] = []
    variables: list[Variable] = []
    if given is not None and not isinstance(given, list):
        problems.add("components", given, "a list")
        given = None
    for index, component in enumerate(given or ()):
        path = f"components[{index}]"
        if not isinstance(component, dict):
            problems.add(path, component, "an object")
            continue
        kind = component.get("type")
        if kind is not None and kind not in COMPONENT_TYPES:
            problems.add_choice(f"{path}.type", kind, COMPONENT_TYPES)
        elif kind == "InlineVariable":
            variables.append(_variable(component, path, problems))
        elif (replacement := _replacement(component, path, problems)).baseline:
            # Authoring tools store drafts without a baseline's id: there is nothing to replace yet.
            replacements.append(replacement)
    variables.sort(key=lambda variable: (variable.key.casefold(), variable.key))
    return tuple(replacements), tuple(variables)


def _objects(
    component: Mapping[str, Any], path: str, problems: Problems
) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """Return a component's baseline and its variants, the latter with their paths."""
    baseline = component.get("baseline")
    if not isinstance(baseline, dict):
        problems.add(f"{path}.baseline", baseline, "an object")
        baseline = {}
    listed = component.get("variants")
    if listed is not None and not isinstance(listed, list):
        problems.add(f"{path}.variants", listed, "a list")
        listed = None
    variants = []
    for index, variant in enumerate(listed or ()):
        place = f"{path}.variants[{index}]"
        if isinstance(variant, dict):
            variants.append((place, variant))
        else:
            problems.add(place, variant, "an object")
    return baseline, variants


def _replacement(component: Mapping[str, Any], path: str, problems: Problems) -> Replacement:
    baseline, variants = _objects(component, path, problems)
    baseline_id = _entry_id(baseline, f"{path}.baseline", problems)
    chosen = []
    for place, variant in variants:
        hidden = variant.get("hidden")
        if hidden is not None and not isinstance(hidden, bool):
            problems.add(f"{place}.hidden", hidden, "true or false")
        # A variant whose entry is not chosen yet shows the baseline.
        chosen.append("" if hidden is True else _entry_id(variant, place, problems) or baseline_id)
    return Replacement(baseline_id, tuple(chosen))


def _entry_id(entry: Mapping[str, Any], path: str, problems: Problems) -> str:
    found = entry.get("id")
    if found is not None and not isinstance(found, str):
        problems.add(f"{path}.id", found, "the id of an entry")
    return found if isinstance(found, str) else ""


def _variable(component: Mapping[str, Any], path: str, problems: Problems) -> Variable:
    key = component.get("key")
    if not isinstance(key, str) or not key:
        problems.add(f"{path}.key", key, "the name of a variable")
        key = ""
    value_type = component.get("valueType")
    if value_type is not None and value_type not in VALUE_TYPES:
        problems.add_choice(f"{path}.valueType", value_type, VALUE_TYPES)
    baseline, variants = _objects(component, path, problems)
    for place, holder in ((f"{path}.baseline", baseline), *variants):
        if "value" not in holder:
            problems.add(f"{place}.value", None, "a value")
    return Variable(key, baseline.get("value"), tuple(variant.get("value") for _, variant in variants))
