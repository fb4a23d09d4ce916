"""Files with data of visitors: only for their owner, and never another user's file or a link in their place."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_NOT_OURS = "it is no regular file of this user; remove it, or choose another name"


def open_private(file: str | Path, flags: int) -> int:
    """Open a file, created with mode 0600 if there is none; return its descriptor.

    Args:
        flags: as for ``os.open``; this function adds ``O_CREAT``, ``O_EXCL`` and ``O_NOFOLLOW`` itself.

    Raises:
        OSError: it cannot be opened, or exists and is no regular file of this user.
    """
    try:
        return os.open(file, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        # Truncated only after the check, so that no other user's file is emptied.
        descriptor = _open_own(file, flags & ~os.O_TRUNC)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            os.fchmod(descriptor, 0o600)
        if flags & os.O_TRUNC:
            os.ftruncate(descriptor, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def write_private(file: str | Path, content: bytes) -> None:
    """Write a whole file, opened by `open_private`."""
    with open(open_private(file, os.O_WRONLY | os.O_TRUNC), "wb") as opened:
        opened.write(content)


def read_private(file: str | Path) -> bytes:
    """Read a whole file; raise OSError if it cannot be read, or is no regular file of this user."""
    with open(_open_own(file, os.O_RDONLY), "rb") as opened:
        return opened.read()


def check_own(file: str | Path) -> None:
    """Raise OSError if the path exists and is no regular file of this user, but for example a link or a device."""
    try:
        _check(os.lstat(file))
    except FileNotFoundError:
        return


def make_private(file: str | Path) -> None:
    """Create an empty file with mode 0600 if there is none; remove all other users' access to an existing one.

    An existing one is not opened: closing it would end the locks that this process holds on it, such as SQLite's.

    Raises:
        OSError: it cannot be created, or exists and is no regular file of this user.
    """
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        present = os.lstat(file)
        _check(present)
        if stat.S_IMODE(present.st_mode) & 0o077:
            os.chmod(file, 0o600)


def _open_own(file: str | Path, flags: int) -> int:
    descriptor = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _check(os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check(present: os.stat_result) -> None:
    if not stat.S_ISREG(present.st_mode) or present.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, _NOT_OURS)
