"""The words for operators, used wherever a rule is described in a sentence."""

from __future__ import annotations

COMPARISON_WORDS = {
    "equal": "is",
    "notEqual": "is not",
    "contains": "contains",
    "notContains": "does not contain",
    "startsWith": "starts with",
    "endsWith": "ends with",
    "matches": "matches",
    "greaterThan": "is more than",
    "greaterThanInclusive": "is at least",
    "lessThan": "is less than",
    "lessThanInclusive": "is at most",
}
"""The words between a value and the value it is compared with."""

COUNT_WORDS = {
    "equal": "exactly",
    "notEqual": "not exactly",
    "greaterThan": "more than",
    "greaterThanInclusive": "at least",
    "lessThan": "fewer than",
    "lessThanInclusive": "at most",
}
"""The words before a number of times."""
