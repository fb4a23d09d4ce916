"""What a profile's exposures mean for the results of one experience: which variant counts the visitor, and from when.

Pure functions; `core/exposures.py` says how a profile keeps exposures. Source: spec section 12.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ninetailed_wsgi.core.exposures import OUTSIDE

HOLDOUT, MULTIPLE, INCONSISTENT, COUNTS = "holdout", "multiple", "inconsistent", "counted"


@dataclass(frozen=True, slots=True)
class Split:
    """The split of a phase, as its name states it.

    Attributes:
        traffic: the share of visitors that take part.
        shares: the share that each variant index gets of these visitors; they add up to 1.
    """

    traffic: float
    shares: tuple[float, ...]

    @property
    def words(self) -> str:
        """Return the split for a reader: ``50 / 50``, with the traffic if it is below 100 %."""
        shares = " / ".join(f"{share * 100:.3g}" for share in self.shares)
        return shares if self.traffic >= 1 else f"{shares} of {self.traffic * 100:.3g} % of the traffic"


class Standing(NamedTuple):
    """How one visitor counts in the result of one phase.

    Attributes:
        kind: ``counted``, ``holdout`` (outside of the traffic), ``multiple`` (saw several variants) or
            ``inconsistent`` (no report matches the allocation).
        variant: the index of the variant; only meaningful for ``counted``.
        first: time of the first exposure, ms.
        is_served: whether no browser reported it.
        views, clicks: how many.
        doubtful: whether a report does not match the allocation.
    """

    kind: str
    variant: int
    first: int
    is_served: bool
    views: int
    clicks: int
    doubtful: bool


def split_of(phase: str) -> Split:
    """Return the split in the name of a phase; raise ValueError if the name is invalid.

    Shares are those of the ranges, cut off at 1; the rest belongs to the control (spec section 6).
    """
    traffic, shares, *variants = phase.split(":")
    count = max(int(variants[0]) if variants else 0, shares.count("/") + 1)
    rest, cut = 1.0, []
    for share in map(float, filter(None, shares.split("/"))):
        cut.append(min(share, rest))
        rest = max(0.0, rest - cut[-1])
    cut += [0.0] * (count - len(cut))
    cut[0] += rest if rest > 1e-9 else 0.0
    return Split(float(traffic), tuple(cut))


def standings(
    phases: Mapping[str, Mapping[str, Any]], *, sticky: bool, since: int, until: float
) -> Iterator[tuple[str, Standing]]:
    """Yield how a visitor counts in each phase of an experience.

    Args:
        phases: the visitor's exposures to it, by phase.
        sticky: whether assignments are kept: then the visitor counts only in the phase of the first exposure, because
            that phase's split chose the variant.
        since, until: the period: a visitor counts in a phase only if ``since <= first < until`` (ms).
    """
    exposed = [entry["first"] for entry in phases.values() if "first" in entry]
    earliest = min(exposed, default=0)
    for phase, entry in phases.items():
        first = entry.get("first")
        doubtful = bool(entry.get("inconsistent"))
        if first is None:
            if doubtful:
                yield phase, Standing(INCONSISTENT, 0, 0, False, 0, 0, True)
            continue
        if not since <= first < until or (sticky and first != earliest):
            continue
        index = entry["index"]
        kind = MULTIPLE if entry.get("also") else HOLDOUT if index == OUTSIDE else COUNTS
        is_served = entry.get("how") == "served"
        yield phase, Standing(kind, index, first, is_served, entry.get("views", 0), entry.get("clicks", 0), doubtful)
