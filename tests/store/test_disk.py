"""The disk store's own promises: its folder, its files, several processes, and what happens when the disk fails it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import diskcache
import orjson
import pytest
from parties import append, contents, happened, key, numbers, put

import ninetailed_wsgi
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import ProfileOverload, SettingsError, StoreUnavailable
from ninetailed_wsgi.store.disk.diskcache_core import core
from ninetailed_wsgi.store.disk.shards import Shard
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.keys import digest_of
from ninetailed_wsgi.store.protocol import StoreEntry, Write

MakeDisk = Callable[..., DiskStore]
PACKAGE = Path(ninetailed_wsgi.__file__).parent.parent
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/cache.db"))


@contextmanager
def connected(file: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file, isolation_level=None, timeout=0)) as connection:
        yield connection


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Every file is being written by somebody else."""
    connections = [sqlite3.connect(file, isolation_level=None) for file in files(folder)]
    for connection in connections:
        connection.execute("BEGIN IMMEDIATE")
    yield
    for connection in connections:
        connection.close()


class Database:
    """A database that a store has open; these tests alone look behind the store, at what SQLite is told."""

    def __init__(self, shard: Shard) -> None:
        self.file = Path(shard.file)
        self._rows = shard.rows

    @property
    def connection(self) -> Any:
        return self._rows._con

    @connection.setter
    def connection(self, connection: Any) -> None:
        self._rows._shared = connection


def databases(store: DiskStore) -> list[Database]:
    """The databases that a store has open in this process."""
    return [Database(shard) for shard in store._shards._open_here().shards if shard is not None]


def refusal(folder: Path) -> str:
    with pytest.raises(SettingsError) as refused:
        DiskStore(folder)
    [problem] = refused.value.problems
    assert str(folder) in problem
    return problem


def unavailable(step: Callable[[], Any]) -> str:
    with pytest.raises(StoreUnavailable) as refused:
        step()
    assert refused.value.status == 503
    return str(refused.value)


# The folder


def test_nobody_else_may_look_into_the_folder(make_disk: MakeDisk, folder: Path) -> None:
    folder.mkdir(mode=0o755)
    put(make_disk(), key(), {})
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_dir()} == {0o700}


def test_missing_folders_on_the_way_are_made(make_disk: MakeDisk, tmp_path: Path) -> None:
    store = make_disk(tmp_path / "a" / "b")
    put(store, key(), {"a": 1})
    assert store.read(key()).document == {"a": 1}


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    (folder / "photo.jpg").touch()
    assert "contains other files and no store" in refusal(folder)
    assert [path.name for path in folder.iterdir()] == ["photo.jpg"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_an_empty_file_system_or_hidden_files_are_no_obstacle(make_disk: MakeDisk, folder: Path) -> None:
    (folder / "lost+found").mkdir(parents=True)
    (folder / ".gitkeep").touch()
    put(make_disk(), key(), {})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (
            b'{"format": 2, "shards": 2}',
            "stop every process that uses it and run `ninetailed-wsgi upgrade`",
        ),
        (b'{"format": 4, "shards": 2}', "store format 4, this software reads format 3"),
        (b'{"format": null, "shards": 2}', "store format None"),
        (b"", "is damaged"),
        (b'{"format": 2', "is damaged"),
        (b"[]", "is damaged"),
        (b"null", "is damaged"),
        (b'{"format": 2}', "is damaged"),
        (b'{"format": 3, "shards": 0}', "names 0 shards"),
        (b'{"format": 3, "shards": 257}', "names 257 shards"),
        (b'{"format": 3, "shards": "2"}', "names '2' shards"),
    ],
)
def test_a_store_of_another_format_or_a_damaged_one_is_refused(folder: Path, content: bytes, complaint: str) -> None:
    folder.mkdir()
    (folder / "store.json").write_bytes(content)
    assert complaint in refusal(folder)
    assert (folder / "store.json").read_bytes() == content


def test_a_file_in_the_place_of_the_folder_is_refused(folder: Path) -> None:
    folder.touch()
    assert "cannot be used" in refusal(folder)


def test_an_existing_store_keeps_its_number_of_shards(make_disk: MakeDisk, folder: Path) -> None:
    store = make_disk(shards=3)
    keys = [key(f"visitor {number}") for number in range(30)]
    store.update(keys, lambda where, _: Write({"name": where.name}))
    other = make_disk(shards=8)
    assert all(other.read(where).document == {"name": where.name} for where in keys)
    assert len(files(folder)) == 3


# What diskcache would do otherwise


def test_the_app_loads_no_framework_that_happens_to_be_installed(tmp_path: Path) -> None:
    """diskcache's package imports Django where it is installed, configured or not; under gevent no worker started."""
    script = f"""
import sys
from ninetailed_wsgi import create_app
create_app(data_dir={str(tmp_path / "data")!r})
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"asgiref", "diskcache", "django", "flask", "jinja2",
    "jsonschema", "numpy", "pytest", "redis", "requests"}}))
import diskcache
print(diskcache.Cache.__name__, diskcache.core.__name__)
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    printed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == ["[]", "Cache diskcache.core"]


def test_diskcache_s_core_stands_alone_and_has_what_is_used_of_it() -> None:
    """Private parts: where this fails for a new version, look at how `diskcache_core` loads it."""
    source = Path(str(core.__file__)).read_text()
    assert "from ." not in source
    assert "import diskcache" not in "".join(line for line in source.splitlines() if line.startswith("import"))
    assert issubclass(core.Timeout, Exception)
    assert {"Cache", "Disk", "UNKNOWN", "MODE_RAW", "DBNAME"} <= set(vars(core))


def test_nothing_is_ever_evicted(disk: DiskStore, folder: Path) -> None:
    append(disk, key(), *happened(0))
    put(disk, key("other"), {})
    for file in files(folder):
        with connected(file) as connection:
            settings = dict(connection.execute("SELECT key, value FROM Settings"))
            assert (settings["eviction_policy"], settings["cull_limit"]) == ("none", 0)
            # As if the file held more than diskcache's limit.
            connection.execute("UPDATE Settings SET value = 1 WHERE key = 'size_limit'")
    disk.close()
    keys = [key(f"visitor {number}") for number in range(200)]
    disk.update(keys, lambda where, _: Write({"text": "x" * 50_000}))
    disk.update(keys, lambda where, _: Write({"text": "y" * 50_000}))
    assert sum(document == {"text": "y" * 50_000} for _, document in disk.documents()) == 200
    assert not list(folder.glob("**/*.val"))


class _Exploding:
    def __reduce__(self) -> Any:
        return os.abort, ()


def test_a_pickled_value_is_refused_without_being_loaded(disk: DiskStore, folder: Path) -> None:
    append(disk, key(), *happened(0))
    for file in files(folder):
        with connected(file) as connection:
            connection.execute(
                "UPDATE Cache SET mode = ?, value = ?", (diskcache.core.MODE_PICKLE, pickle.dumps(_Exploding()))
            )
    assert "never writes" in unavailable(lambda: disk.read(key()))
    assert "never writes" in unavailable(lambda: append(disk, key(), *happened(1)))
    assert "never writes" in unavailable(lambda: list(disk.documents()))
    put(disk, key("new"), {})


def test_a_pickled_key_is_never_loaded(disk: DiskStore, folder: Path) -> None:
    append(disk, key(), *happened(0))
    for file in files(folder):
        with connected(file) as connection:
            connection.execute(
                "INSERT INTO Cache (key, raw, mode, value) VALUES (?, 0, 1, x'')",
                (b"d" + pickle.dumps(_Exploding()),),
            )
    assert [where for where, _ in disk.documents()] == [key()]


def test_a_damaged_row_is_reported_and_others_are_served(disk: DiskStore, folder: Path) -> None:
    put(disk, key(), {"a": 1})
    for file in files(folder):
        with connected(file) as connection:
            connection.execute("UPDATE Cache SET value = ?", (b'{"a":',))
    assert "damaged" in unavailable(lambda: disk.read(key()))
    put(disk, key("other"), {})
    assert disk.read(key("other")).document == {}


def test_a_lost_history_row_costs_that_row_only(
    make_disk: MakeDisk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ninetailed_wsgi.store.disk.history._EVENTS_IN_ROW", 0)
    store = make_disk(history_events=3)
    for number in range(3):
        append(store, key(), *happened(number))
    for file in files(folder):
        with connected(file) as connection:
            connection.execute("DELETE FROM Cache WHERE substr(key, 1, 1) = x'68' AND substr(key, -1) = x'01'")
    for number in range(3, 6):
        append(store, key(), *happened(number))
    assert numbers(store, key()) == [3, 4, 5]


def test_a_write_touches_the_row_of_its_profile_only_until_the_events_in_it_take_too_much_room(
    disk: DiskStore, folder: Path
) -> None:
    rows = []
    for number in range(6):
        append(disk, key(), *happened(number))
        [file] = files(folder)
        with connected(file) as connection:
            rows.append(connection.execute("SELECT count(*) FROM Cache").fetchone()[0])
    assert rows == [1, 1, 2, 2, 2, 3]
    assert numbers(disk, key()) == [0, 1, 2, 3, 4, 5]


def test_several_keys_take_one_transaction_for_each_shard(disk: DiskStore) -> None:
    keys = [key(f"visitor {number}") for number in range(50)]
    disk.update(keys, lambda where, _: Write({}))
    statements: list[str] = []
    for database in databases(disk):
        database.connection.set_trace_callback(statements.append)
    disk.update(keys, lambda where, _: Write({"a": 1}, happened(0, 1)))
    assert sum(statement.startswith("BEGIN") for statement in statements) == 2
    assert sum(statement == "COMMIT" for statement in statements) == 2


@pytest.mark.parametrize(("setting", "value"), [("NORMAL", 1), ("FULL", 2), ("full", 2)])
def test_the_chosen_durability_holds_in_every_thread(make_disk: MakeDisk, setting: str, value: int) -> None:
    store = make_disk(shards=1, synchronous=setting)
    put(store, key(), {})
    found: list[int] = []

    def ask() -> None:
        [database] = databases(store)
        found.append(database.connection.execute("PRAGMA synchronous").fetchone()[0])

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    ask()
    assert found == [value, value]


def test_who_opens_the_same_folder_less_durably_leaves_the_others_as_durable_as_they_were(make_disk: MakeDisk) -> None:
    store = make_disk(shards=1, synchronous="FULL")
    put(store, key(), {})
    make_disk(shards=1, synchronous="NORMAL").read(key())
    found: list[int] = []

    def ask() -> None:
        [database] = databases(store)
        found.append(database.connection.execute("PRAGMA synchronous").fetchone()[0])

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [2]


# Several threads and processes


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files by /proc")
def test_threads_that_come_and_go_leave_no_file_open(disk: DiskStore) -> None:
    keys = [key(f"visitor {number}") for number in range(10)]
    disk.update(keys, lambda where, _: Write({}))

    def serve() -> None:
        disk.update(keys, lambda where, _: Write({}))

    def after_threads(count: int) -> int:
        for _ in range(count):
            thread = threading.Thread(target=serve)
            thread.start()
            thread.join()
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    assert after_threads(30) <= after_threads(3) + 4


def _write_many(folder: Path, number: int, start: Any, done: Any) -> None:
    start.wait()
    store = DiskStore(folder, shards=4, timeout=30.0)
    for event in range(10):
        append(store, key("shared"), *happened(100 * number + event))
        append(store, key(f"own {number}"), *happened(event))
    store.close()
    done.put(number)


def test_several_processes_may_open_a_new_folder_at_once(folder: Path) -> None:
    start, done = SPAWN.Barrier(4), SPAWN.Queue()
    processes = [SPAWN.Process(target=_write_many, args=(folder, number, start, done)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    with closing(DiskStore(folder)) as store:
        found = store.read(key("shared")).document
        assert found == {"count": 40}
        assert len(list(store.documents())) == 5


def _in_child(step: Callable[[], None]) -> int:
    """Run a step in a forked child; its exit code, or the signal that ended it, negative."""
    child = os.fork()
    if child == 0:
        try:
            step()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_serves_and_the_parent_goes_on(disk: DiskStore) -> None:
    append(disk, key(), *happened(0))
    other = threading.Thread(target=lambda: append(disk, key(), *happened(1)))
    other.start()
    other.join()

    def serve() -> None:
        append(disk, key(), *happened(2))
        assert numbers(disk, key()) == [0, 1, 2]
        disk.close()
        gc.collect()

    assert _in_child(serve) == 0
    append(disk, key(), *happened(3))
    assert _in_child(lambda: append(disk, key(), *happened(4))) == 0
    assert numbers(disk, key()) == [0, 1, 2, 3, 4]


def test_a_child_forked_while_a_thread_opens_a_file_does_not_wait_for_that_thread(disk: DiskStore) -> None:
    def serve() -> None:
        signal.alarm(60)
        append(disk, key(), *happened(0))

    with disk._shards._open_here().lock:
        assert _in_child(serve) == 0
    assert numbers(disk, key()) == [0]


# When it cannot serve


def test_a_lock_held_too_long_is_503_writes_nothing_and_is_recovered_from(disk: DiskStore, folder: Path) -> None:
    append(disk, key(), *happened(0))
    append(disk, key("other"), *happened(0))
    before = contents(disk)
    with locked(folder):
        assert "locked" in unavailable(lambda: append(disk, key(), *happened(1)))
        assert contents(disk) == before
    append(disk, key(), *happened(1))
    assert numbers(disk, key()) == [0, 1]


def test_a_lock_held_while_a_shard_is_opened_is_503_within_the_bound(make_disk: MakeDisk, folder: Path) -> None:
    append(make_disk(), key(), *happened(0))
    append(make_disk(), key("other"), *happened(0))
    store = make_disk()
    with locked(folder):
        assert "locked" in unavailable(lambda: append(store, key(), *happened(1)))
    append(store, key(), *happened(1))
    assert numbers(store, key()) == [0, 1]


def test_a_writer_that_never_gets_its_turn_at_a_busy_profile_is_429(disk: DiskStore, folder: Path) -> None:
    append(disk, key(), *happened(0))
    [busy] = databases(disk)
    connection = busy.connection
    row = b"d" + digest_of(key())

    class Late:
        """A connection that never gets the lock; whoever has it writes this profile meanwhile."""

        def execute(self, statement: str, *arguments: Any) -> Any:
            if not statement.startswith(("BEGIN", "UPDATE")):
                return connection.execute(statement, *arguments)
            with connected(busy.file) as other:
                [[value]] = other.execute("SELECT value FROM Cache WHERE key = ?", (row,))
                name, numbers, document, *events = value.split(b"\n")
                changed = orjson.dumps({**orjson.loads(document), "nonce": os.urandom(4).hex()})
                other.execute(
                    "UPDATE Cache SET value = ?, access_count = access_count + 1 WHERE key = ?",
                    (b"\n".join((name, numbers, changed, *events)), row),
                )
            raise sqlite3.OperationalError("database is locked")

    busy.connection = Late()
    with pytest.raises(ProfileOverload) as refused:
        append(disk, key(), *happened(1))
    assert refused.value.status == 429
    busy.connection = connection
    append(disk, key(), *happened(2))
    assert numbers(disk, key()) == [0, 2]


def DiskStoreDigest(where: Key) -> bytes:
    from ninetailed_wsgi.store.keys import digest_of

    return digest_of(where)


def test_a_database_that_became_read_only_is_503_and_says_so(disk: DiskStore) -> None:
    append(disk, key(), *happened(0))
    [database] = databases(disk)
    database.connection.execute("PRAGMA query_only = 1")
    assert "readonly" in unavailable(lambda: append(disk, key(), *happened(1)))
    assert numbers(disk, key()) == [0]
    database.connection.execute("PRAGMA query_only = 0")
    append(disk, key(), *happened(1))
    assert numbers(disk, key()) == [0, 1]


READ_ONLY = """
import os, sys
from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.keys import digest_of
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.protocol import Write
folder = sys.argv[1]
store = DiskStore(folder, shards=1, timeout=0.1)
store.update([Key("o", "e", "n")], lambda key, entry: Write({}))
store.close()
for path, folders, names in os.walk(folder, topdown=False):
    for name in names:
        os.chmod(os.path.join(path, name), 0o400)
    os.chmod(path, 0o500)
if os.geteuid() == 0:
    for path, folders, names in os.walk(folder):
        for name in ["", *names]:
            os.chown(os.path.join(path, name), 65534, 65534)
    os.chmod(os.path.dirname(folder), 0o711)
    os.setgid(65534), os.setuid(65534)
try:
    store.update([Key("o", "e", "n")], lambda key, entry: Write({"a": 1}))
except StoreUnavailable as error:
    print(error)
try:
    DiskStore(folder)
except SettingsError as error:
    print(error)
"""


def test_a_read_only_folder_is_503_while_running_and_refused_at_the_start() -> None:
    # To root, file modes mean nothing: then another process gives that up, in a folder that others may pass.
    with tempfile.TemporaryDirectory() as parent:
        ran = subprocess.run(
            [sys.executable, "-c", READ_ONLY, f"{parent}/data"],
            capture_output=True,
            text=True,
            cwd=PACKAGE,
            timeout=120,
        )
    while_running, at_start = ran.stdout.splitlines() or [ran.stderr, ""]
    assert "cannot be opened" in while_running
    assert "readonly" in while_running or "unable to open" in while_running
    assert "is not writable" in at_start


def test_a_full_disk_is_503_leaves_nothing_half_written_and_is_recovered_from(make_disk: MakeDisk) -> None:
    store = make_disk(shards=1)
    keys = [key(f"visitor {number}") for number in range(5)]
    for where in keys:
        append(store, where, *happened(0))
    before = contents(store)
    [database] = databases(store)
    [[pages]] = database.connection.execute("PRAGMA page_count")
    database.connection.execute(f"PRAGMA max_page_count = {pages}")
    large = [(at, orjson.dumps({"number": 1, "text": "x" * 20_000})) for at, _ in happened(1)]
    for _ in range(3):
        reason = unavailable(lambda: store.update(keys, lambda where, _: Write({"count": 2}, large)))
        assert "full" in reason
        [[pages]] = database.connection.execute("PRAGMA page_count")
        database.connection.execute(f"PRAGMA max_page_count = {pages}")
        assert contents(store) == before
    database.connection.execute("PRAGMA max_page_count = 1000000")
    store.update(keys, lambda where, _: Write({"count": 2}, large))
    assert all(numbers(store, where) == [0, 1] for where in keys)


DISK_FULL = """
import resource, signal, sys
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.keys import digest_of
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.protocol import Write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = DiskStore(sys.argv[1], shards=1, timeout=0.1, clock=lambda: 0)
acknowledged = 0
def write():
    global acknowledged
    def fold(key, entry):
        count = (entry.document or {"count": 0})["count"] + 1
        return Write({"count": count, "text": "x" * 3000}, [(0, b'{"number":%d}' % count)])
    store.update([Key("o", "e", "n")], fold)
    acknowledged += 1
write()
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
refused = []
while len(refused) < 5:
    try:
        write()
    except StoreUnavailable as error:
        refused.append(str(error))
    entry = store.read(Key("o", "e", "n"))
    assert entry.document["count"] == len(entry.history()) == acknowledged, (entry.document, acknowledged)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
write()
entry = store.read(Key("o", "e", "n"))
assert entry.document["count"] == len(entry.history()) == acknowledged > 10
print(refused[0])
"""


def test_a_file_that_cannot_grow_is_503_and_what_was_acknowledged_stays(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        cwd=PACKAGE,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert "is not available" in ran.stdout


@pytest.mark.parametrize(
    ("failing", "events"),
    [(("UPDATE",), 1), (("COMMIT", "ROLLBACK"), 10)],
    ids=["a row that is written alone", "a transaction"],
)
def test_a_failed_write_is_503_and_the_next_one_goes_through(
    disk: DiskStore, failing: tuple[str, ...], events: int
) -> None:
    append(disk, key(), *happened(0))
    [database] = databases(disk)
    connection = database.connection

    class Failing:
        def execute(self, statement: str, *arguments: Any) -> Any:
            if statement.startswith(failing):
                raise sqlite3.OperationalError("disk I/O error")
            return connection.execute(statement, *arguments)

        def close(self) -> None:
            connection.close()

    database.connection = Failing()
    assert "disk I/O error" in unavailable(lambda: append(disk, key(), *happened(*range(1, events + 1))))
    assert numbers(disk, key()) == [0]
    append(disk, key(), *happened(2))
    assert numbers(disk, key()) == [0, 2]


def test_what_went_wrong_first_is_what_is_said(disk: DiskStore) -> None:
    append(disk, key(), *happened(0))
    [database] = databases(disk)

    def fold(_: Key, entry: StoreEntry) -> Write:
        database.connection.execute("ROLLBACK")  # as SQLite does by itself when the disk is full
        raise sqlite3.OperationalError("database or disk is full")

    assert unavailable(lambda: disk.update([key(), key()], fold)).endswith("database or disk is full")
    append(disk, key(), *happened(1))


def test_a_folder_removed_while_in_use_is_503_until_it_is_back(disk: DiskStore, folder: Path) -> None:
    keys = [key(f"visitor {number}") for number in range(10)]
    disk.update(keys, lambda where, _: Write({"a": 1}))
    folder.rename(folder.with_name("away"))
    for where in keys:
        assert "removed while in use" in unavailable(lambda where=where: put(disk, where, {"a": 2}))
        assert "removed while in use" in unavailable(lambda where=where: disk.read(where))
    assert "removed while in use" in unavailable(disk.check)
    assert not folder.exists()
    folder.with_name("away").rename(folder)
    disk.check()
    disk.update(keys, lambda where, entry: Write({"a": 2, "before": entry.document}))
    assert disk.read(keys[0]).document == {"a": 2, "before": {"a": 1}}


def test_a_folder_restored_from_a_backup_is_served_as_it_is_now(make_disk: MakeDisk, folder: Path) -> None:
    keys = [key(f"visitor {number}") for number in range(10)]
    store = make_disk()
    store.update(keys, lambda where, _: Write({"a": 1}))
    store.close()
    shutil.copytree(folder, folder.with_name("backup"))
    store.update(keys, lambda where, _: Write({"a": 2}))
    shutil.rmtree(folder)
    unavailable(store.check)
    folder.with_name("backup").rename(folder)
    assert all(store.read(where).document == {"a": 1} for where in keys)
    put(store, keys[0], {"a": 3})
    assert make_disk().read(keys[0]).document == {"a": 3}


def test_a_folder_replaced_by_one_of_other_shards_or_format_is_503(make_disk: MakeDisk, folder: Path) -> None:
    store = make_disk()
    put(store, key(), {})
    folder.rename(folder.with_name("away"))
    put(make_disk(folder, shards=3), key(), {})
    assert "3 shards" in unavailable(lambda: put(store, key("a"), {}) or put(store, key("other"), {}))
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "store.json").write_text('{"format": 2, "shards": 2}')
    assert "format 2" in unavailable(store.check)


def test_a_closed_store_opens_again_when_it_is_asked(disk: DiskStore) -> None:
    append(disk, key(), *happened(0))
    disk.close()
    append(disk, key(), *happened(1))
    assert numbers(disk, key()) == [0, 1]


# Death


WRITER = """
import os, sys, time
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.keys import digest_of
from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.protocol import Write
store, first = DiskStore(sys.argv[1], shards=2, history_events=100_000), int(sys.argv[2])
def fold(key, entry):
    count = (entry.document or {"count": 0})["count"] + 1
    return Write({"count": count, "text": "x" * 3000}, [(entry_time, b'{"number":%d}' % number)])
entry_time = time.time_ns() // 1_000_000
for number in range(first, first + 100_000):
    store.update([Key("org", "main", f"visitor {number % 5}")], fold)
    os.write(1, b"%d\\n" % number)
"""


def test_whatever_was_acknowledged_is_there_exactly_once_after_kill_9(make_disk: MakeDisk, folder: Path) -> None:
    random = Random(9)
    acknowledged: set[int] = set()
    for round_ in range(10):
        first = 1_000_000 * round_
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(first)], stdout=subprocess.PIPE, cwd=PACKAGE
        )
        assert writer.stdout is not None
        for _ in range(random.randrange(1, 400)):
            acknowledged.add(int(writer.stdout.readline()))
        writer.kill()
        acknowledged.update(map(int, writer.stdout.read().splitlines()))
        writer.wait()
        writer.stdout.close()
    store = make_disk(history_events=100_000, clock=lambda: 0)
    found: list[int] = []
    for where, document in store.documents():
        there = numbers(store, where)
        assert len(there) == document["count"]
        found += there
    assert len(found) == len(set(found))
    assert acknowledged <= set(found)
    assert len(found) <= len(acknowledged) + 10  # at most the one in the middle, each time
    for file in files(folder):
        with connected(file) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
