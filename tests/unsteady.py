"""Runs the tests that failed beside others once more, alone: who passes only then is unsteady, which is printed.

``pytest -p tests.unsteady`` writes down what failed, if that is little; ``python -m tests.unsteady`` runs it again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MOST = 5
"""With more failures than that, something is wrong that is worth no second look."""
FAILED = Path("build", "failed.json")
"""What each test that failed said, by its id. The file is there only where its tests may run again."""


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # of several processes, the one that hears of all tests
        FAILED.unlink(missing_ok=True)
        config.pluginmanager.register(Failures())


class Failures:
    """What failed in this run."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._is_whole = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._texts.setdefault(report.nodeid, report.longreprtext)
            self._is_whole &= report.when in ("setup", "call", "teardown")  # else the process of the test has crashed

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._is_whole &= not report.failed

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        # Any other status: an error of collection or of pytest itself, an interruption, no test.
        if exitstatus == pytest.ExitCode.TESTS_FAILED and self._is_whole and 0 < len(self._texts) <= MOST:
            FAILED.parent.mkdir(exist_ok=True)
            FAILED.write_text(json.dumps(self._texts), encoding="utf-8")


def main() -> int:
    """Run the tests that failed, one after another; return 0 if each passes now, and print those loudly."""
    if not FAILED.exists():
        sys.stderr.write(f"that was no run in which at most {MOST} tests failed, so nothing is run again\n")
        return 1
    texts: dict[str, str] = json.loads(FAILED.read_text(encoding="utf-8"))
    sys.stdout.write(f"\n== again, alone: {' '.join(texts)}\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *texts]
    if subprocess.run(command, check=False).returncode:
        return 1
    for test, text in texts.items():
        sys.stdout.write(
            f"\n{'!' * 100}\nUNSTEADY: {test} failed beside other tests and passes alone. Mend it.\n{text}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
