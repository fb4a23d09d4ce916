"""The operators of audience rules: how a visitor's value is compared with the author's value.

Source: spec section 5, "Operators seen" and "Values". A missing value and ``null`` are ``None`` here.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from decimal import Decimal

import re2

Test = Callable[[object], bool]
Number = int | float

# The names that authors may write, each with the canonical name under which it is compiled.
OPERATORS = {
    "equal": "equal",
    "notEqual": "notEqual",
    "notEquals": "notEqual",
    "contains": "contains",
    "notContains": "notContains",
    "doesNotContain": "notContains",
    "startsWith": "startsWith",
    "endsWith": "endsWith",
    "matches": "matches",
    "regex": "matches",
    "greaterThan": "greaterThan",
    "greaterThanInclusive": "greaterThanInclusive",
    "lessThan": "lessThan",
    "lessThanInclusive": "lessThanInclusive",
    "exists": "exists",
    "notExists": "notExists",
}
DENIALS = frozenset({"notEqual", "notContains", "notExists"})
NUMERIC: dict[str, Callable[[Number, Number], bool]] = {
    "greaterThan": operator.gt,
    "greaterThanInclusive": operator.ge,
    "lessThan": operator.lt,
    "lessThanInclusive": operator.le,
}
COUNTING: dict[str, Callable[[Number, Number], bool]] = {**NUMERIC, "equal": operator.eq, "notEqual": operator.ne}

# Measured: RE2 needs at most 4 ns per instruction and character, so one comparison ends within about 50 ms.
LONGEST_MATCHED_TEXT = 4096
LARGEST_PATTERN = 3000

# No digit can match two parts of this pattern; otherwise a long text of digits could take exponential time.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class PatternError(ValueError):
    """A regular expression is invalid, or cannot run in bounded time."""


def text_of(value: object) -> str | None:
    """Return the text used to compare a JSON value: the value itself, or its JSON text as JavaScript writes it.

    Lists, objects and ``None`` have no text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _integer_text(value)
    return _float_text(value) if isinstance(value, float) else None


def number_of(value: object) -> Number | None:
    """Return the number that numeric operators compare: a JSON number, or text that contains one (``"42"``).

    A boolean is not a number.
    """
    if isinstance(value, str):
        text = value.strip()
        return float(text) if _NUMBER.fullmatch(text) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _integer_text(value: int) -> str | None:
    try:
        return str(value)
    except ValueError:  # more digits than the interpreter allows: never a value in practice
        return None


def _float_text(value: float) -> str:
    """Return Number::toString of ECMAScript: 5.0 is "5", 1e21 is "1e+21", 1e-7 is "1e-7"."""
    if not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-4 <= abs(value) < 1e16:
        return repr(abs(value) if value == 0 else value).removesuffix(".0")
    sign, digit_numbers, exponent = Decimal(repr(value)).normalize().as_tuple()
    digits = "".join(map(str, digit_numbers))
    point = len(digits) + int(exponent)
    if len(digits) <= point <= 21:
        text = digits.ljust(point, "0")
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        mantissa = digits[0] + ("." + digits[1:] if digits[1:] else "")
        text = f"{mantissa}e{point - 1:+d}"
    return "-" + text if sign else text


def compile_test(name: str, operand: str, *, blank_is_missing: bool = False) -> Test:
    """Compile one comparison into a function of the value, which never raises for any JSON.

    Args:
        name: a value of `OPERATORS`.
        operand: the author's value as text; ignored by ``exists`` and ``notExists``.
        blank_is_missing: whether ``""`` means "unknown", as in pages, campaigns and locations; this affects ``exists``
            and ``*``.

    Raises:
        PatternError: the pattern of ``matches`` is too large, or RE2 cannot compile it.
    """
    if name == "exists" or (operand == "*" and name in ("equal", "contains")):
        return _is_there(blank_is_missing)
    if name == "notExists" or (operand == "*" and name in ("notEqual", "notContains")):
        return _not(_is_there(blank_is_missing))
    if name in NUMERIC:
        return _numeric(NUMERIC[name], number_of(operand))
    return _TEXT_OPERATORS[name](operand)


def compile_count_test(name: str, count: Number) -> tuple[Callable[[int], bool], int]:
    """Compile the comparison of a number of events with ``count``.

    Returns:
        The comparison, and the number at or above which its result no longer changes.
    """
    compare = COUNTING[name]
    enough = math.ceil(count) if name in ("greaterThanInclusive", "lessThan") else math.floor(count) + 1
    return lambda fact: compare(fact, count), max(enough, 1)


def _is_there(blank_is_missing: bool) -> Test:
    if blank_is_missing:
        return lambda fact: fact is not None and fact != ""
    return lambda fact: fact is not None


def _not(test: Test) -> Test:
    return lambda fact: not test(fact)


def _numeric(compare: Callable[[Number, Number], bool], operand: Number | None) -> Test:
    if operand is None:
        return lambda fact: False

    def holds(fact: object) -> bool:
        number = fact if type(fact) is int else number_of(fact)
        return number is not None and compare(number, operand)

    return holds


def _equal(operand: str) -> Test:
    return lambda fact: fact == operand if type(fact) is str else text_of(fact) == operand


def _contains(operand: str) -> Test:
    def holds(fact: object) -> bool:
        if type(fact) is str:
            return operand in fact
        if isinstance(fact, list):
            return any(text_of(item) == operand for item in fact)
        text = text_of(fact)
        return text is not None and operand in text

    return holds


def _starts_with(operand: str) -> Test:
    def holds(fact: object) -> bool:
        text = text_of(fact)
        return text is not None and text.startswith(operand)

    return holds


def _ends_with(operand: str) -> Test:
    def holds(fact: object) -> bool:
        text = text_of(fact)
        return text is not None and text.endswith(operand)

    return holds


def _matches(operand: str) -> Test:
    """Search with RE2, whose time is linear in the text; longer text than `LONGEST_MATCHED_TEXT` never matches."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        pattern = re2.compile(operand, options)
    except re2.error as error:
        reason = error.args[0]
        raise PatternError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None
    except UnicodeEncodeError:
        raise PatternError("it holds half of a surrogate pair") from None
    if pattern.programsize > LARGEST_PATTERN:
        raise PatternError(f"it compiles to {pattern.programsize} steps, at most {LARGEST_PATTERN} are allowed")

    def holds(fact: object) -> bool:
        text = text_of(fact)
        if text is None or len(text) > LONGEST_MATCHED_TEXT:
            return False
        try:
            return pattern.search(text) is not None
        except UnicodeEncodeError:  # a lone surrogate, which JSON allows
            return False

    return holds


_TEXT_OPERATORS: dict[str, Callable[[str], Test]] = {
    "equal": _equal,
    "notEqual": lambda operand: _not(_equal(operand)),
    "contains": _contains,
    "notContains": lambda operand: _not(_contains(operand)),
    "startsWith": _starts_with,
    "endsWith": _ends_with,
    "matches": _matches,
}
