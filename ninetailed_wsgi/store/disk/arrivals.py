"""What came in last, in two files of the data folder, which any process appends to and any process reads.

An append of one line is atomic, so nobody takes a lock. When a file is full it takes the place of the one before it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.operations.private_files import open_private, read_private, write_private

FILE = ".arrivals"
"""Its name in the data folder. It begins with a dot, so that a folder with nothing else can still become a store."""

_FULL = 256 * 1024  # bytes of one of the two files
_LONGEST = 64  # bytes of the note of a time that are read


class DiskArrivals:
    """See :class:`~ninetailed_wsgi.store.protocol.Arrivals`.

    Args:
        folder: the data folder, which is there.
    """

    def __init__(self, folder: Path) -> None:
        self._file, self._before, self._until = (folder / (FILE + end) for end in ("", "-before", "-until"))

    def watch(self, until: int) -> None:
        with _unavailable():
            write_private(self._until, b"%d" % until)

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
                # Only while it is the same file: another process may have put it aside since.
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
