"""What an experience changes: entries, Contentful experiences and fragments that are replaced, variables that are set.

Reads ``components`` of ``nt_config`` (spec section 6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ninetailed_wsgi.core.problems import Problems, excerpt

VALUE_TYPES = ("String", "Boolean", "Number", "Object")
ENTITY_KINDS = {
    "ExperienceReplacement": "Experience",
    "FragmentReplacement": "Fragment",
    "ExperienceFragmentReplacement": "Fragment",
}
"""Component types that replace what the Experience Delivery API returns, and the ``type`` of their changes."""

COMPONENT_TYPES = ("EntryReplacement", "InlineVariable", *ENTITY_KINDS)
COMPONENT_MEMBERS = ("type", "key", "valueType", "baseline", "variants")


class Replacement(NamedTuple):
    """One replacement in ``variants`` of an answer.

    Attributes:
        key: the id of the entry or entity that is replaced.
        baseline: what is shown at index 0: an entry's own id, or the id of an entity's first variant.
        variants: the ids to show at index 1, 2, ...; ``""`` shows nothing.
        kind: ``Experience`` or ``Fragment``; empty for an entry.
    """

    key: str
    baseline: str
    variants: tuple[str, ...]
    kind: str = ""


class Variable(NamedTuple):
    """One inline variable: its key, the baseline's value, and the values at index 1, 2, ..."""

    key: str
    baseline: object
    variants: tuple[object, ...]


class Components(NamedTuple):
    """All components of an experience, sorted as answers list them.

    Attributes:
        ignored: path and message of each component that is not an object or has an unknown type; the others are served.
    """

    replacements: tuple[Replacement, ...]
    variables: tuple[Variable, ...]
    ignored: tuple[tuple[str, str], ...]


def component_value(part: Replacement | Variable, index: int) -> Any:
    """Return what a component shows at a variant index; the baseline for an index beyond its variants."""
    return part.variants[index - 1] if 0 < index <= len(part.variants) else part.baseline


def read_components(components: object, problems: Problems) -> Components:
    """Read ``components``; add errors to ``problems``, with paths relative to the config."""
    replacements: list[Replacement] = []
    variables: list[Variable] = []
    ignored: list[tuple[str, str]] = []
    for index, component in enumerate(problems.items("components", components)):
        path = f"components[{index}]"
        if not isinstance(component, dict):
            ignored.append((path, f"found {excerpt(component)}, expected an object"))
            continue
        kind = component.get("type")
        if kind is None or (isinstance(kind, str) and kind in COMPONENT_TYPES):
            problems.remark_unknown(path, component, COMPONENT_MEMBERS)
        if kind is not None and (not isinstance(kind, str) or kind not in COMPONENT_TYPES):
            expected = ", ".join(COMPONENT_TYPES)
            ignored.append((f"{path}.type", f"found {excerpt(kind)}, expected one of {expected}"))
        elif kind == "InlineVariable":
            variables.append(_variable(component, path, problems))
        elif (replacement := _replacement(component, path, ENTITY_KINDS.get(kind or "", ""), problems)) is not None:
            replacements.append(replacement)
    _remark_repeated("replaced", replacements, "only the first component counts", problems)
    _remark_repeated("set", variables, "the answer has each of them", problems)
    variables.sort(key=lambda variable: (variable.key.casefold(), variable.key))
    return Components(tuple(replacements), tuple(variables), tuple(ignored))


def _remark_repeated(change: str, parts: Sequence[Replacement | Variable], effect: str, problems: Problems) -> None:
    """Note what several components of one experience change, probably by mistake."""
    for key, times in Counter(part.key for part in parts).items():
        if times > 1:
            problems.remark("note", "components", f"{excerpt(key)} is {change} {times} times: {effect}")


def _objects(
    component: Mapping[str, Any], path: str, problems: Problems
) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """Return a component's baseline and its variants, each variant with its path."""
    baseline = component.get("baseline")
    if not isinstance(baseline, dict):
        problems.add(f"{path}.baseline", baseline, "an object")
        baseline = {}
    variants = []
    for index, variant in enumerate(problems.items(f"{path}.variants", component.get("variants"))):
        place = f"{path}.variants[{index}]"
        if isinstance(variant, dict):
            variants.append((place, variant))
        else:
            problems.add(place, variant, "an object")
    return baseline, variants


def _replacement(component: Mapping[str, Any], path: str, kind: str, problems: Problems) -> Replacement | None:
    """Read a replacement; None if it replaces nothing: its baseline is missing, as in drafts, or hidden."""
    baseline, variants = _objects(component, path, problems)
    baseline_id = _id(baseline, "id", f"{path}.baseline", problems) or ""
    key = (_id(baseline, "entityId", f"{path}.baseline", problems) if kind else None) or baseline_id
    hidden = problems.truth(f"{path}.baseline.hidden", baseline.get("hidden"))
    # An empty id shows nothing, hidden or not. A missing id is unclear, so it shows the baseline.
    ids = [
        "" if problems.truth(f"{place}.hidden", variant.get("hidden")) else _id(variant, "id", place, problems)
        for place, variant in variants
    ]
    first = baseline_id or key
    if not key or hidden:
        return None
    return Replacement(key, first, tuple(first if id is None else id for id in ids), kind)


def _id(holder: Mapping[str, Any], member: str, path: str, problems: Problems) -> str | None:
    id = holder.get(member)
    if id is not None and not isinstance(id, str):
        problems.add(f"{path}.{member}", id, "the id of an entry" if member == "id" else "the id of an entity")
    return id if isinstance(id, str) else None


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
    return Variable(key, _value(baseline), tuple(_value(variant) for _, variant in variants))


def _value(holder: Mapping[str, Any]) -> object:
    # Every client rejects the whole answer if it has a bare list, and accepts a list wrapped as authoring tools do.
    value = holder.get("value")
    return {"value": value} if isinstance(value, list) else value
