"""The protocol of content that the service uses: files, a shared document, or a test's harness implement it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ninetailed_wsgi.content.compiling import Catalog


class ServedVersion(NamedTuple):
    """The content served for one environment.

    Attributes:
        environment: ``organization/environment``; ``*/*`` stands for every other environment.
        version: as `Catalog.version`.
        loaded_at: when it was compiled, in seconds since the epoch; None if nothing was loaded.
    """

    environment: str
    version: str
    loaded_at: float | None


class ContentState(NamedTuple):
    """What is served now.

    Attributes:
        versions: of each environment.
        errors: how many errors the newest content has; above 0, an older version is served.
        left_out: how many entries, or parts of them, are invalid and not served.
    """

    versions: list[ServedVersion]
    errors: int
    left_out: int = 0


class ContentSource(Protocol):
    """The compiled content of each environment. Every method may be called by any thread and raises nothing."""

    def catalog(self, organization: str, environment: str) -> Catalog:
        """Return an environment's catalog: a look-up that never reads, compiles or waits."""

    def state(self) -> ContentState:
        """Return what is served, for metrics."""

    def follow(self) -> None:
        """Follow changes in the background from now on, in this process and in those forked from it."""

    def refresh(self) -> None:
        """Look for changes at once if checks are infrequent; return before that is done."""
