"""The JSON Schema of content files as one document, for editors: it combines the files of ``schemas/``."""

from __future__ import annotations

from importlib import resources
from typing import Any

import orjson

_SUFFIX = ".schema.json"
_WHOLE = "content-file"


def content_schema() -> dict[str, Any]:
    """Return a JSON Schema (2020-12) of all formats of content files, without references to other documents."""
    parts: dict[str, Any] = {}
    waiting = [_WHOLE]
    while waiting:
        name = waiting.pop()
        if name not in parts:
            parts[name] = _within(_read(name), name, waiting)
    whole = parts.pop(_WHOLE)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "$defs": dict(sorted(parts.items()))}


def _read(name: str) -> Any:
    return orjson.loads((resources.files("ninetailed_wsgi") / "schemas" / f"{name}{_SUFFIX}").read_bytes())


def _within(value: Any, name: str, others: list[str]) -> Any:
    """Copy a schema with its references changed to ``#/$defs/...``, and note which other schemas they name."""
    if isinstance(value, list):
        return [_within(one, name, others) for one in value]
    if not isinstance(value, dict):
        return value
    copy = {}
    for member, inner in value.items():
        if member in ("$id", "$schema") and isinstance(inner, str):
            continue
        if member == "$ref":
            file, _, path = inner.partition("#")
            other = file.removesuffix(_SUFFIX) or name
            others.append(other)
            copy[member] = f"#/$defs/{other}{path}"
        else:
            copy[member] = _within(inner, name, others)
    return copy
