"""``make lint`` notices each breach of the layout that ARCHITECTURE.md promises."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from layout import NO_ROOMS, PACKAGE, ROOMS, problems


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n" * 451, "room/module.py: 451 lines, at most 450"),
        ("def long():\n" + "    pass\n" * 45, "room/module.py: long has 46 lines, at most 45"),
        (
            "class Large:\n" + "".join(f"    def m{n}(self): ...\n" for n in range(17)),
            "room/module.py: Large has 17 methods, at most 16",
        ),
        ("found = 1\n", "room/module.py:1: found is a participle, name what it holds"),
        ("import os\nos.replace('a', 'b')\n", "room/module.py:2: os.replace is for operations/files.py alone"),
        (
            "import os\nif os.getpid() != 5: ...\n",
            "room/module.py:2: os.getpid() != 5 is for operations/forks.py alone",
        ),
    ],
)
def test_a_module_that_breaks_a_limit_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "module.py").write_text(text)
    assert told in list(problems(tmp_path))


def test_a_room_too_many_is_noticed(tmp_path: Path) -> None:
    for number in range(ROOMS + 1):
        (tmp_path / f"room{number}").mkdir()
    (told,) = problems(tmp_path)
    assert f"{ROOMS + 1} rooms, at most {ROOMS}" in told


def test_the_package_breaks_none() -> None:
    assert list(problems(PACKAGE)) == []


# The contracts of import-linter


def contracts() -> list[configparser.SectionProxy]:
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg", encoding="utf-8")
    return [config[name] for name in config.sections() if name.startswith("importlinter:contract:")]


def test_every_room_has_its_place_in_the_contract_of_the_layers() -> None:
    (layers,) = [each for each in contracts() if each["type"] == "layers"]
    named = set(re.findall(r"\w+", layers["layers"]))
    assert layers["exhaustive"] == "True"
    assert named == {path.name.split(".")[0] for path in PACKAGE.iterdir()} - NO_ROOMS | {"__main__"}


def test_every_room_below_the_api_is_kept_from_its_framework() -> None:
    (layers,) = [each for each in contracts() if each["type"] == "layers"]
    below = set(re.findall(r"\w+", re.split(r"\bapi\b[^\n]*", layers["layers"])[1]))
    (framework,) = [each for each in contracts() if each.get("forbidden_modules") == "falcon"]
    assert {name.rpartition(".")[2] for name in framework["source_modules"].split()} == below


def test_every_library_of_an_extra_has_a_contract_that_names_its_modules() -> None:
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg", encoding="utf-8")
    packages = re.findall(r"^([\w-]+)[>=<]", config["options.extras_require"]["all"], re.MULTILINE)
    forbidden = {name for each in contracts() for name in each.get("forbidden_modules", "").split()}
    modules = {{"openfeature-sdk": "openfeature"}.get(name, name.replace("-", "_")) for name in packages}
    assert len(modules) > 8
    assert modules <= forbidden
