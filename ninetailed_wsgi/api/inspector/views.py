"""What the pages of the inspector show, as JSON documents: each page has one, which is also its twin below `.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ninetailed_wsgi import __version__
from ninetailed_wsgi.core import profile
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.errors import RouteNotFound
from ninetailed_wsgi.insights import latest, population
from ninetailed_wsgi.service.access import Access
from ninetailed_wsgi.service.search import by_trait
from ninetailed_wsgi.service.service import ExperienceService

EVENTS_SHOWN = 100
Json = dict[str, Any]


def content(service: ExperienceService, where: Environment) -> Json:
    """Return the published audiences and experiences by name."""
    catalog = service.content(*where)
    return {
        "audiences": [{"id": each.id, "name": each.name} for each in catalog.audience_list],
        "experiences": [
            {
                "id": each.id,
                "name": each.name,
                "type": each.type,
                "audience": each.audience,
                "variants": _variants(catalog, each.id),
            }
            for each in catalog.experience_list
        ],
        "draft": service.previews.has_draft,
    }


def search(service: ExperienceService, where: Environment, text: str) -> Json:
    """Return the visitors with a trait, ``name=value``."""
    name, _, value = text.partition("=")
    hits = by_trait(service.store, where, name.strip(), value.strip())
    return {"profileIds": hits.ids, "looked": hits.looked, "complete": hits.complete}


def visitor(service: ExperienceService, where: Environment, name: str) -> Json:
    """Return everything that is kept of a visitor, and why they get what they get; ProfileNotFound for nobody."""
    record = service.record(where, name, events=True)
    explained = service.explain(where, record["profile"]["id"])
    events = record.pop("events")
    names = {each.id: each.name for each in service.content(*where).audience_list}
    return {
        **record,
        "exposures": [
            {"experience": experience, "phase": phase, **seen}
            for experience, phases in record["exposures"].items()
            for phase, seen in phases.items()
        ],
        "audiences": explained["audiences"],
        "experiences": sorted(
            ({**each, "why": reason(each, names)} for each in explained["experiences"]),
            key=lambda each: each["variantIndex"] is None,
        ),
        "eventsKept": len(events),
        "events": [_event(each) for each in reversed(events[-EVENTS_SHOWN:])],
    }


def reason(explained: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Say in a sentence why a visitor gets a variant of an experience, or none."""
    if explained["decided_by"] == "preview":
        return "This preview forces it."
    if explained["decided_by"] == "sticky":
        return "The visitor saw this variant before and keeps it, as the experience is sticky."
    if not explained["audience_matched"]:
        audience = explained["audience"]
        return f"The visitor is not in the audience {names.get(audience, audience)}."
    if not explained["in_traffic"]:
        return (
            f"The visitor's traffic hash {explained['traffic_hash']:.3f} is not below the traffic "
            f"{explained['traffic']:g}, so they do not take part."
        )
    drawn, index = explained["distribution_hash"], explained["distribution_index"]
    start, end = explained["ranges"][index] if index < len(explained["ranges"]) else (0, 0)
    who = "For everyone" if explained["audience"] is None else f"In the audience {names.get(explained['audience'], '')}"
    if start == 0 and end >= 1:
        return f"{who}: all who take part get this variant."
    return f"{who}: the visitor's hash {drawn:.3f} falls into the range of this variant, {start:.3f} to {end:.3f}."


def audience(service: ExperienceService, where: Environment, id: str, data_dir: Path) -> Json:
    """Return an audience in words, and how many visitors are in it; RouteNotFound where none is published."""
    catalog = service.content(*where)
    nobody = profile.facts(profile.new_record(""), 0, service.clock())
    found = next((each for each in catalog.audiences.explain(nobody) if each["id"] == id), None)
    if found is None:
        raise RouteNotFound("no published audience has this id")
    counted = population.read(data_dir, where)
    sizes = next((each for each in counted.document["audiences"] if each["id"] == id), None) if counted else None
    return {
        "id": id,
        "name": found["name"],
        "groups": found["groups"],
        "experiences": [each.id for each in catalog.experience_list if each.audience == id],
        "size": counted
        and sizes
        and {
            "visitors": sizes["before"],
            "evaluated": counted.document["visitors"]["evaluated"],
            "computedAt": counted.computed_at,
        },
    }


def experience(service: ExperienceService, where: Environment, id: str, data_dir: Path) -> Json:
    """Return an experience: whom it is for, what it shows, how visitors are spread, and its results."""
    catalog = service.content(*where)
    compiled = next((each for each in catalog.experiences.experiences if each.id == id), None)
    if compiled is None:
        raise RouteNotFound("no published experience has this id")
    counted, computed = population.read(data_dir, where), latest.read(data_dir, where)
    seen: Json = (
        next((each["before"] for each in counted.document["experiences"] if each["id"] == id), {}) if counted else {}
    )
    starts = (0.0, *compiled.ends)
    taken = sum(number for label, number in seen.items() if label != "none")
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
                "seen": seen.get(str(index), 0),
                "share": seen.get(str(index), 0) / taken if taken else None,
                "shows": compiled.outcome(index).item["variants"],
                "sets": {change["key"]: change["value"] for change in compiled.outcome(index).changes},
            }
            for index in range(len(compiled.outcomes))
        ],
        "countedAt": counted.computed_at if counted else None,
        "results": [each for each in computed.results if each["experienceId"] == id] if computed else [],
        "resultsAt": computed.computed_at if computed else None,
    }


def playground(
    service: ExperienceService, where: Environment, name: str, path: str, overrides: Overrides
) -> list[tuple[str, Json]]:
    """Return what a visitor gets, and why: as they are, with the overrides, and with the draft where there is one."""
    events = [_page(path)] if path else []
    sides = [("Published", Overrides()), ("With your changes", overrides)]
    if service.previews.has_draft:
        sides.append(("Draft content", Overrides(**{**_members(overrides), "content": "draft"})))
    return [(title, service.preview(where, name or None, events, each)) for title, each in sides]


def what_if(data_dir: Path, where: Environment) -> Json:
    """Return what was counted last of what publishing the draft would change; empty where nothing was."""
    counted = population.read(data_dir, where)
    return {"computedAt": counted.computed_at, **counted.document} if counted else {"computedAt": None}


def state(service: ExperienceService, where: Environment, access: Access) -> Json:
    """Return what is served and which rules are in force."""
    now = service.state()
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


def _variants(catalog: Any, id: str) -> int:
    return next(len(each.outcomes) for each in catalog.experiences.experiences if each.id == id)


def _members(overrides: Overrides) -> Json:
    return {name: getattr(overrides, name) for name in ("audiences", "experiences", "traits", "location", "at")}


def _event(kept: Mapping[str, Any]) -> Json:
    event = kept["event"]
    page = (event.get("context") or {}).get("page") or event.get("properties") or {}
    told = {
        "page": page.get("path", ""),
        "track": event.get("event", ""),
        "identify": ", ".join(f"{name}={value}" for name, value in (event.get("traits") or {}).items()),
    }
    shown = told.get(event["type"], event.get("componentId") or event.get("experienceId") or "")
    return {"at": kept["at"], "type": event["type"], "what": shown if isinstance(shown, str) else str(shown)}


def _page(path: str) -> Json:
    page = {"path": path, "query": {}, "referrer": "", "search": "", "url": path}
    library = {"name": "ninetailed-wsgi inspector", "version": __version__}
    return {
        "type": "page",
        "channel": "server",
        "messageId": "inspector",
        "context": {"library": library, "page": page},
        "properties": page,
    }
