"""Keeps the draft that somebody handed to the inspector, until a process that serves nobody has counted it.

One for each environment, in the folder ``population`` of the data folder: what was handed in last (spec section 15).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import orjson

from ninetailed_wsgi.content import Catalog
from ninetailed_wsgi.content.compiling import compile_content
from ninetailed_wsgi.content.entries import Content, Faulty
from ninetailed_wsgi.content.formats.recognise import parse, read_document
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import InvalidData

FOLDER = "population"
_SHOWN = 10  # problems of a draft that are named


class Draft(NamedTuple):
    """A draft that was handed in.

    Attributes:
        raw: the document, in any form that ``--content`` takes.
        name: of its file, as it was said.
        at: when it was handed in, ms.
        by: the name of the key.
    """

    raw: bytes
    name: str
    at: int
    by: str

    def read(self, locale: str | None) -> Content:
        """Return what the draft holds, nothing compiled; InvalidData where it is no content at all."""
        try:
            content = read_document(parse(self.raw), self.name, locale, drafts=True)
        except Faulty as fault:
            raise InvalidData(f"{self.name}: {fault}") from None
        whole = [str(each) for each in content.problems if each.severity == "error" and not each.entry]
        if whole:
            raise InvalidData(whole[:_SHOWN])
        return content

    def catalog(self, locale: str | None, history_events: int, history_days: int) -> Catalog:
        """Return the draft compiled, entries that are not published included; InvalidData lists its errors."""
        content = self.read(locale)
        catalog = compile_content(content, history_events=history_events, history_days=history_days)
        if errors := [str(problem) for problem in (*catalog.errors, *catalog.left_out)]:
            more = [f"and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
            raise InvalidData([*errors[:_SHOWN], *more])
        return catalog


def hand_in(data_dir: Path, where: Environment, draft: Draft) -> None:
    """Keep a draft in place of the last one of its environment; OSError where it cannot be written."""
    file = _file(data_dir, where)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}")
    head = {"name": draft.name, "at": draft.at, "by": draft.by, "environment": str(where)}
    fresh.write_bytes(orjson.dumps(head) + b"\n" + draft.raw)
    fresh.replace(file)


def read(data_dir: Path, where: Environment) -> Draft | None:
    """Return the draft that was handed in last; None where there is none, or its file is damaged."""
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        head, _, raw = _file(data_dir, where).read_bytes().partition(b"\n")
        told = orjson.loads(head)
        return Draft(raw, told["name"], told["at"], told["by"])
    return None


def environments(data_dir: Path) -> list[Environment]:
    """Return the environments that a draft was handed in for."""
    found = []
    for file in sorted((data_dir / FOLDER).glob("*.draft")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), file.open("rb") as opened:
            found.append(Environment.parse(orjson.loads(opened.readline())["environment"]))
    return found


def discard(data_dir: Path, where: Environment) -> None:
    """Remove the draft of an environment, if there is one."""
    _file(data_dir, where).unlink(missing_ok=True)


def _file(data_dir: Path, where: Environment) -> Path:
    name = hashlib.blake2b(orjson.dumps([*where]), digest_size=16).hexdigest()
    return data_dir / FOLDER / f"{name}.draft"
