"""Keeps the draft that somebody uploaded in the inspector, until a process that serves no requests has counted it.

There is one for each environment, the newest, in the folder ``population`` of the data folder (spec section 15).
A request finds the errors that it has time for; the process finds all of them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.content.compiling import compile_content
from ninetailed_wsgi.content.entries import Content, Faulty
from ninetailed_wsgi.content.formats.recognise import parse, read_document
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.operators import OPERATORS
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.insights import environment_files

FOLDER = "population"
_ENDING = ".draft"
_MOST_PROBLEMS = 10
_MOST_CHECKED = 100_000
"""The most bytes of rules and configs that a request compiles: the slowest ones tried take a second when busy."""

_MOST_ENTRIES = 2_000
"""The most entries that a request compiles, counting each place where an entry names an experience."""


class Draft(NamedTuple):
    """A draft that was uploaded.

    Attributes:
        raw: the document, in any form that ``--content`` takes.
        name: the name of its file, as the client stated it.
        at: when it was uploaded, ms.
        by: the name of the key that was used.
    """

    raw: bytes
    name: str
    at: int
    by: str

    def read(self, locale: str | None) -> Content:
        """Return what the draft holds, without compiling it; raise InvalidData if it is not content at all."""
        try:
            content = read_document(parse(self.raw), self.name, locale, drafts=True)
        except Faulty as fault:
            raise InvalidData(f"{self.name}: {fault}") from None
        whole = [str(each) for each in content.problems if each.severity == "error" and not each.entry]
        if whole:
            raise InvalidData(whole[:_MOST_PROBLEMS])
        return content

    def check(self, locale: str | None) -> None:
        """Raise InvalidData with the errors that a request has time to find.

        `catalog` finds those of a large draft and of regular expressions, which may take seconds to compile.
        """
        content = self.read(locale)
        entries = [*content.audiences, *content.experiences, *content.metrics, *content.baselines, *content.merge_tags]
        if len(entries) + sum(len(each.experiences) for each in content.baselines) > _MOST_ENTRIES:
            return
        quick = [replace(entry, rules=_without_expressions(entry.rules)) for entry in content.audiences]
        if _size([*(each.rules for each in quick), *(each.config for each in content.experiences)]) <= _MOST_CHECKED:
            _refuse_errors(compile_content(replace(content, audiences=quick)))

    def catalog(self, locale: str | None, history_events: int, history_days: int) -> Catalog:
        """Return the compiled draft, including unpublished entries; raise InvalidData with its errors."""
        content = self.read(locale)
        catalog = compile_content(content, history_events=history_events, history_days=history_days)
        _refuse_errors(catalog)
        return catalog


def _refuse_errors(catalog: Catalog) -> None:
    if errors := [str(problem) for problem in (*catalog.errors, *catalog.left_out)]:
        more = [f"and {len(errors) - _MOST_PROBLEMS} more"] if len(errors) > _MOST_PROBLEMS else []
        raise InvalidData([*errors[:_MOST_PROBLEMS], *more])


def _size(bodies: Iterable[object]) -> int:
    """Return the bytes of JSON, without bodies nested too deeply for orjson, which are refused before compiling."""
    size = 0
    for body in bodies:
        with contextlib.suppress(orjson.JSONEncodeError):
            size += len(orjson.dumps(body))
    return size


def _without_expressions(rules: object) -> object:
    """Return the rules with each regular expression replaced by one that compiles quickly."""
    try:
        return json.loads(orjson.dumps(rules), object_hook=_without_expression)
    except orjson.JSONEncodeError:  # nested too deeply, so nothing in it is compiled
        return rules


def _without_expression(part: dict[str, Any]) -> dict[str, Any]:
    operator, value = part.get("operator"), part.get("value")
    is_expression = isinstance(operator, str) and OPERATORS.get(operator) == "matches" and isinstance(value, str)
    return {**part, "value": "x"} if is_expression else part


def hand_in(data_dir: Path, where: Environment, draft: Draft) -> None:
    """Store a draft in place of the last one of its environment; raise OSError if it cannot be written."""
    head = {"name": draft.name, "at": draft.at, "by": draft.by, "environment": str(where)}
    environment_files.write_bytes(data_dir / FOLDER, where, orjson.dumps(head) + b"\n" + draft.raw, _ENDING)


def read(data_dir: Path, where: Environment) -> Draft | None:
    """Return the draft that was uploaded last; None if nobody uploaded one, or its file is damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        head, _, raw = _file(data_dir, where).read_bytes().partition(b"\n")
        members = orjson.loads(head)
        return Draft(raw, members["name"], members["at"], members["by"])
    return None


def environments(data_dir: Path) -> list[Environment]:
    """Return the environments for which a draft was uploaded."""
    places = []
    for file in sorted((data_dir / FOLDER).glob(f"*{_ENDING}")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), file.open("rb") as draft:
            places.append(Environment.parse(orjson.loads(draft.readline())["environment"]))
    return places


def discard(data_dir: Path, where: Environment) -> None:
    """Remove the draft of an environment, if there is one."""
    _file(data_dir, where).unlink(missing_ok=True)


def _file(data_dir: Path, where: Environment) -> Path:
    return environment_files.file_of(data_dir / FOLDER, where, _ENDING)
