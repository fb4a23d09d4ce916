"""What docs/testing.md shows is what these how-tos do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ninetailed_wsgi.testing
from howto.test_wsgi_site import OFFER
from ninetailed_wsgi.testing import Harness

FOLDER = Path(__file__).parent
PAGE = (FOLDER.parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- tests/howto/(\w+\.py) -->\n\n```python\n(.*?)```", PAGE, re.DOTALL)


def test_every_python_example_names_the_how_to_that_runs_it() -> None:
    assert len(EXAMPLES) == PAGE.count("```python") > 0


@pytest.mark.parametrize(("name", "shown"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_the_example_is_what_the_how_to_says(name: str, shown: str) -> None:
    code = (FOLDER / name).read_text(encoding="utf-8")
    assert shown in code, f"paste the code of tests/howto/{name}"


def test_every_how_to_is_shown() -> None:
    here = {path.name for path in FOLDER.glob("test_*.py")} - {Path(__file__).name}
    assert {name for name, _ in EXAMPLES} == here


@pytest.mark.ninetailed(content=[OFFER])
def test_the_report_that_is_shown_is_what_is_told(ninetailed: Harness) -> None:
    ninetailed.visitor("anna").views("/pricing")
    assert ninetailed.report() in PAGE


def test_every_public_name_is_in_the_documentation() -> None:
    missing = [name for name in ninetailed_wsgi.testing.__all__ if not re.search(rf"\b{name}\b", PAGE)]
    assert missing == []
