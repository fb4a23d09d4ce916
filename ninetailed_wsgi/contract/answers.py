"""Compares an answer with what a case expects, with its schema, and with what a browser lets pages read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.errors import InvalidData

ABSENT = object()
_FLAGS = "/ofrep/v1/evaluate/flags"
_LONGEST_EXCERPT = 300  # characters of a value that a difference repeats


class Answer(NamedTuple):
    """An answer: status, headers with lower-case names, and the body as bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """Return the body as JSON; ValueError if it is not JSON."""
        return orjson.loads(self.body)


def document_of(answer: Answer) -> Any:
    """Return the body of an answer as JSON; ABSENT if it is not JSON."""
    try:
        return answer.document
    except ValueError:
        return ABSENT


def unmet(step: Mapping[str, Any], answer: Answer, earlier: Sequence[Any]) -> list[str]:
    """Return where status and body are not what a step of a case expects, a line each.

    Args:
        step: the step, as ``fixtures/cases/README.md`` describes it.
        earlier: the bodies of the answers up to this one, which it ends with.
    """
    expected = step["expect"]
    problems: list[str] = []
    if "or" in expected and answer.status == expected["or"]:
        return []
    if answer.status != expected["status"]:
        problems.append(f"status: found {answer.status}, expected {expected['status']}")
    if "body" in expected:
        problems += differences(expected["body"], earlier[-1], earlier, "body")
    return problems


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


def differences(expected: Any, actual: Any, answers: Sequence[Any], path: str, whole: bool = False) -> Iterator[str]:
    """Yield where a value is not as a case expects it.

    Args:
        answers: the bodies of all answers so far, into which ``$same`` and ``$other`` point.
        path: what to call the value.
        whole: whether objects may have no more members than the case names.
    """
    if isinstance(expected, dict) and len(expected) == 1 and next(iter(expected)) in COMPARISONS:
        ((name, argument),) = expected.items()
        if name == "$exactly":
            yield from differences(argument, actual, answers, path, whole=True)
        elif not COMPARISONS[name](argument, actual, answers):
            yield f"{path}: found {_text(actual)}, expected {_text(expected)}"
    elif isinstance(expected, dict) and isinstance(actual, dict):
        for key, value in expected.items():
            yield from differences(value, actual.get(key, ABSENT), answers, f"{path}.{key}", whole)
        if whole and (more := actual.keys() - expected.keys()):
            yield f"{path}: also has {', '.join(sorted(more))}"
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, (value, item) in enumerate(zip(expected, actual, strict=True)):
            yield from differences(value, item, answers, f"{path}[{index}]", whole)
    # In Python true equals 1, in JSON it does not.
    elif expected != actual or isinstance(expected, bool) is not isinstance(actual, bool):
        yield f"{path}: found {_text(actual)}, expected {_text(expected)}"


def pointed_at(answers: Sequence[Any], pointer: str) -> Any:
    """Return what a JSON Pointer (RFC 6901) into the list of answers leads to; ABSENT where it leads nowhere."""
    value: Any = answers
    for step in pointer.split("/")[1:]:
        try:
            value = value[int(step)] if isinstance(value, list) else value[step.replace("~1", "/").replace("~0", "~")]
        except (LookupError, TypeError, ValueError):
            return ABSENT
    return value


def _same(pointer: str, value: Any, answers: Sequence[Any]) -> bool:
    return value is not ABSENT and bool(value == pointed_at(answers, pointer))


COMPARISONS: Mapping[str, Callable[[Any, Any, Sequence[Any]], bool]] = {
    "$any": lambda argument, actual, answers: (actual is not ABSENT) is argument,
    "$absent": lambda argument, actual, answers: (actual is ABSENT) is argument,
    "$exactly": lambda argument, actual, answers: False,  # differences() continues inside instead
    "$same": _same,
    "$other": lambda pointer, actual, answers: actual is not ABSENT and actual != pointed_at(answers, pointer),
    "$matches": lambda pattern, actual, answers: isinstance(actual, str) and re.search(pattern, actual) is not None,
    "$near": lambda number, actual, answers: isinstance(actual, int | float) and abs(actual - number) < 1e-6,
}


def _text(value: Any) -> str:
    return "nothing" if value is ABSENT else shorten(json.dumps(value, ensure_ascii=False), _LONGEST_EXCERPT)


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
    document = document_of(answer)
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
    headers = {name.lower(): value for name, value in request.get("headers", {}).items()}
    if not (origin := headers.get("origin")):
        return
    allowed = answer.headers.get("access-control-allow-origin", "nothing")
    if allowed not in ("*", origin):
        yield f"headers.access-control-allow-origin: found {allowed}, expected * or {origin}"
    method = headers.get("access-control-request-method")
    if request["method"] != "OPTIONS" or not method:
        return
    names = {
        "access-control-allow-methods": {method.lower()} - _SAFE_METHODS,
        "access-control-allow-headers": _names(headers.get("access-control-request-headers", "")),
    }
    for header, values in names.items():
        offer = _names(answer.headers.get(header, ""))
        if "*" not in offer and (missing := values - offer):
            lacking = ", ".join(sorted(missing))
            yield f"headers.{header}: found {answer.headers.get(header, 'nothing')}, expected {lacking}"


def _names(header: str) -> set[str]:
    return {each.strip().lower() for each in header.split(",") if each.strip()}
