"""Writes a file as a whole or not at all: under another name first, renamed at the end."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacement(file: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Yield a new binary file that takes the place of ``file`` when the block ends without an exception.

    Only its owner may read it. With ``durable`` it survives a power cut from then on.

    Raises:
        OSError: it cannot be written; then ``file`` is as before.
    """
    handle, new = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}-")
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
