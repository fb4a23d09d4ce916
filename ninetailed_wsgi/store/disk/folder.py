"""The files that make a folder a store: ``store.json`` (format, number of shards), ``files.txt`` (files made in it).

While a migration fills the store, ``migration.txt`` names the source.

A version of this software that changes the format replaces ``store.json`` first, and waits for ten times `LOOK_EVERY`
before it changes anything else: by then, processes of other versions no longer read or write.
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
"""Seconds between two checks of ``store.json``: a check before each step would take a tenth of the step's time."""

_NOTES, _SOURCE, _KEY = "files.txt", "migration.txt", "ids.key"


def examine(folder: Path) -> int | None:
    """Return the number of shards of the store in a folder, None if there is no store yet; change nothing.

    Raises:
        SettingsError: the folder holds other files, or a store of another version of this software.
        OSError: the folder cannot be read.
    """
    # List the folder before checking for store.json: another process may be creating the same store.
    foreign = [name for name in os.listdir(folder) if not name.startswith(".") and name not in ("lost+found", _KEY)]
    if (folder / "store.json").exists():
        return read_description(folder)
    if foreign:
        raise SettingsError([f"data_dir: {folder} contains other files and no store; name an empty or a new folder"])
    return None


def prepare(folder: Path, shards: int) -> int:
    """Make the folder a store, or check that it is one; return the number of its shards."""
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
    """Return the key that certifies the profile ids of the store in a folder.

    Raises:
        StoreUnavailable: the key is gone or damaged; with another key, every visitor would be a stranger.
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
    """Give an empty store the key of the store from which it is filled."""
    with replacement(folder / _KEY, durable=True) as output:
        output.write(key.hex().encode())


def upgrade(folder: Path) -> bool:
    """Upgrade the store of a folder to the format of this software; return whether it had an older one.

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
    # Written in place with the same length, because `files.txt` names the inode of this file.
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
    except OSError:  # `prepare` reports why a folder cannot be read
        return None


def note_source(folder: Path, source: str | None) -> None:
    """Record the source of a migration into this folder; None: the migration has ended."""
    file = folder / _SOURCE
    if source is None:
        file.unlink(missing_ok=True)
    elif not file.exists():
        _write_once(file, source.encode("utf-8", "surrogateescape"))


def refuse_filling(folder: Path) -> None:
    """Raise SettingsError if a migration into this folder has not ended, because the store is incomplete."""
    if source := filled_from(folder):
        raise SettingsError([f"data_dir: {folder} is being filled from {source}, see `ninetailed-wsgi migrate`"])


def read_description(folder: Path) -> int:
    """Return the number of shards of the store in a folder; raise SettingsError if this software cannot read it."""
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
    """Write a whole file; if another process was faster, its content stays."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".store-") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(handle.name, file)


class Watch:
    """Notices that the folder in use was removed, or became a store of another format or another number of shards.

    Args:
        shards: how many the store has; None: any number.
    """

    def __init__(self, folder: Path, shards: int | None = None) -> None:
        self._folder = folder
        self._description = os.fspath(folder / "store.json")
        self._shards = shards
        self._version: tuple[int, int] | None = None
        self._next_look = 0.0

    def glance(self) -> None:
        """Call `check` unless it was called a moment ago."""
        if time.monotonic() >= self._next_look:
            self.check()
            self._next_look = time.monotonic() + LOOK_EVERY

    def check(self) -> None:
        """Raise StoreUnavailable unless the store is still the one that was opened; reads one file."""
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
    """Return the identity of a file; None if it is missing or empty, which SQLite would take for a new database."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_size else None


def check_file(file: Path) -> bool:
    """Return whether this database file was created before, and check that it can be opened.

    Raises:
        StoreUnavailable: it is gone or empty, so SQLite would create it again and remove its log with all data in the
            log; or it was replaced and the log belongs to the previous file, so SQLite would mix it into this one.
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
    # In a copied folder, all files have new inodes; then a log belongs to the file with which it was copied.
    replaced = identity[1] != note[0] and (folder / "store.json").stat().st_ino == note[1]
    if replaced and file_identity(log) is not None:
        raise StoreUnavailable(
            f"the store file {file} was replaced, and the log beside it belongs to the previous file: stop the service,"
            f" remove {log} and {file.name}-shm, and start again"
        )
    return True


def note_file(file: Path) -> None:
    """Record that this database file was created, before anything is written to it."""
    folder = file.parent.parent
    note = file.stat().st_ino, (folder / "store.json").stat().st_ino
    if _notes(folder).get(file.parent.name) != note:
        with open(open_private(folder / _NOTES, os.O_WRONLY | os.O_APPEND), "ab", buffering=0) as notes:
            notes.write(b"\n%s %d %d\n" % (file.parent.name.encode(), *note))  # the last line may be cut off


def made_files(folder: Path) -> list[Path]:
    """Return every database file that was ever created in the folder, whether or not it still exists."""
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
