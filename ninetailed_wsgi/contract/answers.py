"""Compares an answer with what a case expects, with its schema, and with what a browser lets pages read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.errors import InvalidData

ABSENT = object()
_FLAGS = "/ofrep/v1/evaluate/flags"
_SHOWN = 300  # characters of a value that a difference repeats


class Answer(NamedTuple):
    """An answer: status, headers with lower-case names, and the body as bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> Any:
        """Return the body as JSON; ABSENT if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return ABSENT


def unmet(step: Mapping[str, Any], answer: Answer, earlier: Sequence[Any]) -> list[str]:
    """Return where status and body are not what a step of a case expects, a line each.

    Args:
        step: the step, as ``fixtures/cases/README.md`` describes it.
        earlier: the bodies of the answers up to this one, which it ends with.
    """
    expected = step["expect"]
    found: list[str] = []
    if "or" in expected and answer.status == expected["or"]:
        return []
    if answer.status != expected["status"]:
        found.append(f"status: found {answer.status}, expected {expected['status']}")
    if "body" in expected:
        found += differences(expected["body"], earlier[-1], earlier, "body")
    return found


def unfit(step: Mapping[str, Any], answer: Answer, spaces: bool = False) -> list[str]:
    """Return where an answer breaks its schema, lacks headers, or is withheld from the page that asked."""
    request = step["request"]
    if answer.status == step["expect"].get("or"):
        return []
    expected = {name.lower(): value for name, value in step["expect"].get("headers", {}).items()}
    return [
        *(_outside_schema(request["method"], request["path"], answer, spaces) if not _is_foreign(request) else []),
        *differences(expected, dict(answer.headers), (), "headers"),
        *_hidden_from_pages(request, answer),
    ]


def differences(expected: Any, found: Any, answers: Sequence[Any], path: str, whole: bool = False) -> Iterator[str]:
    """Yield where a value is not as a case expects it.

    Args:
        answers: the bodies of all answers so far, into which ``$same`` and ``$other`` point.
        path: what to call the value.
        whole: whether objects may have no more members than the case names.
    """
    if isinstance(expected, dict) and len(expected) == 1 and next(iter(expected)) in COMPARISONS:
        ((name, argument),) = expected.items()
        if name == "$exactly":
            yield from differences(argument, found, answers, path, whole=True)
        elif not COMPARISONS[name](argument, found, answers):
            yield f"{path}: found {_shown(found)}, expected {_shown(expected)}"
    elif isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            yield from differences(value, found.get(key, ABSENT), answers, f"{path}.{key}", whole)
        if whole and (more := found.keys() - expected.keys()):
            yield f"{path}: also has {', '.join(sorted(more))}"
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (value, item) in enumerate(zip(expected, found, strict=True)):
            yield from differences(value, item, answers, f"{path}[{index}]", whole)
    # In Python true equals 1, in JSON it does not.
    elif expected != found or isinstance(expected, bool) is not isinstance(found, bool):
        yield f"{path}: found {_shown(found)}, expected {_shown(expected)}"


def pointed_at(answers: Sequence[Any], pointer: str) -> Any:
    """Return what a JSON Pointer (RFC 6901) into the list of answers leads to; ABSENT where it leads nowhere."""
    value: Any = answers
    for step in pointer.split("/")[1:]:
        try:
            value = value[int(step)] if isinstance(value, list) else value[step.replace("~1", "/").replace("~0", "~")]
        except (LookupError, TypeError, ValueError):
            return ABSENT
    return value


def _same(pointer: str, found: Any, answers: Sequence[Any]) -> bool:
    return found is not ABSENT and bool(found == pointed_at(answers, pointer))


COMPARISONS: Mapping[str, Callable[[Any, Any, Sequence[Any]], bool]] = {
    "$any": lambda argument, found, answers: (found is not ABSENT) is argument,
    "$absent": lambda argument, found, answers: (found is ABSENT) is argument,
    "$exactly": lambda argument, found, answers: False,  # differences() continues inside instead
    "$same": _same,
    "$other": lambda pointer, found, answers: found is not ABSENT and found != pointed_at(answers, pointer),
    "$matches": lambda pattern, found, answers: isinstance(found, str) and re.search(pattern, found) is not None,
    "$near": lambda number, found, answers: isinstance(found, int | float) and abs(found - number) < 1e-6,
}


def _shown(value: Any) -> str:
    return "nothing" if value is ABSENT else shorten(json.dumps(value, ensure_ascii=False), _SHOWN)


def _is_foreign(request: Mapping[str, Any]) -> bool:
    """Return whether an answer has no envelope of ours: routes of the server, such as /metrics, and OFREP's."""
    return request.get("place") == "root" or request["path"].startswith("/ofrep/")


def _outside_schema(method: str, path: str, answer: Answer, spaces: bool) -> list[str]:
    """Return where the body does not match its schema.

    Every answer except that to OPTIONS has a body.
    """
    if method in ("OPTIONS", "HEAD"):
        return []
    media_type = answer.headers.get("content-type", "nothing")
    if not re.match(r"application/json\b", media_type):
        return [f"headers.content-type: found {media_type}, expected application/json"]
    document = answer.document()
    if document is ABSENT:
        return ["body: found no JSON"]
    schema = _schema_of(method, path, answer.status)
    if spaces and schema == "profile-response":
        schema = "space-profile-response"
    try:
        schemas().check(schema, document)
    except InvalidData as error:
        return [f"body, by the schema {schema}: {line}" for line in error.problems]
    return []


def _schema_of(method: str, path: str, status: int) -> str:
    if path.startswith(_FLAGS):
        if not 200 <= status < 300:
            return "ofrep-failure"
        return "ofrep-flags" if path == _FLAGS else "ofrep-flag"
    if not 200 <= status < 300:
        return "error-response"
    if path == "/events":
        return "batch-response"
    if path.startswith("/profiles/") and path.endswith("/explain"):
        return "explain-response"
    if path.startswith("/experiences/") and path.endswith("/results"):
        return "results-response"
    if path == "/preview/entries":
        return "preview-entries-response"
    return "profile-response" if path.startswith("/profiles") and method != "DELETE" else "empty-response"


_SAFE_METHODS = {"get", "head", "post"}  # need no permission


def _hidden_from_pages(request: Mapping[str, Any], answer: Answer) -> Iterator[str]:
    """Return why a browser would withhold this answer from a page of the request's Origin, or refuse its preflight.

    Source: the CORS protocol of the Fetch standard, for requests without credentials.
    """
    sent = {name.lower(): value for name, value in request.get("headers", {}).items()}
    if not (origin := sent.get("origin")):
        return
    allowed = answer.headers.get("access-control-allow-origin", "nothing")
    if allowed not in ("*", origin):
        yield f"headers.access-control-allow-origin: found {allowed}, expected * or {origin}"
    method = sent.get("access-control-request-method")
    if request["method"] != "OPTIONS" or not method:
        return
    wanted = {
        "access-control-allow-methods": {method.lower()} - _SAFE_METHODS,
        "access-control-allow-headers": _listed(sent.get("access-control-request-headers", "")),
    }
    for header, values in wanted.items():
        given = _listed(answer.headers.get(header, ""))
        if "*" not in given and (missing := values - given):
            lacking = ", ".join(sorted(missing))
            yield f"headers.{header}: found {answer.headers.get(header, 'nothing')}, expected {lacking}"


def _listed(header: str) -> set[str]:
    return {each.strip().lower() for each in header.split(",") if each.strip()}
