"""Files of the system: writing one as a whole or not at all, and how many may be open."""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ninetailed_wsgi.operations.private_files import check_own

# Three for each database of the store, and gunicorn lets in 1000 connections: the usual limit of 1024 is too low.
OPEN_FILES = 65_536


def allow_open_files() -> None:
    """Raise the number of files that this process and its workers may open, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


@contextlib.contextmanager
def replacement(file: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Yield a new binary file that takes the place of ``file`` when the block ends without an exception.

    Only its owner may read it. With ``durable`` it then survives a power failure.

    Raises:
        OSError: it cannot be written, or ``file`` is there and no regular file of this user; it is unchanged.
    """
    check_own(file)  # as root, `--output /dev/null` would make a file of the device
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
