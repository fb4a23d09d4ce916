"""The cases that any server can be tested with: reads them and gives each run its own names.

Their form is described in ``fixtures/cases/README.md``; ``ninetailed_wsgi/cases`` is a link to that folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any
from urllib.parse import unquote

AREAS = ("contract", "events", "identity", "sessions", "location")
"""The folders of cases whose steps are HTTP requests."""

PROFILE = "/profiles/"
CLAIMS = ("deduplication", "choices", "flags")
"""What a server may claim beyond the common contract.

``deduplication``: a ``messageId`` that a profile has already seen is not applied again. ``choices``: questions that no
documentation answers are decided as ninetailed-wsgi does (marked "ours" in the specification).
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        id: a short unique name.
        area: what it is about: the file's name for those of ``contract/``, the folder's for the others.
        name: the case as a sentence.
        claim: the claim that makes the case apply to a server; empty: it applies to every server.
        steps: requests in order, each with what is expected.
    """

    id: str
    area: str
    name: str
    claim: str
    steps: tuple[Mapping[str, Any], ...]


def load_cases() -> list[Case]:
    """Return every case that needs no control over time or content, in the order of areas and files."""
    folder = resources.files("ninetailed_wsgi") / "cases"
    cases = []
    for area in AREAS:
        files = [file for file in (folder / area).iterdir() if file.name.endswith(".json")]
        for file in sorted(files, key=lambda file: file.name):
            about = file.name.removesuffix(".json") if area == "contract" else area
            for case in json.loads(file.read_text(encoding="utf-8"))["cases"]:
                if case.get("anywhere"):
                    steps = tuple(case["steps"])
                    cases.append(Case(case["id"], about, case["name"], case.get("claim", ""), steps))
    return cases


def marked(case: Case, mark: str, origin: str = "") -> list[dict[str, Any]]:
    """Return the steps of a case, with ``mark`` before every name of a profile and every message id.

    ``origin`` takes the place of every ``Origin`` that a step sends; empty: they stay.

    Runs and cases that share an environment then never meet. Names are those in paths and the ``anonymousId`` and
    ``userId`` of events; in what is expected, ``id`` and ``stableId`` where they are one of these names.
    """
    steps: list[dict[str, Any]] = [_repeated(dict(step)) for step in case.steps]
    names = {name for step in steps for name in _names(step["request"])}
    for step in steps:
        _mark_request(step["request"], mark)
        if origin and "Origin" in step["request"].get("headers", {}):
            step["request"]["headers"]["Origin"] = origin
        if "body" in step["expect"]:
            step["expect"]["body"] = _marked_expectation(step["expect"]["body"], names, mark)
    return steps


def profile_name(path: str) -> str:
    """Return the name of the profile that a path leads to; empty where it leads to none."""
    return unquote(path.removeprefix(PROFILE)) if path.startswith(PROFILE) else ""


def batch_names(body: object) -> list[str]:
    """Return the profiles that the events of a batch name."""
    return [event["anonymousId"] for event in _events(body) if _is_name(event.get("anonymousId"))]


def _names(request: Mapping[str, Any]) -> Iterator[str]:
    if name := profile_name(request["path"]):
        yield name
    for event in _events(request.get("body")):
        yield from (event[member] for member in ("anonymousId", "userId") if _is_name(event.get(member)))


def _mark_request(request: dict[str, Any], mark: str) -> None:
    name = profile_name(request["path"])
    if name and not name.startswith("{"):
        request["path"] = PROFILE + mark + request["path"].removeprefix(PROFILE)
    for event in _events(request.get("body")):
        for member in ("anonymousId", "userId", "messageId"):
            if _is_name(event.get(member)):
                event[member] = mark + event[member]


def _marked_expectation(expected: Any, names: set[str], mark: str) -> Any:
    if isinstance(expected, list):
        return [_marked_expectation(each, names, mark) for each in expected]
    if not isinstance(expected, dict):
        return expected
    return {
        key: mark + value
        if key in ("id", "stableId") and isinstance(value, str) and value in names
        else _marked_expectation(value, names, mark)
        for key, value in expected.items()
    }


def _events(body: object) -> list[dict[str, Any]]:
    events = body.get("events") if isinstance(body, dict) else None
    return [event for event in events if isinstance(event, dict)] if isinstance(events, list) else []


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _repeated(value: Any, number: int | None = None) -> Any:
    """Return a copy in which ``{"$repeat": count, "item": ...}`` in a list is that many items, numbered by ``#``."""
    if isinstance(value, dict):
        return {key: _repeated(child, number) for key, child in value.items()}
    if isinstance(value, str):
        return value if number is None else value.replace("#", str(number))
    if not isinstance(value, list):
        return value
    children: list[Any] = []
    for child in value:
        if isinstance(child, dict) and "$repeat" in child:
            children += [_repeated(child["item"], index) for index in range(1, child["$repeat"] + 1)]
        else:
            children.append(_repeated(child, number))
    return children
