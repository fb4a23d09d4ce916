"""Writes values as JavaScript prints them, so that the server renders a page exactly as the browser SDK does."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_MOST_EXACT = 2**53  # a larger whole number loses digits in JavaScript, where every number is a double


def number_text(value: float) -> str:
    """Return a number as ``String(value)`` prints it: ``0.00001``, ``1e-7``, ``1e+21``, ``5`` (spec section 8).

    Source: ECMA-262, "Number::toString", radix 10. Its shortest digits are those of Python's ``repr``.
    """
    if isinstance(value, int) and -_MOST_EXACT <= value <= _MOST_EXACT:
        return str(int(value))
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    if number == 0:
        return "0"  # also -0
    mantissa, _, exponent = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)  # where the decimal point stands, counted from the first digit
    digits = whole + fraction
    point -= len(digits) - len(digits := digits.lstrip("0"))
    return ("-" if number < 0 else "") + _placed(digits.rstrip("0"), point)


def _placed(digits: str, point: int) -> str:
    """Return the digits with a decimal point after the first ``point`` of them, or with an exponent."""
    if len(digits) <= point <= 21:
        return digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"


def json_text(value: Any) -> str:
    """Return a JSON value as ``JSON.stringify(value)`` prints it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        text = number_text(value)
        return "null" if text.lstrip("-") in ("NaN", "Infinity") else text
    if isinstance(value, Mapping):
        members = (f"{json_text(str(name))}:{json_text(member)}" for name, member in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(json_text, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False)
