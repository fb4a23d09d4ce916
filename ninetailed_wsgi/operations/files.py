"""Files of the system: writes a file completely or not at all, and raises the limit of open files."""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ninetailed_wsgi.operations.private_files import check_own

# Each database of the store needs three, and gunicorn accepts 1000 connections: the usual limit of 1024 is too low.
OPEN_FILES = 65_536


def allow_open_files() -> None:
    """Raise the number of files that this process and its workers may open, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


@contextlib.contextmanager
def replacement(file: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Yield a new binary file that replaces ``file`` when the block ends without an exception.

    Only its owner may read it. With ``durable``, it then survives a power failure.

    Raises:
        OSError: it cannot be written, or ``file`` exists and is no regular file of this user; ``file`` is unchanged.
    """
    check_own(file)  # as root, `--output /dev/null` would replace the device by a file
    handle, new = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with open(handle, "wb") as output:
            yield output
            if durable:
                output.flush()
                os.fsync(output.fileno())
        os.replace(new, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
