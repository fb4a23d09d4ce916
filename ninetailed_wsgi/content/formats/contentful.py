"""Reads the formats of Contentful: a space export, or answers of its Delivery API.

An export keeps each field's values by locale and says of each entry whether it is published. A Delivery answer has
plain fields of published entries, with links as they are or resolved in place; if it was requested with ``locale=*``,
it has values by locale too. Source: spec section 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ninetailed_wsgi.content.entries import (
    AudienceEntry,
    BaselineEntry,
    Content,
    ExperienceEntry,
    Faulty,
    MergeTagEntry,
    MetricEntry,
    Problem,
    Reference,
    is_equal,
    refusal,
)
from ninetailed_wsgi.content.formats.file_reader import FileReader
from ninetailed_wsgi.content.formats.foreign import AUTHORED
from ninetailed_wsgi.core.problems import excerpt

_KINDS = {"nt_audience": "audience", "nt_experience": "experience", "nt_mergetag": "merge tag", "nt_metric": "metric"}
_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_USUAL_LOCALE = "en-US"


def read_export(document: Mapping[str, object], file: str, locale: str | None, *, drafts: bool = False) -> Content:
    """Read a space export (``entries``, perhaps ``locales``).

    Args:
        document: the parsed file.
        file: its path, for messages.
        locale: the locale to read; None: the export's default. A field without it falls back to the default.
        drafts: whether unpublished entries count as published.
    """
    entries = document.get("entries")
    if not isinstance(entries, list):
        return refusal(file, f"entries: found {excerpt(entries)}, expected a list of entries")
    return _read(entries, document.get("locales"), file, locale, export=True, published=drafts)


def read_delivery(document: Mapping[str, object], file: str, locale: str | None, *, drafts: bool = False) -> Content:
    """Read an answer of the Delivery API (``items``, ``includes.Entry``); arguments as for `read_export`.

    Every entry in it counts as published, unless it carries the version numbers of the management API.
    """
    items, includes = document.get("items"), document.get("includes")
    if not isinstance(items, list):
        return refusal(file, f"items: found {excerpt(items)}, expected a list of entries")
    included = includes.get("Entry") if isinstance(includes, dict) else None
    every = [*items, *(included if isinstance(included, list) else ())]
    content = _read(every, None, file, locale, export=False, published=drafts)
    total, skip = document.get("total"), document.get("skip")
    if isinstance(total, int) and (total > len(items) or skip):
        message = f"holds {len(items)} of {total} items: the other pages must be in further files"
        content.problems.append(Problem("note", file, "", message))
    return content


def read_space(
    entries: Iterable[Mapping[str, object]], locales: Sequence[object], file: str, locale: str | None
) -> Content:
    """Read published entries as the Sync API gives them: fields by locale; arguments as for `read_export`."""
    return _read([*entries], list(locales), file, locale, export=True, published=True)


def _read(
    entries: Sequence[object],
    locales: object,
    file: str,
    locale: str | None,
    *,
    export: bool,
    published: bool = False,
) -> Content:
    every = list(_with_resolved(entries))
    used = _used_locales(every, export=export)
    try:
        order = _locale_order(locales, used, locale)
    except Faulty as fault:
        return refusal(file, str(fault))
    content = _EntryReader(file, order, export=export, published=published).read(every)
    if locale is not None and used and locale not in used:
        message = f"no entry has a value in the wanted locale {locale}: those of {order[-1]} are served"
        content.problems.append(Problem("note", file, "", message))
    return content


class _EntryReader(FileReader):
    """Reads the entries of one file according to their content type."""

    def __init__(self, file: str, locales: Sequence[str], *, export: bool, published: bool = False) -> None:
        super().__init__(file)
        self._published = published
        self._locales = locales
        self._export = export

    def read(self, entries: Iterable[object]) -> Content:
        for position, entry in enumerate(entries, 1):
            sys = entry.get("sys") if isinstance(entry, dict) else None
            id = sys.get("id") if isinstance(sys, dict) else None
            if not isinstance(entry, dict) or not isinstance(sys, dict) or not isinstance(id, str) or not id:
                self._report("", f"entry number {position}: found no sys.id, expected an entry with sys and fields")
            elif _is_entry(entry):  # neither an asset nor a deleted entry of the Sync API
                try:
                    self._read_entry(id, sys, entry.get("fields", {}))
                except Faulty as fault:
                    self._leave_out(id, fault)
        return self._content

    def _read_entry(self, id: str, sys: Mapping[str, object], fields: object) -> None:
        kind = _content_type(sys)
        if not isinstance(fields, dict):
            raise Faulty(f"fields: found {excerpt(fields)}, expected an object")
        if kind not in _KINDS and not _says_something(fields.get("nt_experiences")):
            return
        if (reason := self._not_published(id, sys)) is not None:
            self._content.absent[id] = reason
            self._report(id, f"this {_KINDS.get(kind, 'baseline')} {reason}", "ignored")
            return
        plain = self._plain(sys, fields)
        match kind:
            case "nt_audience":
                self._content.audiences.append(self._audience(id, plain))
            case "nt_experience":
                self._content.experiences.append(self._experience(id, plain))
            case "nt_mergetag":
                self._content.merge_tags.append(self._merge_tag(id, plain))
            case "nt_metric":
                self._content.metrics.append(self._metric(id, plain))
            case _:
                self._content.baselines.append(self._baseline(id, plain))

    def _not_published(self, id: str, sys: Mapping[str, object]) -> str | None:
        if sys.get("archivedVersion") is not None or sys.get("archivedAt") is not None:
            return "is archived"
        if self._published:
            return None
        version, published = sys.get("version"), sys.get("publishedVersion")
        # Answers of the management API have drafts in "items" as well; only that API has version numbers.
        if not self._export and version is None:
            return None
        if published is None and sys.get("publishedAt") is None:
            return "is not published"
        # Publishing increases the version by one, so an unchanged published entry is one ahead of publishedVersion.
        if isinstance(version, int) and isinstance(published, int) and version > published + 1:
            self._report(
                id, "was changed after it was published: the changed fields, which the file holds, are served", "note"
            )
        return None

    def _plain(self, sys: Mapping[str, object], fields: Mapping[str, object]) -> Mapping[str, object]:
        if not self._export and not _is_by_locale(sys, fields):
            return fields
        plain: dict[str, object] = {}
        for name, values in fields.items():
            if isinstance(values, dict):
                plain[name] = next((values[code] for code in self._locales if values.get(code) is not None), None)
                if plain[name] is None and name.startswith("nt_"):
                    self._note_locales(str(sys["id"]), name, values)
            elif values is not None:
                raise Faulty(f'{name}: found {excerpt(values)}, expected values by locale such as {{"en-US": ...}}')
        return plain

    def _note_locales(self, id: str, name: str, values: Mapping[str, object]) -> None:
        """Note a field that has values, but not in the locales that are read, as after a change of the default one."""
        if others := sorted(str(code) for code, value in values.items() if value is not None):
            message = (
                f"{name}: has a value in {', '.join(others)} and none in {', '.join(self._locales)}, which is read"
            )
            self._report(id, f"{message}: set content_locale to read another one", "note")

    def _audience(self, id: str, fields: Mapping[str, object]) -> AudienceEntry:
        public = self._public_id(id, fields, "nt_audience_id")
        name, rules = self._text(id, fields, "nt_name") or public, fields.get("nt_rules")
        return AudienceEntry(entry=id, id=public, name=name, rules=rules, member="nt_rules", file=self._file)

    def _experience(self, id: str, fields: Mapping[str, object]) -> ExperienceEntry:
        public = self._public_id(id, fields, "nt_experience_id")
        audience = self._only(id, fields.get("nt_audience"), "nt_audience")
        return ExperienceEntry(
            entry=id,
            id=public,
            name=self._text(id, fields, "nt_name") or public,
            type=self._text(id, fields, "nt_type") or "",
            audience=None if audience is None else _link(audience, "nt_audience"),
            config=fields.get("nt_config"),
            member="nt_config",
            file=self._file,
        )

    def _only(self, id: str, value: object, name: str) -> object:
        """Return the one link of a field that may have become a list of links; None if it is empty."""
        if not isinstance(value, list):
            return value
        if len(value) > 1:
            raise Faulty(f"{name}: found {len(value)} links, expected one")
        meaning = "a list, of which the only link is read" if value else "an empty list, which means everyone"
        self._report(id, f"{name}: is {meaning}", "odd")
        return value[0] if value else None

    def _merge_tag(self, id: str, fields: Mapping[str, object]) -> MergeTagEntry:
        public = self._text(id, fields, "nt_mergetag_id")
        if public is None:
            raise Faulty("nt_mergetag_id: found nothing, expected a path into the profile such as traits.firstname")
        name, fallback = self._text(id, fields, "nt_name") or public, self._text(id, fields, "nt_fallback")
        return MergeTagEntry(entry=id, id=public, name=name, fallback=fallback, file=self._file)

    def _metric(self, id: str, fields: Mapping[str, object]) -> MetricEntry:
        public = self._text(id, fields, "nt_metric_id") or id
        return MetricEntry(
            entry=id,
            id=public,
            name=self._text(id, fields, "nt_name") or public,
            type=fields.get("nt_type"),
            event=fields.get("nt_event"),
            property=self._text(id, fields, "nt_property"),
            direction=self._text(id, fields, "nt_direction"),
            prefix="nt_",
            file=self._file,
        )

    def _baseline(self, id: str, fields: Mapping[str, object]) -> BaselineEntry:
        links = fields.get("nt_experiences") or []
        links = [links] if isinstance(links, dict) else links
        if not isinstance(links, list):
            raise Faulty(f"nt_experiences: found {excerpt(links)}, expected a list of links to experiences")
        experiences = []
        for index, link in enumerate(links):
            try:
                experiences.append(_link(link, f"nt_experiences[{index}]"))
            except Faulty as fault:
                self._report(id, f"{fault}; its other experiences are served")
        return BaselineEntry(entry=id, experiences=tuple(experiences), file=self._file)

    def _public_id(self, id: str, fields: Mapping[str, object], name: str) -> str:
        public = self._text(id, fields, name)
        if public is None:
            self._report(id, f"{name} is missing: the entry's own id is used instead, as older spaces have it", "note")
        return public or id


def _is_entry(value: Mapping[str, object]) -> bool:
    """Return whether this is an entry, not a link, an asset or a deleted entry; some tools omit ``sys.type``."""
    sys = value.get("sys")
    type = sys.get("type") if isinstance(sys, dict) else None
    return type == "Entry" or (type is None and isinstance(value.get("fields"), dict))


def _content_type(sys: Mapping[str, object]) -> str:
    link = sys.get("contentType")
    target = link.get("sys") if isinstance(link, dict) else None
    kind = target.get("id") if isinstance(target, dict) else None
    return kind if isinstance(kind, str) else ""


def _link(value: object, where: str) -> Reference:
    """Read a link to an entry, resolved or not: both have the entry's id in the same place."""
    sys = value.get("sys") if isinstance(value, dict) else None
    id = sys.get("id") if isinstance(sys, dict) else None
    if not isinstance(id, str) or not id:
        raise Faulty(f"{where}: found {excerpt(value)} without sys.id, expected a link to an entry")
    return Reference("entry", id)


def _says_something(value: object) -> bool:
    """Return whether a field has a value, by locale or plain: most entries have an empty list of experiences."""
    return any(value.values()) if isinstance(value, dict) else bool(value)


def _with_resolved(entries: Iterable[object]) -> Iterator[object]:
    """Yield the entries and all entries resolved inside them; equal entries only once."""
    targets: dict[str, object] = {}
    waiting = [*entries][::-1]
    while waiting:
        entry = waiting.pop()
        sys, fields = (entry.get("sys"), entry.get("fields")) if isinstance(entry, dict) else (None, None)
        id = sys.get("id") if isinstance(sys, dict) else None
        if isinstance(id, str):
            if id in targets and is_equal(targets[id], entry):
                continue
            targets[id] = entry
        yield entry
        if isinstance(fields, dict):
            waiting += _resolved_in(fields)


def _resolved_in(fields: Mapping[str, object]) -> list[object]:
    resolved: list[object] = []
    waiting = [value for name, value in fields.items() if name not in AUTHORED]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            sys = value.get("sys")
            if isinstance(sys, dict) and _is_entry(value):
                resolved.append(value)
            else:
                waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return resolved


def _is_by_locale(sys: Mapping[str, object], fields: Mapping[str, object]) -> bool:
    """Return whether an answer is for ``locale=*``: it names no locale, and the names in each field are locales."""
    return "locale" not in sys and all(
        isinstance(values, dict) and values and all(map(_LOCALE.fullmatch, values)) for values in fields.values()
    )


def _used_locales(entries: Iterable[object], *, export: bool) -> set[str]:
    """Return the locales for which the fields of audiences, experiences and merge tags have values."""
    used: set[str] = set()
    for entry in entries:
        sys, fields = (entry.get("sys"), entry.get("fields")) if isinstance(entry, dict) else (None, None)
        if not isinstance(sys, dict) or not isinstance(fields, dict) or _content_type(sys) not in _KINDS:
            continue
        if export or _is_by_locale(sys, fields):
            used.update(code for values in fields.values() if isinstance(values, dict) for code in values)
    return used


def _locale_order(locales: object, used: set[str], locale: str | None) -> tuple[str, ...]:
    """Return the locales to try for each field, best first: the requested one, its fallbacks, the default."""
    rows = locales if isinstance(locales, list) else ()
    rows_with_code = [one for one in rows if isinstance(one, dict) and isinstance(one.get("code"), str)]
    fallback = {one["code"]: one.get("fallbackCode") for one in rows_with_code}
    default = next((one["code"] for one in rows_with_code if one.get("default") is True), None)
    if default is None and (_USUAL_LOCALE in used or len(used) == 1):
        default = _USUAL_LOCALE if _USUAL_LOCALE in used else min(used)
    order: list[str] = []
    code = locale
    while isinstance(code, str) and code not in order:
        order.append(code)
        code = fallback.get(code)
    if default is not None and default not in order:
        order.append(default)
    if not order and used:
        raise Faulty(f"found values in the locales {', '.join(sorted(used))} and no default one: set content_locale")
    return tuple(order)
