"""References to the specification lead somewhere: docstrings and comments name sections that docs/spec.md has."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SPECIFICATION = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
HEADINGS = [int(number) for number in re.findall(r"^## (\d+)\. \S", SPECIFICATION, re.MULTILINE)]

# "spec section 4", "spec sections 2 to 4", "spec, section 5 and 6", also over the end of a line of a comment.
REFERENCE = re.compile(r"\bspec(?:ification)?,?[\s#]+sections?[\s#]+(\d+(?:[\s#]*(?:,|and|or|to|-)[\s#]*\d+)*)", re.I)
FOLDERS = ("ninetailed_wsgi", "tests", "benchmarks", "examples", "docs", "schemas", "fixtures")


def texts() -> list[Path]:
    """The files of the project; not those that npm brings, which other tests may be installing."""
    files = []
    for folder in FOLDERS:
        for path, folders, names in os.walk(ROOT / folder):
            folders[:] = [name for name in folders if name not in ("node_modules", "__pycache__", "_build")]
            files += [Path(path, name) for name in names if name.endswith((".py", ".md", ".json"))]
    return sorted(files)


def references(text: str) -> list[int]:
    return [int(number) for match in REFERENCE.finditer(text) for number in re.findall(r"\d+", match[1])]


def test_the_specification_has_its_sections_in_order() -> None:
    assert [*range(1, 19)] == HEADINGS


def test_every_reference_names_a_section_of_the_specification() -> None:
    named_by = {path: references(path.read_text(encoding="utf-8")) for path in texts()}
    missing = {str(path.relative_to(ROOT)): set(named) - set(HEADINGS) for path, named in named_by.items()}
    assert {path: sections for path, sections in missing.items() if sections} == {}
    assert sum(map(len, named_by.values())) > 20, "nothing refers to the specification any more: does the pattern hold?"


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("as spec section 4 says", [4]),
        ("(spec sections 2 to 4, 6 and 9)", [2, 4, 6, 9]),
        ("(spec\n    # section 99)", [99]),
        ("spec, section 5", [5]),
        ("a section 7 of something else", []),
    ],
)
def test_references_are_recognized(text: str, sections: list[int]) -> None:
    assert references(text) == sections


def test_every_rule_of_the_specification_has_a_source() -> None:
    parts = re.split(r"^## ", SPECIFICATION, flags=re.MULTILINE)[1:]
    assert [part.splitlines()[0] for part in parts if not re.search(r"\[[^]]*(doc|client|seen|ours)\b", part)] == []
