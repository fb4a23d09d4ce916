"""Gives the tests of this folder a node process that runs calls of the official client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sdk.client import FOLDER, install


@pytest.fixture(scope="session")
def node() -> str:
    """The path of node, with the official client installed beside the scripts of this folder."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        reason = f"the official client needs {' and '.join(missing)}, which this machine does not have"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{reason}; in CI these tests must run")
        pytest.skip(reason)
    install()
    return shutil.which("node") or "node"


@pytest.fixture(scope="session")
def ask(node: str) -> Iterator[Callable[[dict[str, Any]], dict[str, Any]]]:
    """Hands an order to client.js and gives back what it says."""
    with subprocess.Popen(
        [node, "client.js"], cwd=FOLDER, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(order: dict[str, Any]) -> dict[str, Any]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, f"client.js ended with status {process.wait(60)}"
            said: dict[str, Any] = json.loads(line)
            return said

        yield ask
        process.stdin.close()  # client.js ends with its input
