"""What the tests of flags share: a shop's published flags of every type."""

from __future__ import annotations

from typing import Any

import pytest

from ninetailed_wsgi.testing import audience, flag, trait

PRO = audience(trait("plan", "pro"), id="pro")

FLAGS = (
    flag("banner", control="none", variants=["sale"], id="everyone"),
    flag("checkout", control=False, variants=[True], audience=PRO, id="for-pro"),
    flag("limit", control=50, variants=[25], distribution=[0, 1], id="half"),
    flag("ratio", control=0.1, variants=[0.5], id="ratio"),
    flag("layout", control={"columns": 1}, variants=[{"columns": 3}], id="layout"),
)


@pytest.fixture
def ninetailed_content() -> Any:
    return list(FLAGS)
