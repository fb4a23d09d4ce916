"""What the service asks of sources about an address: the protocols of databases, services and a test's places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class LocationSource(Protocol):
    """Answers which place an address belongs to. Every method may be called by any thread and raises nothing."""

    def lookup(self, ip: str, locale: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the place of an address, named in the visitor's language and in English; empty where unknown."""

    def follow(self) -> None:
        """Follow changes of the database in the background, if it has a file."""

    def state(self) -> tuple[float, bool] | None:
        """Return when the database was built (seconds since the epoch) and whether a newer file is refused.

        None where there is no database file.
        """


class CompanySource(Protocol):
    """Answers which company's network an address is in (spec section 10). Any thread may call it; it raises nothing.

    Attributes:
        trait: the trait that its answers are.
        origin: what it is, in words, for explanations.
    """

    trait: str
    origin: str

    def company(self, address: str, *, asks: bool) -> Mapping[str, Any]:
        """Return what is known of the company of an address now, without waiting; empty where that is nothing.

        Args:
            asks: whether a source that is far may be asked, so that a later call knows more.
        """

    def follow(self) -> None:
        """Follow changes of the source in the background, if it has a file."""
