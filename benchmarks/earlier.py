"""The code of an earlier commit, to be measured beside that of today in one run."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from servers import HERE

COMMIT = "c5408ab"
"""That of 2026-11-26, against which the targets of docs/speed.md are."""


def code(folder: Path) -> Path | None:
    """Unpack it into a folder; None where there is no repository that has it."""
    packed = _git("archive", "--format=tar", COMMIT, "ninetailed_wsgi", "schemas", "fixtures")
    if packed is None:
        return None
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="tar")
    return folder


def instructions() -> dict[str, int] | None:
    """Return how many instructions each operation took; None where there is no repository that has it."""
    text = _git("show", f"{COMMIT}:benchmarks/instructions.json")
    counts: Any = None if text is None else json.loads(text)["instructions"]
    return None if counts is None else dict(counts)


def _git(*words: str) -> bytes | None:
    try:
        done = subprocess.run(["git", "-C", str(HERE.parent), *words], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
