"""Reads the generic form of the official SDK's mappers: plain audiences and experiences of any content system.

``{"audiences": [{id, name, rules}], "experiences": [{id, name, type, config, audience, variants}], "mergeTags": [{id,
name, fallback}], "entries": [{id, nt_experiences: [experience ids]}], "metrics": [{id, name, type, event, property,
direction}]}``. Every list may be missing. A document that is just a list contains items of all kinds, told apart as
`read_list` describes. Everything in it counts as published. Source: spec section 7.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ninetailed_wsgi.content.entries import (
    AudienceEntry,
    BaselineEntry,
    Content,
    ExperienceEntry,
    Faulty,
    MergeTagEntry,
    MetricEntry,
    Reference,
)
from ninetailed_wsgi.content.formats.file_reader import FileReader
from ninetailed_wsgi.core.problems import excerpt

MEMBERS = ("audiences", "experiences", "mergeTags", "entries", "metrics")

_TELLING = {"rules": "audiences", "event": "metrics", "nt_experiences": "entries", "fallback": "mergeTags"}


def read_generic(document: Mapping[str, object], file: str) -> Content:
    """Read the generic form; ``file`` is its path, for messages."""
    return _ListReader(file).read(document)


def read_list(items: Sequence[object], file: str) -> Content:
    """Read a bare list. One member tells what an item is; without such a member it is an experience.

    ``rules`` means an audience, ``event`` a metric, ``nt_experiences`` the order of an entry, and ``fallback`` a merge
    tag.
    """
    lists: dict[str, list[object]] = {name: [] for name in MEMBERS}
    for item in items:
        names = [name for member, name in _TELLING.items() if isinstance(item, dict) and member in item]
        lists[names[0] if names else "experiences"].append(item)
    return _ListReader(file).read(lists)


def read_metrics(document: Mapping[str, object], file: str) -> Content:
    """Read only the ``metrics`` of a document; a document of any format may have them beside its entries."""
    return _ListReader(file).read({"metrics": document.get("metrics")})


class _ListReader(FileReader):
    """Reads the lists of one file; each list has one kind of item."""

    def read(self, document: Mapping[str, object]) -> Content:
        self._each(document, "audiences", self._audience)
        self._each(document, "experiences", self._experience)
        self._each(document, "mergeTags", self._merge_tag)
        self._each(document, "entries", self._baseline)
        self._each(document, "metrics", self._metric)
        return self._content

    def _each(
        self, document: Mapping[str, object], member: str, take: Callable[[str, Mapping[str, object]], None]
    ) -> None:
        items = document.get(member)
        if items is None:
            return
        if not isinstance(items, list):
            self._report("", f"{member}: found {excerpt(items)}, expected a list", "error")
            return
        for index, item in enumerate(items):
            if not isinstance(item, dict):
                self._report("", f"{member}[{index}]: found {excerpt(item)}, expected an object")
                continue
            id = item.get("id")
            if not isinstance(id, str) or not id:
                self._report("", f"{member}[{index}].id: found {excerpt(id)}, expected a text that is not empty")
                continue
            try:
                take(id, item)
            except Faulty as fault:
                self._leave_out(id, fault)

    def _audience(self, id: str, item: Mapping[str, object]) -> None:
        name = self._text(id, item, "name") or id
        self._content.audiences.append(
            AudienceEntry(entry=id, id=id, name=name, rules=item.get("rules"), member="rules", file=self._file)
        )

    def _experience(self, id: str, item: Mapping[str, object]) -> None:
        for member in ("trafficAllocation", "distribution", "components"):
            if member in item:
                raise Faulty(f'{member}: found what the mapper puts out, expected what it takes in, a "config"')
        self._content.experiences.append(
            ExperienceEntry(
                entry=id,
                id=id,
                name=self._text(id, item, "name") or id,
                type=self._text(id, item, "type") or "",
                audience=self._audience_of(item.get("audience")),
                config=item.get("config"),
                member="config",
                file=self._file,
            )
        )

    def _audience_of(self, audience: object) -> Reference | None:
        """Read the audience's id, given as text or in an object; an object with rules is the audience itself."""
        if audience is None:
            return None
        id = audience.get("id") if isinstance(audience, dict) else audience
        if not isinstance(id, str) or not id:
            raise Faulty(f"audience: found {excerpt(audience)} without an id, expected an object with an id, or null")
        if isinstance(audience, dict) and audience.get("rules") is not None:
            self._audience(id, audience)
        return Reference("id", id)

    def _merge_tag(self, id: str, item: Mapping[str, object]) -> None:
        name, fallback = self._text(id, item, "name") or id, self._text(id, item, "fallback")
        self._content.merge_tags.append(MergeTagEntry(entry=id, id=id, name=name, fallback=fallback, file=self._file))

    def _metric(self, id: str, item: Mapping[str, object]) -> None:
        self._content.metrics.append(
            MetricEntry(
                entry=id,
                id=id,
                name=self._text(id, item, "name") or id,
                type=item.get("type"),
                event=item.get("event"),
                property=item.get("property"),
                direction=item.get("direction"),
                file=self._file,
            )
        )

    def _baseline(self, id: str, item: Mapping[str, object]) -> None:
        references = item.get("nt_experiences") or []
        if not isinstance(references, list):
            raise Faulty(f"nt_experiences: found {excerpt(references)}, expected a list of ids of experiences")
        experiences = []
        for index, one in enumerate(references):
            target = one.get("id") if isinstance(one, dict) else one
            if not isinstance(target, str) or not target:
                self._report(id, f"nt_experiences[{index}]: found {excerpt(one)}, expected the id of an experience")
                continue
            experiences.append(Reference("id", target))
        self._content.baselines.append(BaselineEntry(entry=id, experiences=tuple(experiences), file=self._file))
