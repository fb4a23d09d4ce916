"""Writes rules as one Python expression; calling a function for each part of a rule would take three times as long.

The text of an expression contains nothing that authors wrote, only names that stand for their values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ninetailed_wsgi.core.operators import number_of

INLINE = {
    "equal": ("str", "x == {}"),
    "contains": ("str", "{} in x"),
    "greaterThan": ("int", "x > {}"),
    "greaterThanInclusive": ("int", "x >= {}"),
    "lessThan": ("int", "x < {}"),
    "lessThanInclusive": ("int", "x <= {}"),
}
"""By operator: the value type for which its test can be inlined, and the test, in which ``x`` is the value."""


class Expression:
    """Builds an expression of one argument, and keeps the values that the expression names.

    Args:
        argument: the name of its argument.
    """

    def __init__(self, argument: str) -> None:
        self._argument = argument
        self._values: dict[str, object] = {"__builtins__": {"type": type, "str": str, "int": int}}

    def name(self, value: object) -> str:
        """Return a new name for a value."""
        name = f"v{len(self._values)}"
        self._values[name] = value
        return name

    def member(self, mapping: str, key: str) -> str:
        """Return the text that reads a member of one of the argument's mappings; it gives None if it is missing."""
        return f"{self._argument}.{mapping}.get({self.name(key)})"

    def call(self, function: Callable[..., object]) -> str:
        """Return the text that calls a function with the argument."""
        return f"{self.name(function)}({self._argument})"

    def test(self, text: str, test: Callable[[Any], bool], operator: str, operand: str) -> str:
        """Return the text that tests the value of ``text``; ``test`` is the compiled form of the operator."""
        kind, comparison = INLINE.get(operator, ("", ""))
        value = number_of(operand) if kind == "int" else operand
        if not kind or value is None or operand == "*":
            return f"{self.name(test)}({text})"
        return f"({comparison.format(self.name(value))} if type(x := {text}) is {kind} else {self.name(test)}(x))"

    def function(self, text: str) -> Callable[[Any], Any]:
        """Return the function that computes the value of ``text`` from its argument."""
        function: Callable[[Any], Any] = eval(f"lambda {self._argument}: {text}", self._values)
        return function


def joined(texts: list[str], kind: str) -> str:
    """Return the text that tells whether ``any`` or ``all`` (``kind``) of the texts hold; ``False`` without texts."""
    if len(texts) < 2:
        return texts[0] if texts else "False"
    return f"({(' or ' if kind == 'any' else ' and ').join(texts)})"
