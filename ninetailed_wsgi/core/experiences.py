"""The set of published experiences: which variant of each a visitor sees, and why.

Source: spec section 6. Every item of an answer is built when content loads; a decision takes two hashes and a lookup.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple

import mmh3

from ninetailed_wsgi.core.components import Components, Replacement, Variable, component_value, read_components
from ninetailed_wsgi.core.problems import ContentError, Problems, Remark

__all__ = ["ContentError", "Experience", "ExperienceSet", "compile_experience", "hash_fraction"]

CONFIG_MEMBERS = (
    "traffic",
    "distribution",
    "components",
    "sticky",
    "scatteredDistribution",
    "distributionType",
    "primaryMetric",
)
TYPES = ("nt_experiment", "nt_personalization")
DEFAULT_DISTRIBUTION = (0.5, 0.5)
LARGEST_HASH = 4294967295
SELECTIONS_KEPT = 1024
"""Selections that an environment caches, usually of a kilobyte each."""

# Far above any share; excludes numbers that cannot be added as floats.
LARGEST_SHARE = 1e9
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,20})?")
_ROUNDING = 0.0055
"""How far each share may be from the exact one, as many are rounded to hundredths: 0.33 three times, 0.17 six times."""


class Outcome(NamedTuple):
    """The part of an answer for one variant index.

    Attributes:
        item: the item of ``experiences``.
        changes: the items of ``changes`` that every client accepts.
        entity_changes: those for clients of the space routes, with experiences, fragments and null values as well.
    """

    item: dict[str, Any]
    changes: tuple[dict[str, Any], ...]
    entity_changes: tuple[dict[str, Any], ...]


def hash_fraction(text: str) -> float:
    """Hash the UTF-8 text with MurmurHash3 x86 32-bit, seed 0, as a fraction from 0 to 1 inclusive (spec section 6)."""
    # Bytes, never text: mmh3 5.3 aborts the process on a lone surrogate, which JSON allows in an id.
    return mmh3.hash(_bytes(text), 0, False) / LARGEST_HASH


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Experience:
    """One compiled experience.

    Attributes:
        audience: id of the audience it is for; ``None``: everyone.
        traffic: share of visitors that are eligible, 0 to 1.
        ends: where the range of each variant index ends; each range starts where the previous one ends, the first at 0.
        sticky: whether a stored assignment decides.
        outcomes: the answers by variant index, for every share or variant.
        ignored: path and message of each component that is not served because its type is unknown.
        remarks: what is valid but unusual.
        traffic_prefix: text before the stable id; the hash of both must be below ``traffic``.
        distribution_prefix: text before the stable id; the hash of both chooses a range.
        salts: both prefixes as UTF-8.
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
    ignored: tuple[tuple[str, str], ...]
    remarks: tuple[Remark, ...]
    traffic_prefix: str
    distribution_prefix: str
    salts: tuple[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "salts", (_bytes(self.traffic_prefix), _bytes(self.distribution_prefix)))

    def allocated(self, stable_id: str) -> int | None:
        """Return the variant index that traffic and distribution give a visitor.

        ``None`` if the visitor is not in the traffic.
        """
        return self.split(_bytes(stable_id))

    def split(self, visitor: bytes) -> int | None:
        """Return the same as `allocated`, for a stable id that is already encoded as UTF-8."""
        traffic, distribution = self.salts
        # PERF: inlined, because many experiences compute this for each visitor.
        if not self.traffic > mmh3.hash(traffic + visitor, 0, False) / LARGEST_HASH:
            return None
        index = bisect_left(self.ends, mmh3.hash(distribution + visitor, 0, False) / LARGEST_HASH)
        return index if index < len(self.ends) else 0

    def assign(self, allocated: int | None, audiences: Collection[str], sticky: Mapping[str, int]) -> int | None:
        """Return the variant index of a visitor with this allocation (`allocated`).

        ``None`` if the experience is not for them.
        """
        # A stored assignment wins over distribution, traffic and audience.
        if self.sticky and (index := sticky.get(self.id)) is not None:
            return index
        if self.audience is not None and self.audience not in audiences:
            return None
        return allocated

    def previewed(self, forced: Mapping[str, int]) -> int | None:
        """Return the variant index that a preview forces; None if it forces none that exists (spec section 13)."""
        index = forced.get(self.id)
        return index if index is not None and 0 <= index < len(self.outcomes) else None

    def distributed(self, fraction: float) -> int:
        """Return the first index whose range, including both ends, contains a fraction; 0 if none does."""
        index = bisect_left(self.ends, fraction)
        return index if index < len(self.ends) else 0

    def indices(self) -> dict[str, int]:
        """Return the first index that shows each variant or baseline, by its id."""
        pairs = [(id, index) for index, each in enumerate(self.outcomes) for id in each.item["variants"].values()]
        return {id: index for id, index in reversed(pairs) if id}

    def outcome(self, index: int) -> Outcome:
        """Return the answer for a variant index; an index beyond the variants shows the baselines."""
        if index < len(self.outcomes):
            return self.outcomes[index]
        return _outcome(self.id, index, self.sticky, Components(self.replacements, self.variables, ()))


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
        self.sticky = {experience.id: experience.indices() for experience in self.experiences if experience.sticky}
        """The sticky experiences: the index of each of their variants, by the variant's id."""
        # PERF: visitors send several requests, and few of them change anything that the selection depends on.
        self._selection = lru_cache(maxsize=SELECTIONS_KEPT)(self._select)

    def select(
        self, stable_id: str, audiences: Collection[str], sticky: Mapping[str, int], *, entities: bool = False
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the ``experiences`` and ``changes`` that the API answers to a visitor.

        Args:
            stable_id: of the profile.
            audiences: ids that the profile belongs to.
            sticky: stored assignments, experience id to variant index.
            entities: whether ``changes`` may hold items that only clients of the space routes accept.

        Returns:
            Both lists, sorted by experience id ignoring case; the changes of one experience are sorted by key. All
            answers share the items: do not change them.
        """
        items, changes = self._selection(stable_id, tuple(audiences), tuple(sticky.items()), entities)
        return [*items], [*changes]

    def _select(
        self, stable_id: str, audiences: tuple[str, ...], assignments: tuple[tuple[str, int], ...], entities: bool
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        # None stands for the audience of experiences that are for everyone.
        belongs_to, sticky, visitor = {None, *audiences}, dict(assignments), _bytes(stable_id)
        outcomes: list[Outcome] = []
        for experience in self.experiences:
            # Like `assign`, but computes a hash only if it decides.
            if experience.sticky and experience.id in sticky:
                outcomes.append(experience.outcome(sticky[experience.id]))
            elif experience.audience in belongs_to and (index := experience.split(visitor)) is not None:
                outcomes.append(experience.outcome(index))
        changed = [outcome.entity_changes if entities else outcome.changes for outcome in outcomes]
        return [outcome.item for outcome in outcomes], [*chain.from_iterable(changed)]

    def explain(self, stable_id: str, audiences: Collection[str], sticky: Mapping[str, int]) -> list[dict[str, Any]]:
        """Explain each experience: the inputs of its decision, and the chosen index.

        Returns:
            ``{"id", "name", "type", "audience", "audience_matched", "traffic", "traffic_hash", "in_traffic", "ranges",
            "distribution_hash", "distribution_index", "sticky", "sticky_index", "decided_by", "variantIndex",
            "variants"}`` for each; ``decided_by`` is ``"sticky"``, ``"distribution"``, or ``None`` if the answer does
            not contain the experience. ``variants`` are those of the answer.
        """
        return [_explain(experience, stable_id, audiences, sticky) for experience in self.experiences]


def _explain(
    experience: Experience, stable_id: str, audiences: Collection[str], sticky: Mapping[str, int]
) -> dict[str, Any]:
    index = experience.assign(experience.allocated(stable_id), audiences, sticky)
    assignment = sticky.get(experience.id) if experience.sticky else None
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
        "sticky_index": assignment,
        "decided_by": None if index is None else "distribution" if assignment is None else "sticky",
        "variantIndex": index,
        "variants": {} if index is None else experience.outcome(index).item["variants"],
    }


def compile_experience(id: str, name: str, type: str, audience: str | None, config: object) -> Experience:
    """Compile an experience.

    Args:
        id: ``nt_experience_id``.
        type: ``nt_experiment`` or ``nt_personalization``, evaluated in the same way.
        audience: id of its audience; ``None``: everyone.
        config: ``nt_config``; may be ``None``, and any member may be missing or ``null`` (spec section 6).

    Raises:
        ContentError: with every problem; paths are relative to the config, except ``type``, a member of the experience.
    """
    problems = Problems()
    if type not in TYPES:
        problems.add_choice("type", type or None, TYPES)
    if config is not None and not isinstance(config, dict):
        problems.add("config", config, "an object")
    members: Mapping[str, Any] = config if isinstance(config, dict) else {}
    traffic = _traffic(members.get("traffic"), problems)
    distribution = _distribution(members.get("distribution"), problems)
    sticky = problems.truth("sticky", members.get("sticky"))
    replacements, variables, ignored = components = read_components(members.get("components"), problems)
    problems.remark_unknown("", members, CONFIG_MEMBERS)
    problems.raise_any()
    parts: list[Replacement | Variable] = [*replacements, *variables]
    _remark_shares(distribution, parts, problems)
    indices = max([1, len(distribution), *(1 + len(part.variants) for part in parts)])
    return Experience(
        id=id,
        name=name,
        type=type,
        audience=audience,
        traffic=traffic,
        # Add in the same order as the clients, so that the ends of ranges are the same floats.
        ends=tuple(accumulate(distribution)),
        sticky=sticky,
        replacements=replacements,
        variables=variables,
        outcomes=tuple(_outcome(id, index, sticky, components) for index in range(indices)),
        ignored=ignored,
        remarks=tuple(problems.remarks),
        traffic_prefix=f"traffic-{id}-",
        distribution_prefix=f"distribution-{id}-",
    )


def _outcome(id: str, index: int, sticky: bool, components: Components) -> Outcome:
    variants: dict[str, str] = {}
    for part in components.replacements:
        # If two components replace one baseline, the first counts, as in the SDK.
        variants.setdefault(part.key, component_value(part, index))
    item: dict[str, Any] = {"experienceId": id, "variantIndex": index, "variants": variants}
    if sticky:
        item["sticky"] = True
    variables = [
        {
            "key": part.key,
            "value": component_value(part, index),
            "type": "Variable",
            "meta": {"experienceId": id, "variantIndex": index},
        }
        for part in components.variables
    ]
    entities = {part.key: part for part in reversed(components.replacements) if part.kind}
    meta = {"optimizationId": id, "variantIndex": index}
    return Outcome(
        item,
        # Older clients reject the whole answer if one value is null.
        tuple(variable for variable in variables if variable["value"] is not None),
        (
            *variables,
            *(
                {"type": entities[key].kind, "id": key, "variantId": variants[key], "meta": meta}
                for key in sorted(entities, key=lambda key: (key.casefold(), key))
            ),
        ),
    )


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST_SHARE


def _traffic(value: Any, problems: Problems) -> float:
    if value is None:
        problems.remark("note", "traffic", "is missing, which means 0: nobody gets this experience")
        return 0
    value = _number(value, "traffic", problems)
    if not _is_share(value) or value > 1:
        problems.add("traffic", value, "a number from 0 to 1")
        return 0
    return float(value)


def _distribution(value: Any, problems: Problems) -> tuple[float, ...]:
    if value is None:
        return DEFAULT_DISTRIBUTION
    if not isinstance(value, list):
        problems.add("distribution", value, "a list of shares")
        return DEFAULT_DISTRIBUTION
    shares = [_number(share, f"distribution[{index}]", problems) for index, share in enumerate(value)]
    for index, share in enumerate(shares):
        if not _is_share(share):
            problems.add(f"distribution[{index}]", share, "a share, 0 or more")
    return tuple(shares)


def _number(value: Any, path: str, problems: Problems) -> Any:
    """Return a share; a number in quotes, as some tools store it, counts as the number."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return value
    problems.remark("odd", path, "is a text, which is read as a number")
    return float(value)


def _remark_shares(
    distribution: tuple[float, ...], parts: Sequence[Replacement | Variable], problems: Problems
) -> None:
    """Note shares that do not fit together or do not fit the variants; they are served as clients read them."""
    variants = max((len(part.variants) for part in parts), default=0)
    if not variants:
        return
    total = sum(distribution)
    if abs(total - 1) > _ROUNDING * len(distribution):
        effect = "whatever is beyond 1 reaches nobody" if total > 1 else "the other visitors get the baseline"
        problems.remark("note", "distribution", f"found shares that add up to {total:g}, expected 1: {effect}")
    if len(distribution) <= variants or any(distribution[variants + 1 :]):
        few = f"variant {variants} reaches nobody"
        effect = few if len(distribution) <= variants else "a variant that does not exist shows the baseline"
        counts = f"found {len(distribution)} shares, expected {variants + 1}, the baseline's first"
        problems.remark("note", "distribution", f"{counts}: {effect}")
