"""What `.ci/run` runs again: a few tests that failed, alone, and nothing where more is wrong than that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unsteady import FAILED, MOST, main

ONCE = """
from pathlib import Path

def test_once():
    if not Path("seen").exists():
        Path("seen").touch()
        raise AssertionError("the first time")
"""
ALWAYS = "def test_always(): assert 0\n"
BROKEN = "import nothing_of_that_name\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # those of this environment take a second


def run(pytester: pytest.Pytester, **files: str) -> dict[str, str] | None:
    """Run made-up tests; return what is written down of those that failed."""
    pytester.makepyfile(**files)
    pytester.runpytest_inprocess("-p", "tests.unsteady", "-p", "no:cacheprovider", "--continue-on-collection-errors")
    path = pytester.path / FAILED
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def test_a_test_that_fails_beside_others_and_passes_alone_is_printed(
    pytester: pytest.Pytester, capfd: pytest.CaptureFixture[str]
) -> None:
    texts = run(pytester, test_made=ONCE)
    assert texts is not None
    assert [*texts] == ["test_made.py::test_once"]
    assert main() == 0
    out = capfd.readouterr().out
    assert "UNSTEADY: test_made.py::test_once failed beside other tests and passes alone" in out
    assert "AssertionError: the first time" in out


def test_a_test_that_fails_again_fails_the_run(pytester: pytest.Pytester, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(pytester, test_made=ONCE, test_other=ALWAYS) is not None
    assert main() != 0
    assert "UNSTEADY" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "files",
    [
        {"test_made": "\n".join(f"def test_{number}(): assert 0" for number in range(MOST + 1))},
        {"test_made": ALWAYS, "test_other": BROKEN},
        {"test_made": BROKEN},
        {"test_made": "def test_fine(): pass"},
        {"test_made": ""},
    ],
    ids=["too many", "an error of collection beside a failure", "an error of collection", "no failure", "no test"],
)
def test_nothing_else_runs_again(pytester: pytest.Pytester, files: dict[str, str]) -> None:
    (pytester.path / FAILED).parent.mkdir()
    (pytester.path / FAILED).write_text("{}")  # of a run before
    assert run(pytester, **files) is None
    assert not Path(FAILED).exists()
    assert main() == 1
