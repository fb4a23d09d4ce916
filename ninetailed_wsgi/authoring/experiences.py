"""Builders of experiences, components, metrics, merge tags and the order of an entry (spec sections 6, 8, 12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ninetailed_wsgi.authoring.items import Entry, Experience, MergeTag, Metric, place

Component: TypeAlias = dict[str, Any]
"""One thing that an experience changes."""

_ROUNDING = 0.0055
"""How far each share may be from the exact one, as many are rounded to hundredths: 0.17 six times is more than 1."""

ExperienceKind: TypeAlias = Literal["experiment", "personalization"]


def experience(
    baseline: str | None = None,
    variants: Sequence[str | None] = (),
    *components: Component,
    audience: Mapping[str, Any] | str | None = None,
    traffic: float = 1,
    distribution: Sequence[float] | None = None,
    kind: ExperienceKind | None = None,
    sticky: bool = False,
    id: str | None = None,
    name: str | None = None,
    metric: Mapping[str, Any] | str | None = None,
) -> Experience:
    """Return an experience: ``experience("hero", ["hero-b"], audience=audience(viewed("/pricing")))``.

    Args:
        baseline: id of the entry to replace; None if ``components`` has all replacements.
        variants: ids of the entries shown instead at index 1, 2, ...; None hides the entry.
        components: further components: `replacement`, `variable`, `experience_replacement`, `fragment_replacement`.
        audience: an audience, which is published with the experience, or the id of a published one; None: everyone.
        traffic: share of the visitors who take part, 0 to 1.
        distribution: share of each variant index, starting with the control; None: everybody gets the first variant.
        kind: ``experiment`` (A/B test) or ``personalization``; by default an experiment if it has a distribution.
        sticky: whether visitors keep a variant that they have seen.
        id: by default ``experience-`` and the baseline, or the first variable's key.
        name: by default the id.
        metric: the metric that measures success, or its id or name; publish the metric separately.

    Raises:
        ValueError, TypeError: the experience changes nothing, or a component is not one.
    """
    parts = _checked([*([] if baseline is None else [replacement(baseline, variants)]), *components])
    own = id or f"experience-{_changed(parts[0])}"
    config = {
        "traffic": traffic,
        "distribution": [0, 1] if distribution is None else _shares(distribution),
        "sticky": sticky,
        "components": parts,
        **({} if metric is None else {"primaryMetric": _id(metric)}),
    }
    type = f"nt_{kind or ('personalization' if distribution is None else 'experiment')}"
    members = {"id": own, "name": name or own, "type": type, "audience": _audience(audience), "config": config}
    return Experience(members, place())


def _audience(audience: object) -> Mapping[str, Any] | None:
    """Return an audience, or one with this id; raise TypeError for anything else, with what to write instead."""
    if isinstance(audience, str):
        return {"id": audience}
    if audience is None or (isinstance(audience, Mapping) and "id" in audience):
        return audience
    if isinstance(audience, Mapping):
        raise TypeError("audience: found a rule, expected an audience: write audience=audience(...) around it")
    excerpt = "a function" if callable(audience) else f"{audience!r:.80}"
    raise TypeError(f"audience: found {excerpt}, expected what audience() returns, or the id of a published audience")


def _shares(distribution: Sequence[float]) -> list[float]:
    """Return the share of each variant index; raise ValueError if they are more than all visitors."""
    shares = _list(distribution, "shares")
    if all(isinstance(share, int | float) for share in shares) and sum(shares) > 1 + _ROUNDING * len(shares):
        hint = "; write 0.5 for 50 %" if max(shares) > 1 else ""
        raise ValueError(f"distribution: found shares that add up to {sum(shares):g}, expected 1{hint}")
    return shares


def _checked(components: list[Component]) -> list[Component]:
    if not components:
        raise ValueError("found nothing that the experience changes, expected a baseline or a component")
    for one in components:
        if not isinstance(one, dict) or "baseline" not in one:
            hint = ": write audience=audience(...)" if isinstance(one, dict) and "rules" in one else ""
            raise TypeError(f"found {one!r:.80}, expected a component such as replacement() or variable(){hint}")
    return components


def _changed(component: Component) -> str:
    """Return the name of what a component changes."""
    baseline = component["baseline"]
    return str(component.get("key") or baseline.get("entityId") or baseline["id"])


def flag(
    key: str,
    *,
    control: Any,
    variants: Sequence[Any],
    audience: Mapping[str, Any] | str | None = None,
    traffic: float = 1,
    distribution: Sequence[float] | None = None,
    kind: ExperienceKind | None = None,
    sticky: bool = False,
    id: str | None = None,
    name: str | None = None,
    metric: Mapping[str, Any] | str | None = None,
) -> Experience:
    """Return an experience that sets one variable: ``flag("theme", control="light", variants=["dark"])``.

    The other arguments are those of `experience`.
    """
    return experience(
        None,
        (),
        variable(key, control=control, variants=variants),
        audience=audience,
        traffic=traffic,
        distribution=distribution,
        kind=kind,
        sticky=sticky,
        id=id,
        name=name,
        metric=metric,
    )


def metric(
    event: str,
    *,
    property: str | None = None,
    count: bool = False,
    direction: str = "increase",
    id: str | None = None,
    name: str | None = None,
) -> Metric:
    """Return a metric: ``metric("purchase")`` asks who bought, ``metric("purchase", property="total")`` for how much.

    Args:
        event: the name of a track event.
        property: the property of the event whose numbers are added up.
        count: whether each event counts; otherwise a visitor counts once.
        direction: ``decrease`` if less is better.
        id: by default ``metric-`` and the event.
        name: by default the id.
    """
    own = id or f"metric-{event}"
    kind = "value" if property is not None else "count" if count else "binary"
    summed = {} if property is None else {"property": property}
    members = {"id": own, "name": name or own, "type": kind, "event": event, **summed, "direction": direction}
    return Metric(members, place())


def merge_tag(id: str, *, fallback: str | None = None, name: str | None = None) -> MergeTag:
    """Return a merge tag: ``merge_tag("traits.firstname", fallback="friend")``.

    Args:
        id: a path into the profile (spec section 8).
        fallback: the text if the profile has no value there.
        name: by default the id.
    """
    return MergeTag({"id": id, "name": name or id, "fallback": fallback}, place())


def entry(id: str, experiences: Sequence[Mapping[str, Any] | str]) -> Entry:
    """Return the order in which experiences may replace an entry: ``entry("hero", [offer, "hero-test"])``.

    Args:
        id: of the entry, the baseline.
        experiences: the experiences or their ids, the most important first; publish them separately.
    """
    return Entry({"id": id, "nt_experiences": [_id(one) for one in _list(experiences, "experiences")]}, place())


def replacement(baseline: str, variants: Sequence[str | None]) -> Component:
    """Return a component of `experience` that replaces an entry with others at index 1, 2, ...; None hides it."""
    return {
        "type": "EntryReplacement",
        "baseline": {"id": baseline},
        "variants": [{"id": one or "", "hidden": one is None} for one in _list(variants)],
    }


def experience_replacement(entity: str, *, control: str, variants: Sequence[str | None]) -> Component:
    """Return a component of `experience` that selects which variant of a Contentful experience the newest clients get.

    Args:
        entity: the id of the Contentful experience.
        control: the id of its variant for the control.
        variants: the ids of the variants at index 1, 2, ...; None shows nothing.

    Example: ``experience(None, (), experience_replacement("exp-home", control="v0", variants=["v1"]))``
    """
    return _entity("ExperienceReplacement", entity, control, variants)


def fragment_replacement(entity: str, *, control: str, variants: Sequence[str | None]) -> Component:
    """Return a component of `experience` for a Contentful fragment; arguments as for `experience_replacement`."""
    return _entity("FragmentReplacement", entity, control, variants)


def _entity(type: str, entity: str, control: str, variants: Sequence[str | None]) -> Component:
    return {
        "type": type,
        "baseline": {"id": control, "entityId": entity},
        "variants": [{"id": one or "", "entityId": entity, "hidden": one is None} for one in _list(variants)],
    }


def variable(key: str, *, control: Any, variants: Sequence[Any]) -> Component:
    """Return a component of `experience` that sets a variable, for the control and at index 1, 2, ...; any JSON."""
    kinds = {bool: "Boolean", int: "Number", float: "Number", str: "String"}
    return {
        "type": "InlineVariable",
        "key": key,
        "valueType": kinds.get(type(control), "Object"),
        "baseline": {"value": control},
        "variants": [{"value": value} for value in _list(variants)],
    }


def _list(items: Iterable[Any], of: str = "variants") -> list[Any]:
    if isinstance(items, str):  # otherwise each letter would be an item
        example = "[0.5, 0.5]" if of == "shares" else f"[{items!r}]"
        raise TypeError(f"found the text {items!r}, expected a list of {of}: {example}")
    if isinstance(items, set | frozenset):
        raise TypeError(f"found a set, which has no order, expected a list of {of}")
    items = list(items)
    if not items:
        raise ValueError(f"found no {of}, expected a list of at least one")
    return items


def _id(published: Mapping[str, Any] | str) -> str:
    return published if isinstance(published, str) else str(published["id"])
