"""What people install: the wheel and the sdist, built from the files that the repository has."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import ninetailed_wsgi
from ninetailed_wsgi.contract.cases import AREAS

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parent.parent
SCHEMAS = {path.name for path in (ROOT / "schemas").glob("*.json")}
CASES = ROOT / "fixtures" / "cases"


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a ``wheel`` or ``sdist`` with the installed setuptools, as pip does, but without fetching anything."""
    target.mkdir(exist_ok=True)
    program = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    run = subprocess.run([sys.executable, "-c", program], cwd=source, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, f"is setuptools as new as the extra dev asks for?\n{run.stderr[-2000:]}"
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files, links as links, without what lies around in the folder besides."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    copy = tmp_path_factory.mktemp("source")
    for name in filter(None, names):
        original = ROOT / name
        if original.is_symlink() or original.exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(original, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build("wheel", source, tmp_path_factory.mktemp("wheel")))


def test_the_package_links_to_the_schemas_instead_of_copying_them() -> None:
    link = ROOT / "ninetailed_wsgi" / "schemas"
    assert link.is_symlink()
    assert link.readlink() == Path("../schemas")
    assert SCHEMAS
    assert (ROOT / "ninetailed_wsgi" / "cases").readlink() == Path("../fixtures/cases")


def test_the_wheel_carries_every_schema_and_the_mark_of_a_typed_package(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {name.rpartition("/")[2] for name in names if name.startswith("ninetailed_wsgi/schemas/")} == SCHEMAS
    assert "ninetailed_wsgi/py.typed" in names


def test_the_wheel_carries_the_cases_that_any_server_is_held_to(wheel: zipfile.ZipFile) -> None:
    carried = {name for name in wheel.namelist() if name.startswith("ninetailed_wsgi/cases/")}
    files = {path for path in CASES.rglob("*.json") if '"anywhere": true' in path.read_text(encoding="utf-8")}
    assert carried >= {f"ninetailed_wsgi/cases/{path.relative_to(CASES).as_posix()}" for path in files}
    assert {name.split("/")[2] for name in carried} == {*AREAS, "access"}


def test_the_wheel_carries_every_module_and_nothing_but_the_package(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ninetailed_wsgi").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert {name.partition("/")[0] for name in names} == {
        "ninetailed_wsgi",
        f"ninetailed_wsgi-{ninetailed_wsgi.__version__}.dist-info",
    }


def test_the_wheel_says_what_it_is_and_which_command_it_brings(wheel: zipfile.ZipFile) -> None:
    folder = f"ninetailed_wsgi-{ninetailed_wsgi.__version__}.dist-info"
    metadata = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("ninetailed-wsgi", ninetailed_wsgi.__version__)
    assert "Apache-2.0" in (metadata["License-Expression"] or metadata["License"])
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"all", "dev"} <= set(metadata.get_all("Provides-Extra") or [])
    assert "ninetailed-wsgi = ninetailed_wsgi.commands.main:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    assert any(name.startswith(folder) and name.endswith("LICENSE") for name in wheel.namelist())


def test_a_wheel_made_from_the_sdist_is_the_wheel_made_from_the_repository(
    source: Path, wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    sdist = build("sdist", source, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / f"ninetailed_wsgi-{ninetailed_wsgi.__version__}"
    again = zipfile.ZipFile(build("wheel", unpacked, tmp_path / "again"))
    assert sorted(again.namelist()) == sorted(wheel.namelist())


def test_importing_the_package_imports_no_framework() -> None:
    program = "import sys, ninetailed_wsgi; print([name for name in ('falcon', 'gunicorn') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert run.stdout == "[]\n"


def test_an_unknown_name_of_the_package_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'ninetailed_wsgi' has no attribute 'nonsense'"):
        _ = ninetailed_wsgi.nonsense
    assert {"Settings", "create_app", "__version__"} <= set(dir(ninetailed_wsgi))


def test_a_sub_interpreter_is_refused_in_a_sentence_that_says_what_to_set() -> None:
    program = """
import _xxsubinterpreters as interpreters
made = interpreters.create()
interpreters.run_string(made, "import ninetailed_wsgi\\n"
    "try:\\n    from ninetailed_wsgi import Ninetailed\\n"
    "except Exception as error:\\n    print(type(error).__name__, error, flush=True)")
"""
    program = program if sys.version_info < (3, 13) else program.replace("_xxsubinterpreters", "_interpreters")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.startswith("SettingsError ")
    assert "WSGIApplicationGroup %{GLOBAL}" in run.stdout
