"""The protocols of sources about an address that the service uses: databases, services and the places of a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class LocationSource(Protocol):
    """Finds the place of an address. Any thread may call the methods; they never raise."""

    def lookup(self, ip: str, locale: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the place of an address, named in the visitor's language and in English; empty where unknown."""

    def follow(self) -> None:
        """Follow changes of the database in the background, if it has a file."""

    def state(self) -> tuple[float, bool] | None:
        """Return when the database was built (seconds since the epoch) and whether a newer file is rejected.

        None if there is no database file.
        """


class CompanySource(Protocol):
    """Finds which company's network an address is in (spec section 10). Any thread may call it; it never raises.

    Attributes:
        trait: the name of the trait that holds its answers.
        origin: a description of the source, for explanations.
    """

    trait: str
    origin: str

    def company(self, address: str, *, asks: bool) -> Mapping[str, Any]:
        """Return what is known about the company of an address now, without waiting; empty if unknown.

        Args:
            asks: whether a remote source may be asked, so that a later call knows more.
        """

    def follow(self) -> None:
        """Follow changes of the source in the background, if it has a file."""
