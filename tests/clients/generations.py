"""What each generation of clients demands of an answer, on its own routes: ``fixtures/cases/clients``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs

FOLDER = Path(__file__).parent.parent.parent / "fixtures" / "cases" / "clients"


@dataclass(frozen=True)
class Generation:
    """A generation of clients.

    Attributes:
        routes: ``organizations`` or ``spaces``.
        accepted, forbidden: answers about a profile that its clients take, and that they refuse.
    """

    client: str
    routes: str
    accepted: list[dict[str, Any]]
    forbidden: list[dict[str, Any]]
    validators: dict[str, jsonschema_rs.Draft202012Validator]

    def takes(self, kind: str, document: object) -> bool:
        """Whether clients take an answer; ``kind`` is ``profile``, ``batch``, ``empty`` or ``error``."""
        return self.validators[kind].is_valid(document)


def _read(path: Path) -> Generation:
    told = json.loads(path.read_text())
    schemas = told["schemas"]
    validators = {
        kind: jsonschema_rs.Draft202012Validator({"$defs": schemas["$defs"], **schemas[kind]})
        for kind in ("profile", "batch", "empty", "error")
    }
    return Generation(told["client"], told["routes"], told["accepted"], told["forbidden"], validators)


GENERATIONS = [_read(path) for path in sorted(FOLDER.glob("*.json"))]


def refusals(routes: str, method: str, path: str, status: int, document: object) -> list[str]:
    """The clients of these routes that refuse an answer; ``path`` is the one below the environment."""
    kind = _kind(method, path.partition("?")[0], status)
    return [each.client for each in GENERATIONS if each.routes == routes and not each.takes(kind, document)]


def _kind(method: str, path: str, status: int) -> str:
    if status != 200:
        return "error"
    if path == "/events":
        return "batch"
    if path.endswith("/explain"):  # no client asks for reasons
        return "empty"
    return "profile" if path.startswith("/profiles") and method != "DELETE" else "empty"
