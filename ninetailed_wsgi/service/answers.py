"""Evaluates a profile for an answer: its audiences, its experiences and what they change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.core import company, profile
from ninetailed_wsgi.core.events import Event
from ninetailed_wsgi.core.flags import Flag
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.errors import ProfileNotFound
from ninetailed_wsgi.operations.metrics import Metrics
from ninetailed_wsgi.service import previews
from ninetailed_wsgi.service.application import Application, latest
from ninetailed_wsgi.service.folding import Snapshot

if TYPE_CHECKING:
    from ninetailed_wsgi.service.live import Live


class Answers:
    """What the API answers about a profile.

    Args:
        metrics: counts evaluations; None: nothing is counted.
        live: shows incoming events to somebody who watches; None: nobody can watch.
    """

    def __init__(self, metrics: Metrics | None, live: Live | None = None) -> None:
        self._metrics = metrics
        self._live = live

    def profile(self, catalog: Catalog, snapshot: Snapshot, now: int) -> dict[str, Any]:
        """Return ``profile``, evaluated at this time (ms)."""
        if self._metrics:
            self._metrics.evaluated()
        audiences = catalog.audiences.matched(profile.facts(snapshot.record, snapshot.next_ordinal, now))
        return profile.answer(snapshot.record, audiences)

    def applied(
        self,
        environment: Environment,
        application: Application,
        key: Key,
        preflight: bool,
        events: Sequence[Event],
        now: int,
        overrides: Overrides | None,
        entities: bool,
    ) -> dict[str, Any]:
        """Return the `decision` for a profile that events were just applied to, and show it to somebody who watches."""
        catalog, snapshot = application.catalog, latest(application, key)
        if self._live is not None and not (overrides and overrides.explains):  # the panel asks why; nothing came in
            source = "preview" if overrides else "preflight" if preflight else "request"
            self._live.decided(environment, source, events, catalog, snapshot, now, overrides)
        return self.decision(catalog, snapshot, now, overrides, entities)

    def decision(
        self, catalog: Catalog, snapshot: Snapshot, now: int, overrides: Overrides | None, entities: bool
    ) -> dict[str, Any]:
        """Return ``profile``, ``experiences`` and ``changes``, evaluated at this time (ms).

        Args:
            overrides: the overrides of a preview; None: this is no preview.
            entities: whether ``changes`` may hold what only clients of the space routes accept (spec section 6).
        """
        if overrides is not None:
            if overrides.explains:
                return previews.explanation(catalog, snapshot, now, overrides)
            return previews.decision(catalog, snapshot, now, overrides, entities=entities)
        record, answer = snapshot.record, self.profile(catalog, snapshot, now)
        experiences, changes = catalog.experiences.select(
            record["stable_id"], answer["audiences"], record["sticky"], entities=entities
        )
        return {"profile": answer, "experiences": experiences, "changes": changes}

    def explanation(
        self, catalog: Catalog, snapshot: Snapshot, now: int, overrides: Overrides | None = None
    ) -> dict[str, Any]:
        """Return the reasons: ``profile``, and ``audiences`` and ``experiences`` as their ``explain`` methods do."""
        if overrides is not None:
            return previews.explanation(catalog, snapshot, now, overrides)
        record, answer = snapshot.record, self.profile(catalog, snapshot, now)
        return {
            "profile": answer,
            "audiences": catalog.audiences.explain(profile.facts(*snapshot, now)),
            "experiences": catalog.experiences.explain(record["stable_id"], answer["audiences"], record["sticky"]),
            "enriched": company.origins(record),
        }

    def flags(
        self, catalog: Catalog, snapshot: Snapshot, now: int, overrides: Overrides | None, keys: Sequence[str]
    ) -> list[Flag]:
        """Return the flags of these keys, decided at this time (ms)."""
        if overrides is not None:
            return previews.flags(catalog, snapshot, now, overrides, keys)
        record = snapshot.record
        audiences = catalog.audiences.matched(profile.facts(*snapshot, now))
        return [catalog.flags.decide(key, record["stable_id"], audiences, record["sticky"]) for key in keys]

    def record(self, catalog: Catalog, snapshot: Snapshot, now: int) -> dict[str, Any]:
        """Return what `ExperienceService.record` answers, without the events."""
        record = snapshot.record
        return {
            "profile": self.profile(catalog, snapshot, now),
            "aliases": record["aliases"],
            "device": record["device"],
            "assignments": record["sticky"],
            "exposures": record.get("exposures", {}),
            "lastActivity": record["updated"],
        }


def not_found(name: str) -> ProfileNotFound:
    """Return the error for an id or alias that no profile has."""
    return ProfileNotFound(f"no profile has the id or alias {shorten(name)}")
