"""What these tests need of the machine: a browser, node, and the vendor's SDK."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sdk.client import install

FOLDER = Path(__file__).parent
EXAMPLES = FOLDER.parent.parent / "examples"
BUILT = EXAMPLES / "built" / "static" / "shop.js"


def is_built() -> bool:
    """Whether the shops' script is newer than what it is made of."""
    sources = [file for file in (EXAMPLES / "browser").iterdir() if file.is_file()]
    return BUILT.exists() and BUILT.stat().st_mtime > max(file.stat().st_mtime for file in sources)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of chromium, with playwright-core installed and the shop's script built."""
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if not browser:
        missing.append("chromium")
    if missing:
        reason = f"a real browser needs {' and '.join(missing)}, which this machine does not have"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{reason}; in CI these tests must run")
        pytest.skip(reason)
    install(FOLDER)
    install(EXAMPLES / "browser")
    with open(EXAMPLES / "browser" / "package.json") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of test processes that run in parallel, the first builds
        if not is_built():
            subprocess.run(["npm", "run", "--silent", "build"], cwd=EXAMPLES / "browser", check=True, timeout=120)
    return str(browser)
