"""Operators in words, for people: wherever a rule is said in a sentence."""

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
"""Between a value and what it is compared with."""

COUNT_WORDS = {
    "equal": "exactly",
    "notEqual": "not exactly",
    "greaterThan": "more than",
    "greaterThanInclusive": "at least",
    "lessThan": "fewer than",
    "lessThanInclusive": "at most",
}
"""Before a number of times."""
