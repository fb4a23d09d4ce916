"""The page of compatibility says what the tests prove."""

from __future__ import annotations

import subprocess
import sys

from tests.clients.compatibility import CLIENTS, OPERATIONS, ROOT, WAYS


def test_the_page_is_what_the_markers_of_the_tests_say() -> None:
    command = [sys.executable, "-m", "tests.clients.compatibility"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr
    assert made.stdout == (ROOT / "docs" / "compatibility.md").read_text()


def test_every_client_is_tested_with_every_operation_that_it_has() -> None:
    rows = [
        line.split("|")[1:-1] for line in (ROOT / "docs" / "compatibility.md").read_text().splitlines() if "|" in line
    ]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    assert [client for client in CLIENTS if not set(cells[client]) & set(WAYS)] == []
    empty = [
        (client, name) for client in CLIENTS for name, cell in zip(OPERATIONS, cells[client], strict=True) if not cell
    ]
    assert empty == []
