"""What may enter: reads a JSON body and holds it against the JSON Schema files, wording each refusal for its sender.

jsonschema-rs decides, because it takes a microsecond for an event; jsonschema, a hundred times slower, runs only on
what was refused, to say where and why: it is loaded then, as loading it is a quarter of the package's start. Tests
hold the verdicts of the two equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import orjson

from ninetailed_wsgi.errors import InvalidData

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

MAX_PROBLEMS = 10
MAX_DEPTH = 100
_SHOWN = 60  # characters of a value or a member's name that a problem repeats
_SUFFIX = ".schema.json"

Path = tuple[str | int, ...]
Resolve = Callable[[str], Any]


class Schemas:
    """Every JSON Schema of the package, compiled once and safe to share between threads.

    Attributes:
        documents: schema name (``"profile-request"``) to the schema document, read-only.
    """

    documents: Mapping[str, dict[str, Any]]

    def __init__(self) -> None:
        folder = resources.files("ninetailed_wsgi") / "schemas"
        files = sorted((file for file in folder.iterdir() if file.name.endswith(_SUFFIX)), key=lambda file: file.name)
        documents = {file.name.removesuffix(_SUFFIX): orjson.loads(file.read_bytes()) for file in files}
        fast = jsonschema_rs.Registry([(document["$id"], document) for document in documents.values()])
        slow = _Slow(tuple(documents.values()))
        self.documents = MappingProxyType(documents)
        self._checks = {name: _check_for(document, fast, slow) for name, document in documents.items()}

    def check(self, name: str, document: object) -> None:
        """Return quietly when ``document``, parsed JSON, is valid against the schema ``name``.

        Raises:
            InvalidData: its problems are at most ten lines in the order of the document, such as
                ``events[3].context.library.version: found the number 5, expected a string``, and a last line
                ``... and more`` when there are others (spec section 1).
            KeyError: there is no schema of that name.
        """
        check = self._checks[name]
        if check.is_valid(document):
            return
        try:
            problems = check.problems(document)
        except RecursionError:
            problems = ["body: nested too deeply to be checked"]
        raise InvalidData(problems)


class _Slow:
    """jsonschema with all schemas; two threads that need it first at the same time both make the same."""

    def __init__(self, documents: Sequence[dict[str, Any]]) -> None:
        self._documents = documents

    @cached_property
    def registry(self) -> Any:
        from referencing import Registry, Resource

        resources = ((document["$id"], Resource.from_contents(document)) for document in self._documents)
        empty: Registry[Any] = Registry()
        return empty.with_resources(resources).crawl()

    def errors(self, schema: dict[str, Any], part: object) -> Iterator[ValidationError]:
        """What is wrong with a part of a document, one after the other."""
        from jsonschema import Draft202012Validator

        errors: Iterator[ValidationError] = Draft202012Validator(schema, registry=self.registry).iter_errors(part)
        return errors

    def resolve(self, base: str, reference: str) -> Any:
        """The schema that a reference in the schema ``base`` means; an empty one where there is none."""
        from referencing.exceptions import Unresolvable

        try:
            return self.registry.resolver(base).lookup(reference).contents
        except Unresolvable:
            return {}


@dataclass(frozen=True, slots=True)
class _Compiled:
    """One schema in both engines."""

    schema: dict[str, Any]
    fast: jsonschema_rs.Validator
    slow: _Slow
    resolve: Resolve

    def is_valid(self, document: object) -> bool:
        return self.fast.is_valid(document)

    def problems(self, document: object) -> list[str]:
        return _lines(self.places(document, document, ()))

    def places(self, part: object, document: object, prefix: Path) -> dict[str, _Problem]:
        """The problems of ``part``, which stands at ``prefix`` of the document, by path as text."""
        found: dict[str, _Problem] = {}
        for error in self.slow.errors(self.schema, part):
            for leaf in _leaves(error):
                for path, expected, seen in _readings(leaf, self.resolve):
                    _add(found, document, prefix + path, expected, seen)
        if not found:  # the engines disagree: the refusal stands and still names its place
            _add(found, document, prefix, _expected(self.schema, self.resolve), "")
        return found


@dataclass(frozen=True, slots=True)
class _Request:
    """A schema with an ``events`` list, worded piece by piece so that a refused body costs little more than another."""

    whole: _Compiled
    envelope: _Compiled  # without what it says of each event
    event: _Compiled
    limit: int

    def is_valid(self, document: object) -> bool:
        return self.whole.is_valid(document)

    def problems(self, document: object) -> list[str]:
        # Every list that these schemas describe has a maxItems within the limit, so that a list cut one behind it is
        # still too long, and a million members are not walked to say so.
        envelope = _shortened(document, self.limit + 1)
        found = {} if self.envelope.is_valid(envelope) else self.envelope.places(envelope, document, ())
        events = envelope.get("events") if isinstance(envelope, dict) else None
        # jsonschema-rs's own list of errors is never lazy and repeats whole values; asking event by event stops early.
        for index, event in enumerate(events[: self.limit] if isinstance(events, list) else ()):
            if self.event.is_valid(event):
                continue
            if len(found) >= MAX_PROBLEMS:
                return _lines(found, more=True)
            found.update(self.event.places(event, document, ("events", index)))
        return _lines(found or self.envelope.places(envelope, document, ()))


def _shortened(value: Any, most: int) -> Any:
    """The value with every list in it cut to ``most`` members, which are kept as they are."""
    if isinstance(value, dict):
        return {key: _shortened(child, most) for key, child in value.items()}
    return value[:most] if isinstance(value, list) else value


@cache
def schemas() -> Schemas:
    """The schemas of this process, compiled when first asked for."""
    return Schemas()


def _check_for(document: dict[str, Any], fast: jsonschema_rs.Registry, slow: _Slow) -> _Compiled | _Request:
    def compiled(schema: dict[str, Any]) -> _Compiled:
        return _Compiled(
            schema,
            jsonschema_rs.Draft202012Validator(schema, registry=fast, offline=True, validate_formats=False),
            slow,
            partial(slow.resolve, document["$id"]),
        )

    events = document.get("properties", {}).get("events", {})
    if "items" not in events or "maxItems" not in events:
        return compiled(document)
    each = {"$ref": document["$id"] + "#/properties/events/items"}
    rest = {key: value for key, value in events.items() if key != "items"}
    rest_of_list = {**document["properties"], "events": rest}
    # Another $id in the same folder: references to neighbours go on working, and the whole schema keeps its own.
    envelope = {**document, "$id": document["$id"] + ".envelope", "properties": rest_of_list}
    return _Request(compiled(document), compiled(envelope), compiled(each), events["maxItems"])


@dataclass(frozen=True, slots=True)
class _Problem:
    position: tuple[int, ...]  # of each step of the path within its parent, for the order of the document
    line: str


def _add(problems: dict[str, _Problem], document: object, path: Path, expected: str, seen: str) -> None:
    """Keep the first problem of each place: the same place fails several keywords for one reason."""
    text = _path_text(path)
    if text not in problems:
        position, found = _look(document, path)
        problems[text] = _Problem(position, f"{text}: found {seen or found}, expected {expected}")


def _lines(problems: Mapping[str, _Problem], more: bool = False) -> list[str]:
    lines = [problem.line for problem in sorted(problems.values(), key=lambda problem: problem.position)]
    return lines[:MAX_PROBLEMS] + (["... and more"] if more or len(lines) > MAX_PROBLEMS else [])


def _leaves(error: ValidationError) -> Iterator[ValidationError]:
    """The errors to word: where one of several alternatives was clearly meant, that one's instead of all of them."""
    if error.validator in ("anyOf", "oneOf") and error.context:
        branches: dict[Any, list[ValidationError]] = {}
        for inner in error.context:
            branches.setdefault(inner.relative_schema_path[0], []).append(inner)
        choosing = {"type", "const", "enum"}
        meant = [b for b in branches.values() if not any(not e.relative_path and e.validator in choosing for e in b)]
        if len(meant) > 1:
            meant = [b for b in meant if not any(e.validator in ("const", "enum") for e in b)]
        if len(meant) == 1:
            for inner in meant[0]:
                yield from _leaves(inner)
            return
    yield error


def _readings(error: ValidationError, resolve: Resolve) -> Iterator[tuple[Path, str, str]]:
    """Say an error as (path, what was expected, what was found, or "" for the value that stands at the path)."""
    path: Path = tuple(error.absolute_path)
    schema: Any = error.schema
    value: Any = error.validator_value
    members = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    match error.validator:
        case "required":
            for name in (name for name in value if name not in error.instance):
                yield (*path, name), _expected(members.get(name, True), resolve), ""
        case "additionalProperties":
            for name in (name for name in error.instance if name not in members):
                yield (*path, name), "no member of this name", ""
        case "minItems":
            yield path, f"at least {_members(value)}", ""
        case "maxItems":
            yield path, f"at most {_members(value)}", ""
        case "minProperties":
            yield path, f"at least {_members(value)}", _members(len(error.instance))
        case "maxProperties":
            yield path, f"at most {_members(value)}", _members(len(error.instance))
        case "maxContains":
            yield path, f"at most {value}", f"more than {_members(value)}{_which(schema['contains'])}"
        case "contains" | "minContains":
            yield path, f"at least {_members(schema.get('minContains', 1))}{_which(schema['contains'])}", ""
        case keyword:
            seen = f"the member name {_quoted(error.instance)}" if "propertyNames" in error.schema_path else ""
            expected = _expected(schema, resolve)
            if keyword in _UNTOLD and not error.context:
                expected += f" ({keyword} {_cut(json.dumps(value, ensure_ascii=False))})"
            yield path, expected, seen


# Keywords that _expected does not put into words; they are shown as the schema has them.
_UNTOLD = frozenset({"exclusiveMinimum", "exclusiveMaximum", "multipleOf", "uniqueItems", "not", "dependentRequired",
                     "unevaluatedProperties", "unevaluatedItems", "oneOf"})  # fmt: skip
_TYPES = {"string": "a string", "number": "a number", "integer": "an integer", "object": "an object", "array": "a list",
          "boolean": "true or false", "null": "null"}  # fmt: skip


def _expected(schema: Any, resolve: Resolve) -> str:
    """What a schema wants, in a few words."""
    if not isinstance(schema, Mapping):
        return "nothing" if schema is False else "a value"
    if "const" in schema:
        return json.dumps(schema["const"], ensure_ascii=False)
    if "enum" in schema:
        return "one of " + ", ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    if "type" in schema:
        types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        return _alternatives(_qualified(name, schema) for name in types)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return _alternatives(dict.fromkeys(_expected(branch, resolve) for branch in schema[keyword]))
    if "$ref" in schema:
        return _expected(resolve(schema["$ref"]), resolve)
    return f"what the schema calls {_quoted(schema['title'])}" if "title" in schema else "a value"


def _qualified(name: str, schema: Mapping[str, Any]) -> str:
    """A type and what the schema adds to it, such as "a number from 0 to 1"."""
    words = _TYPES[name]
    if name == "string":
        shortest, longest, pattern = schema.get("minLength", 0), schema.get("maxLength"), schema.get("pattern")
        if longest == 0:
            return "an empty string"
        if pattern:
            return f"{words} of the form {pattern}"
        if longest is not None:
            return f"{words} of at most {longest} characters"
        if shortest:
            return f"{words} that is not empty" if shortest == 1 else f"{words} of at least {shortest} characters"
    if name in ("number", "integer"):
        least, most = schema.get("minimum"), schema.get("maximum")
        if least is not None and most is not None:
            return f"{words} from {least} to {most}"
        if least is not None or most is not None:
            return f"{words} of at least {least}" if most is None else f"{words} of at most {most}"
    return words


def _alternatives(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _members(count: int) -> str:
    return f"{count} member" if count == 1 else f"{count} members"


def _which(contains: Any) -> str:
    """Which members a ``contains`` counts, by the constants that it asks for."""
    members = contains.get("properties", {}) if isinstance(contains, Mapping) else {}
    constants = {name: s["const"] for name, s in members.items() if isinstance(s, Mapping) and "const" in s}
    told = [f"{name} {json.dumps(constant)}" for name, constant in constants.items()]
    return " with " + " and ".join(told) if told else ""


def _look(document: object, path: Path) -> tuple[tuple[int, ...], str]:
    """Where in the order of the document a path stands, and what stands there."""
    position: list[int] = []
    value: Any = document
    for step in path:
        if isinstance(value, dict) and step not in value:
            return (*position, len(value)), "nothing"
        position.append(list(value).index(step) if isinstance(value, dict) else int(step))
        value = value[step]
    return tuple(position), _found(value)


def _found(value: object) -> str:
    if isinstance(value, str):
        return f"the text {_quoted(value)}" if value else "an empty string"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        return f"the number {_cut(json.dumps(value))}"
    if isinstance(value, list):
        return f"a list of {_members(len(value))}" if value else "an empty list"
    return "an object" if value else "an empty object"


def _quoted(text: str) -> str:
    """A text as JSON, cut before it is escaped so that a huge one costs nothing."""
    return json.dumps(_cut(text), ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*\Z")


def _path_text(path: Path) -> str:
    """``events[3].traits["a b"]``; the document itself is ``body``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _IDENTIFIER.match(step) and len(step) <= _SHOWN:
            text += f".{step}"
        else:
            text += f"[{_quoted(step)}]"
    return text[1:] if text.startswith(".") else "body" + text


def read_json(raw: bytes) -> object:
    """Parse a request body: strict JSON in UTF-8, at most 100 levels of lists and objects deep.

    Raises:
        InvalidData: one problem saying where the body stops being JSON; lines, columns and bytes count from 1.
    """
    if not raw or raw.isspace():
        raise InvalidData("body: found nothing, expected a JSON object")
    try:
        document: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidData(_why_not_json(raw, error)) from None
    # PERF: counting brackets holds for nearly every body, striking out pairs of them for nearly every batch; only the
    # others are walked, which takes 8 microseconds for an event.
    few = raw.count(b"{") + raw.count(b"[") <= MAX_DEPTH
    if not few and not _plainly_shallow(raw) and _deeper_than_allowed(document):
        raise InvalidData(_TOO_DEEP)
    return document


_TOO_DEEP = f"body: nested too deeply, expected at most {MAX_DEPTH} levels"


_NO_BRACKETS = bytes(set(range(256)) - set(b'{}[]"'))


def _plainly_shallow(raw: bytes) -> bool:
    """Whether valid JSON is at most twenty levels deep, as its bare brackets tell; False where they do not tell."""
    if b'\\"' in raw:  # what ends a string is not plain then
        return False
    # Only brackets and quotes: strings without brackets are two quotes side by side. Where others remain, so do theirs.
    brackets = raw.translate(None, _NO_BRACKETS).replace(b'""', b"")
    if b'"' in brackets:
        return False
    for _ in range(10):  # each round takes off one level, or two
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
    return not brackets


def _deeper_than_allowed(document: object) -> bool:
    level = [document] if isinstance(document, dict | list) else []
    for _ in range(MAX_DEPTH):
        children = (child for node in level for child in (node.values() if isinstance(node, dict) else node))
        level = [child for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _why_not_json(raw: bytes, error: json.JSONDecodeError) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as undecodable:
        return f"body: not UTF-8 at byte {undecodable.start + 1}"
    if "depth" in error.msg or "recursion" in error.msg.lower():  # orjson's own limit, which is wider than ours
        return _TOO_DEEP
    # orjson points behind the sign of -Infinity.
    start = error.pos - text.startswith("-", max(error.pos - 1, 0), error.pos)
    no_number = _NO_NUMBER.match(text, start)
    reason = f"{no_number[0]} is not a JSON value" if no_number else error.msg
    column = error.colno - (error.pos - start if no_number else 0)
    return f"body: not valid JSON at line {error.lineno} column {column}: {reason}"


_NO_NUMBER = re.compile(r"-?(NaN|Infinity)")
