"""Which company's network an address is in, from a local database: MaxMind ISP, ASN or Enterprise, or a compatible one.

Source: spec section 10. A look-up takes microseconds and happens during the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ninetailed_wsgi.enrichment.maxmind import DatabaseKind, MaxMindDatabase, member, text

LONGEST_TEXT = 256
"""Maximum characters of a member; longer text is cut."""

# Parts of the type names of MaxMind, DB-IP ("DBIP-ASN-Lite") and IPinfo ("ipinfo standard_company.mmdb").
_TYPES = ("ISP", "ASN", "Enterprise", "asn", "company", "Company", "ipinfo lite")
_EXPECTED = "expected an ISP, ASN or Enterprise database of MaxMind, or one of that form from DB-IP or IPinfo"

# The databases' names for these members, the most exact first.
_NAMES = ("organization", "company_name", "name", "autonomous_system_organization", "as_name", "isp")
_DOMAINS = ("domain", "company_domain", "as_domain")
_NUMBERS = ("autonomous_system_number", "asn")
_KINDS = ("user_type", "company_type", "type", "as_type")


class CompanyDatabase(MaxMindDatabase):
    """Finds the company of an address: a `CompanySource`.

    Arguments and errors are those of `MaxMindDatabase`.
    """

    trait = "company"
    origin = "the company database"

    def __init__(self, path: str | Path, *, check_every: float = 1.0) -> None:
        super().__init__(path, _KIND, check_every=check_every)

    def company(self, address: str, *, asks: bool = True) -> Mapping[str, Any]:
        """Return those of ``name``, ``domain``, ``asn`` (a number) and ``kind`` that the file has; never raise."""
        company: Mapping[str, Any] = self.answer(address) or {}
        return company


def _company(record: object, _: str) -> dict[str, Any]:
    """Read a record; an Enterprise database has these members in ``traits``."""
    values = {**(record if isinstance(record, dict) else {}), **member(record, "traits")}
    company = {
        "name": _first(values, _NAMES),
        "domain": _first(values, _DOMAINS),
        "asn": next((number for name in _NUMBERS if (number := _number(values.get(name)))), None),
        "kind": _first(values, _KINDS),
    }
    return {name: value for name, value in company.items() if value is not None}


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    first = next((value for name in names if (value := text(values.get(name)))), None)
    return first and first[:LONGEST_TEXT]


def _number(value: object) -> int | None:
    """Read the number of an autonomous system, which IPinfo writes as ``AS15169``."""
    if isinstance(value, str) and (match := re.fullmatch(r"(?:AS)?([0-9]{1,10})", value)):
        return int(match[1])
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


_KIND = DatabaseKind("company_database", _TYPES, _EXPECTED, "company", _company)
