"""The newest events for somebody who watches, in two files of the data folder that every process writes and reads.

An append of one line is atomic, so no lock is needed. When a file is full, it replaces the one before it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.operations.private_files import open_private, read_private

FILE = ".arrivals"
"""The file's name in the data folder. The dot lets a folder that holds nothing else still become a store."""

_FULL = 256 * 1024  # bytes of one of the two files
_LONGEST = 64  # the most bytes that are read of the file with a time


class DiskArrivals:
    """See :class:`~ninetailed_wsgi.store.protocol.Arrivals`.

    Args:
        folder: the data folder, which must exist.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._before, self._until = (folder / (FILE + end) for end in ("", "-before", "-until"))

    def watch(self, until: int) -> None:
        with _unavailable():
            descriptor = open_private(self._until, os.O_WRONLY)
            try:  # all at once and never cut: who reads nothing takes it that nobody watches, and clears
                os.pwrite(descriptor, b"%020d" % until, 0)
            finally:
                os.close(descriptor)

    def watched_until(self) -> int:
        with _unavailable(), contextlib.suppress(FileNotFoundError, ValueError):
            return int(read_private(self._until)[:_LONGEST])
        return 0

    def add(self, arrival: bytes) -> None:
        with _unavailable():
            descriptor = open_private(self._file, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, arrival + b"\n")
                own = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            if own.st_size > _FULL:
                # Only if it is still the same file: another process may have replaced it since.
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(self._file).st_ino == own.st_ino:
                        self._file.replace(self._before)

    def newest(self) -> list[bytes]:
        lines: list[bytes] = []
        for file in (self._before, self._file):
            with _unavailable(), contextlib.suppress(FileNotFoundError):
                lines += read_private(file).splitlines()
        return lines

    def clear(self) -> None:
        with _unavailable():
            for file in (self._file, self._before, self._until):
                file.unlink(missing_ok=True)


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"what comes in cannot be shared: {error.strerror}") from error
