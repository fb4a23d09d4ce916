"""Writes rules as one Python expression: calling a function for each part of a rule takes three times as long.

The text of an expression holds nothing that authors wrote, only names of their values.
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
"""By operator: for values of this type its test may stand in line, with ``x`` for the value."""


class Expression:
    """An expression of one argument that is being written, and the values that it names.

    Args:
        argument: the name of its argument.
    """

    def __init__(self, argument: str) -> None:
        self._argument = argument
        self._values: dict[str, object] = {"__builtins__": {"type": type, "str": str, "int": int}}

    def name(self, value: object) -> str:
        """Return a name for a value."""
        name = f"v{len(self._values)}"
        self._values[name] = value
        return name

    def member(self, mapping: str, key: str) -> str:
        """Return the text that reads a member of a mapping of the argument; None where it is missing."""
        return f"{self._argument}.{mapping}.get({self.name(key)})"

    def call(self, function: Callable[..., object]) -> str:
        """Return the text that calls a function with the argument."""
        return f"{self.name(function)}({self._argument})"

    def test(self, text: str, test: Callable[[Any], bool], operator: str, operand: str) -> str:
        """Return the text that tells whether the value of ``text`` passes a test, which an operator was compiled to."""
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
    """Return the text that says whether any or all (``kind``) of some texts hold; none of no texts does."""
    if len(texts) < 2:
        return texts[0] if texts else "False"
    return f"({(' or ' if kind == 'any' else ' and ').join(texts)})"
