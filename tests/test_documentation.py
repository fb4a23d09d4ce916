"""Pages of the documentation: examples run or are held against the code, links lead somewhere, each has its form."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from serving import free_port, wait_until

from ninetailed_wsgi.settings import OPTIONS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TOP = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)
EVERY = [*TOP, *PAGES]
TEXTS = {page: page.read_text(encoding="utf-8") for page in EVERY}

# A mark in the line before a block of code says which test runs it; "part of" names the page whose recipe has the rest.
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n\n?)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
RUN_ELSEWHERE = ("recipe: ", "tutorial: ", "tests/")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    found = BLOCK.finditer(TEXTS[page])
    return [(match["mark"] or "", match["code"]) for match in found if match["language"] == language]


@pytest.mark.parametrize("page", EVERY, ids=named)
def test_every_python_example_says_which_test_runs_it_or_compiles_as_a_part(page: Path) -> None:
    for mark, code in blocks(page, "python"):
        if mark.startswith(RUN_ELSEWHERE):
            continue
        assert mark == "part", f"which test runs this?\n{code}"
        names = set(re.findall(r"ninetailed_wsgi|environ|visitor", code))
        assert names, "a part of an example shows our own names"
        compile(code, named(page), "exec")


@pytest.mark.parametrize("page", EVERY, ids=named)
def test_every_json_example_is_json(page: Path) -> None:
    for _, code in blocks(page, "json"):
        json.loads(code)


@pytest.fixture(scope="module")
def usages() -> dict[str, str]:
    """What each command says of itself."""
    sys.path.insert(0, str(DOCS))
    try:
        import generated
    finally:
        sys.path.remove(str(DOCS))
    return {name: generated.help_text(*name.split()) for name in generated.command_names()}


@pytest.mark.parametrize("page", EVERY, ids=named)
def test_every_command_that_is_shown_exists_with_its_flags(page: Path, usages: dict[str, str]) -> None:
    lines = [line for _, code in blocks(page, "sh") for line in code.replace("\\\n", " ").splitlines()]
    for line in lines:
        match = re.search(r"(?:^|/|\s)ninetailed-wsgi (?P<command>[a-z][a-z-]*)(?P<rest>.*)", line)
        if match is None or line.lstrip().startswith("#") or match.start() > line.find("#") > -1:
            continue
        assert match["command"] in usages, line
        flags = [word.partition("=")[0] for word in shlex.split(match["rest"], comments=True) if word.startswith("--")]
        part = re.match(r" ([a-z]+)\b", match["rest"])
        name = f"{match['command']} {part[1]}" if part else ""
        missing = [flag for flag in flags if not re.search(rf"{flag}\b", usages.get(name, usages[match["command"]]))]
        assert missing == [], line


@pytest.mark.parametrize("page", EVERY, ids=named)
def test_every_make_target_that_is_shown_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.M)
    targets = re.findall(r"(?:^|`)make ([a-z][a-z-]*)", TEXTS[page], re.M)
    assert set(targets) - set(phony.split()) == set()


@pytest.mark.parametrize("page", EVERY, ids=named)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)[^)\s]*\)", TEXTS[page])
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_page_begins_with_what_its_reader_wants_and_ends_with_what_to_read_next(page: Path) -> None:
    text = TEXTS[page]
    last = text.rstrip().rpartition("\n\n")[2]
    assert last.startswith("**Next:** "), last
    if "```{include} ../" in text.partition("\n\n")[0]:  # begins as the included page does
        return
    title, _, rest = text.partition("\n\n")
    assert re.fullmatch(r"# \S[^\n]*", title)
    assert re.match(r"(This page|You) ", rest), rest[:80]


def test_every_page_is_in_the_navigation() -> None:
    index = TEXTS[DOCS / "index.md"]
    entries = {line for toc in re.findall(r"^```{toctree}\n(.*?)^```$", index, re.M | re.S) for line in toc.split()}
    assert [
        named(page) for page in PAGES if page.relative_to(DOCS).with_suffix("").as_posix() not in entries | {"index"}
    ] == []


def test_the_reference_shows_nothing_of_the_machine_that_builds_it() -> None:
    assert "\nautodoc_preserve_defaults = True\n" in (DOCS / "conf.py").read_text(encoding="utf-8")


def test_the_reference_has_every_option_command_and_operation() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        import generated
    finally:
        sys.path.remove(str(DOCS))
    options, commands, http = generated.options(), generated.commands(), generated.http()
    assert [option.flag for option in OPTIONS if f"`{option.flag} " not in options] == []
    assert "serve" in generated.command_names()
    assert [name for name in generated.command_names() if f"\n## {name}\n" not in commands] == []
    document = generated.openapi()
    summaries = [
        operation.get("summary", operation["operationId"]).rstrip(".")
        for item in document["paths"].values()
        for method, operation in item.items()
        if method in generated.METHODS and method != "options"
    ]
    assert len(summaries) > 8
    assert [summary for summary in summaries if f"### {summary}\n" not in http] == []


def test_the_architecture_names_every_room_every_dependency_and_no_file_that_is_gone() -> None:
    text = TEXTS[ROOT / "ARCHITECTURE.md"]
    package = ROOT / "ninetailed_wsgi"
    rooms = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    assert [room for room in sorted(rooms) if f"`{room}/`" not in text] == []
    files = re.findall(r"`([a-z_]+(?:/[a-z_]+)*\.py)`", text)
    assert [file for file in files if not (package / file).exists() and not (ROOT / file).exists()] == []
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = dict(config["options.extras_require"])
    required = [config["options"]["install_requires"], *(extras[name] for name in extras if name not in ("dev", "all"))]
    names = {re.split(r"[<>=\[;]", line)[0].strip() for each in required for line in each.split("\n") if line.strip()}
    table = text.partition("## Dependencies")[2]
    assert [name for name in sorted(names) if not re.search(rf"[| ]{re.escape(name)}[, (\[]", table)] == []
    assert [name for name in extras if name not in ("dev", "all") and f"`{name}`" not in table] == []


def test_every_diagram_of_the_site_is_drawn() -> None:
    sys.path.insert(0, str(DOCS))
    try:
        import diagrams
    finally:
        sys.path.remove(str(DOCS))
    drawings = {diagrams.path_of(text) for text in diagrams.texts()}
    assert drawings == set((DOCS / "_static").glob("diagram-*.svg")), "run `make diagrams`"


def test_the_tutorial_works_from_an_empty_folder(tmp_path: Path) -> None:
    marked = [match for match in BLOCK.finditer(TEXTS[DOCS / "tutorial.md"]) if match["mark"]]
    steps = [(match["mark"].removeprefix("tutorial: "), match["code"]) for match in marked]
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("NINETAILED_", "PYTEST_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environ |= {"PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    servers: list[subprocess.Popen[bytes]] = []
    printed = ""
    try:
        for step, code in steps:
            here = code.replace("time_budget_ms=5000", "time_budget_ms=20_000").replace("5000", str(port))
            if step == "run":
                ran = subprocess.run(
                    ["bash", "-e", "-c", here], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
                )
                printed = ran.stdout
                assert ran.returncode == 0, ran.stdout + ran.stderr
            elif step == "output":
                assert code.strip() in printed
            elif step.startswith("output "):
                assert (tmp_path / step.removeprefix("output ")).read_text(encoding="utf-8") == code
            elif step == "serve":
                servers.append(_served(here, tmp_path, environ, port))
            else:
                (tmp_path / step).write_text(code, encoding="utf-8")
    finally:
        for server in servers:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=60)
    assert [step for step, _ in steps].count("output") == 3


def _served(command: str, folder: Path, environ: dict[str, str], port: int) -> subprocess.Popen[bytes]:
    """Start the site of the tutorial and wait until it answers a path that it does not have."""
    with (folder / "site.log").open("wb") as log:
        server = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=environ, stdout=log, stderr=log, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}/nothing"

    def answers() -> bool:
        assert server.poll() is None, (folder / "site.log").read_text()
        try:
            urllib.request.urlopen(address, timeout=60)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    wait_until(answers, "the site of the tutorial answers", 120)
    return server
