"""A database file is lost or damaged: what lay in it is 503 by the file's name, all else is served, none is begun anew.

Also two versions of this software on one folder. Each line of docs/faults.md about these has a test here.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from support import Api, Clock, Server, error, of, page, profile_path, track

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.server.checks import check_all, check_start
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store.disk import folder
from ninetailed_wsgi.store.disk.queue import ImportQueue
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.keys import digest_of

NAMES = [f"visitor-{number}" for number in range(24)]
IN_FIRST = [name for name in NAMES if digest_of(Key("org", "main", name))[0] % 2 == 0]
IN_SECOND = [name for name in NAMES if name not in IN_FIRST]


class Damaged:
    """A service of two files, the first of which a test harms."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.api: Api = server.environment("org", "main")
        self.folder = server.folder
        self.file = self.folder / "000" / "cache.db"
        self.safe = self.folder.with_name("safe.db")

    def fill(self) -> None:
        for name in NAMES:
            self.api.update(name, page(), track(properties={"text": "x" * 1000}))
        for file in self.folder.glob("*/cache.db"):
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(self.file, self.safe)

    def restart(self) -> None:
        """Another process serves from the folder."""
        self.server.close()

    def put_back(self) -> None:
        """As an operator does who has ended the service: the file from the backup, without a log."""
        self.server.close()
        for part in self.folder.glob("000/cache.db*"):
            part.unlink()
        self.file.parent.mkdir(exist_ok=True)
        shutil.copyfile(self.safe, self.file)

    def refused(self) -> list[str]:
        """Which visitors are answered 503, whether they are read or written."""
        found = []
        for name in NAMES:
            statuses = {
                self.api.request("GET", profile_path(name)).status_code,
                self.api.update_answer(name, track()).status_code,
            }
            assert statuses <= {200, 503}, statuses  # never 404: it is there
            found += [name] if 503 in statuses else []
        return found

    def findings(self) -> dict[str, str]:
        """What `ninetailed-wsgi check` says, by subject."""
        return {found.subject: str(found) for found in check_all(Settings(data_dir=self.folder))}


@pytest.fixture
def service(make_server: Callable[..., Server]) -> Damaged:
    service = Damaged(make_server())
    service.fill()
    return service


def truncated_to_nothing(file: Path) -> None:
    os.truncate(file, 0)


def truncated_to_half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def overwritten(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"no database " * (file.stat().st_size // 12))


def overwritten_in_the_middle(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(size // 3)
        opened.write(b"\0" * (size // 3))


def replaced_by_an_empty_file(file: Path) -> None:
    file.unlink()
    file.touch()


def replaced_by_another_database(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE other (x)")


def deleted(file: Path) -> None:
    file.unlink()


def deleted_with_its_folder(file: Path) -> None:
    shutil.rmtree(file.parent)


HARMS = [
    truncated_to_nothing,
    truncated_to_half,
    overwritten,
    overwritten_in_the_middle,
    replaced_by_an_empty_file,
    replaced_by_another_database,
    deleted,
    deleted_with_its_folder,
]


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_what_lay_in_a_lost_or_damaged_file_is_503_by_its_name_until_it_is_put_back_and_all_else_is_served(
    service: Damaged, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "ninetailed_wsgi")
    harm(service.file)
    for _ in ("running", "after a start"):
        refused = service.refused()
        assert refused
        assert set(refused) <= set(IN_FIRST)
        if harm not in (truncated_to_half, overwritten_in_the_middle):  # there, what lies in the rest is served
            assert refused == IN_FIRST
        service.restart()
    said = [record.getMessage() for record in caplog.records]
    assert said
    assert all(str(service.file) in line for line in said)
    assert len(said) == len({line.rpartition("; traceparent")[0] for line in said}) <= 4  # not one a request
    ready = service.api.request("GET", "/health/ready", whole_path=True)
    assert error(ready, 503)
    assert str(service.file) in ready.json["message"]
    assert service.findings()["store files"].startswith("fail  store files   1 of 2 cannot be served:")
    assert str(service.file) in service.findings()["store files"]
    service.put_back()
    assert service.refused() == []
    assert service.api.request("GET", "/health/ready", whole_path=True).status_code == 200
    assert service.findings()["store files"].startswith("ok")


def test_a_damaged_file_warns_at_the_start_and_stops_it_not(service: Damaged) -> None:
    service.restart()
    deleted(service.file)
    [found] = [found for found in check_start(Settings(data_dir=service.folder)) if found.subject == "store files"]
    assert found.status == "warn"
    assert f"{service.file} is gone" in str(found)


def test_a_file_that_was_moved_away_is_served_again_at_once_when_it_is_back(service: Damaged) -> None:
    service.file.rename(service.safe)
    assert service.refused() == IN_FIRST
    service.safe.rename(service.file)
    assert service.refused() == []


def test_a_lost_file_is_begun_anew_when_its_line_is_removed_as_the_refusal_says(service: Damaged) -> None:
    service.restart()
    deleted(service.file)
    assert (
        f"remove the folder {service.file.parent} and its line in {service.folder}/files.txt"
        in (service.findings()["store files"])
    )
    shutil.rmtree(service.file.parent)
    notes = service.folder / "files.txt"
    notes.write_text("".join(line for line in notes.read_text().splitlines(True) if not line.startswith("000 ")))
    for name in NAMES:
        assert service.api.knows(name) == (name in IN_SECOND)
        service.api.update(name, track())


@pytest.mark.parametrize("restarted", [False, True])
def test_a_file_replaced_beside_the_log_of_the_file_before_is_refused_until_the_log_is_removed(
    service: Damaged, restarted: bool
) -> None:
    for name in NAMES:  # these are in the log only; of another file, they would be mixed into it
        service.api.update(name, track())
    with closing(sqlite3.connect(service.file)) as other:
        other.execute("SELECT count(*) FROM Cache")  # keeps the log, as a process that was killed leaves it
        if restarted:
            service.restart()
        os.replace(service.safe, service.file)
        shutil.copyfile(service.file, service.safe)
        assert service.refused() == IN_FIRST
        said = service.api.request("GET", "/health/ready", whole_path=True).json["message"]
        assert f"remove {service.file}-wal and cache.db-shm, and start again" in said
    service.server.close()
    for name in ("cache.db-wal", "cache.db-shm"):
        service.file.with_name(name).unlink(missing_ok=True)
    assert service.refused() == []


def test_a_copy_of_a_whole_folder_is_served_with_the_logs_that_were_copied(service: Damaged) -> None:
    for name in NAMES:
        service.api.update(name, track("last"))
    copy = service.folder.with_name("copy")
    shutil.copytree(service.folder, copy)  # as it lies there after a kill -9, so that the logs have the last events
    store = DiskStore(copy, clock=service.server.clock)
    for name in NAMES:
        assert store.read(Key("org", "main", name)).history()[-1][2]["event"] == "last"
    store.close()


def test_a_store_of_before_files_were_noted_is_served_and_noted(service: Damaged) -> None:
    service.restart()
    (service.folder / "files.txt").unlink()
    assert service.refused() == []
    service.restart()
    deleted(service.file)
    assert service.refused() == IN_FIRST


def test_a_note_that_was_cut_off_costs_nothing(service: Damaged) -> None:
    service.restart()
    with (service.folder / "files.txt").open("a") as notes:
        notes.write("000 12")
    assert service.refused() == []
    deleted(service.file)
    assert service.refused() == IN_FIRST


@pytest.mark.parametrize("harm", [truncated_to_nothing, overwritten, deleted], ids=lambda harm: harm.__name__)
def test_a_lost_import_queue_refuses_batches_and_is_not_begun_anew(
    service: Damaged, harm: Callable[[Path], None], clock: Clock
) -> None:
    queue = ImportQueue(service.folder, clock=clock)
    queue.put(b"1")
    queue.close()
    file = service.folder / "queue" / "cache.db"
    shutil.copyfile(file, service.safe)
    harm(file)
    for step in (queue.head, queue.state, lambda: queue.put(b"2")):
        with pytest.raises(StoreUnavailable, match=str(file)):
            step()
    assert str(file) in service.findings()["store files"]
    file.unlink(missing_ok=True)
    shutil.copyfile(service.safe, file)
    waiting = queue.head()
    assert waiting is not None
    assert waiting.batch == b"1"


# Two versions of the software on one folder


OTHER_FORMAT = f"has store format {folder.FORMAT + 1}, this software reads format {folder.FORMAT}"


def as_format(service: Damaged, number: int) -> None:
    """What another version does first: it replaces the description."""
    new = service.folder / ".store.json"
    new.write_text(f'{{"format": {number}, "shards": 2}}')
    os.replace(new, service.folder / "store.json")
    store = service.server.store
    assert isinstance(store, DiskStore)
    store._shards.watch._next_look = 0.0  # the next look is due


def test_a_running_process_writes_and_reads_no_more_once_another_version_changed_the_format(service: Damaged) -> None:
    queue = ImportQueue(service.folder)
    queue.put(b"1")
    as_format(service, folder.FORMAT + 1)
    assert service.refused() == NAMES
    said = service.api.request("GET", "/health/ready", whole_path=True).json["message"]
    assert f"{service.folder} {OTHER_FORMAT}" in said
    with pytest.raises(StoreUnavailable, match=OTHER_FORMAT):
        queue.put(b"2")
    as_format(service, folder.FORMAT)
    assert service.refused() == []
    queue.put(b"2")
    queue.close()


def test_a_writer_that_waits_for_its_turn_while_the_format_changes_writes_nothing(service: Damaged) -> None:
    before = [service.api.get(name) for name in IN_FIRST[:2]]
    with closing(sqlite3.connect(service.file, isolation_level=None)) as other, ThreadPoolExecutor(1) as thread:
        other.execute("BEGIN IMMEDIATE")
        asked = thread.submit(service.api.send, "/events", {"events": [of(name, track()) for name in IN_FIRST[:2]]})
        as_format(service, folder.FORMAT + 1)
        other.execute("ROLLBACK")
        assert error(asked.result(), 503)
    as_format(service, folder.FORMAT)
    assert [service.api.get(name) for name in IN_FIRST[:2]] == before


def test_a_newer_version_refuses_a_folder_of_the_older_format_and_the_older_one_that_of_the_newer(
    service: Damaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(folder, "FORMAT", folder.FORMAT + 1)
        refusal = f"has store format {folder.FORMAT - 1}, this software reads format {folder.FORMAT}"
        assert f"{service.folder} {refusal}" in service.findings()["data folder"]
        with pytest.raises(SettingsError, match=refusal):
            DiskStore(service.folder)
    as_format(service, folder.FORMAT + 1)
    assert f"{service.folder} {OTHER_FORMAT}" in service.findings()["data folder"]
    with pytest.raises(SettingsError, match=OTHER_FORMAT):
        DiskStore(service.folder)


def test_an_import_of_several_visitors_waits_for_the_file_of_one_and_is_applied_once_it_is_back(
    service: Damaged,
) -> None:
    deleted(service.file)
    events = [of(name, track("imported")) for name in (IN_SECOND[0], IN_FIRST[0])]
    assert error(service.api.send("/events", {"events": events}), 503)
    service.put_back()
    service.api.batch(*events)
    store = service.server.store
    for name in (IN_SECOND[0], IN_FIRST[0]):
        history = store.read(Key("org", "main", name)).history()
        assert [event["messageId"] for _, _, event in history].count(events[0]["messageId"]) <= 1
        assert sum(event.get("event") == "imported" for _, _, event in history) == 1
