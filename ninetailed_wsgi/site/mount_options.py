"""Reads the keywords that only a mount has: the environment of its pages, their budget, consent, the cookie."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from ninetailed_wsgi.settings.masking import quoted
from ninetailed_wsgi.settings.readers import one_of, whole_number, yes_or_no

_NEEDS_SECURE = "yes, or no value at all: browsers accept a cookie with SameSite=None only if it is secure"


COOKIES = ("ntaid", "ctfl-opt-aid")
"""The cookies in which the SDKs keep the profile's id; both are read (spec section 9)."""

YEAR = 365 * 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """What a host site chooses; `Ninetailed` describes each option."""

    organization: str = "default"
    environment: str = "main"
    prefix: str = "/ninetailed"
    preflight: bool = False
    exposures: str = "seen"
    consent: Callable[[Mapping[str, Any]], bool] | None = None
    panel: bool | Callable[[Mapping[str, Any]], bool] = False
    time_budget_ms: float = 100
    cookie_name: str = COOKIES[0]
    cookie_domain: str = ""
    cookie_path: str = "/"
    cookie_secure: bool | None = None
    cookie_httponly: bool = False
    cookie_samesite: str = "Lax"
    cookie_max_age: int = YEAR

    @property
    def path_prefix(self) -> str:
        """The prefix as WSGI hands over a path: UTF-8 read as Latin-1 (PEP 3333)."""
        return self.prefix.rstrip("/").encode().decode("latin-1")


def read_mount_options(values: Mapping[str, Any]) -> tuple[MountOptions, list[str]]:
    """Check the keywords of a mount; text, as an ini file has it, is converted.

    Returns:
        The checked values, with the default for each bad one, and one line for each bad one.
    """
    options: dict[str, Any] = {}
    problems = []
    for name, value in values.items():
        try:
            options[name] = _READERS[name](value)
        except ValueError as error:
            problems.append(f"{name}: found {quoted(value)}, expected {error}")
    if (options.get("cookie_secure"), options.get("cookie_samesite")) == (False, "None"):
        problems.append(f"cookie_secure: found False, expected {_NEEDS_SECURE}")
    return MountOptions(**options), problems


def _name(value: object) -> str:
    if not isinstance(value, str) or not value or "/" in value:
        raise ValueError("a name without a slash")
    return value


def _prefix(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"/[^?#\x00-\x1f\x7f]*", value) or not value.strip("/"):
        raise ValueError("a path such as /ninetailed")
    return value


def _consent(value: object) -> Callable[[Mapping[str, Any]], bool] | None:
    expected = "a function of the WSGI environ, or its name as package.module:function"
    if isinstance(value, str):
        try:
            value = resolve_name(value)
        except (ValueError, ImportError, AttributeError):
            raise ValueError(expected) from None
    if value is not None and not callable(value):
        raise ValueError(expected)
    return value


def _panel(value: object) -> bool | Callable[[Mapping[str, Any]], bool]:
    if isinstance(value, str) and ":" in value:
        value = _consent(value)
    if callable(value):
        return value
    try:
        return yes_or_no(value)
    except ValueError:
        raise ValueError("yes, no, a function of the WSGI environ, or its name as package.module:function") from None


def _milliseconds(value: object) -> float:
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:  # also refuses NaN
        raise ValueError("a number of milliseconds above 0")
    return number


def _cookie_name(value: object) -> str:
    if not isinstance(value, str) or not _is_token(value):
        raise ValueError("the name of a cookie")
    return value


def _cookie_domain(value: object) -> str:
    if value != "" and not (isinstance(value, str) and _is_token(value)):
        raise ValueError("the name of a host")
    return str(value)


def _cookie_path(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"/[!-:<-~]*", value):
        raise ValueError("a path such as /")
    return value


def _is_token(text: str) -> bool:
    return text != "" and text.isascii() and text.isprintable() and not set(text) & set(' \t()<>@,;:\\"/[]?={}')


_READERS: Mapping[str, Callable[[object], Any]] = {
    "organization": _name,
    "environment": _name,
    "prefix": _prefix,
    "preflight": yes_or_no,
    "exposures": one_of("seen", "served"),
    "consent": _consent,
    "panel": _panel,
    "time_budget_ms": _milliseconds,
    "cookie_name": _cookie_name,
    "cookie_domain": _cookie_domain,
    "cookie_path": _cookie_path,
    "cookie_httponly": yes_or_no,
    "cookie_secure": lambda value: None if value is None else yes_or_no(value),
    "cookie_samesite": one_of("Lax", "Strict", "None"),
    "cookie_max_age": whole_number(0, 2**31 - 1),
}
