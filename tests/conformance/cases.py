"""Reads the conformance cases of fixtures/cases, whose README tells their form."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "fixtures" / "cases"
AREAS = ("audiences", "experiences")


def load_cases(*areas: str) -> list[dict[str, Any]]:
    """All cases of these areas, in the order of their files."""
    files = (file for area in areas or AREAS for file in sorted((FOLDER / area).glob("*.json")))
    return [case for file in files for case in json.loads(file.read_text(encoding="utf-8"))["cases"]]


def milliseconds(time: str) -> int:
    """An ISO time of a case as milliseconds since the epoch."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)
