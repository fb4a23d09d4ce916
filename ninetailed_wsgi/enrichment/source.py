"""What the service asks of a location database: the protocol of a MaxMind file and of a test's places."""

from __future__ import annotations

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
