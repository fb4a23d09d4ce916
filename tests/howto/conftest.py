"""What the how-tos need of the machine: node with the official client, and a browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.sdk.client import FOLDER, install

# As root and without a network: no sandbox, and nothing that the browser would ask of its maker's hosts.
QUIET = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync""".split()


@pytest.fixture
def node() -> str:
    found = _program("node", "npm")
    install()
    return found


@pytest.fixture
def sdk_folder() -> Path:
    """Where the official client is installed."""
    return FOLDER


@pytest.fixture
def chromium() -> list[str]:
    """The command that starts a browser without a window."""
    return [_program("chromium"), *QUIET]


def _program(*names: str) -> str:
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        reason = f"this how-to needs {' and '.join(missing)}, which this machine does not have"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{reason}; in CI it must run")
        pytest.skip(reason)
    return shutil.which(names[0]) or names[0]
