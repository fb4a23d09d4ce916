"""Reads the parts of a rule as an authoring tool stored them: operators, values, counts and conditions.

Source: spec section 5. Each problem is noted with its place and reading continues, so that one run finds all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ninetailed_wsgi.core.operators import OPERATORS, Number, PatternError, Test, compile_test, number_of, text_of
from ninetailed_wsgi.core.problems import Problems, excerpt

RULE_MEMBERS = ("type", "operator", "count", "key", "value", "conditions")

# Far above any history; keeps numbers computed from a count small.
LARGEST_COUNT = 1e9


class Comparison(NamedTuple):
    """An operator and its value: compiled, in words, and as the texts that identify the comparison."""

    test: Test
    words: str
    identity: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """A JSON object within an audience's rules, with its path and the list of problems.

    Attributes:
        path: such as ``any[0].all[1].conditions[0]``.
        problems: receives every problem.
    """

    body: Mapping[str, Any]
    path: str
    problems: Problems

    def operator(self, default: str) -> str:
        """Return the operator's canonical name; the default if it is missing or invalid (noted as a problem)."""
        value = self.body.get("operator")
        if value is None or value == "":
            return default
        name = OPERATORS.get(value) if isinstance(value, str) else None
        if name is None:
            self.problems.add_choice(f"{self.path}.operator", value, OPERATORS)
        return name or default

    def comparison(self, *, blank_is_missing: bool = False) -> Comparison | None:
        """Return the operator (``equal`` if it is missing) with the value; ``None`` after a problem."""
        name = self.operator("equal")
        if name in ("exists", "notExists"):
            return Comparison(compile_test(name, "", blank_is_missing=blank_is_missing), name, (name, ""))
        operand = text_of(self.body.get("value"))
        if operand is None:
            self.problems.add(f"{self.path}.value", self.body.get("value"), "text, a number, true or false")
            return None
        try:
            test = compile_test(name, operand, blank_is_missing=blank_is_missing)
        except PatternError as error:
            self.problems.add(f"{self.path}.value", operand, f"a regular expression that RE2 can run, but {error}")
            return None
        return Comparison(test, f"{name} {excerpt(operand)}", (name, operand))


@dataclass(frozen=True, slots=True)
class Condition(Part):
    """One condition of a rule: its ``key.key``, and its ``key.value``, the name of a parameter or property."""

    key: str
    parameter: str


@dataclass(frozen=True, slots=True)
class RawRule(Part):
    """One rule as stored, with the conditions that could be read."""

    conditions: tuple[Condition, ...]

    def count(self) -> Number:
        """Return the number of events to compare with; 1 if it is missing."""
        value = self.body.get("count")
        if value is None or value == "":
            return 1
        count = number_of(value)
        if count is None or abs(count) > LARGEST_COUNT:
            self.problems.add(f"{self.path}.count", value, "a number of events")
            return 1
        return count

    def refuse_conditions(self) -> None:
        """Note every condition as a problem, for a rule without conditions."""
        for condition in self.conditions:
            self.problems.add(f"{condition.path}.key.key", condition.key, f"no condition here ({self.body['type']})")

    def comparisons(self, key: str) -> list[Comparison]:
        """Return the conditions as comparisons of ``key``; a condition with another key is a problem."""
        comparisons = []
        for condition in self.conditions:
            if condition.key != key:
                self.problems.add(f"{condition.path}.key.key", condition.key, key)
            elif (comparison := condition.comparison()) is not None:
                comparisons.append(comparison)
        return comparisons


def read_rule(body: Mapping[str, Any], path: str, problems: Problems) -> RawRule:
    """Read the parts of a rule; an unreadable condition is noted and left out."""
    _remark(body, path, problems)
    rows = enumerate(problems.items(f"{path}.conditions", body.get("conditions")))
    conditions = [_condition(item, f"{path}.conditions[{index}]", problems) for index, item in rows]
    return RawRule(body, path, problems, tuple(condition for condition in conditions if condition is not None))


def _remark(body: Mapping[str, Any], path: str, problems: Problems) -> None:
    """Note what reportedly makes the hosted service ignore a rule, and what has no effect."""
    if isinstance(body.get("count"), int | float):
        problems.remark(
            "note", f"{path}.count", "is a number: the authoring tool writes text, other services may ignore it"
        )
    for member in ("key", "value"):
        if member in body and body[member] is None:
            message = 'is null: the authoring tool writes "", other services may ignore the rule'
            problems.remark("note", f"{path}.{member}", message)
    problems.remark_unknown(path, body, RULE_MEMBERS)


def _condition(item: object, path: str, problems: Problems) -> Condition | None:
    if not isinstance(item, dict):
        problems.add(path, item, "an object")
        return None
    key = item.get("key")
    holder = key if isinstance(key, dict) else {"key": key}
    name = holder.get("key")
    if name is None and isinstance(holder.get("id"), str):
        name = holder["id"]
        problems.remark("odd", f"{path}.key", f"has an id alone, which is read as the key {excerpt(name)}")
    if not isinstance(name, str):
        problems.add(f"{path}.key.key", name, "the name of a condition")
        return None
    return Condition(item, path, problems, name, text_of(holder.get("value")) or "")
