"""``make lint`` notices each breach of the layout that ARCHITECTURE.md promises."""

from __future__ import annotations

import configparser
import inspect
import re
from pathlib import Path

import pytest
from layout import NO_ROOMS, PACKAGE, ROOMS, problems

from ninetailed_wsgi import Settings
from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.content.contentful.content import CHECK_EVERY
from ninetailed_wsgi.core import session
from ninetailed_wsgi.enrichment import albacross
from ninetailed_wsgi.server import refusals
from ninetailed_wsgi.store import recent
from ninetailed_wsgi.store.disk import history


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
        (
            "def is_profile(document):\n    return 'to' not in document\n",
            "room/module.py:2: 'to' not in document is for store/identity.py alone",
        ),
        ("def count(events): ...\n", "room/module.py:1: count has no docstring"),
        (
            'def count(events):\n    """Count.\n\n    Args:\n        entries: all.\n    """\n',
            "room/module.py:1: the docstring describes entries, which does not exist",
        ),
        (
            'class Head:\n    """It.\n\n    Attributes:\n        tried: when.\n    """\n    last_try: int\n',
            "room/module.py:1: the docstring describes tried, which does not exist",
        ),
    ],
)
def test_a_module_that_breaks_a_limit_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "module.py").write_text(text)
    assert told in list(problems(tmp_path))


def test_a_class_that_is_called_as_another_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class Turn: 'It.'\nclass Visitor: 'It.'\n")
    (tmp_path / "two.py").write_text("_Turn = dict[str, int]\nclass Visitor: 'It.'\n")
    assert list(problems(tmp_path)) == ["two.py:1: Turn is the name of something else in one.py"]


def test_a_room_too_many_is_noticed(tmp_path: Path) -> None:
    for number in range(ROOMS + 1):
        (tmp_path / f"room{number}").mkdir()
    (told,) = problems(tmp_path)
    assert f"{ROOMS + 1} rooms, at most {ROOMS}" in told


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


# What ARCHITECTURE.md says in numbers


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("stay in the record's row until it has {:.1f} kB", history._EVENTS_IN_ROW / 1000),
        ("the newest {} documents", recent._MOST),
        ("{} diskcache folders", Settings().store_shards),
        (
            "A thread of each process checks once {} second",
            {1.0: "a"}[inspect.signature(ContentFolder).parameters["check_every"].default],
        ),
        ("looks at files {} times a second", {0.2: "five"}[CHECK_EVERY]),
        ("the latest session at most {} minutes away", session.TIMEOUT // 60_000),
        ("The newest {} spans are kept", session.SPANS_KEPT),
        ("At most {} look-ups in one thread", {4: "four"}[albacross.AT_ONCE]),
        ("keeps the answer for {} to {:.0f} second", (refusals.SHORTEST_PAUSE, refusals.LONGEST_PAUSE)),
        ("gthread with {} threads", {4: "four"}[Settings().threads]),
    ],
)
def test_the_numbers_of_the_architecture_are_those_of_the_code(sentence: str, value: object) -> None:
    text = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert sentence.format(*(value if isinstance(value, tuple) else (value,))) in text
