"""What publishing a draft would change, counted from what visitors did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.content import ContentFolder
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.insights.what_if import interval
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.testing import Harness, audience, experience, flag, performed, trait, viewed

READERS = audience(viewed("/journal"), id="readers", name="Readers")
BUYERS = audience(performed("order"), id="buyers")
PUBLISHED = [
    experience("hero", ["hero-b"], id="hero", audience=READERS),
    experience("test", ["test-b"], id="test", distribution=[0.5, 0.5], audience=READERS),
    flag("limit", control=50, variants=[30], id="limit", audience=BUYERS),
]


@pytest.fixture
def harness() -> Iterator[Harness]:
    with Harness(PUBLISHED) as made:
        for number in range(10):
            visitor = made.visitor(f"visitor-{number}").views("/journal")
            if number >= 6:
                visitor.views("/journal")
            if number % 2:
                visitor.tracks("order")
        yield made


def draft(rules: Any, **changes: Any) -> list[dict[str, Any]]:
    readers = audience(rules, id="readers", name="Readers")
    return [
        experience("hero", ["hero-b"], id="hero", audience=readers),
        experience("test", ["test-b"], id="test", distribution=changes.get("split", [0.5, 0.5]), audience=readers),
        flag("limit", control=50, variants=[changes.get("limit", 30)], id="limit", audience=BUYERS),
    ]


def test_an_audience_that_asks_for_more_loses_those_who_did_less(harness: Harness) -> None:
    found = harness.what_if(draft(viewed("/journal", at_least=2)))
    assert found["visitors"] == {"total": 10, "evaluated": 10, "incomplete": 0}
    readers = next(each for each in found["audiences"] if each["id"] == "readers")
    assert readers == {
        "id": "readers",
        "name": "Readers",
        "change": "changed",
        "before": 10,
        "after": 4,
        "enter": 0,
        "leave": 6,
        "interval": None,
    }
    hero = next(each for each in found["experiences"] if each["id"] == "hero")
    assert hero == {
        "id": "hero",
        "change": "same",
        "before": {"1": 10},
        "after": {"1": 4, "none": 6},
        "moves": [{"from": "1", "to": "none", "visitors": 6}],
    }
    assert found["visitorsChanged"] == {"any": 6, "share": 0.6, "interval": None}
    assert found["spoiled"] == ["test"], "its visitors would be others"
    assert found["flags"] == []
    assert found["deterministic"] is True
    assert set(found["content"]) == {"from", "to"}


def test_a_changed_value_moves_a_flag_and_shows_whom(harness: Harness) -> None:
    found = harness.what_if(draft(viewed("/journal"), limit=20))
    assert found["flags"] == [{"key": "limit", "moves": [{"from": 30, "to": 20, "visitors": 5}]}]
    assert {each["profileId"] for each in found["samples"]} == {f"visitor-{number}" for number in (1, 3, 5, 7, 9)}
    sample = found["samples"][0]
    assert (sample["before"]["flags"], sample["after"]["flags"]) == ({"limit": 30}, {"limit": 20})
    assert found["spoiled"] == []


def test_the_same_content_changes_nobody(harness: Harness) -> None:
    found = harness.what_if(PUBLISHED)
    assert found["content"]["from"] == found["content"]["to"]
    assert found["visitorsChanged"]["any"] == 0
    assert found["samples"] == found["flags"] == found["spoiled"] == []
    assert {each["change"] for each in [*found["audiences"], *found["experiences"]]} == {"same"}


def test_no_content_at_all_takes_everything_away(harness: Harness) -> None:
    found = harness.what_if(None)
    assert {each["change"] for each in [*found["audiences"], *found["experiences"]]} == {"removed"}
    assert found["visitorsChanged"]["any"] == 10
    assert found["spoiled"] == ["test"]


def test_a_changed_split_spoils_a_running_experiment_and_keeps_sticky_assignments() -> None:
    def test(split: list[float]) -> dict[str, Any]:
        return experience("hero", ["hero-b"], id="hero", distribution=split, sticky=True)

    with Harness([test([1, 0])]) as harness:
        harness.visitor("anna").views("/").sees("hero")
        harness.visitor("bob").views("/")
        found = harness.what_if([test([0, 1])])
        assert found["experiences"][0]["moves"] == [{"from": "0", "to": "1", "visitors": 1}]
        assert found["samples"][0]["profileId"] == "bob"
        assert found["spoiled"] == ["hero"]


def test_an_experiment_that_nobody_is_in_is_not_spoiled(harness: Harness) -> None:
    nobody = audience(trait("plan", "none"), id="nobody")
    idle = experience("idle", ["idle-b"], id="idle", distribution=[0.5, 0.5], audience=nobody)
    with Harness([idle]) as other:
        other.visitor("anna").views("/")
        assert other.what_if([{**idle, "config": {**idle["config"], "traffic": 0.5}}])["spoiled"] == []


def test_a_merged_visitor_is_one(harness: Harness) -> None:
    for number in (1, 2):
        harness.visitor(f"visitor-{number}").identifies("anna@example.com")
    assert harness.what_if(PUBLISHED)["visitors"]["total"] == 9


def test_a_visitor_whose_old_events_are_gone_is_told() -> None:
    with Harness(PUBLISHED, history_events=3) as harness:
        harness.visitor("anna").views("/1").views("/2").views("/3").views("/4").views("/5")
        harness.visitor("bob").views("/1")
        assert harness.what_if(draft(viewed("/new")))["visitors"]["incomplete"] == 1
        assert harness.what_if(draft(viewed("/journal"), limit=5))["visitors"]["incomplete"] == 0


def test_a_sample_is_the_same_each_time_and_says_how_sure_it_is(harness: Harness) -> None:
    found = harness.what_if(draft(viewed("/journal", at_least=2)), sample=6)
    assert found == harness.what_if(draft(viewed("/journal", at_least=2)), sample=6)
    assert found["visitors"] == {"total": 10, "evaluated": 6, "incomplete": 0}
    low, high = found["visitorsChanged"]["interval"]
    assert 0 < low < found["visitorsChanged"]["share"] < high < 1
    assert all(each["interval"] is not None for each in found["audiences"])
    assert harness.what_if(PUBLISHED, sample=10)["visitorsChanged"]["interval"] is None


@pytest.mark.parametrize(
    ("part", "whole", "bounds"),
    [(0, 10, (0.0, 0.2775)), (5, 10, (0.2366, 0.7634)), (10, 10, (0.7225, 1.0)), (0, 0, (0, 1))],
)
def test_the_interval_is_wilson_s(part: int, whole: int, bounds: tuple[float, float]) -> None:
    assert interval(part, whole) == pytest.approx(bounds, abs=1e-4)


def test_nothing_is_written(harness: Harness) -> None:
    before = [(key, harness.service.store.read(key)._replace(history=list)) for key in keys(harness)]
    files = contents(harness.settings.data_dir)
    harness.what_if(draft(viewed("/journal", at_least=2)))
    assert contents(harness.settings.data_dir) == files != {}
    assert [(key, harness.service.store.read(key)._replace(history=list)) for key, _ in before] == before


def contents(folder: Path) -> dict[Path, bytes]:
    """Return what each file holds, but for the index of SQLite that readers note their place in."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and not file.name.endswith("-shm")}


def keys(harness: Harness) -> list[Any]:
    return sorted(key for key, _ in harness.service.store.documents())


# The command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "content.json").write_text(json.dumps(PUBLISHED))
    (tmp_path / "draft.json").write_text(json.dumps(draft(viewed("/journal", at_least=2), limit=20)))
    (tmp_path / "broken.json").write_text("[1,")
    settings = Settings(data_dir=tmp_path / "data", content=tmp_path / "content.json", store_shards=2)
    service = ExperienceService.from_settings(settings)
    event = {
        "type": "page",
        "channel": "web",
        "context": {"library": {"name": "tests", "version": "4.0.0"}, "page": {"path": "/journal"}},
        "properties": {"path": "/journal", "query": {}, "referrer": "", "search": "", "url": ""},
    }
    for number in range(20):
        body = {"events": [{**event, "messageId": str(count)} for count in range(1 + number % 2)]}
        service.upsert(Environment("acme", "main"), f"visitor-{number}", body)
    service.store.close()
    return tmp_path


LINE = ["what-if", "acme/main", "--content", "content.json", "--draft", "draft.json", "--data-dir", "data"]


def test_the_command_prints_a_table_and_some_of_the_visitors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(LINE) == 0
    told = capsys.readouterr().out
    assert "20 of 20 visitors" in told
    assert "10 get something else: 50.00%" in told
    assert "~ readers                                   20        10         0        10" in told
    assert "10  variant 1 -> nothing" in told
    assert "! test is a running experiment" in told
    assert "hero: 1 -> none, because the visitor leaves the audience readers, which is changed" in told
    assert max(map(len, told.splitlines())) <= 100


def test_of_much_content_the_command_prints_what_changes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ("content.json", "draft.json"):
        content = json.loads((folder / file).read_bytes())
        content += [audience(trait(f"t{number}"), id=f"quiet-{number}") for number in range(41)]
        content += [experience(f"e{number}", ["b"], id=f"test-{number}", audience="quiet-1") for number in range(41)]
        (folder / file).write_text(json.dumps(content))
    assert main(LINE) == 0
    told = capsys.readouterr().out
    assert "~ readers                                   20        10         0        10" in told
    assert "quiet-" not in told
    assert told.count("do not change; --json lists them") == 2, told
    assert main([*LINE, "--json"]) == 0
    assert capsys.readouterr().out.count('"quiet-') >= 41


def test_the_command_writes_json_and_fails_over_a_share(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINE, "--json", "--fail-over", "50%"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [
        "content",
        "visitors",
        "audiences",
        "experiences",
        "flags",
        "visitorsChanged",
        "spoiled",
        "samples",
        "deterministic",
    ]
    assert main([*LINE, "--json", "--fail-over", "49.9%"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == found
    assert "50.00% of the visitors get something else, more than 49.90%" in captured.err
    assert main([*LINE, "--sample", "5", "--at", "2030-01-01", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["visitors"]["evaluated"] == 5


def test_the_command_shows_who_changes_and_nothing_else_of_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=folder / "data", content=folder / "content.json", store_shards=2)
    service = ExperienceService.from_settings(settings)
    traits = {"email": "hidden", "company": {"name": "hidden"}, "albacross": ["hidden"], "plan": "hidden"}
    event = {"type": "identify", "channel": "web", "context": {"library": {"name": "t", "version": "4.0.0"}}}
    for number in range(20):
        body = {"events": [{**event, "messageId": "hidden", "userId": f"hidden-{number}", "traits": traits}]}
        service.upsert(Environment("acme", "main"), f"visitor-{number}", body)
    service.store.close()
    (folder / "draft.json").write_text(json.dumps(draft(trait("plan", "other"), limit=20)))
    for more in ([], ["--json"]):
        assert main([*LINE, *more]) == 0
        told = capsys.readouterr().out
        assert "visitor-" in told
        assert "hidden" not in told


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["--draft", "missing.json"], "missing.json"),
        (["--draft", "broken.json"], "--draft: "),
        (["--at", "soon"], '--at: found "soon", expected an ISO 8601 time'),
    ],
)
def test_what_is_wrong_with_a_draft_or_a_time_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], typed: list[str], told: str
) -> None:
    assert main([*LINE, *typed]) == 2
    assert told in capsys.readouterr().err


def test_without_a_draft_the_command_says_what_to_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["what-if", "acme/main", "--data-dir", "data"]) == 2
    assert "--draft: name the content that would be published" in capsys.readouterr().err


@pytest.mark.parametrize("typed", [["--sample", "0"], ["--sample", "x"], ["--fail-over", "200%"], ["--fail-over", "x"]])
def test_an_argument_that_means_nothing_is_wrong_usage(
    folder: Path, capsys: pytest.CaptureFixture[str], typed: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*LINE, *typed])
    assert ended.value.code == 2
    assert "found" in capsys.readouterr().err


def test_the_source_of_a_draft_keeps_no_copy(folder: Path) -> None:
    assert main(LINE) == 0
    assert not [path for path in (folder / "data").iterdir() if path.name.startswith(".shared")]
    assert ContentFolder(folder / "draft.json", drafts=True)
