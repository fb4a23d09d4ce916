"""The README of the fixtures: it names every file that somebody may look for."""

from __future__ import annotations

from pathlib import Path

import pytest

FIXTURES = Path(__file__).parent.parent / "fixtures"
README = (FIXTURES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["events", "spaces", "geo"])
def test_every_file_is_named(folder: str) -> None:
    assert [
        path.name for path in (FIXTURES / folder).iterdir() if path.is_file() and f"`{path.name}`" not in README
    ] == []


def test_every_folder_of_cases_is_named() -> None:
    assert [
        path.name for path in (FIXTURES / "cases").iterdir() if path.is_dir() and f"`{path.name}/`" not in README
    ] == []
    assert [path.name for path in FIXTURES.iterdir() if path.is_dir() and f"\n## {path.name}" not in README] == []
