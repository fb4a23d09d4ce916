"""Words the errors in a document for its sender: where it is wrong, what was found there, and what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ninetailed_wsgi.core.problems import shorten

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

MAX_PROBLEMS = 10
_LONGEST_EXCERPT = 60  # characters of a value or a member's name that a problem repeats

Path = tuple[str | int, ...]
Resolve = Callable[[str], Any]


class SchemaProblem(NamedTuple):
    """One place of a document that is wrong."""

    position: tuple[int, ...]  # of each step of the path within its parent, for the order of the document
    line: str


def add_problem(problems: dict[str, SchemaProblem], document: object, path: Path, expected: str, actual: str) -> None:
    """Keep the first problem of each place: the same place fails several keywords for one reason."""
    place = path_text(path)
    if place not in problems:
        position, value = _look(document, path)
        problems[place] = SchemaProblem(position, f"{place}: found {actual or value}, expected {expected}")


def lines(problems: Mapping[str, SchemaProblem], more: bool = False) -> list[str]:
    """Return one line per problem in the order of the document, at most `MAX_PROBLEMS` and one that says so."""
    ordered = [problem.line for problem in sorted(problems.values(), key=lambda problem: problem.position)]
    return ordered[:MAX_PROBLEMS] + (["... and more"] if more or len(ordered) > MAX_PROBLEMS else [])


def leaves(error: ValidationError) -> Iterator[ValidationError]:
    """Yield the errors to word; if the sender clearly meant one of several alternatives, only the errors of that."""
    if error.validator in ("anyOf", "oneOf") and error.context:
        branches: dict[Any, list[ValidationError]] = {}
        for inner in error.context:
            branches.setdefault(inner.relative_schema_path[0], []).append(inner)
        choosing = {"type", "const", "enum"}
        candidates = [
            b for b in branches.values() if not any(not e.relative_path and e.validator in choosing for e in b)
        ]
        if len(candidates) > 1:
            candidates = [b for b in candidates if not any(e.validator in ("const", "enum") for e in b)]
        if len(candidates) == 1:
            for inner in candidates[0]:
                yield from leaves(inner)
            return
    yield error


def readings(error: ValidationError, resolve: Resolve) -> Iterator[tuple[Path, str, str]]:
    """Yield an error as (path, what was expected, what was found, or "" for the value that stands at the path)."""
    path: Path = tuple(error.absolute_path)
    schema: Any = error.schema
    value: Any = error.validator_value
    members = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    match error.validator:
        case "required":
            for name in (name for name in value if name not in error.instance):
                yield (*path, name), expectation(members.get(name, True), resolve), ""
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
            actual = f"the member name {_quoted(error.instance)}" if "propertyNames" in error.schema_path else ""
            expected = expectation(schema, resolve)
            if keyword in _UNWORDED and not error.context:
                expected += f" ({keyword} {shorten(json.dumps(value, ensure_ascii=False), _LONGEST_EXCERPT)})"
            yield path, expected, actual


# Keywords that `expectation` does not put into words; they are shown as the schema has them.
_UNWORDED = frozenset({"exclusiveMinimum", "exclusiveMaximum", "multipleOf", "uniqueItems", "not", "dependentRequired",
                     "unevaluatedProperties", "unevaluatedItems", "oneOf"})  # fmt: skip
_TYPES = {"string": "a string", "number": "a number", "integer": "an integer", "object": "an object", "array": "a list",
          "boolean": "true or false", "null": "null"}  # fmt: skip


def expectation(schema: Any, resolve: Resolve) -> str:
    """Return what a schema expects, in a few words."""
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
            return _alternatives(dict.fromkeys(expectation(branch, resolve) for branch in schema[keyword]))
    if "$ref" in schema:
        return expectation(resolve(schema["$ref"]), resolve)
    return f"what the schema calls {_quoted(schema['title'])}" if "title" in schema else "a value"


def _qualified(name: str, schema: Mapping[str, Any]) -> str:
    """Return a type and what the schema adds to it, such as "a number from 0 to 1"."""
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
    """Return which members a ``contains`` counts, by the constants that it asks for."""
    members = contains.get("properties", {}) if isinstance(contains, Mapping) else {}
    constants = {name: s["const"] for name, s in members.items() if isinstance(s, Mapping) and "const" in s}
    constants_text = [f"{name} {json.dumps(constant)}" for name, constant in constants.items()]
    return " with " + " and ".join(constants_text) if constants_text else ""


def _look(document: object, path: Path) -> tuple[tuple[int, ...], str]:
    """Return the position of a path in the order of the document, and the value found there."""
    position: list[int] = []
    value: Any = document
    for step in path:
        if isinstance(value, dict) and step not in value:
            return (*position, len(value)), "nothing"
        position.append(list(value).index(step) if isinstance(value, dict) else int(step))
        value = value[step]
    return tuple(position), _words(value)


def _words(value: object) -> str:
    if isinstance(value, str):
        return f"the text {_quoted(value)}" if value else "an empty string"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        return f"the number {shorten(json.dumps(value), _LONGEST_EXCERPT)}"
    if isinstance(value, list):
        return f"a list of {_members(len(value))}" if value else "an empty list"
    return "an object" if value else "an empty object"


def _quoted(text: str) -> str:
    """Return a text as JSON, cut before it is escaped so that a huge one costs nothing."""
    return json.dumps(shorten(text, _LONGEST_EXCERPT), ensure_ascii=False)


_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*\Z")


def path_text(path: Path) -> str:
    """Return a path as text, such as ``events[3].traits["a b"]``; the document itself is ``body``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _IDENTIFIER.match(step) and len(step) <= _LONGEST_EXCERPT:
            text += f".{step}"
        else:
            text += f"[{_quoted(step)}]"
    return text[1:] if text.startswith(".") else "body" + text
