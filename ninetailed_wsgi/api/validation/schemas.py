"""Checks documents against the JSON Schema files.

jsonschema-rs decides, because it takes a microsecond per event. jsonschema is a hundred times slower: it runs only on
what was refused, to say where and why, and is loaded then, because loading it takes a quarter of the package's startup.
Tests check that the two agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import jsonschema_rs
import orjson

from ninetailed_wsgi.api.validation.wording import (
    MAX_PROBLEMS,
    Path,
    Resolve,
    SchemaProblem,
    add_problem,
    expectation,
    leaves,
    lines,
    readings,
)
from ninetailed_wsgi.errors import InvalidData

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

_SUFFIX = ".schema.json"

REQUESTS = ("profile-request", "batch-request", "insights-request", "insights-event")
"""The schemas that requests are checked against; compile them before the first request."""


class Schemas:
    """Every JSON Schema of the package, each compiled at its first use and safe to share between threads.

    Attributes:
        documents: schema name (``"profile-request"``) to the schema document, read-only.
    """

    documents: Mapping[str, dict[str, Any]]

    def __init__(self) -> None:
        folder = resources.files("ninetailed_wsgi") / "schemas"
        files = sorted((file for file in folder.iterdir() if file.name.endswith(_SUFFIX)), key=lambda file: file.name)
        documents = {file.name.removesuffix(_SUFFIX): orjson.loads(file.read_bytes()) for file in files}
        self.documents = MappingProxyType(documents)
        self._fast = jsonschema_rs.Registry([(document["$id"], _chained(document)) for document in documents.values()])
        self._slow = _Slow(tuple(documents.values()))
        self._checks: dict[str, _Compiled | _EventsSchema] = {}

    def compile(self, names: Iterable[str]) -> None:
        """Compile schemas before they are used; all of them would take 20 MB and most are never asked for."""
        for name in names:
            self._check_of(name)

    def _check_of(self, name: str) -> _Compiled | _EventsSchema:
        # Two threads that need a schema at the same time for the first time make equal ones.
        return self._checks.get(name) or self._checks.setdefault(
            name, _check_for(self.documents[name], self._fast, self._slow)
        )

    def is_valid(self, name: str, document: object) -> bool:
        """Return whether ``document``, parsed JSON, is valid against the schema ``name``; without the reasons."""
        return self._check_of(name).is_valid(document)

    def check(self, name: str, document: object) -> None:
        """Check that ``document``, parsed JSON, is valid against the schema ``name``.

        Raises:
            InvalidData: its problems are at most ten lines in the order of the document, such as
                ``events[3].context.library.version: found the number 5, expected a string``, and a last line
                ``... and more`` when there are others (spec section 1).
            KeyError: there is no schema of that name.
        """
        check = self._check_of(name)
        if check.is_valid(document):
            return
        try:
            problems = check.problems(document)
        except RecursionError:
            problems = ["body: nested too deeply to be checked"]
        raise InvalidData(problems)


class _Slow:
    """jsonschema with all schemas; two threads that need it first at the same time make equal ones."""

    def __init__(self, documents: Sequence[dict[str, Any]]) -> None:
        self._documents = documents

    @cached_property
    def registry(self) -> Any:
        from referencing import Registry, Resource

        resources = ((document["$id"], Resource.from_contents(document)) for document in self._documents)
        empty: Registry[Any] = Registry()
        return empty.with_resources(resources)  # no crawl, which takes 12 ms: each is found by its own id

    def errors(self, schema: dict[str, Any], part: object) -> Iterator[ValidationError]:
        """Yield what is wrong with a part of a document."""
        from jsonschema import Draft202012Validator

        errors: Iterator[ValidationError] = Draft202012Validator(schema, registry=self.registry).iter_errors(part)
        return errors

    def resolve(self, base: str, reference: str) -> Any:
        """Return the schema that a reference in the schema ``base`` means; an empty one where there is none."""
        from referencing.exceptions import Unresolvable

        try:
            return self.registry.resolver(base).lookup(reference).contents
        except Unresolvable:
            return {}


class _Compiled(NamedTuple):
    """One schema in both engines."""

    schema: dict[str, Any]
    fast: jsonschema_rs.Validator
    slow: _Slow
    resolve: Resolve

    def is_valid(self, document: object) -> bool:
        return self.fast.is_valid(document)

    def problems(self, document: object) -> list[str]:
        return lines(self.places(document, document, ()))

    def places(self, part: object, document: object, prefix: Path) -> dict[str, SchemaProblem]:
        """Return the problems of ``part``, which stands at ``prefix`` of the document, by path as text."""
        problems: dict[str, SchemaProblem] = {}
        for error in self.slow.errors(self.schema, part):
            for leaf in leaves(error):
                for path, expected, value in readings(leaf, self.resolve):
                    add_problem(problems, document, prefix + path, expected, value)
        if not problems:  # the engines disagree: refuse anyway and name the place
            add_problem(problems, document, prefix, expectation(self.schema, self.resolve), "")
        return problems


class _EventsSchema(NamedTuple):
    """A schema with an ``events`` list, worded event by event: a refused body costs little more than a valid one."""

    whole: _Compiled
    envelope: _Compiled  # without its schema of the single event
    event: _Compiled
    limit: int

    def is_valid(self, document: object) -> bool:
        return self.whole.is_valid(document)

    def problems(self, document: object) -> list[str]:
        # Every list in these schemas has a maxItems within the limit. A list cut to one member more is still too
        # long, and the check does not walk a million members to find that.
        envelope = _shortened(document, self.limit + 1)
        problems = {} if self.envelope.is_valid(envelope) else self.envelope.places(envelope, document, ())
        events = envelope.get("events") if isinstance(envelope, dict) else None
        # jsonschema-rs's own list of errors is never lazy and repeats whole values; asking event by event stops early.
        for index, event in enumerate(events[: self.limit] if isinstance(events, list) else ()):
            if self.event.is_valid(event):
                continue
            if len(problems) >= MAX_PROBLEMS:
                return lines(problems, more=True)
            problems.update(self.event.places(event, document, ("events", index)))
        return lines(problems or self.envelope.places(envelope, document, ()))


def _shortened(value: Any, most: int) -> Any:
    """Return the value with every list in it cut to ``most`` members, which stay as they are."""
    if isinstance(value, dict):
        return {key: _shortened(child, most) for key, child in value.items()}
    return value[:most] if isinstance(value, list) else value


@cache
def schemas() -> Schemas:
    """Return the schemas of this process, compiled at the first call."""
    return Schemas()


def _chained(document: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that tries one type after the other until one matches; ``document`` tries all of them.

    A document has one type, so both give the same verdict. Trying all took a third of an event's time.
    """
    branches = document.get("allOf", ())
    types = [branch.get("if", {}).get("properties", {}).get("type", {}).get("const") for branch in branches]
    conditions = [{"type": "object", "required": ["type"], "properties": {"type": {"const": each}}} for each in types]
    is_chain = len({*types}) == len(types) and not any("else" in branch for branch in branches)
    if not is_chain or conditions != [branch.get("if") for branch in branches]:
        return document
    chain: dict[str, Any] = {}
    for condition, branch in zip(reversed(conditions), reversed(branches), strict=True):
        chain = {"if": condition, "then": branch["then"], "else": chain}
    return {**document, "allOf": [chain]} if chain else document


def _check_for(document: dict[str, Any], fast: jsonschema_rs.Registry, slow: _Slow) -> _Compiled | _EventsSchema:
    def compiled(schema: dict[str, Any]) -> _Compiled:
        return _Compiled(
            schema,
            jsonschema_rs.Draft202012Validator(_chained(schema), registry=fast, offline=True, validate_formats=False),
            slow,
            partial(slow.resolve, document["$id"]),
        )

    events = document.get("properties", {}).get("events", {})
    if "items" not in events or "maxItems" not in events:
        return compiled(document)
    each = {"$ref": document["$id"] + "#/properties/events/items"}
    rest = {key: value for key, value in events.items() if key != "items"}
    rest_of_list = {**document["properties"], "events": rest}
    # Another $id in the same folder: references to neighbors still work, and the whole schema keeps its own.
    envelope = {**document, "$id": document["$id"] + ".envelope", "properties": rest_of_list}
    return _EventsSchema(compiled(document), compiled(envelope), compiled(each), events["maxItems"])
