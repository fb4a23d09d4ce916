"""What makes a folder a store: ``store.json``, which says its format and its number of shards."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import orjson

from ninetailed_wsgi.errors import SettingsError

FORMAT = 2


def examine(folder: Path) -> int | None:
    """The number of shards of the store in a folder, None where there is no store yet; changes nothing.

    Raises:
        SettingsError: the folder holds other files, or a store of another version of this software.
        OSError: the folder cannot be read.
    """
    # Listed before the look for store.json: another process may be making the same store.
    foreign = [name for name in os.listdir(folder) if not name.startswith(".") and name != "lost+found"]
    if (folder / "store.json").exists():
        return read_description(folder)
    if foreign:
        raise SettingsError([f"data_dir: {folder} holds other files and no store; name an empty or a new folder"])
    return None


def prepare(folder: Path, shards: int) -> int:
    """Make the folder a store, or check that it is one; the number of its shards."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if examine(folder) is None:
            _write_once(folder / "store.json", orjson.dumps({"format": FORMAT, "shards": shards}))
        os.chmod(folder, folder.stat().st_mode & 0o700)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise SettingsError([f"data_dir: {folder} is not writable"])
        return read_description(folder)
    except OSError as error:
        raise SettingsError([f"data_dir: {folder} cannot be used: {error.strerror}"]) from error


def read_description(folder: Path) -> int:
    """The number of shards of the store in a folder; SettingsError when this software cannot read that store."""
    description = folder / "store.json"
    try:
        found = orjson.loads(description.read_bytes())
        written_by, count = found["format"], found["shards"]
    except (ValueError, TypeError, KeyError) as error:
        raise SettingsError(
            [f'data_dir: {description} is damaged: expected {{"format": {FORMAT}, "shards": ...}}']
        ) from error
    if written_by != FORMAT:
        raise SettingsError(
            [f"data_dir: {folder} has store format {written_by!r}, this software reads format {FORMAT}"]
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
