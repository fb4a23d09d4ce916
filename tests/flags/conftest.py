"""What the tests of flags share: a shop's published flags of every type."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.testing import audience, flag, trait
from tests.sdk.client import install

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


@pytest.fixture(scope="module")
def modules() -> Path:
    """The official packages, installed beside this file."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        skip(f"the official providers need {' and '.join(missing)}, which this machine does not have")
    install(folder := Path(__file__).parent)
    return folder / "node_modules"


def skip(reason: str) -> None:
    """Skip a test for what this machine lacks; in CI, fail."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason}; in CI these tests must run")
    pytest.skip(reason)
