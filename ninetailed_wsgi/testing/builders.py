"""Audiences and experiences in a few words: each builder makes published content in the generic form (spec section 7).

What they make is plain JSON, as ``schemas/content.schema.json`` describes it: it can be published in a `Harness`,
written to a content file, or changed by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import orjson

Rule: TypeAlias = dict[str, Any]
"""A rule of an audience, or a group of them: ``{"any": [...]}``, ``{"all": [...]}``."""

Condition: TypeAlias = dict[str, Any]
Component: TypeAlias = dict[str, Any]
Value: TypeAlias = str | int | float | bool

_MEMBERS = {
    "city": "city",
    "continent": "continent",
    "country": "country",
    "country_code": "countryCode",
    "postal_code": "postalCode",
    "region": "region",
    "region_code": "regionCode",
    "timezone": "timezone",
}


# Audiences


def audience(*rules: Rule, id: str | None = None, name: str | None = None) -> dict[str, Any]:
    """Return an audience of the visitors for whom all rules hold; ``any_of(...)`` for those for whom one does.

    Args:
        id: by default derived from the rules, so that equal rules are one audience.
        name: by default the id.
    """
    if not rules:
        raise ValueError("found no rule, expected at least one, such as viewed('/pricing')")
    group = rules[0] if len(rules) == 1 and "any" in rules[0] else any_of(all_of(*rules))
    own = id or "audience-" + hashlib.sha256(orjson.dumps(group)).hexdigest()[:8]
    return {"id": own, "name": name or own, "rules": group}


def any_of(*rules: Rule) -> Rule:
    """Return a group of rules of which one must hold."""
    return {"any": [rule if "all" in rule else all_of(rule) for rule in rules]}


def all_of(*rules: Rule) -> Rule:
    """Return a group of rules which must all hold."""
    return {"all": list(rules)}


def viewed(path: str | None = None, *conditions: Condition, operator: str = "equal", **count: float | None) -> Rule:
    """Match visitors who viewed a page.

    Args:
        path: of the page, compared by ``operator`` (``equal``, ``contains``, ``startsWith``, ...); None: any page.
        conditions: further conditions of a view that counts: `having`, `with_query`, `from_campaign`.
        count: one of ``at_least`` (default: 1), ``at_most``, ``exactly``; and ``within_days``: only views
            of the last so many days count.
    """
    paths = [] if path is None else [_condition("context_page_path", path, operator)]
    return _counted("page", "", [*paths, *conditions], **count)


def performed(event: str = "*", *conditions: Condition, **count: float | None) -> Rule:
    """Match visitors who performed an event (exact name, or ``*`` for any); conditions and count as for `viewed`."""
    return _counted("track", event, list(conditions), **count)


def trait(name: str, value: Value = "*", *, operator: str = "equal") -> Rule:
    """Match visitors with a trait: with this value, or any; dots in the name lead into nested traits."""
    return _rule("identify", key=name, value=value, operator=operator)


def located(*, operator: str = "equal", **members: str) -> Rule:
    """Match visitors at a place.

    Args:
        members: ``city``, ``continent`` (a code such as EU), ``country``, ``country_code``, ``postal_code``,
            ``region``, ``region_code``, ``timezone``; all of them must hold. A ``country`` of two capital letters is
            its code.
    """
    rules = []
    for name, value in members.items():
        if name not in _MEMBERS:
            raise TypeError(f"located() has no member {name!r}, expected some of {', '.join(_MEMBERS)}")
        is_code = name == "country" and len(value) == 2 and value.isupper()
        rules.append(
            _rule("location", key="countryCode" if is_code else _MEMBERS[name], value=value, operator=operator)
        )
    if not rules:
        raise TypeError(f"located() needs a member: one of {', '.join(_MEMBERS)}")
    return rules[0] if len(rules) == 1 else all_of(*rules)


def returning(value: bool = True, *, sessions: int | None = None) -> Rule:
    """Match returning visitors (False: new ones), or those with at least this many ``sessions``."""
    rule = _rule("isReturningVisitor", value="true" if value else "false")
    if sessions is not None:
        rule["conditions"].append(_condition("session_count", sessions, "greaterThanInclusive"))
    return rule


def on_device(type: str) -> Rule:
    """Match visitors on a device: ``desktop``, ``mobile``, ``tablet`` or ``unknown``."""
    return _rule("device", conditions=[_condition("type", type, "equal")])


def having(property: str, value: Value = "*", *, operator: str = "equal") -> Condition:
    """Require a property of the event: with this value, or any."""
    return _condition("properties", value, operator, property)


def with_query(parameter: str, value: Value = "*", *, operator: str = "equal") -> Condition:
    """Require a query parameter of the page's address: with this value, or any."""
    return _condition("context_page_query", value, operator, parameter)


def from_campaign(member: str, value: Value = "*", *, operator: str = "equal") -> Condition:
    """Require that a campaign brought the visitor.

    ``member`` is ``name``, ``source``, ``medium``, ``term`` or ``content``.
    """
    return _condition(f"context_campaign_{member}", value, operator)


def _counted(
    type: str,
    event: str,
    conditions: list[Condition],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    exactly: float | None = None,
    within_days: float | None = None,
) -> Rule:
    wanted = {"greaterThanInclusive": at_least, "lessThanInclusive": at_most, "equal": exactly}
    counts = {operator: count for operator, count in wanted.items() if count is not None}
    if len(counts) > 1:
        raise TypeError("found several counts, expected one of at_least, at_most, exactly")
    operator, count = next(iter(counts.items()), ("greaterThanInclusive", 1))
    windows = [] if within_days is None else [_condition("days", within_days, "equal")]
    return _rule(type, value=event, operator=operator, count=count, conditions=[*conditions, *windows])


def _rule(
    type: str,
    *,
    key: str = "",
    value: Value = "",
    operator: str = "equal",
    count: float = 1,
    conditions: Sequence[Condition] = (),
) -> Rule:
    # The authoring tool stores counts as text.
    return {
        "type": type,
        "key": key,
        "value": value,
        "operator": operator,
        "count": str(count),
        "conditions": list(conditions),
    }


def _condition(key: str, value: Value, operator: str, parameter: str = "") -> Condition:
    return {"key": {"id": key, "key": key, "value": parameter}, "operator": operator, "value": value}


# Experiences


def experience(
    baseline: str | None = None,
    variants: Sequence[str | None] = (),
    *components: Component,
    audience: Mapping[str, Any] | str | None = None,
    traffic: float = 1,
    distribution: Sequence[float] | None = None,
    sticky: bool = False,
    id: str | None = None,
    name: str | None = None,
    metric: str | None = None,
) -> dict[str, Any]:
    """Return an experience: ``experience("hero", ["hero-b"], audience=audience(viewed("/pricing")))``.

    Args:
        baseline: id of the entry that is replaced; None if ``components`` has all replacements.
        variants: ids of the entries shown instead at index 1, 2, ...; None hides the entry.
            components: further components: `replacement`, `variable`, `experience_replacement`, `fragment_replacement`.
            audience: for whom: an audience, which is published with it, or the id of a published one; None: everyone.
        traffic: share of the visitors who take part, 0 to 1.
        distribution: share of each variant index, the control's first: an experiment, or A/B test. Without one it is a
            personalization, which gives everybody the first variant.
        sticky: whether visitors keep a variant once they saw it.
        id: by default ``experience-`` and the baseline, or the first variable's key.
        name: by default the id.
        metric: id or name of the metric that says whether a variant helped.
    """
    parts = [*([] if baseline is None else [replacement(baseline, variants)]), *components]
    if not parts:
        raise ValueError("found nothing that the experience changes, expected a baseline or a component")
    first = parts[0]
    own = id or f"experience-{first.get('key') or first['baseline'].get('entityId') or first['baseline']['id']}"
    return {
        "id": own,
        "name": name or own,
        "type": "nt_personalization" if distribution is None else "nt_experiment",
        "audience": {"id": audience} if isinstance(audience, str) else None if audience is None else dict(audience),
        "config": {
            "traffic": traffic,
            "distribution": [0, 1] if distribution is None else list(distribution),
            "sticky": sticky,
            "components": parts,
            **({} if metric is None else {"primaryMetric": metric}),
        },
    }


def flag(key: str, *, control: Any, variants: Sequence[Any], **options: Any) -> dict[str, Any]:
    """Return an experience that sets one variable: ``flag("theme", control="light", variants=["dark"])``.

    ``options`` are those of `experience`: ``audience``, ``traffic``, ``distribution``, ``sticky``, ``id``, ``name``,
    ``metric``.
    """
    return experience(None, (), variable(key, control=control, variants=variants), **options)


def metric(
    event: str,
    *,
    property: str | None = None,
    count: bool = False,
    direction: str = "increase",
    id: str | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Return a metric: ``metric("purchase")`` asks who bought, ``metric("purchase", property="total")`` for how much.

    Args:
        event: the name of a track event.
        property: its property whose numbers are added up.
        count: whether each event counts; otherwise only whether a visitor did it.
        direction: ``decrease`` if less is better.
        id: by default ``metric-`` and the event.
        name: by default the id.
    """
    own = id or f"metric-{event}"
    kind = "value" if property is not None else "count" if count else "binary"
    summed = {} if property is None else {"property": property}
    return {"id": own, "name": name or own, "type": kind, "event": event, **summed, "direction": direction}


def replacement(baseline: str, variants: Sequence[str | None]) -> Component:
    """Return a component of `experience`: an entry, and those shown instead at index 1, 2, ...; None hides it."""
    return {
        "type": "EntryReplacement",
        "baseline": {"id": baseline},
        "variants": [{"id": one or "", "hidden": one is None} for one in _listed(variants)],
    }


def experience_replacement(entity: str, *, control: str, variants: Sequence[str | None]) -> Component:
    """A component of `experience`: which variant of a Contentful experience the newest clients ask for.

    Args:
        entity: the id of the Contentful experience.
        control: the id of its variant for the control.
        variants: those at index 1, 2, ...; None shows nothing.

    Example: ``experience(None, (), experience_replacement("exp-home", control="v0", variants=["v1"]))``
    """
    return _entity("ExperienceReplacement", entity, control, variants)


def fragment_replacement(entity: str, *, control: str, variants: Sequence[str | None]) -> Component:
    """A component of `experience`, for a Contentful fragment; arguments as of `experience_replacement`."""
    return _entity("FragmentReplacement", entity, control, variants)


def _entity(type: str, entity: str, control: str, variants: Sequence[str | None]) -> Component:
    return {
        "type": type,
        "baseline": {"id": control, "entityId": entity},
        "variants": [{"id": one or "", "entityId": entity, "hidden": one is None} for one in _listed(variants)],
    }


def variable(key: str, *, control: Any, variants: Sequence[Any]) -> Component:
    """Return a component of `experience`: a variable's value for the control, and at index 1, 2, ...; any JSON."""
    kinds = {bool: "Boolean", int: "Number", float: "Number", str: "String"}
    return {
        "type": "InlineVariable",
        "key": key,
        "valueType": kinds.get(type(control), "Object"),
        "baseline": {"value": control},
        "variants": [{"value": value} for value in _listed(variants)],
    }


def _listed(variants: Sequence[Any]) -> Sequence[Any]:
    if isinstance(variants, str):  # otherwise each letter would be a variant
        raise TypeError(f"found the text {variants!r}, expected a list of variants: [{variants!r}]")
    return variants
