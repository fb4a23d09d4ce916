"""What the pages of the inspector show, as JSON documents: each page has one, which is also its twin below `.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ninetailed_wsgi import __version__
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.errors import ProfileNotFound, RouteNotFound
from ninetailed_wsgi.insights import drafts, latest, population
from ninetailed_wsgi.service.access import Access, Terms
from ninetailed_wsgi.service.explanation import reason, subject
from ninetailed_wsgi.service.inspection import footprint, other_names, summary
from ninetailed_wsgi.service.search import by_beginning, by_trait
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings

EVENTS_SHOWN = 100
Json = dict[str, Any]


def content(service: ExperienceService, where: Environment) -> Json:
    """Return the published audiences and experiences by name."""
    catalog = service.content(*where)
    variants = {each.id: len(each.outcomes) for each in catalog.experiences.experiences}
    return {
        "audiences": [{"id": each.id, "name": each.name} for each in catalog.audience_list],
        "experiences": [
            {
                "id": each.id,
                "name": each.name,
                "type": each.type,
                "audience": each.audience,
                "variants": variants[each.id],
            }
            for each in catalog.experience_list
        ],
        "draft": service.previews.has_draft,
    }


def search(service: ExperienceService, where: Environment, text: str) -> Json:
    """Return the visitors with a trait, ``name=value``, or whose id begins with a text."""
    name, is_trait, value = (part.strip() for part in text.partition("="))
    hits = by_trait(service.store, where, name, value) if is_trait else by_beginning(service.store, where, name)
    return {
        "profileIds": [record["id"] for record in hits.records],
        "visitors": [summary(record, name) for record in hits.records],
        "looked": hits.visitors,
        "complete": hits.complete,
    }


def visitor(service: ExperienceService, where: Environment, name: str) -> Json:
    """Return everything that is stored about a visitor, and why they get what they get; may raise ProfileNotFound."""
    record = service.record(where, name, events=True)
    explanation = service.explain(where, record["profile"]["id"])
    events = record.pop("events")
    names = {each.id: each.name for each in service.content(*where).audience_list}
    return {
        **record,
        "names": other_names(service.store, where, record, events),
        "exposures": [
            {"experience": experience, "phase": phase, **exposure}
            for experience, phases in record["exposures"].items()
            for phase, exposure in phases.items()
        ],
        "audiences": explanation["audiences"],
        "experiences": _with_reasons(explanation["experiences"], names),
        "eventsKept": len(events),
        "events": [_event(each) for each in reversed(events[-EVENTS_SHOWN:])],
    }


def audience(service: ExperienceService, where: Environment, id: str, data_dir: Path) -> Json:
    """Return an audience in words, and how many visitors are in it; RouteNotFound where none is published."""
    catalog = service.content(*where)
    explanation = _in_words(service, catalog).get(id)
    if explanation is None:
        raise RouteNotFound("no published audience has this id")
    numbers = population.read(data_dir, where)
    sizes = next((each for each in numbers.document["audiences"] if each["id"] == id), None) if numbers else None
    return {
        "id": id,
        "name": explanation["name"],
        "groups": explanation["groups"],
        "experiences": [each.id for each in catalog.experience_list if each.audience == id],
        "size": numbers
        and sizes
        and {
            "visitors": sizes["before"],
            "evaluated": numbers.document["visitors"]["evaluated"],
            "computedAt": numbers.computed_at,
        },
    }


def experience(service: ExperienceService, where: Environment, id: str, data_dir: Path) -> Json:
    """Return an experience: whom it is for, what it shows, how visitors are spread, and its results."""
    catalog = service.content(*where)
    compiled = next((each for each in catalog.experiences.experiences if each.id == id), None)
    if compiled is None:
        raise RouteNotFound("no published experience has this id")
    numbers, computed = population.read(data_dir, where), latest.read(data_dir, where)
    by_label: Json = (
        next((each["before"] for each in numbers.document["experiences"] if each["id"] == id), {}) if numbers else {}
    )
    starts = (0.0, *compiled.ends)
    participants = sum(number for label, number in by_label.items() if label != "none")
    return {
        "id": id,
        "name": compiled.name,
        "type": compiled.type,
        "audience": compiled.audience,
        "traffic": compiled.traffic,
        "sticky": compiled.sticky,
        "ranges": [[start, end] for start, end in zip(starts, compiled.ends, strict=False)],
        "variants": [
            {
                "index": index,
                "wanted": compiled.ends[index] - starts[index] if index < len(compiled.ends) else 0,
                "seen": by_label.get(str(index), 0),
                "share": by_label.get(str(index), 0) / participants if participants else None,
                "shows": compiled.outcome(index).item["variants"],
                "sets": {change["key"]: change["value"] for change in compiled.outcome(index).changes},
            }
            for index in range(len(compiled.outcomes))
        ],
        "countedAt": numbers.computed_at if numbers else None,
        "results": [each for each in computed.results if each["experienceId"] == id] if computed else [],
        "resultsAt": computed.computed_at if computed else None,
    }


def live(service: ExperienceService, where: Environment, kind: str, text: str, name: str) -> Json:
    """Return what came in for an environment, the newest first, and keep noting it for some more seconds.

    Args:
        kind: the type of an event; empty: any.
        text: what an event is about contains this, in upper or lower case.
        name: an id or alias, or the beginning of an id.
    """
    if service.live is None:  # the inspector of a service that was made without `live`
        return {"watching": False, "missed": 0, "arrivals": []}
    watch = service.live.watch(where)
    if name:
        with suppress(ProfileNotFound):
            name = service.record(where, name)["profile"]["id"]
    arrivals = [
        each
        for each in watch["arrivals"]
        if (not kind or any(event["type"] == kind for event in each["events"]))
        and (not text or any(text.casefold() in event["what"].casefold() for event in each["events"]))
        and each["profileId"].startswith(name)
    ]
    missed = sum(each["missed"] for each in watch["arrivals"])
    return {"watching": watch["watching"], "missed": missed, "arrivals": arrivals}


def playground(
    service: ExperienceService,
    where: Environment,
    name: str,
    events: Sequence[Json],
    overrides: Overrides,
    terms: Terms,
    device: str | None,
) -> list[tuple[str, Json]]:
    """Return what a visitor gets, and why: as they are, with the overrides, and with the draft where there is one."""
    sides = [("Published", Overrides(), None), ("With your changes", overrides, device)]
    if service.previews.has_draft:
        sides.append(("Draft content", Overrides(**{**_members(overrides), "content": "draft"}), device))
    names = {each.id: each.name for each in service.content(*where).audience_list}
    id = name or service.new_id(where)  # a new visitor is the same on each side, so that only the changes differ
    answers = [(title, service.preview(where, id, events, each, terms, of_device)) for title, each, of_device in sides]
    return [
        (title, {**answer, "experiences": _with_reasons(answer["experiences"], names)}) for title, answer in answers
    ]


def comparison(sides: Sequence[tuple[str, Json]]) -> list[tuple[str, list[int | str | None]]]:
    """Return the name of each experience and its variant on each side: first those that differ, then those shown.

    An experience that a side does not have is "absent" there.
    """
    indices: list[dict[str, int | None]] = []
    titles: dict[str, str] = {}
    for _, side in sides:
        indices.append({each["id"]: each["variantIndex"] for each in side["experiences"]})
        titles = {**{each["id"]: each["name"] for each in side["experiences"]}, **titles}
    rows = [(name, [side.get(id, "absent") for side in indices]) for id, name in titles.items()]
    return sorted(rows, key=lambda row: (len(set(row[1])) == 1, row[1][0] is None))


def names(service: ExperienceService, where: Environment) -> dict[str, dict[str, str]]:
    """Return the names of the published ``audiences`` and ``experiences`` by id."""
    catalog = service.content(*where)
    return {
        "audiences": {each.id: each.name for each in catalog.audience_list},
        "experiences": {each.id: each.name for each in catalog.experience_list},
    }


def what_if(data_dir: Path, where: Environment) -> Json:
    """Return the last count of what publishing a draft would change, and the draft that waits to be counted."""
    numbers, handed = population.read(data_dir, where), drafts.read(data_dir, where)
    waits = population.waiting(data_dir, where) is not None
    draft = handed and {"name": handed.name, "at": handed.at, "by": handed.by, "waits": waits}
    if numbers is None:
        return {"computedAt": None, "draft": draft, "problem": None}
    return {**numbers.document, "computedAt": numbers.computed_at, "draft": draft, "problem": numbers.problem}


def rewritten(service: ExperienceService, where: Environment, document: Json) -> list[Json]:
    """Return the audiences whose rules a draft changes: ``id``, ``name`` and the groups ``before`` and ``after``.

    Args:
        document: what `what_if` returns. Only the draft of the options is read for this, not one that was uploaded.
    """
    if not document["computedAt"] or document["draft"] is not None or not service.previews.has_draft:
        return []
    draft = service.previews.draft(*where)
    if draft.version != document["content"]["to"]:
        return []  # it changed since
    before, after = _in_words(service, service.content(*where)), _in_words(service, draft)
    changed = [each["id"] for each in document["audiences"] if each["change"] == "changed"]
    return [
        {"id": id, "name": after[id]["name"], "before": before[id]["groups"], "after": after[id]["groups"]}
        for id in changed
        if id in before and id in after
    ]


def state(service: ExperienceService, where: Environment, access: Access, settings: Settings) -> Json:
    """Return what is served, from which store, and which rules are in force."""
    now, numbers = service.state(), population.read(settings.data_dir, where)
    return {
        "version": __version__,
        "environment": str(where),
        "content": [
            {"environment": environment, "version": version, "loadedAt": loaded and int(loaded * 1000)}
            for environment, version, loaded in now.contents
        ],
        "contentErrors": now.content_errors,
        "contentLeftOut": now.content_left_out,
        "draft": service.previews.has_draft,
        "problems": [
            {"severity": each.severity, "entry": each.entry, "message": each.message}
            for each in service.content(*where).problems
        ],
        "store": {
            "kind": "disk" if settings.store is None else "redis",
            "place": str(settings.data_dir if settings.store is None else settings.store),
            "footprint": footprint(service.store),
            "historyEvents": settings.history_events,
            "historyDays": settings.history_days,
            "visitors": numbers and numbers.document["visitors"]["total"],
            "countedAt": numbers and numbers.computed_at,
        },
        "location": now.location and {"builtAt": int(now.location[0] * 1000), "refused": now.location[1]},
        "imports": now.imports and dict(zip(("waiting", "oldestSeconds", "aside"), now.imports, strict=True)),
        "access": {
            "mode": "guarded" if access.guarded else "open",
            "origins": list(access.origins),
            "keys": access.keys is not None,
            "proofs": access.tokens is not None,
            "privateTraits": sorted(access.private),
            "protectedTraits": sorted(access.protected),
        },
    }


def _in_words(service: ExperienceService, catalog: Any) -> dict[str, Json]:
    """Return the explanation of each audience by id, for a visitor who did nothing."""
    nobody = profile.facts(profile.new_record(""), 0, service.clock())
    return {each["id"]: each for each in catalog.audiences.explain(nobody)}


def _with_reasons(decisions: Sequence[Json], names: Mapping[str, str]) -> list[Json]:
    """Return the decisions with their reasons in words, those that show something first."""
    reasoned = [{**each, "why": reason(each, names)} for each in decisions]
    return sorted(reasoned, key=lambda each: each["variantIndex"] is None)


def _members(overrides: Overrides) -> Json:
    return {name: getattr(overrides, name) for name in ("audiences", "experiences", "traits", "location", "at")}


def _event(row: Mapping[str, Any]) -> Json:
    return {"at": row["at"], "type": row["event"]["type"], "what": subject(row["event"])}
