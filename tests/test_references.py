"""References to the specification lead somewhere: docstrings and comments name sections that docs/spec.md has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SPECIFICATION = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
HEADINGS = [int(number) for number in re.findall(r"^## (\d+)\. \S", SPECIFICATION, re.MULTILINE)]

# "spec section 4", "spec sections 2 to 4", "spec, section 5 and 6", also over the end of a line of a comment.
REFERENCE = re.compile(r"\bspec(?:ification)?,?[\s#]+sections?[\s#]+(\d+(?:[\s#]*(?:,|and|or|to|-)[\s#]*\d+)*)", re.I)
FOLDERS = ("ninetailed_wsgi", "tests", "benchmarks", "examples", "docs", "schemas", "fixtures")
TEXTS = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".md", ".json"} and "node_modules" not in path.parts and path.is_file()
)


def references(text: str) -> list[int]:
    return [int(number) for match in REFERENCE.finditer(text) for number in re.findall(r"\d+", match[1])]


def test_the_specification_has_its_sections_in_order() -> None:
    assert [*range(1, 19)] == HEADINGS


def test_every_reference_names_a_section_of_the_specification() -> None:
    texts = {path: references(path.read_text(encoding="utf-8")) for path in TEXTS}
    missing = {str(path.relative_to(ROOT)): set(named) - set(HEADINGS) for path, named in texts.items()}
    assert {path: sections for path, sections in missing.items() if sections} == {}
    assert sum(map(len, texts.values())) > 20, "nothing refers to the specification any more: does the pattern hold?"


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
