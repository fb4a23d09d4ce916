"""Builders of audiences: rules, conditions, and groups of them (spec section 5)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import orjson

from ninetailed_wsgi.authoring.items import Audience, place

Rule: TypeAlias = dict[str, Any]
"""A rule of an audience, or a group of them: ``{"any": [...]}``, ``{"all": [...]}``."""


class _Rule(Rule):
    """A rule that a builder made. Python joins two dicts with ``|`` and so would lose the first rule."""

    __slots__ = ()

    def __or__(self, other: object) -> Any:
        raise TypeError("rules cannot be joined with |, write any_of(...) instead")

    def __and__(self, other: object) -> Any:
        raise TypeError("rules cannot be joined with &, write all_of(...) instead")


Condition: TypeAlias = dict[str, Any]
"""What must be true of an event for it to count."""

Value: TypeAlias = str | int | float | bool

_EXAMPLE = ", such as viewed('/pricing')"
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

# How the authoring tool shows a condition: its label, its category, and whether a rule may have it only once.
_LABELS = {
    "context_page_path": ("Path", "path", True),
    "context_page_query": ("Query Parameter", "query_parameter", False),
    "properties": ("Property", "property", False),
    "session_count": ("Session count", "session", True),
    "type": ("Type", "device", True),
    "days": ("Days", "days", True),
}


def audience(*rules: Rule, id: str | None = None, name: str | None = None) -> Audience:
    """Return an audience of the visitors for whom all rules hold; use ``any_of(...)`` if one rule is enough.

    Args:
        id: by default derived from the rules, so that equal rules are one audience.
        name: by default the id.
    """
    if not rules:
        raise ValueError(f"found no rule, expected at least one{_EXAMPLE}")
    _check(rules)
    group = rules[0] if len(rules) == 1 and "any" in rules[0] else any_of(all_of(*rules))
    own = id or "audience-" + hashlib.sha256(orjson.dumps(group)).hexdigest()[:8]
    return Audience({"id": own, "name": name or own, "rules": group}, place())


def any_of(*rules: Rule) -> Rule:
    """Return a group of rules, at least one of which must hold."""
    _check(rules)
    return _Rule({"any": [rule if "all" in rule else all_of(rule) for rule in rules]})


def all_of(*rules: Rule) -> Rule:
    """Return a group of rules, all of which must hold."""
    _check(rules)
    return _Rule({"all": list(rules)})


def _check(rules: Sequence[object]) -> None:
    """Raise TypeError for the first argument that is not a rule, with what to write instead."""
    for rule in rules:
        if isinstance(rule, Audience):
            raise TypeError("found an audience, expected a rule: write the rules of both audiences into a new one")
        if isinstance(rule, list | tuple):
            raise TypeError("found a list, expected rules one by one: put a * before the list")
        if isinstance(rule, dict) and "type" not in rule and isinstance(rule.get("key"), dict):
            raise TypeError("found a condition, expected a rule that has it, such as viewed(None, with_query(...))")
        if not isinstance(rule, dict):
            raise TypeError(f"found {rule!r:.80}, expected a rule{_EXAMPLE}")


def viewed(
    path: str | None = None,
    *conditions: Condition,
    operator: str = "equal",
    at_least: float | None = None,
    at_most: float | None = None,
    exactly: float | None = None,
    within_days: float | None = None,
) -> Rule:
    """Match visitors who viewed a page.

    Args:
        path: of the page, compared by ``operator`` (``equal``, ``contains``, ``startsWith``, ...); None: any page.
        conditions: further conditions for a view to count: `having`, `with_query`, `from_campaign`.
        at_least, at_most, exactly: how many views; give only one of the three. Default: at least 1.
        within_days: count only views of the last N days.
    """
    if path is not None:
        _check_text(path, "path", "for any page: viewed(None, with_query(...))")
    paths = [] if path is None else [_condition("context_page_path", path, operator)]
    return _count_rule("page", "", [*paths, *conditions], (at_least, at_most, exactly), within_days)


def _check_text(value: object, of: str, remedy: str) -> None:
    if not isinstance(value, str):
        excerpt = "a condition" if isinstance(value, dict) else f"{value!r:.80}"
        raise TypeError(f"found {excerpt} for the {of}, expected a text; {remedy}")


def performed(
    event: str = "*",
    *conditions: Condition,
    at_least: float | None = None,
    at_most: float | None = None,
    exactly: float | None = None,
    within_days: float | None = None,
) -> Rule:
    """Match visitors who performed an event (exact name, or ``*`` for any); conditions and counts as for `viewed`."""
    _check_text(event, "event", "for any event: performed('*', having(...))")
    return _count_rule("track", event, list(conditions), (at_least, at_most, exactly), within_days)


def trait(name: str, value: Value = "*", *, operator: str = "equal") -> Rule:
    """Match visitors who have a trait with this value (default: any value); dots in the name lead to nested traits."""
    return _rule("identify", key=name, value=value, operator=operator)


def located(*, operator: str = "equal", **members: str) -> Rule:
    """Match visitors at a location.

    Args:
        members: ``city``, ``continent`` (a code such as EU), ``country``, ``country_code``, ``postal_code``,
            ``region``, ``region_code``, ``timezone``; all that are given must match. A ``country`` of two capital
            letters is a country code.
    """
    rules = []
    for name, value in sorted(members.items()):  # an id must not depend on the order of the members
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
    """Require a property of the event with this value (default: any value)."""
    return _condition("properties", value, operator, property)


def with_query(parameter: str, value: Value = "*", *, operator: str = "equal") -> Condition:
    """Require a query parameter of the page's URL with this value (default: any value)."""
    return _condition("context_page_query", value, operator, parameter)


def from_campaign(member: str, value: Value = "*", *, operator: str = "equal") -> Condition:
    """Require that a campaign brought the visitor.

    ``member`` is ``name``, ``source``, ``medium``, ``term`` or ``content``.
    """
    return _condition(f"context_campaign_{member}", value, operator)


def _count_rule(
    type: str,
    event: str,
    conditions: list[Condition],
    counts: tuple[float | None, float | None, float | None],
    within_days: float | None,
) -> Rule:
    operators = ("greaterThanInclusive", "lessThanInclusive", "equal")
    by_operator = {operator: count for operator, count in zip(operators, counts, strict=True) if count is not None}
    if len(by_operator) > 1:
        raise TypeError("found several counts, expected one of at_least, at_most, exactly")
    operator, count = next(iter(by_operator.items()), (operators[0], 1))
    if isinstance(count, bool) or not isinstance(count, int | float) or not count >= 0:
        raise ValueError(f"found the count {count!r:.80}, expected a number of events, 0 or more")
    if count == 0 and operator != operators[0]:
        operator, count = "lessThan", 1  # how the authoring tool says "never"
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
    return _Rule(
        {
            "type": type,
            "key": key,
            "value": _text(value),
            "operator": operator,
            "count": _text(count),
            "conditions": list(conditions),
        }
    )


def stored_rules(rules: object) -> object:
    """Return rules as the authoring tool stores them: counts and values as text, no member missing.

    Args:
        rules: valid rules, as content has them; any other value is returned unchanged.
    """
    if isinstance(rules, list):
        return [stored_rules(one) for one in rules]
    if not isinstance(rules, dict):
        return rules
    if "type" not in rules:
        return {name: stored_rules(_as_list(value)) for name, value in rules.items()}
    default = "greaterThanInclusive" if rules["type"] in ("page", "track") else "equal"
    return {
        **rules,
        "key": rules.get("key") or "",
        "value": _stored_text(rules.get("value"), ""),
        "operator": rules.get("operator") or default,
        "count": _stored_text(rules.get("count"), "1"),
        "conditions": [_stored_condition(one) for one in _as_list(rules.get("conditions")) or ()],
    }


def _as_list(items: Any) -> Any:
    """Return a bare object as a list of one, as content is read."""
    return ([items] if items else []) if isinstance(items, dict) else items


def _stored_condition(condition: Any) -> Condition:
    key = condition["key"] if isinstance(condition["key"], dict) else {"key": condition["key"]}
    name = str(key.get("key") or key.get("id"))
    value = _stored_text(condition.get("value"), "")
    base = _condition(name, value, condition.get("operator") or "equal", str(key.get("value") or ""))
    return {
        **condition,
        **base,
        "key": {**base["key"], **{member: each for member, each in key.items() if each is not None}},
    }


def _stored_text(value: Value | None, default: str) -> str:
    return default if value is None or value == "" else _text(value)


def _condition(key: str, value: Value, operator: str, parameter: str = "") -> Condition:
    label, category, once = _LABELS.get(key) or (
        key.removeprefix("context_").replace("_", " ").title(),
        "campaign",
        True,
    )
    return {
        "key": {
            "id": key,
            "key": key,
            "value": parameter,
            "label": label,
            "useOnce": once,
            "category": {"name": category, "type": "string", "label": label},
        },
        "operator": operator,
        "value": _text(value),
    }


def _text(value: Value) -> str:
    """Return a value as the authoring tool stores it, as text; rules compare JSON texts, so the meaning is the same."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)
