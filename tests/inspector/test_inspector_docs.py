"""The example of docs/inspector.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ninetailed_wsgi.testing import Harness

PAGE = (Path(__file__).parents[2] / "docs" / "inspector.md").read_text(encoding="utf-8")


def test_the_function_of_the_page_lets_staff_in() -> None:
    match = re.search(r"<!-- tests/inspector/test_inspector_docs.py: staff -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None
    names: dict[str, Any] = {}
    exec(match[1], names)
    assert names["staff"]({"REMOTE_USER": "anna"})
    assert not names["staff"]({})
    with Harness(access="guarded", inspector=names["staff"]) as harness:
        assert harness.client.call("GET", "/inspector/find").status == 401
