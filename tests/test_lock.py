"""The lock of the development environment: it agrees with setup.cfg, and nothing stands in it without a hash."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import lock
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LINES = lock.LOCK.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
LOCKED = [Requirement(line.partition(" --hash")[0].strip()) for line in LINES if line and not line.startswith("#")]
SETUP = configparser.ConfigParser()
SETUP.read(Path(lock.ROOT, "setup.cfg"), encoding="utf-8")
WANTED = [SETUP["options"]["install_requires"], *SETUP["options.extras_require"].values()]
MINORS = [lock.minor(python) for python in lock.PYTHONS]


def version(requirement: Requirement, python: str) -> list[str]:
    """The versions that the lock has of a requirement, for one version of Python."""
    name = canonicalize_name(requirement.name)
    lines = [each for each in LOCKED if canonicalize_name(each.name) == name]
    lines = [each for each in lines if each.marker is None or each.marker.evaluate({"python_version": python})]
    return [specifier.version for each in lines for specifier in each.specifier]


@pytest.mark.parametrize("python", MINORS)
def test_each_requirement_of_the_project_is_locked_within_its_bounds(python: str) -> None:
    wanted = [Requirement(line) for text in WANTED for line in text.split("\n") if line and not line.startswith("#")]
    assert len(wanted) > 50
    missing = [f"{each}: {version(each, python)}" for each in wanted if len(version(each, python)) != 1]
    assert missing == [], "run make lock"
    assert [str(each) for each in wanted if not each.specifier.contains(version(each, python)[0])] == [], (
        "run make lock"
    )


def test_nothing_is_locked_without_a_hash_and_no_index_is_named() -> None:
    lines = [line for line in LINES if line and not line.startswith("#")]
    assert [line for line in lines if not re.search(r"==\S+.* --hash=sha256:[0-9a-f]{64}( |$)", line)] == []
    assert not re.search(r"://|--index|--find-links", "\n".join(LINES))


def test_a_package_that_some_versions_of_python_need_is_locked_for_those_alone() -> None:
    one, two = lock.PYTHONS[:2] if len(lock.PYTHONS) > 1 else (*lock.PYTHONS, "3.12.4")
    text = lock.lock_text({one: {"a": ("1", "f" * 64), "b": ("2", "e" * 64)}, two: {"a": ("1", "d" * 64)}})
    assert text.removeprefix(lock.HEAD) == (
        f"a==1 \\\n    --hash=sha256:{'d' * 64} \\\n    --hash=sha256:{'f' * 64}\n"
        f'b==2 ; python_version == "{lock.minor(one)}" \\\n    --hash=sha256:{"e" * 64}\n'
    )
