"""The walk of docs/results.md, from an empty folder to a verdict: its files, its commands, its table."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from serving import free_port, wait_until
from support import Once

from ninetailed_wsgi.commands.main import main

PAGE = (Path(__file__).parents[2] / "docs" / "results.md").read_text(encoding="utf-8")
COMMAND = [sys.executable, "-m", "ninetailed_wsgi"]
MEMBERS = {
    "": "experienceId name type from to phase exposure metric variants health holdout verdict neededPerVariant "
    "computedAt",
    "metric": "id name type direction",
    "health": "srm multiple inconsistent",
    "holdout": "visitors conversions",
}
OF_VARIANT = (
    "index visitors views clicks conversions sum mean interval lift liftInterval beatsControl best expectedLoss"
).split()


def _block(mark: str) -> str:
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found, mark
    return found[1]


def _walk(folder: Path) -> str:
    """Follow the page to its end in an empty folder, which stays."""
    (folder / "content.json").write_text(_block("walk: content.json"), encoding="utf-8")
    (folder / "visitors.py").write_text(_block("tests/insights/test_walk.py"), encoding="utf-8")
    port = free_port()
    serve = shlex.split(_block("walk: serve"))[1:]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen([*COMMAND, *serve, "--bind", f"127.0.0.1:{port}"], cwd=folder, stdout=log, stderr=log)
    try:
        wait_until(lambda: "curl" in (folder / "log").read_text(), "the server listens", seconds=120)
        subprocess.run([sys.executable, "visitors.py", str(port)], cwd=folder, timeout=200, check=True)
    finally:
        server.terminate()
        server.wait(60)
    return str(folder)


@pytest.fixture(scope="module")
def folder(once: Once) -> Path:
    return Path(once("walk", _walk))


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Does what is typed in the folder and returns what is printed; in this process, for which SciPy is loaded once."""
    monkeypatch.chdir(folder)

    def run(typed: str, *more: str) -> str:
        words = shlex.split(typed)
        assert words[0] == "ninetailed-wsgi"
        assert main([*words[1:], *more]) == 0
        return capsys.readouterr().out

    return run


def test_the_walk_ends_with_the_winner_that_the_page_shows(folder: Path) -> None:
    typed = [*COMMAND, *shlex.split(_block("walk: results"))[1:]]
    shown = subprocess.run(typed, cwd=folder, capture_output=True, text=True, timeout=120, check=True).stdout
    table = re.search(r"```\n(A hero with.*?)```", PAGE, re.DOTALL)
    assert table
    undated = re.compile(r"from \S+ to \S+,")
    assert undated.sub("", shown).strip() == undated.sub("", table[1]).strip()


def test_a_table_fits_eighty_columns_and_json_has_exactly_the_members_of_the_reference(run: Callable[..., str]) -> None:
    typed = _block("walk: results").replace(" hero-test", "")
    assert max(map(len, run(typed, "--metric", "Revenue").splitlines())) <= 80
    [result] = json.loads(run(typed, "--json"))
    for place, members in MEMBERS.items():
        assert list(result[place] if place else result) == members.split()
    assert all(list(variant) == OF_VARIANT for variant in result["variants"])
    assert (list(result["health"]["srm"]), list(result["health"]["multiple"])) == (
        ["p", "expected", "ok"],
        ["visitors", "share", "ok"],
    )
    assert result["verdict"] == "winner"


def test_check_names_a_metric_whose_event_nobody_has_sent(
    folder: Path, tmp_path: Path, run: Callable[..., str]
) -> None:
    content = json.loads((folder / "content.json").read_text(encoding="utf-8"))
    content["metrics"].append({"id": "joined", "type": "binary", "event": "sign_up"})
    (tmp_path / "other.json").write_text(json.dumps(content), encoding="utf-8")
    told = run(f"ninetailed-wsgi check --content {tmp_path}/other.json --data-dir data")
    assert 'note: metric joined: none of 2,000 profiles has sent its event "sign_up"' in told
    assert told.count("has sent its event") == 1


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["nobody"], "no experience has the id or name 'nobody'; there are hero-test"),
        (["--metric", "x"], "no metric has the id or name 'x'; there are bought, revenue"),
        (["--from", "yesterday"], "--from: found 'yesterday', expected a date or time"),
        (["--window-days", "-1"], "--window-days: found '-1', expected a number of days above 0"),
        (["--from", "2026-02-01", "--to", "2026-01-01"], "--from: found a time that is not before --to"),
        (["--from", "9999-12-31"], "--from: found a time that is not before now"),
    ],
)
def test_what_cannot_be_answered_is_named(
    folder: Path, more: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = shlex.split(_block("walk: results").replace(" hero-test", ""))
    monkeypatch.chdir(folder)
    try:
        status: object = main([*typed[1:3], *more, *typed[3:]])
    except SystemExit as ended:
        status = ended.code
    assert status in (1, 2)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("early", ["0001-01-01T00:00+14:00", "1969-12-31"])
def test_a_time_before_all_events_is_as_the_first_one(run: Callable[..., str], early: str) -> None:
    typed = _block("walk: results")
    [result] = json.loads(run(typed, "--json", "--from", early))
    assert result["from"] == "1970-01-01T00:00:00.000Z"
    assert sum(variant["visitors"] for variant in result["variants"]) == 2000
    [nobody] = json.loads(run(typed, "--json", "--to", early))
    assert sum(variant["visitors"] for variant in nobody["variants"]) == 0


def test_an_experiment_that_nobody_has_seen_says_so(run: Callable[..., str]) -> None:
    typed = _block("walk: results").replace("--data-dir data", "--data-dir data --to 2020-01-01")
    assert "nobody has seen it, as of 2020-01-01" in run(typed)
    [result] = json.loads(run(typed, "--json"))
    assert result["from"] == result["to"] == "2020-01-01T00:00:00.000Z"
