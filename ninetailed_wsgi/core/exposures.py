"""Exposures: which variant of which experience a visitor saw, as a profile keeps it (spec sections 11 and 12).

A profile's ``exposures`` are a JSON object of experience id to phase to::

    {"first": time of the first view (ms), "index": of that view, "how": "served" if no browser reported it,
     "also": other indices seen, "views", "clicks", "hovers": numbers, "longest": view (ms), "inconsistent": true}

Members that are 0 or empty are left out. Index -1 is the baseline, shown to a visitor outside the
traffic. A phase is the current split: the traffic, the shares and, if it differs from their number, the number of
variants. ``reported`` holds the keys of the newest reports, so that a repeated report counts once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from ninetailed_wsgi.core.events import ServedComponent, message_key
from ninetailed_wsgi.core.experiences import Experience

EXPERIENCES_KEPT = 50
"""Experiences whose exposures a profile keeps; the least recently reported are dropped first."""

PHASES_KEPT = 4
"""The number of phases of one experience that a profile keeps: the newest ones."""

INDICES_KEPT = 10
"""Further indices that are remembered as seen in one phase."""

REPORTS_KEPT = 200
"""The number of reports that a profile remembers, to recognize repeated ones."""

LONGEST_DURATION = 24 * 60 * 60 * 1000
"""Milliseconds; a longer view or hover is implausible."""

OUTSIDE = -1
"""The index of a visitor outside the traffic who saw the baseline."""

_KEY_LENGTH = 8  # of 12 hex characters: a collision among 200 keys happens once in twenty million
_VARIABLE = "Variable-"
_COUNTERS = {"view": "views", "click": "clicks", "hover": "hovers"}


class Report(NamedTuple):
    """What one event says of a component.

    Attributes:
        kind: ``view``, ``click``, ``hover`` or ``served``.
        at: when, ms.
        component: the id of the entry that was shown, or the key of the variable.
        experience: the experience's id; None if the sender does not say.
        variant: the variant index; the variant's id if the sender names only that.
        stay: the id of a view or hover that several events may report; None if each event is a separate one.
        message: the event's message id.
        duration: ms.
        direct: whether it arrived as an Insights event; a sticky view also arrives through the Experience API.
        entity: whether ``component`` is a Contentful experience or fragment, whose id is the same for every variant.
    """

    kind: str
    at: int
    component: str
    experience: str | None
    variant: int | str
    stay: str | None
    message: str
    duration: float
    direct: bool
    entity: bool = False


_TYPES = {
    "component": ("view", "componentId", "experienceId", "viewId", "viewDurationMs"),
    "component_click": ("click", "componentId", "experienceId", "", ""),
    "component_hover": ("hover", "componentId", "experienceId", "hoverId", "hoverDurationMs"),
    "exo_node_view": ("view", "entityId", "optimizationId", "viewId", "viewDurationMs"),
    "exo_node_click": ("click", "entityId", "optimizationId", "", ""),
    "exo_node_hover": ("hover", "entityId", "optimizationId", "hoverId", "hoverDurationMs"),
}

EVENT_TYPES = frozenset(_TYPES)
"""The types of events that report a component."""


def report_of(body: Mapping[str, Any], at: int, *, direct: bool) -> Report | None:
    """Read what an event reports about a component; None if it contains no valid report.

    Args:
        body: the event as it was sent.
        at: its time, ms.
        direct: whether it arrived through Insights.
    """
    members = _TYPES.get(body.get("type", ""))
    if members is None:
        return None
    kind, component, experience, stay, duration = members
    target, chosen_by, variant = body.get(component), body.get(experience), _variant(body)
    seconds = body.get(duration, 0)
    if not isinstance(target, str) or not target or variant is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_DURATION:
        return None
    own = body.get(stay)
    return Report(
        kind,
        at,
        target.removeprefix(_VARIABLE) if body.get("componentType") == "Variable" else target,
        chosen_by if isinstance(chosen_by, str) and chosen_by else None,
        variant,
        own if isinstance(own, str) and own else None,
        body["messageId"],
        seconds,
        direct,
        component == "entityId",
    )


def _variant(body: Mapping[str, Any]) -> int | str | None:
    """Return the variant that an event names, by index or else by id; the baseline by default, None if invalid."""
    if "variantIndex" not in body:
        id = body.get("variantId")
        return id if isinstance(id, str) and id else 0
    index = body["variantIndex"]
    if isinstance(index, float) and index.is_integer():  # JSON may write 1 as 1.0
        index = int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else None


def served_report(exposure: ServedComponent, at: int) -> Report:
    """Return a report of what a page showed at a time (ms)."""
    return Report("served", at, exposure.component, exposure.experience, exposure.variant, None, "", 0, direct=True)


def joined(reports: Iterable[Report]) -> Iterable[tuple[Report, int]]:
    """Combine a profile's reports of one view or hover, keeping the longest; return each with how many it combines."""
    stays: dict[tuple[Any, ...], tuple[Report, int]] = {}
    for place, report in enumerate(reports):
        if report.stay is None:
            stays[place,] = report, 1
            continue
        key = (report.kind, report.stay, report.component, report.experience, report.variant)
        one, number = stays.get(key, (report, 0))
        if report.duration > one.duration or report.at < one.at:
            one = one._replace(at=min(one.at, report.at), duration=max(one.duration, report.duration))
        stays[key] = one, number + 1
    return stays.values()


def phase_of(experience: Experience) -> str:
    """Return a name for the split of an experience, such as ``1:0.5/0.5``: only the split decides who sees what."""
    traffic = f"{experience.traffic:.12g}"
    shares = "/".join(f"{share:.12g}" for share in shares_of(experience))
    variants, ranges = len(experience.outcomes), len(experience.ends)
    return f"{traffic}:{shares}" + (f":{variants}" if variants != ranges else "")


def shares_of(experience: Experience) -> list[float]:
    """Return the share of each index according to its range, without the remainder that index 0 gets."""
    return [round(end - start, 12) for start, end in pairwise((0.0, *experience.ends))]


class ExposureSet:
    """Judges reports of an environment's experiences. Immutable except for a cache."""

    def __init__(self, experiences: Iterable[Experience]) -> None:
        """Index the experiences by id and by the components whose baselines they replace."""
        self._experiences = {experience.id: experience for experience in experiences}
        self.phases: Mapping[str, str] = {id: phase_of(each) for id, each in self._experiences.items()}
        self._component_cache: dict[tuple[str, int], frozenset[str]] = {}
        self._by_baseline: dict[str, list[Experience]] = {}
        for experience in self._experiences.values():
            for component in {*self._components(experience, 0), *experience.outcome(0).item["variants"]}:
                self._by_baseline.setdefault(component, []).append(experience)

    def note(
        self,
        record: dict[str, Any],
        report: Report,
        sticky: Mapping[str, int],
        belongs: Callable[[str], bool],
    ) -> str:
        """Apply a report to the exposures of a profile.

        Args:
            record: the profile, which is changed.
            report: what an event says.
            sticky: the assignments of the profile before this event.
            belongs: returns whether the visitor is now in the audience with this id.

        Returns:
            ``accepted``, or why no number changes: ``repeated``, ``experience`` (it is not published, or none shows
            this component), ``component`` (it is not part of that experience), ``inconsistent`` (this visitor gets
            something else; only the fact of the inconsistency is stored).
        """
        if report.experience is not None:
            experience = self._experiences.get(report.experience)
            verdicts = [(experience, self._judge(record, experience, report, sticky, belongs))] if experience else []
        else:
            # Without a variant it is a baseline, either of an experience that gives index 0 or outside all experiences.
            is_baseline = report.variant == 0 or isinstance(report.variant, str)
            candidates = self._by_baseline.get(report.component, ()) if is_baseline else ()
            verdicts = [(each, self._judge(record, each, report, sticky, belongs)) for each in candidates]
            verdicts = [(each, verdict) for each, verdict in verdicts if verdict != "inconsistent"]
        if not verdicts:
            return "experience"
        hits = [(each, verdict) for each, verdict in verdicts if isinstance(verdict, int)]
        if not hits:
            reason = str(verdicts[0][1])
            if reason == "inconsistent":
                self._entry(record, verdicts[0][0])["inconsistent"] = True
            return reason
        if report.kind == "served":
            hits = [(each, index) for each, index in hits if self._is_served_first(record, each, report, index)]
        first_time, longer = _recognise(record, report) if hits else (False, False)
        if not first_time and not longer:
            return "repeated"
        for each, index in hits:
            _count(self._entry(record, each), report, index, first_time)
        return "accepted"

    def _is_served_first(self, record: Mapping[str, Any], experience: Experience, report: Report, index: int) -> bool:
        """Return whether a served page changes what a profile keeps; for most returning visitors it does not."""
        entry = record.get("exposures", {}).get(experience.id, {}).get(self.phases[experience.id], {})
        is_known = index == entry.get("index") or index in entry.get("also", ())
        return not (is_known and entry.get("first", report.at) <= report.at)

    def _judge(
        self,
        record: Mapping[str, Any],
        experience: Experience,
        report: Report,
        sticky: Mapping[str, int],
        belongs: Callable[[str], bool],
    ) -> int | str:
        """Return the index that counts, or the reason why none does."""
        index = report.variant if isinstance(report.variant, int) else experience.indices().get(report.variant)
        if index is None:
            return "component"
        if report.kind != "served" and not self._shows(experience, report, index):
            return "component" if not self._shows_anywhere(experience, report.component) else "inconsistent"
        allocated = experience.allocated(record["stable_id"])
        assignment = sticky.get(experience.id) if experience.sticky else None
        if index == assignment or (assignment is None and index == allocated):
            return index
        if allocated is None and assignment is None and index == 0:
            in_audience = experience.audience is None or belongs(experience.audience)
            return OUTSIDE if in_audience else "inconsistent"
        return "inconsistent"

    def _shows(self, experience: Experience, report: Report, index: int) -> bool:
        components = self._components(experience, index)
        if not components or report.component in components:
            return True
        return report.entity and report.component in experience.outcome(index).item["variants"]

    def _shows_anywhere(self, experience: Experience, component: str) -> bool:
        return any(component in self._components(experience, index) for index in range(len(experience.outcomes)))

    def _components(self, experience: Experience, index: int) -> frozenset[str]:
        """Return what an experience shows at an index.

        A hidden variant counts as its baseline, because that is what the sender reports.
        """
        index = min(index, len(experience.outcomes))
        components = self._component_cache.get((experience.id, index))
        if components is None:
            names = {variable.key for variable in experience.variables}
            for baseline, variant in experience.outcome(index).item["variants"].items():
                names.add(variant or baseline)
            components = self._component_cache[experience.id, index] = frozenset(names)
        return components

    def _entry(self, record: dict[str, Any], experience: Experience) -> dict[str, Any]:
        """Return a profile's exposure to an experience in its current phase, and move it to the newest position."""
        # Copy the members: a fold works on this record and shares its parts with other records.
        exposures = record["exposures"] = {**record.get("exposures", {})}
        phases = exposures[experience.id] = {**exposures.pop(experience.id, {})}
        phase = self.phases[experience.id]
        entry: dict[str, Any] = {**phases.pop(phase, {})}
        phases[phase] = entry
        _drop_oldest(phases, PHASES_KEPT)
        _drop_oldest(exposures, EXPERIENCES_KEPT)
        return entry


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the exposures of two profiles: for each phase, keep the earlier first view and every index seen."""
    exposures: dict[str, Any] = {}
    for id in sorted([*{**one, **other}], key=lambda id: max(_latest(one.get(id)), _latest(other.get(id)))):
        phases = {**other.get(id, {}), **one.get(id, {})}
        exposures[id] = {
            phase: _joined(one.get(id, {}).get(phase, {}), other.get(id, {}).get(phase, {})) for phase in phases
        }
        _drop_oldest(exposures[id], PHASES_KEPT)
    _drop_oldest(exposures, EXPERIENCES_KEPT)
    return exposures


def merged_reports(one: str, other: str) -> str:
    """Merge the keys of the reports of two profiles."""
    return (other[-_KEY_LENGTH * REPORTS_KEPT // 2 :] + one)[-_KEY_LENGTH * REPORTS_KEPT :]


def _latest(phases: Mapping[str, Any] | None) -> int:
    return max((entry.get("first", 0) for entry in (phases or {}).values()), default=0)


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    earlier, later = sorted((one, other), key=lambda entry: entry.get("first") or float("inf"))
    entry = {name: value for name, value in earlier.items() if name in ("first", "index", "how")}
    for name in ("views", "clicks", "hovers"):
        if number := one.get(name, 0) + other.get(name, 0):
            entry[name] = number
    if longest := max(one.get("longest", 0), other.get("longest", 0)):
        entry["longest"] = longest
    if one.get("inconsistent") or other.get("inconsistent"):
        entry["inconsistent"] = True
    for index in [*earlier.get("also", ()), *([later["index"]] if "index" in later else ()), *later.get("also", ())]:
        _see(entry, index)
    return entry


def _count(entry: dict[str, Any], report: Report, index: int, first_time: bool) -> None:
    if first_time and (counter := _COUNTERS.get(report.kind)):
        entry[counter] = entry.get(counter, 0) + 1
    if report.kind == "view" and report.duration > entry.get("longest", 0):
        entry["longest"] = report.duration
    if report.kind not in ("view", "served"):
        return
    # A view is stronger evidence than a served page, so it replaces an exposure that was only served.
    seen_first = report.kind == "view" and entry.get("how") == "served" and index == entry.get("index")
    if "first" not in entry or report.at < entry["first"]:
        before = entry.get("index", index)
        entry.update(first=report.at, index=index)
        _see(entry, before)
        entry.pop("how", None)
        if report.kind == "served":
            entry["how"] = "served"
    elif seen_first:
        del entry["how"]
    else:
        _see(entry, index)


def _see(entry: dict[str, Any], index: int) -> None:
    """Record that an index other than the first one was seen."""
    also = {*entry.get("also", ()), index}
    also.discard(entry.get("index"))
    if also and (len(also) <= INDICES_KEPT or "also" not in entry):
        entry["also"] = sorted(also)[:INDICES_KEPT]
    elif not also:
        entry.pop("also", None)


def _recognise(record: dict[str, Any], report: Report) -> tuple[bool, bool]:
    """Return whether a report is new, and whether a continued view or hover may make it longer."""
    if report.kind == "served":
        return True, True
    place = f"{report.component}\0{report.experience}\0{report.variant}"
    reports: str = record.get("reported", "")
    if report.stay is not None:
        return _remember(record, reports, _key(f"{report.kind}\0{report.stay}\0{place}")), True
    if not _remember(record, reports, _key(f"message\0{report.message}")):
        return False, False
    if report.kind == "view":
        # A sticky view without an id arrives both through Insights and through the Experience API: count it once.
        twin, own = (_key(f"twin\0{direct}\0{place}") for direct in (not report.direct, report.direct))
        reports = record["reported"]
        if (index := _index_of(reports, twin)) >= 0:
            record["reported"] = reports[:index] + reports[index + _KEY_LENGTH :]
            return False, True
        record["reported"] = (reports + own)[-_KEY_LENGTH * REPORTS_KEPT :]
    return True, True


def _remember(record: dict[str, Any], reports: str, key: str) -> bool:
    if _index_of(reports, key) >= 0:
        return False
    record["reported"] = (reports + key)[-_KEY_LENGTH * REPORTS_KEPT :]
    return True


def _index_of(reports: str, key: str) -> int:
    index = reports.find(key)
    while index >= 0 and index % _KEY_LENGTH:
        index = reports.find(key, index + 1)
    return index


def _key(text: str) -> str:
    return message_key(text)[:_KEY_LENGTH]


def _drop_oldest(members: dict[str, Any], most: int) -> None:
    while len(members) > most:
        del members[next(iter(members))]
