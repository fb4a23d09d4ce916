"""The example of docs/what-if.md."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "what-if.md").read_text(encoding="utf-8")


def test_the_example_of_the_page_runs() -> None:
    match = re.search(r"<!-- tests/what_if/test_what_if_docs.py: harness -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    exec(match[1], {})
