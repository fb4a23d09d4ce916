"""``ninetailed-wsgi backup``: a copy made beside a running server, which can be served from."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
import serving
import support

from ninetailed_wsgi.commands.main import main
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.protocol import Key, Write

VISITORS = 40


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("NINETAILED_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder of some visitors, in four databases."""
    service = ExperienceService.from_settings(Settings(data_dir=tmp_path / "data", store_shards=4))
    for number in range(VISITORS):
        service.upsert(service.environment("acme", "main"), f"v{number}", {"events": [support.track()]})
    service.store.close()
    return tmp_path / "data"


def back_up(data: Path, target: Path) -> int:
    return main(["backup", str(target), "--data-dir", str(data)])


def test_a_backup_beside_a_running_server_is_restored_by_serving_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, written, done = tmp_path / "backup", [0], threading.Event()
    with serving.serving(tmp_path, "--workers", "1", "--store-shards", "4") as server:

        def visit() -> None:
            with server.connection() as client:
                while not done.is_set():
                    body = {"events": [support.track()]}
                    path = f"{serving.PROFILES}/v{written[0]}"
                    assert serving.call(client, "POST", path, body).status == 200
                    written[0] += 1

        visiting = threading.Thread(target=visit)
        visiting.start()
        serving.wait_until(lambda: written[0] >= VISITORS, "some visitors are stored")
        before = written[0]
        assert back_up(tmp_path / "data", target) == 0
        done.set()
        visiting.join()
    assert " bytes copied to " in capsys.readouterr().out

    shutil.rmtree(tmp_path / "data")
    target.rename(tmp_path / "data")
    with serving.serving(tmp_path, "--workers", "1") as server:
        for number in range(before):
            assert server.call("GET", f"{serving.PROFILES}/v{number}").status == 200
        assert server.call("POST", f"{serving.PROFILES}/new", {"events": [support.track()]}).status == 200


def test_all_databases_are_copied_as_of_one_moment(tmp_path: Path, data: Path) -> None:
    store, keys = DiskStore(data), [Key("acme", "main", f"pair-{number}") for number in range(8)]
    done = threading.Event()

    def write_all_in_order() -> None:
        round = 0
        while not done.is_set():
            round += 1
            for key in keys:
                store.update([key], lambda key, entry, round=round: Write({"round": round}))  # type: ignore[misc]

    writing = threading.Thread(target=write_all_in_order)
    writing.start()
    try:
        serving.wait_until(lambda: store.read(keys[-1]).document is not None, "all are written")
        assert back_up(data, tmp_path / "backup") == 0
    finally:
        done.set()
        writing.join()
        store.close()
    copy = DiskStore(tmp_path / "backup")
    rounds = [(copy.read(key).document or {})["round"] for key in keys]
    copy.close()

    assert rounds == sorted(rounds, reverse=True)
    assert rounds[0] - rounds[-1] <= 1


def test_a_restored_copy_with_a_missing_database_is_refused_and_not_begun_anew(tmp_path: Path, data: Path) -> None:
    assert back_up(data, tmp_path / "backup") == 0
    shutil.rmtree(tmp_path / "backup" / "001")
    store = DiskStore(tmp_path / "backup")
    failures = []
    for number in range(VISITORS):
        try:
            store.read(Key("acme", "main", f"v{number}"))
        except StoreUnavailable as error:
            failures.append(str(error))

    assert 0 < len(failures) < VISITORS
    assert all("001/cache.db is gone" in failure for failure in failures)
    assert not (tmp_path / "backup" / "001" / "cache.db").exists()


def test_a_folder_with_a_missing_database_is_not_backed_up(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(data / "001")
    assert back_up(data, tmp_path / "backup") == 1
    assert "001/cache.db is gone" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_backup_is_for_its_owner_only(tmp_path: Path, data: Path) -> None:
    (tmp_path / "backup").mkdir(mode=0o755)
    assert back_up(data, tmp_path / "backup") == 0
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700
    for file in (tmp_path / "backup").rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


@pytest.mark.parametrize("inside", [False, True])
def test_a_folder_that_holds_something_or_lies_in_the_data_folder_is_refused(
    inside: bool, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = data / "backup" if inside else tmp_path / "backup"
    if not inside:
        target.mkdir()
        (target / "letter.txt").write_text("mine")
    assert back_up(data, target) == 2
    found = capsys.readouterr().err
    assert found.startswith("ninetailed-wsgi backup: wrong usage:\n  DIR: ")
    assert ("outside the data folder" if inside else "is not empty") in found
    assert inside or (target / "letter.txt").read_text() == "mine"


def test_what_waits_to_be_imported_is_in_the_copy(tmp_path: Path, data: Path) -> None:
    from ninetailed_wsgi.store.disk.queue import ImportQueue

    ImportQueue(data).put(b"[1]")
    assert back_up(data, tmp_path / "backup") == 0
    head: Any = ImportQueue(tmp_path / "backup").head()
    assert head.batch == b"[1]"


@pytest.mark.parametrize("arguments", [["--store", "redis://127.0.0.1:1/0"]])
def test_profiles_on_redis_are_backed_up_by_redis(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", str(tmp_path / "backup"), *arguments]) == 1
    assert "use Redis's own backup" in capsys.readouterr().err
    assert not (tmp_path / "backup").exists()
