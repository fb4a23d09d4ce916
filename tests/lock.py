"""Write requirements-dev.txt: what the development environment has, pinned, with the hashes of what pip takes.

`make lock` runs it. The versions are those installed in .venv, so lock an environment whose tests pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements-dev.txt"
PROJECT = "ninetailed-wsgi"
EXTRAS = frozenset({"all", "dev", "docs", "fuzz"})
# The Makefile uses the lock with these and later ones of the same minor version.
PYTHONS = ("3.11.5", "3.12.4", "3.13.1")
HEAD = """\
# The development environment, for CPython 3.11.5 to 3.13 on Linux with glibc and x86-64. `make lock` writes this file.
# pip installs it only if each file has a hash that stands here.
"""


def minor(python: str) -> str:
    return python.rpartition(".")[0]


def requirements_of(name: str, extras: frozenset[str], python: str) -> Iterator[Requirement]:
    """Yield what an installed package requires with these extras under a version of Python."""
    environment = {"python_version": minor(python), "python_full_version": python}
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in extras | {""}):
            yield requirement


def closure(python: str) -> dict[str, Requirement]:
    """Return everything that the project's extras bring along under a version of Python, by canonical name."""
    reached: dict[str, Requirement] = {}
    asked: set[tuple[str, frozenset[str]]] = set()
    open_ends = list(requirements_of(PROJECT, EXTRAS, python))
    while open_ends:
        requirement = open_ends.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name == PROJECT or (name, extras) in asked:
            continue
        asked.add((name, extras))
        reached.setdefault(name, requirement)
        try:
            open_ends += requirements_of(name, extras, python)
        except PackageNotFoundError:
            continue  # Only other versions of Python need it: the newest is taken.
    return reached


def wanted(name: str, requirement: Requirement) -> str:
    try:
        return f"{name}=={distribution(name).version}"
    except PackageNotFoundError:
        return f"{name}{requirement.specifier}"


def files(python: str, lines: list[str]) -> dict[str, tuple[str, str]]:
    """Return version and hash of each file that pip would install from the index that it is configured for, by name."""
    with tempfile.TemporaryDirectory() as folder:
        listed, report = Path(folder, "wanted.txt"), Path(folder, "report.json")
        listed.write_text("\n".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed", "--no-deps"]
        command += ["--only-binary", ":all:", "--target", folder]
        # pip 23 holds a release that a newer Python needs against the Python that it runs in.
        command += ["--ignore-requires-python", "--python-version", python]
        subprocess.run([*command, "--report", str(report), "--requirement", str(listed)], check=True, cwd=ROOT)
        return {
            canonicalize_name(item["metadata"]["name"]): (
                item["metadata"]["version"],
                item["download_info"]["archive_info"]["hashes"]["sha256"],
            )
            for item in json.loads(report.read_text(encoding="utf-8"))["install"]
        }


def lock_text(files_by_python: dict[str, dict[str, tuple[str, str]]]) -> str:
    """Return the lock: a line for each package, a marker where only some versions of Python need it."""
    text = HEAD
    wheels: dict[tuple[str, str], dict[str, str]] = {}
    for python, packages in files_by_python.items():
        for name, (version, sha) in packages.items():
            wheels.setdefault((name, version), {})[python] = sha
    for (name, version), hashes in sorted(wheels.items()):
        marker = " or ".join(f'python_version == "{minor(python)}"' for python in hashes)
        text += f"{name}=={version}" + (f" ; {marker}" if len(hashes) < len(files_by_python) else "")
        text += "".join(f" \\\n    --hash=sha256:{sha}" for sha in sorted(set(hashes.values()))) + "\n"
    return text


def main() -> None:
    print("asking the package index for the files of each version of Python; this takes minutes", file=sys.stderr)
    lines = [[wanted(*item) for item in sorted(closure(python).items())] for python in PYTHONS]
    with ThreadPoolExecutor() as pool:
        files_by_python = dict(zip(PYTHONS, pool.map(files, PYTHONS, lines), strict=True))
    LOCK.write_text(lock_text(files_by_python), encoding="utf-8")
    print(f"{LOCK.name}: {len(set().union(*files_by_python.values()))} packages", file=sys.stderr)


if __name__ == "__main__":
    main()
