"""The commands on many profiles: import, export, delete, expire, stats and compact, also while a server runs."""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serving
import support

from ninetailed_wsgi.commands import expire
from ninetailed_wsgi.commands.console import Console, Progress, duration
from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.service import expiry
from ninetailed_wsgi.service.imports import Consumer
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.disk.queue import QueueState
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.protocol import Write

EMAIL = "anna.unforgettable@example.com"
WHERE = "acme/main"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NINETAILED_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of few files."""
    DiskStore(tmp_path / "data", shards=2).close()
    return tmp_path / "data"


@pytest.fixture
def store(data: Path) -> Iterator[DiskStore]:
    store = DiskStore(data)
    yield store
    store.close()


def visits(visitors: int, each: int = 1) -> list[dict[str, Any]]:
    """Track events of ``v0``, ``v1``, ... in turn."""
    return [support.of(f"v{number}", support.track()) for _ in range(each) for number in range(visitors)]


def write(path: Path, *lines: Any) -> str:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def run(data: Path, *arguments: str) -> int:
    return main([*arguments, "--data-dir", str(data)])


def exported(data: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What ``export`` writes, by profile id; no id comes twice."""
    capsys.readouterr()
    assert run(data, "export", WHERE, *arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {line["profile"]["id"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def traces(data: Path, text: str) -> list[Path]:
    return [file for file in data.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


# import and export


@pytest.mark.parametrize("name", ["visits.ndjson", "visits.ndjson.gz"])
def test_what_is_imported_is_exported(
    name: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = visits(120, each=3)
    assert run(data, "import", write(tmp_path / name, *events), WHERE) == 0
    assert capsys.readouterr().out == "360 lines: 360 events imported, 0 rejected\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", name]
    found = exported(data, capsys, "--events")
    assert set(found) == {f"v{number}" for number in range(120)}
    kept = [entry["event"] for line in found.values() for entry in line["events"]]
    assert sorted(event["messageId"] for event in kept) == sorted(event["messageId"] for event in events)
    assert "events" not in exported(data, capsys)["v0"]


def test_a_batch_never_has_too_many_events_identifies_or_visitors(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identifies = [support.of("v0", support.identify("", {"n": number})) for number in range(120)]
    many = [support.of("v1", support.track()) for _ in range(450)]
    assert run(data, "import", write(tmp_path / "e.ndjson", *visits(130), *identifies, *many), WHERE) == 0
    assert capsys.readouterr().out == "700 lines: 700 events imported, 0 rejected\n"
    assert exported(data, capsys)["v0"]["profile"]["traits"] == {"n": 119}


def test_bad_lines_go_to_a_file_with_their_number_and_reason_and_the_others_are_imported(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = visits(2)
    bad_time = support.of("v9", support.track(timestamp="yesterday"))
    nobody = support.track()
    file = write(tmp_path / "e.ndjson", good[0], "{not json", "", nobody, "5", bad_time, good[1])
    assert run(data, "import", file, WHERE) == 1
    assert f"7 lines: 2 events imported, 4 rejected, see {tmp_path}/e.rejects.ndjson\n" == capsys.readouterr().out
    rejects = tmp_path / "e.rejects.ndjson"
    found = {line["line"]: line for line in map(json.loads, rejects.read_text().splitlines())}
    assert set(found) == {2, 4, 5, 6}
    assert "not valid JSON" in found[2]["reason"]
    assert found[4]["reason"] == "anonymousId: found nothing, expected a string that is not empty"
    assert "yesterday" in found[6]["reason"]
    assert json.loads(found[4]["text"]) == nobody
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600
    assert set(exported(data, capsys)) == {"v0", "v1"}


def test_a_line_that_is_too_long_is_rejected_without_being_held_in_memory(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "e.ndjson", "x" * 10_000, *visits(1))
    assert main(["import", file, WHERE, "--data-dir", str(data), "--max-body-bytes", "2000"]) == 1
    (rejected,) = map(json.loads, (tmp_path / "e.rejects.ndjson").read_text().splitlines())
    assert (rejected["line"], rejected["reason"]) == (1, "the line is over 2000 bytes")
    assert len(rejected["text"]) <= 1000
    assert set(exported(data, capsys)) == {"v0"}


@pytest.mark.parametrize("after_storing", [False, True])
def test_an_import_that_was_interrupted_goes_on_where_it_stopped_and_applies_nothing_twice(
    after_storing: bool,
    tmp_path: Path,
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = visits(10, each=70)
    file = write(tmp_path / "e.ndjson", "bad", *events)
    sent: list[int] = []
    real = ExperienceService.upsert_many

    def interrupted(self: ExperienceService, *arguments: Any) -> Any:
        sent.append(1)
        if len(sent) == 3:
            if after_storing:
                real(self, *arguments)
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(ExperienceService, "upsert_many", interrupted)
    assert run(data, "import", file, WHERE) == 130
    told = capsys.readouterr().err
    assert "run the same command again to resume" in told
    assert "Traceback" not in told
    assert json.loads((tmp_path / "e.progress").read_bytes())["lines"] == 401
    assert run(data, "import", file, WHERE) == 1
    printed = capsys.readouterr()
    assert "resuming after line 401" in printed.err
    assert printed.out.startswith("701 lines: 700 events imported, 1 rejected")
    assert len((tmp_path / "e.rejects.ndjson").read_text().splitlines()) == 1
    assert not (tmp_path / "e.progress").exists()
    kept = [
        entry["event"]["messageId"] for line in exported(data, capsys, "--events").values() for entry in line["events"]
    ]
    assert sorted(kept) == sorted(event["messageId"] for event in events)


@pytest.mark.parametrize("changed", ["environment", "file"])
def test_an_import_does_not_go_on_in_another_environment_or_with_another_file(
    changed: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "e.ndjson", *visits(1))
    size = os.stat(file).st_size
    state = {"environment": WHERE, "size": size, "lines": 1, "events": 1, "rejected": 0, "rejects_bytes": 0}
    state.update({"environment": "acme/other"} if changed == "environment" else {"size": size + 1})
    (tmp_path / "e.progress").write_text(json.dumps(state))
    assert run(data, "import", file, WHERE) == 1
    assert f"{tmp_path}/e.progress belongs to an import of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "state", ["", "{", "[]", "5", "{}", '{"lines": 1}', '{"environment": "E", "size": 1, "lines": "x"}', '{"x": 1}']
)
def test_a_damaged_progress_file_of_an_import_is_named_with_what_to_do(
    state: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "e.ndjson", *visits(1))
    (tmp_path / "e.progress").write_text(state)
    assert run(data, "import", file, WHERE) == 1
    assert "e.progress is damaged; remove it and the import starts over" in capsys.readouterr().err


def test_a_compressed_file_that_was_cut_short_is_said_and_what_can_be_read_is_imported(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(write(tmp_path / "e.ndjson.gz", *visits(300)))
    file.write_bytes(file.read_bytes()[:-200])
    assert run(data, "import", str(file), WHERE) == 1
    assert "cannot be read after line" in capsys.readouterr().err
    assert len(exported(data, capsys)) > 10


def test_the_standard_input_is_imported(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "".join(json.dumps(event) + "\n" for event in visits(3))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert run(data, "import", "-", WHERE) == 0
    assert set(exported(data, capsys)) == {"v0", "v1", "v2"}
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_one_visitor_is_exported_with_all_that_is_kept_by_an_alias(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [support.of("v0", support.identify("anna", {"email": EMAIL})), support.of("v0", support.track())]
    run(data, "import", write(tmp_path / "e.ndjson", *events), WHERE)
    capsys.readouterr()
    assert run(data, "export", WHERE, "anna", "--output", str(tmp_path / "anna.json")) == 0
    found = json.loads((tmp_path / "anna.json").read_text())
    assert set(found) == {"profile", "aliases", "device", "assignments", "exposures", "lastActivity", "events"}
    assert found["aliases"] == ["anna"]
    assert found["profile"]["traits"] == {"email": EMAIL}
    assert [entry["event"] for entry in found["events"]] == events
    assert stat.S_IMODE((tmp_path / "anna.json").stat().st_mode) == 0o600
    assert run(data, "export", WHERE, "nobody") == 1
    assert "no profile has the id or alias nobody" in capsys.readouterr().err


@pytest.mark.parametrize("mark", ["v0", "gone", None])
def test_no_visitor_is_exported_twice_when_a_merge_or_a_deletion_was_cut_off(
    mark: str | None, tmp_path: Path, data: Path, store: DiskStore, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data, "import", write(tmp_path / "e.ndjson", *visits(3)), WHERE)
    store.update([Key("acme", "main", "v1")], lambda _, entry: Write({**(entry.document or {}), "into": mark}))
    found = exported(data, capsys)
    assert set(found) == ({"v0", "v1", "v2"} if mark == "gone" else {"v0", "v2"})
    assert found["v0"]["aliases"] == (["v1"] if mark == "v0" else [])


def test_an_export_into_a_file_that_was_interrupted_goes_on_and_writes_each_visitor_once(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(data, "import", write(tmp_path / "e.ndjson", *visits(20)), WHERE)
    real, asked = ExperienceService.record, []

    def interrupted(self: ExperienceService, *arguments: Any, **options: Any) -> Any:
        asked.append(1)
        if len(asked) == 8:
            raise KeyboardInterrupt
        return real(self, *arguments, **options)

    command = ("export", WHERE, "--output", str(tmp_path / "all.ndjson"))
    with monkeypatch.context() as patch:
        patch.setattr(ExperienceService, "record", interrupted)
        assert run(data, *command) == 130
    assert "run the same command again to resume" in capsys.readouterr().err
    with (tmp_path / "all.ndjson.part").open("ab") as part:
        part.write(b'{"profile":')  # cut off in the middle of a line
    assert not (tmp_path / "all.ndjson").exists()
    assert run(data, *command, "--events") == 1
    assert "belongs to another export" in capsys.readouterr().err
    assert run(data, *command) == 0
    told = capsys.readouterr()
    assert "resuming after 7 profiles" in told.err
    assert told.out == "20 profiles exported\n"
    lines = [json.loads(line) for line in (tmp_path / "all.ndjson").read_text().splitlines()]
    assert sorted(line["profile"]["id"] for line in lines) == sorted(f"v{number}" for number in range(20))
    assert {path.name for path in tmp_path.iterdir()} == {"data", "e.ndjson", "all.ndjson"}


def test_visitors_who_became_one_are_exported_once(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [support.of(each, support.identify("anna")) for each in ("v0", "v1")]
    run(data, "import", write(tmp_path / "e.ndjson", *events), WHERE)
    found = exported(data, capsys)
    assert {name: line["aliases"] for name, line in found.items()} == {"v0": ["anna", "v1"]}


# delete, expire, stats


def test_delete_counts_those_it_deleted_and_those_it_did_not_find(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = [*visits(4), support.of("v1", support.identify("anna"))]
    run(data, "import", write(tmp_path / "e.ndjson", *events), WHERE)
    capsys.readouterr()
    assert run(data, "delete", WHERE, write(tmp_path / "ids", "v0", "", "anna", "nobody", "v0")) == 0
    assert capsys.readouterr().out == "2 deleted, 2 not found\n"
    assert set(exported(data, capsys)) == {"v2", "v3"}


def test_delete_reads_a_list_that_begins_with_a_byte_order_mark(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data, "import", write(tmp_path / "e.ndjson", *visits(2)), WHERE)
    capsys.readouterr()
    assert run(data, "delete", WHERE, write(tmp_path / "ids", "\ufeffv0", "v1")) == 0
    assert capsys.readouterr().out == "2 deleted, 0 not found\n"


def test_delete_reaches_imports_that_wait_and_many_names_at_once(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Consumer, "wake", lambda self: None)
    service = ExperienceService.from_settings(Settings(data_dir=data))
    where = service.environment("acme", "main")
    run(data, "import", write(tmp_path / "e.ndjson", *visits(150)), WHERE)
    service.import_many(where, {"events": [support.of(f"w{number}", support.track()) for number in range(50)]})
    capsys.readouterr()
    names = [f"v{number}" for number in range(149)] + [f"w{number}" for number in range(50)] + ["nobody", "w1"]
    assert run(data, "delete", WHERE, write(tmp_path / "ids", *names)) == 0
    assert capsys.readouterr().out == "199 deleted, 2 not found\n"
    assert service.imports() == QueueState(0, 0.0, 0)
    assert set(exported(data, capsys)) == {"v149"}


def test_one_visitor_is_exported_with_what_waits_in_imports(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Consumer, "wake", lambda self: None)
    run(data, "import", write(tmp_path / "e.ndjson", *visits(2)), WHERE)
    service = ExperienceService.from_settings(Settings(data_dir=data))
    waiting = [support.of("v0", support.track()), support.of("v1", support.track())]
    service.import_many(service.environment("acme", "main"), {"events": waiting})
    capsys.readouterr()
    assert run(data, "export", WHERE, "v0") == 0
    assert json.loads(capsys.readouterr().out)["imported"] == waiting[:1]


def test_expire_deletes_those_who_have_not_been_seen_and_a_dry_run_counts_them(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = support.of("old", support.track(timestamp="2020-05-06T07:00:00Z"))
    run(data, "import", write(tmp_path / "e.ndjson", old, *visits(2)), WHERE)
    run(data, "import", write(tmp_path / "e.ndjson", old), "acme/other")
    capsys.readouterr()
    assert run(data, "expire", WHERE, "--inactive-days", "30", "--dry-run") == 0
    assert capsys.readouterr().out == "1 would be deleted, 2 kept\n"
    assert run(data, "expire", WHERE, "--inactive-days", "30") == 0
    assert capsys.readouterr().out == "1 deleted, 2 kept\n"
    assert set(exported(data, capsys)) == {"v0", "v1"}
    assert run(data, "export", "acme/other", "old") == 0


def test_expire_keeps_a_visitor_who_comes_back_while_it_runs(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = ExperienceService.from_settings(Settings(data_dir=data))
    where = service.environment("acme", "main")
    service.upsert(where, "v0", {"events": [support.track(timestamp="2020-05-06T07:00:00Z")]})
    real = expiry.identity.delete

    def comes_back(*arguments: Any) -> bool:
        service.upsert(where, "v0", {"events": [support.track()]})
        return real(*arguments)

    monkeypatch.setattr(expiry.identity, "delete", comes_back)
    console = Console(io.StringIO(), io.StringIO())
    assert isinstance(service.store, DiskStore)
    expire.expire(service.store, where, 30, support.milliseconds("2024-01-01"), console, dry_run=False)
    assert isinstance(console.out, io.StringIO)
    assert console.out.getvalue() == "0 deleted, 1 kept\n"
    assert service.get(where, "v0")


@pytest.mark.parametrize("days", [(), ("--inactive-days", "0"), ("--inactive-days", "x")])
def test_expire_without_a_number_of_days_deletes_nothing(
    days: tuple[str, ...], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, "expire", WHERE, *days) == 2
    assert "--inactive-days: found" in capsys.readouterr().err


def test_stats_count_what_each_environment_holds(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = support.of("v0", support.identify("anna", timestamp="2020-05-06T07:00:00Z"))
    run(data, "import", write(tmp_path / "e.ndjson", old), WHERE)
    run(data, "import", write(tmp_path / "e.ndjson", *visits(3, each=2)), "acme/other")
    capsys.readouterr()
    assert run(data, "stats") == 0
    main_line, other_line, total = capsys.readouterr().out.splitlines()
    assert main_line.startswith("acme/main: 1 profiles, 1 aliases, 0 events, ")  # it is over 365 days old
    assert main_line.endswith("last active from 2020-05-06 07:00:00Z to 2020-05-06 07:00:00Z")
    assert other_line.startswith("acme/other: 3 profiles, 0 aliases, 6 events, ")
    assert total.endswith(" bytes on disk")
    assert run(data, "stats", "acme/none") == 0
    assert capsys.readouterr().out.startswith(
        "acme/none: 0 profiles, 0 aliases, 0 events, 0 bytes, last active from never"
    )


# compact, and what all commands share


def test_a_deleted_visitor_leaves_no_trace_in_the_folder_after_compact(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = [support.of("v0", support.identify(EMAIL, {"email": EMAIL, "n": n})) for n in range(40)]
    run(data, "import", write(tmp_path / "e.ndjson", *visits(50), *about), WHERE)
    assert traces(data, EMAIL)
    assert run(data, "delete", WHERE, write(tmp_path / "ids", EMAIL)) == 0
    capsys.readouterr()
    assert run(data, "compact") == 0
    assert " bytes before, " in capsys.readouterr().out
    assert traces(data, EMAIL) == []
    assert len(exported(data, capsys)) == 49
    for file in data.glob("*/cache.db"):
        with sqlite3.connect(file) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_all_of_it_runs_while_a_server_serves_the_same_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving.serving(tmp_path, "--workers", "1", "--store-shards", "2") as server, server.connection() as client:
        data = tmp_path / "data"

        def post(name: str, *events: dict[str, Any]) -> int:
            return serving.call(client, "POST", f"{serving.PROFILES}/{name}", {"events": events}).status

        assert post("anna", support.identify(EMAIL, {"email": EMAIL})) == 200
        assert run(data, "import", write(tmp_path / "e.ndjson", *visits(60)), WHERE) == 0
        assert server.call("GET", f"{serving.PROFILES}/v59").status == 200
        assert set(exported(data, capsys)) == {"anna", *(f"v{number}" for number in range(60))}
        assert post("v0", support.track()) == 200
        assert run(data, "delete", WHERE, write(tmp_path / "ids", EMAIL)) == 0
        assert run(data, "stats") == 0
        assert run(data, "compact") == 0
        assert server.call("GET", f"{serving.PROFILES}/anna").status == 404
        assert traces(data, EMAIL) == []
        assert post("v0", support.track()) == 200
        capsys.readouterr()
        assert len(exported(data, capsys, "--events")["v0"]["events"]) == 3


@pytest.mark.parametrize(
    "command", [("export", WHERE), ("stats",), ("compact",), ("expire", WHERE, "--inactive-days", "1")]
)
def test_a_command_that_needs_stored_profiles_does_not_make_a_folder(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "none", *command) == 2
    assert "no profiles are stored in" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", ["import", "delete"])
def test_a_file_that_cannot_be_read_is_said_in_one_line(
    command: str, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "none")
    assert run(data, command, *((file, WHERE) if command == "import" else (WHERE, file))) == 1
    assert capsys.readouterr().err == f"ninetailed-wsgi {command}: {file} cannot be read: No such file or directory\n"


def test_a_busy_store_is_asked_again_for_a_while() -> None:
    waited: list[float] = []
    console = Console(io.StringIO(), io.StringIO(), waited.append)
    outcomes = iter([StoreUnavailable("busy"), StoreUnavailable("busy"), None])

    def step() -> None:
        if error := next(outcomes):
            raise error

    console.patiently(step)
    assert waited == [1, 2]


def test_a_store_that_stays_busy_ends_the_import_which_says_how_to_go_on(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any) -> None:
        raise StoreUnavailable("the store is busy")

    monkeypatch.setattr(Console, "patiently", busy)
    assert run(data, "import", write(tmp_path / "e.ndjson", *visits(1)), WHERE) == 1
    assert "the store is busy; later, run the same command again to resume" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("out", "line"),
    [(Terminal(), "\r25%, 1,000 lines, 50/s, 1:00 left"), (io.StringIO(), "25%, 1,000 lines, 50/s, 1:00 left\n")],
)
def test_progress_says_the_rate_and_the_time_left(out: io.StringIO, line: str) -> None:
    moments = iter([0.0, 0.0, 20.0, 20.01])
    progress = Progress(out, "lines", clock=lambda: next(moments))
    progress.at(0, 0.0)
    progress.at(1000, 0.25)
    progress.at(1001, 0.26)  # too soon to say again
    assert out.getvalue() == line
    progress.end()
    assert out.getvalue().endswith("\r" if out.isatty() else "\n")


def test_a_long_time_is_told_in_hours() -> None:
    assert [duration(5), duration(3725)] == ["0:05", "1:02:05"]


def test_an_export_resumes_only_from_files_that_are_whole_and_names_the_damaged_one(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(data, "import", write(tmp_path / "e.ndjson", *visits(3)), WHERE)
    output = tmp_path / "out.ndjson"
    what = json.dumps({"environment": WHERE, "events": False})
    for state, part, damaged in ((what, "{}\n", "out.ndjson.part"), ("{", "", "out.ndjson.progress")):
        Path(f"{output}.progress").write_text(state)
        Path(f"{output}.part").write_text(part)
        capsys.readouterr()
        assert run(data, "export", WHERE, "--output", str(output)) == 1
        assert f"{damaged} is damaged; remove it and the export starts over" in capsys.readouterr().err


def test_a_value_that_is_wrong_while_an_export_runs_is_no_damage_of_its_files(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(data, "import", write(tmp_path / "e.ndjson", *visits(3)), WHERE)

    def fail(*_: object, **__: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(ExperienceService, "record", fail)
    with pytest.raises(ValueError, match="a defect"):
        run(data, "export", WHERE, "--output", str(tmp_path / "out.ndjson"))
