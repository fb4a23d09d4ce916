"""Reads the conformance cases of fixtures/cases, whose README tells their form."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "fixtures" / "cases"
AREAS = ("audiences", "experiences")


def files_of(*areas: str) -> list[str]:
    """The files of these areas, each as ``area/name``."""
    return [f"{area}/{file.stem}" for area in areas or AREAS for file in sorted((FOLDER / area).glob("*.json"))]


def cases_in(file: str) -> list[dict[str, Any]]:
    """The cases of a file that is named as ``files_of`` does."""
    cases: list[dict[str, Any]] = json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))["cases"]
    return cases


def load_cases(*areas: str) -> list[dict[str, Any]]:
    """All cases of these areas, in the order of their files."""
    return [case for file in files_of(*areas) for case in cases_in(file)]


def milliseconds(time: str) -> int:
    """An ISO time of a case as milliseconds since the epoch."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)
