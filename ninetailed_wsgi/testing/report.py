"""Reports what the visitors of a harness did, and why they got their variants, as text for a failing test."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.errors import ProfileNotFound
from ninetailed_wsgi.service import explanation
from ninetailed_wsgi.testing.recording import Captured

# A report should fit on one or two screens.
MOST_VISITORS = 5
MOST_EVENTS = 20


def text(events: Sequence[Captured], explain: Callable[[str], dict[str, Any]]) -> str:
    """Return the events of each visitor, oldest first, then the answer of ``explain`` (id of a profile) in words."""
    by_profile: dict[str, list[Captured]] = {}
    explanations: dict[str, dict[str, Any] | None] = {}
    for event in events:
        # Events of a merged profile belong to the surviving one.
        if event.profile not in explanations:
            explanations[event.profile] = _explanation(explain, event.profile)
        answer = explanations[event.profile]
        by_profile.setdefault(answer["profile"]["id"] if answer else event.profile, []).append(event)
    if not by_profile:
        return "no visitor did anything that the API acknowledged"
    lines: list[str] = []
    for id, own in list(by_profile.items())[:MOST_VISITORS]:
        lines += [f"visitor {id}", *_events(own)]
        if (answer := explanations[own[0].profile]) is not None:
            lines.append(explanation.text(answer))
        else:
            lines.append("no such profile now: it was deleted")
    if len(by_profile) > MOST_VISITORS:
        lines.append(f"and {len(by_profile) - MOST_VISITORS} more visitors")
    return "\n".join(lines)


def _explanation(explain: Callable[[str], dict[str, Any]], id: str) -> dict[str, Any] | None:
    try:
        return explain(id)
    except ProfileNotFound:
        return None


def _events(events: Sequence[Captured]) -> Iterator[str]:
    if len(events) > MOST_EVENTS:
        yield f"  {len(events) - MOST_EVENTS} events before these"
    for one in events[-MOST_EVENTS:]:
        yield f"  {one.at:%Y-%m-%d %H:%M:%S}  {words(one.event)}"


def words(event: Mapping[str, Any]) -> str:
    """Return an event in a few words: ``viewed /pricing``, ``purchase {"total": 120}``."""
    kind = event["type"]
    if kind == "page":
        properties = event["properties"]
        return f"viewed {properties['path']}{properties['search']}"
    if kind == "identify":
        name = f" as {event['userId']}" if event.get("userId") else ""
        return f"identified{name} {_json(event['traits'])}"
    if kind == "track":
        return f"performed {event['event']} {_json(event.get('properties') or {})}"
    if kind == "component":
        return f"saw variant {event.get('variantIndex')} of {event.get('experienceId')}"
    return str(kind)


def _json(value: object) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), 200)
