"""Files that hold visitors: for their owner only, and never somebody else's file or a link in their place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_NOT_OURS = "it is no regular file of this user; remove it, or choose another name"


def open_private(file: str | Path, flags: int) -> int:
    """Open a file, made with mode 0600 where there is none; return its descriptor.

    Args:
        flags: as of ``os.open``; ``O_CREAT``, ``O_EXCL`` and ``O_NOFOLLOW`` are this function's business.

    Raises:
        OSError: it cannot be opened, or is there and no regular file of this user.
    """
    try:
        return os.open(file, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        # Truncated after it was looked at, so that nobody's file is emptied.
        descriptor = os.open(file, (flags & ~os.O_TRUNC) | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(0, _NOT_OURS)
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def write_private(file: str | Path, content: bytes) -> None:
    """Write a whole file as `open_private` opens it."""
    with open(open_private(file, os.O_WRONLY | os.O_TRUNC), "wb") as opened:
        opened.write(content)


def make_private(file: str | Path) -> None:
    """Make an empty file with mode 0600 where there is none; take an existing one from everybody else.

    An existing one is not opened: closing it would end the locks that this process holds on it, such as SQLite's.

    Raises:
        OSError: it cannot be made, or is there and no regular file of this user.
    """
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        found = os.lstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(0, _NOT_OURS) from None
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.chmod(file, 0o600)
