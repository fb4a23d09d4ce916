"""What came in last is shared by all processes of a store while somebody watches, and is gone soon after."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.service.live import WATCH, Live
from ninetailed_wsgi.store.disk.arrivals import DiskArrivals
from ninetailed_wsgi.store.disk.backup import back_up
from ninetailed_wsgi.store.disk.store import DiskStore

MakeStore = Callable[..., Any]
WHERE = Environment("acme", "main")


def test_every_process_sees_what_any_of_them_adds(make_kept: MakeStore) -> None:
    one, other = make_kept().arrivals, make_kept().arrivals
    assert (one.watched_until(), one.newest()) == (0, [])
    other.watch(5000)
    assert one.watched_until() == 5000
    for number in range(3):
        (one, other)[number % 2].add(b'{"n":%d}' % number)
    assert one.newest() == other.newest() == [b'{"n":0}', b'{"n":1}', b'{"n":2}']
    one.clear()
    assert (other.watched_until(), other.newest()) == (0, [])


def test_two_processes_watch_and_note_together(make_kept: MakeStore) -> None:
    now = [1_000_000]
    stores = [make_kept(), make_kept()]
    watching, serving = (Live(lambda store=store: store.arrivals, lambda: now[0]) for store in stores)
    serving.refused(WHERE, "request", "anna", [], "nobody watches yet")
    assert watching.watch(WHERE) == {"watching": False, "arrivals": []}
    now[0] += 1000
    serving.refused(WHERE, "request", "anna", [{"type": "page"}], "not valid")
    watching.refused(Environment("acme", "other"), "request", "bob", [], "of another environment")
    seen = watching.watch(WHERE)
    assert seen["watching"]
    assert [(each["profileId"], each["refused"]) for each in seen["arrivals"]] == [("anna", "not valid")]
    now[0] += WATCH
    serving.refused(WHERE, "request", "anna", [], "the watch is over")
    assert len(stores[0].arrivals.newest()) == 2
    now[0] += 4 * WATCH
    assert not serving.look_for_watcher()
    assert stores[0].arrivals.newest() == [], "nothing stays when nobody watches any more"


def test_what_came_in_is_bounded(make_kept: MakeStore) -> None:
    arrivals = make_kept().arrivals
    for number in range(1500):
        arrivals.add(b'{"n":%d,"filler":"%b"}' % (number, b"x" * 1000))
    newest = arrivals.newest()
    assert newest[-1].startswith(b'{"n":1499,')
    assert 200 <= len(newest) < 700


def test_threads_that_add_at_once_lose_nothing(make_disk: Callable[..., DiskStore]) -> None:
    arrivals = make_disk().arrivals
    threads = [
        threading.Thread(target=lambda n=n: [arrivals.add(b"%d-%d" % (n, each)) for each in range(100)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(arrivals.newest()) == sorted(b"%d-%d" % (n, each) for n in range(4) for each in range(100))


def test_a_damaged_line_and_a_wrong_note_are_passed_over(tmp_path: Path) -> None:
    arrivals = DiskArrivals(tmp_path)
    live = Live(lambda: arrivals, lambda: 1_000_000)
    live.watch(WHERE)
    live.refused(WHERE, "request", "anna", [], "not valid")
    with open(tmp_path / ".arrivals", "ab") as file:
        file.write(b'{"cut off\n[]\n5\n{"id": 1}\n')
    assert [each["profileId"] for each in live.watch(WHERE)["arrivals"]] == ["anna"]
    (tmp_path / ".arrivals-until").write_bytes(b"soon")
    assert arrivals.watched_until() == 0


def test_files_of_what_came_in_are_for_their_owner_and_in_no_backup(make_disk: Any, tmp_path: Path) -> None:
    store = make_disk()
    store.arrivals.watch(1)
    store.arrivals.add(b"{}")
    files = list((tmp_path / "data").glob(".arrivals*"))
    assert len(files) == 2
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    back_up(tmp_path / "data", tmp_path / "copy", 1.0, lambda done, all: None)
    assert list((tmp_path / "copy").glob(".arrivals*")) == []


def test_where_it_cannot_be_shared_a_request_goes_on(tmp_path: Path) -> None:
    arrivals = DiskArrivals(tmp_path)
    live = Live(lambda: arrivals, lambda: 1_000_000)
    live.watch(WHERE)
    (tmp_path / ".arrivals").mkdir()
    live.refused(WHERE, "request", "anna", [], "not valid")
    (tmp_path / ".arrivals").rmdir()
    live.refused(WHERE, "request", "bob", [], "not valid")
    assert [(each["profileId"], each["missed"]) for each in live.watch(WHERE)["arrivals"]] == [("bob", 1)]
    with pytest.raises(StoreUnavailable, match="cannot be shared"):
        DiskArrivals(tmp_path / "none").watch(1)


def test_a_time_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = DiskArrivals(tmp_path)
    arrivals.watch(1_234_567)
    file = tmp_path / ".arrivals-until"
    size = file.stat().st_size
    with file.open("rb") as reader:  # another process that opened the file before
        arrivals.watch(9)
        assert int(reader.read()) == 9
        assert file.stat().st_size == size
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", lambda *written: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StoreUnavailable):
            arrivals.watch(77)
    assert arrivals.watched_until() == 9
