"""What a visitor gets in a preview, and why: the decision with overrides (spec section 13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ninetailed_wsgi.content import Catalog, ContentSource
from ninetailed_wsgi.content.formats.delivery import delivery
from ninetailed_wsgi.core import company, preview, profile
from ninetailed_wsgi.core.flags import Flag
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.service.folding import Snapshot


class PreviewContent:
    """The content that previews show.

    Args:
        content: the published content.
        draft: the content that is not published yet; None: there is no draft.
    """

    def __init__(self, content: ContentSource, draft: ContentSource | None) -> None:
        self._content = content
        self._draft = draft

    def catalog(self, environment: Environment, overrides: Overrides) -> Catalog:
        """Return the content that decides; raise InvalidData if a draft is wanted and there is none."""
        if overrides.content == "published":
            return self._content.catalog(*environment)
        if self._draft is None:
            raise InvalidData(
                "preview.content: found draft, but no draft content is configured; set draft_content (--draft-content)"
            )
        return self._draft.catalog(*environment)

    def other(self, environment: Environment, overrides: Overrides | None) -> Catalog | None:
        """Return the content of a preview; None outside of a preview, because then the published content decides."""
        return None if overrides is None else self.catalog(environment, overrides)

    def draft(self, organization: str, environment: str) -> Catalog:
        """Return the draft of an environment; raise InvalidData if there is none."""
        return self.catalog(Environment(organization, environment), Overrides(content="draft"))

    @property
    def has_draft(self) -> bool:
        """Whether there is content that is not published."""
        return self._draft is not None

    def entries(self, environment: Environment, overrides: Overrides) -> dict[str, Any]:
        """Return the ``audiences`` and ``experiences`` of the content as entries of the Delivery API."""
        return delivery(self.catalog(environment, overrides))

    def check(self, environment: Environment, overrides: Overrides) -> None:
        """Raise InvalidData if a preview names something that its content does not have."""
        catalog = self.catalog(environment, overrides)
        overrides.check([audience.id for audience in catalog.audience_list], catalog.experiences)


def decision(
    catalog: Catalog, snapshot: Snapshot, now: int, overrides: Overrides, *, entities: bool = False
) -> dict[str, Any]:
    """Return ``profile``, ``experiences`` and ``changes`` as the API answers them, with the overrides of a preview."""
    record, audiences, _ = _belonging(catalog, snapshot, now, overrides)
    experiences, changes = preview.select(
        catalog.experiences, record["stable_id"], audiences, record["sticky"], overrides, entities=entities
    )
    return {"profile": profile.answer(record, audiences), "experiences": experiences, "changes": changes}


def explanation(catalog: Catalog, snapshot: Snapshot, now: int, overrides: Overrides) -> dict[str, Any]:
    """Return ``profile``, ``audiences`` and ``experiences`` as `ExperienceService.explain` does, with overrides.

    An audience that the preview forces has ``"forced": true``.
    """
    record, audiences, facts = _belonging(catalog, snapshot, now, overrides)
    explanations = catalog.audiences.explain(facts)
    for audience in explanations:
        if audience["id"] in overrides.audiences:
            audience["forced"], audience["matched"] = True, audience["id"] in audiences
    return {
        "profile": profile.answer(record, audiences),
        "audiences": explanations,
        "experiences": preview.explain(
            catalog.experiences, record["stable_id"], audiences, record["sticky"], overrides
        ),
        "enriched": company.origins(record),
    }


def flags(catalog: Catalog, snapshot: Snapshot, now: int, overrides: Overrides, keys: Sequence[str]) -> list[Flag]:
    """Return the flags of these keys as a preview decides them."""
    record, audiences, _ = _belonging(catalog, snapshot, now, overrides)
    decided = (record["stable_id"], audiences, record["sticky"], overrides.experiences)
    return [catalog.flags.decide(key, *decided) for key in keys]


def _belonging(
    catalog: Catalog, snapshot: Snapshot, now: int, overrides: Overrides
) -> tuple[profile.Record, list[str], Any]:
    record = preview.overridden(snapshot.record, overrides)
    facts = profile.facts(record, snapshot.next_ordinal, overrides.now(now))
    published = [audience.id for audience in catalog.audiences.audiences]
    return record, preview.belongs(catalog.audiences.matched(facts), overrides, published), facts
