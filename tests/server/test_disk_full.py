"""The service on a file system that fills up, or that the kernel lets nobody write to any more."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.store.disk.queue import ImportQueue
from ninetailed_wsgi.store.disk.store import DiskStore
from tests.serving import PREFIX, PROFILES, SERVERS, Answer, Server, serving, track, wait_until

IMPORT = PREFIX + "/import/events"
OPTIONS = ["--workers", "1", "--store-shards", "2"]
MEBIBYTE = 1 << 20


def run(*command: str | Path) -> bool:
    """Whether a command exists and succeeds."""
    with suppress(FileNotFoundError):
        return subprocess.run([*map(str, command)], capture_output=True, timeout=120).returncode == 0
    return False


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[None]:
    """A file system of 16 MiB in a file of its own, made when it is not there."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    at.mkdir(exist_ok=True)
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(16 * MEBIBYTE)
        if not run("mkfs.ext4", "-q", image):
            pytest.skip("no ext4 file system can be made here")
    if not run("mount", "-o", "loop,errors=remount-ro", image, at):
        pytest.skip("no file can be mounted as a file system here")
    try:
        yield
    finally:
        run("umount", at) or run("umount", "-l", at)


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    with mounted(tmp_path / "image", tmp_path / "mounted"):
        yield tmp_path / "mounted"


def fill(folder: Path) -> Path:
    """Leave no room in a file system, by a file that nobody needs."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (MEBIBYTE, 65536, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    return ballast


class Client:
    """Posts numbered events and remembers what was acknowledged."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.acknowledged: list[str] = []
        self._numbers = count()

    def update(self) -> Answer:
        message = f"update-{next(self._numbers)}"
        return self._sent(message, "POST", f"{PROFILES}/anna", track(message, text="x" * 5000))

    def accept(self) -> Answer:
        message = f"import-{next(self._numbers)}"
        return self._sent(message, "POST", IMPORT, {**track(message, text="x" * 5000), "anonymousId": "anna"})

    def _sent(self, message: str, method: str, path: str, event: dict[str, object]) -> Answer:
        answer = self.server.call(method, path, {"events": [event]})
        if answer.status == 200:
            self.acknowledged.append(message)
        return answer


def refused(answer: Answer) -> str:
    """The reason of an answer that says to come again."""
    assert answer.status == 503, answer.body
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"] == {"code": "ERR_INTERNAL_SERVER_ERROR"}
    reason: str = answer.json()["message"]
    return reason


def stored(folder: Path) -> list[str]:
    store = DiskStore(folder, history_events=100_000)
    messages = [event["messageId"] for _, _, event in store.read(Key("acme", "main", "anna")).history()]
    store.close()
    return messages


def applied(folder: Path) -> None:
    wait_until(lambda: ImportQueue(folder).state().waiting == 0, "what was accepted is applied")


@pytest.mark.parametrize("kind", SERVERS)
def test_on_a_full_disk_writes_are_503_reads_are_answered_and_all_is_well_once_there_is_room(
    kind: str, tmp_path: Path, at: Path
) -> None:
    options = [*OPTIONS, "--server", kind, "--data-dir", str(at / "data"), "--history-events", "100000"]
    with serving(tmp_path, *options) as server:
        client = Client(server)
        assert [client.update().status for _ in range(5)] == [200] * 5
        assert client.accept().status == 200
        applied(at / "data")
        ballast = fill(at)
        reasons = set()
        for step in (client.update, client.accept):
            answers = [step() for _ in range(200)]  # the files have some free pages left at first
            assert {answer.status for answer in answers[-20:]} == {503}
            reasons |= {refused(answer) for answer in answers if answer.status != 200}
        assert all("full" in reason for reason in reasons)
        assert server.call("GET", f"{PROFILES}/anna").status == 200
        printed = server.printed.read_text()
        assert [printed.count(f"requests are answered 503: {reason};") for reason in reasons] == [1] * len(reasons)
        assert len(reasons) <= 4
        assert "Traceback" not in printed
        ballast.unlink()
        assert client.update().status == client.accept().status == 200
        applied(at / "data")
    assert sorted(stored(at / "data")) == sorted(client.acknowledged)


def test_a_file_system_that_turns_read_only_is_503_and_everything_acknowledged_is_there_when_it_is_mounted_again(
    tmp_path: Path, at: Path
) -> None:
    # What the kernel has not written out by then is lost as in a power cut: FULL waits for the disk.
    options = [*OPTIONS, "--data-dir", str(at / "data"), "--sqlite-synchronous", "FULL"]
    with serving(tmp_path, *options) as server:
        client = Client(server)
        assert client.update().status == client.accept().status == 200
        applied(at / "data")
        damage_met(at)
        for step in (client.update, client.accept):
            assert all("readonly" in refused(answer) or "I/O" in refused(answer) for answer in [step(), step()])
        assert server.call("GET", f"{PROFILES}/anna").status == 200
        assert server.call("GET", "/health/ready").status == 503
        assert "Traceback" not in server.printed.read_text()
    with pytest.raises(SettingsError, match=r"is not writable|Read-only file system"):
        DiskStore(at / "data")
    assert run("umount", at)
    with mounted(tmp_path / "image", at):
        with serving(tmp_path, *options) as server:
            client.server = server
            assert client.update().status == client.accept().status == 200
            applied(at / "data")
        assert sorted(stored(at / "data")) == sorted(client.acknowledged)


def damage_met(at: Path) -> None:
    """As when the disk reports an error: the kernel lets nobody write to this file system any more."""
    [line] = [line for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == str(at)]
    trigger = Path("/sys/fs/ext4", Path(line.split()[0]).name, "trigger_fs_error")
    if not trigger.exists():
        pytest.skip("this kernel reports no errors on demand")
    trigger.write_text("1")
