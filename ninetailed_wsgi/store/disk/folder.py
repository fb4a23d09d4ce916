"""What makes a folder a store: ``store.json``, its format and number of shards, and ``files.txt``, what was made in it.

While a migration fills it, ``migration.txt`` says from where.

A version of this software that changes the format replaces ``store.json`` first, and waits for ten times `LOOK_EVERY`
before it changes anything else: a process of another version reads and writes no more by then.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
from pathlib import Path

import orjson

from ninetailed_wsgi.errors import SettingsError, StoreUnavailable
from ninetailed_wsgi.operations.files import replacement
from ninetailed_wsgi.operations.private_files import open_private
from ninetailed_wsgi.store.protocol import KEY_BYTES

FORMAT = 3
"""2 had no key of ids; `upgrade` makes it."""

LOOK_EVERY = 0.1
"""Seconds between two looks at ``store.json``: one before each step would take a tenth of it."""

_NOTES, _SOURCE, _KEY = "files.txt", "migration.txt", "ids.key"


def examine(folder: Path) -> int | None:
    """Return the number of shards of the store in a folder; None where there is no store yet. Change nothing.

    Raises:
        SettingsError: the folder holds other files, or a store of another version of this software.
        OSError: the folder cannot be read.
    """
    # Listed before the look for store.json: another process may be making the same store.
    foreign = [name for name in os.listdir(folder) if not name.startswith(".") and name not in ("lost+found", _KEY)]
    if (folder / "store.json").exists():
        return read_description(folder)
    if foreign:
        raise SettingsError([f"data_dir: {folder} contains other files and no store; name an empty or a new folder"])
    return None


def prepare(folder: Path, shards: int) -> int:
    """Make the folder a store, or check that it is one; the number of its shards."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if examine(folder) is None:
            _make_key(folder)
            _write_once(folder / "store.json", orjson.dumps({"format": FORMAT, "shards": shards}))
        os.chmod(folder, folder.stat().st_mode & 0o700)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise SettingsError([f"data_dir: {folder} is not writable"])
        return read_description(folder)
    except OSError as error:
        raise SettingsError([f"data_dir: {folder} cannot be used: {error.strerror}"]) from error


def id_key(folder: Path) -> bytes:
    """Return the key that the profile ids of the store in a folder are certified with.

    Raises:
        StoreUnavailable: it is gone or damaged; with another one, every visitor would be a stranger.
    """
    file = folder / _KEY
    try:
        key = bytes.fromhex(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise StoreUnavailable(f"{file}, the key of all profile ids, is missing or damaged: restore it from a backup")
    return key


def replace_id_key(folder: Path, key: bytes) -> None:
    """Give an empty store the key of another one, from which it is filled."""
    with replacement(folder / _KEY, durable=True) as output:
        output.write(key.hex().encode())


def upgrade(folder: Path) -> bool:
    """Bring the store of a folder to the format of this software; whether it had an older one.

    Raises:
        SettingsError: there is no store, or its format cannot be upgraded.
        OSError: the folder cannot be written.
    """
    description = folder / "store.json"
    try:
        content = orjson.loads(description.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError([f"data_dir: no profiles are stored in {folder} (--data-dir)"]) from error
    if content != {"format": 2, "shards": content.get("shards")}:
        read_description(folder)
        return False
    _make_key(folder)
    # In place and of the same length: `files.txt` names the inode of this file.
    with open(description, "r+b") as handle:
        handle.write(orjson.dumps({"format": FORMAT, "shards": content["shards"]}))
        handle.flush()
        os.fsync(handle.fileno())
    return True


def _make_key(folder: Path) -> None:
    _write_once(folder / _KEY, secrets.token_bytes(KEY_BYTES).hex().encode())


def filled_from(folder: Path) -> str | None:
    """Return the source of the unfinished migration into this folder, or None."""
    try:
        return (folder / _SOURCE).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # what is wrong with a folder that cannot be read is for `prepare` to say
        return None


def note_source(folder: Path, source: str | None) -> None:
    """Remember where a migration into this folder comes from; None: it has ended."""
    file = folder / _SOURCE
    if source is None:
        file.unlink(missing_ok=True)
    elif not file.exists():
        _write_once(file, source.encode("utf-8", "surrogateescape"))


def refuse_filling(folder: Path) -> None:
    """Raise SettingsError while a migration into this folder has not ended: what is there is not whole."""
    if source := filled_from(folder):
        raise SettingsError([f"data_dir: {folder} is being filled from {source}, see `ninetailed-wsgi migrate`"])


def read_description(folder: Path) -> int:
    """Return the number of shards of the store in a folder; SettingsError when this software cannot read that store."""
    description = folder / "store.json"
    try:
        content = orjson.loads(description.read_bytes())
        written_by, count = content["format"], content["shards"]
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            [f'data_dir: {description} is damaged: expected {{"format": {FORMAT}, "shards": ...}}']
        ) from error
    if written_by != FORMAT:
        raise SettingsError(
            [
                f"data_dir: {folder} has store format {written_by!r}, this software reads format {FORMAT}"
                + ("; stop every process that uses it and run `ninetailed-wsgi upgrade`" if written_by == 2 else "")
            ]
        )
    if not isinstance(count, int) or not 1 <= count <= 256:
        raise SettingsError([f"data_dir: {description} names {count!r} shards, expected 1 to 256"])
    return count


def _write_once(file: Path, content: bytes) -> None:
    """Write a file as a whole; when another process was first, its content stays."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".store-") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(handle.name, file)


class Watch:
    """Notices when the folder that is in use was removed, or became a store of another format or another size.

    Args:
        shards: how many the store has; None: whatever it says.
    """

    def __init__(self, folder: Path, shards: int | None = None) -> None:
        self._folder = folder
        self._description = os.fspath(folder / "store.json")
        self._shards = shards
        self._version: tuple[int, int] | None = None
        self._next_look = 0.0

    def glance(self) -> None:
        """Check as `check` does, unless that was done a moment ago."""
        if time.monotonic() >= self._next_look:
            self.check()
            self._next_look = time.monotonic() + LOOK_EVERY

    def check(self) -> None:
        """Raise StoreUnavailable unless the store is still the one that was opened; costs a look at one file."""
        try:
            status = os.stat(self._description)
            if (version := (status.st_ino, status.st_mtime_ns)) == self._version:
                return
            shards = read_description(self._folder)
        except FileNotFoundError:
            raise StoreUnavailable(f"the data folder {self._folder} was removed while in use") from None
        except (OSError, SettingsError) as error:
            raise StoreUnavailable(str(error)) from error
        if self._shards not in (None, shards):
            raise StoreUnavailable(
                f"the data folder {self._folder} was replaced while in use, by one of {shards} shards"
            )
        self._version = version


def file_identity(file: str | Path) -> tuple[int, int] | None:
    """Return which file is there; None if there is none or an empty one, which SQLite would take for a new database."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_size else None


def check_file(file: Path) -> bool:
    """Return whether this database file was created before, and check that it can be opened.

    Raises:
        StoreUnavailable: it is gone or empty, so that SQLite would create it again and remove its log with what is in
            there; or it was replaced and the log is of the file before, which SQLite would mix into this one.
    """
    folder, log = file.parent.parent, file.with_name(file.name + "-wal")
    note = _notes(folder).get(file.parent.name)
    if note is None:
        return False
    identity = file_identity(file)
    if identity is None:
        state = "empty" if file.exists() else "gone"
        raise StoreUnavailable(
            f"the store file {file} is {state}: put it back, or give up what was in it: remove the folder {file.parent}"
            f" and its line in {folder / _NOTES}"
        )
    # All files of a folder that was copied are others; then a log belongs to the file that it was copied with.
    replaced = identity[1] != note[0] and (folder / "store.json").stat().st_ino == note[1]
    if replaced and file_identity(log) is not None:
        raise StoreUnavailable(
            f"the store file {file} was replaced, and the log beside it belongs to the previous file: stop the service,"
            f" remove {log} and {file.name}-shm, and start again"
        )
    return True


def note_file(file: Path) -> None:
    """Remember that this database file was created, before anything is written to it."""
    folder = file.parent.parent
    note = file.stat().st_ino, (folder / "store.json").stat().st_ino
    if _notes(folder).get(file.parent.name) != note:
        with open(open_private(folder / _NOTES, os.O_WRONLY | os.O_APPEND), "ab", buffering=0) as notes:
            notes.write(b"\n%s %d %d\n" % (file.parent.name.encode(), *note))  # apart from a line that was cut off


def made_files(folder: Path) -> list[Path]:
    """Return every database file that was created in the folder, whether it is still there or not."""
    there = {file.parent.name: file.name for file in folder.glob("*/cache.db")}
    return [folder / name / "cache.db" for name in sorted({*there, *_notes(folder)})]


def _notes(folder: Path) -> dict[str, tuple[int, int]]:
    """Return, by its folder, the inodes of each file and of ``store.json`` when the file was last created."""
    try:
        lines = (folder / _NOTES).read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    words = [line.split() for line in lines]
    return {
        note[0].decode("utf-8", "replace"): (int(note[1]), int(note[2]))
        for note in words
        if len(note) == 3 and note[1].isdigit() and note[2].isdigit()
    }
