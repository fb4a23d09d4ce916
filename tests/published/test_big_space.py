"""The benchmark of a big space, with a small one: its figures are there and far within what is wanted of a big one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_reading_following_and_restarting_stay_within_their_bounds() -> None:
    command = [sys.executable, "benchmarks/big_space.py", "--entries", "3000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    figures = json.loads(done.stdout)

    assert figures["first_seconds"] < 20
    assert figures["first_mb"] < 50
    assert figures["change_seconds"] < 1
    assert figures["restart_seconds"] < 1
    assert figures["kept_kb"] < 200, "1 kB for what decides, nothing for the rest"
