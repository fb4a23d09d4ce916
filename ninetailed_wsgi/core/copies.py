"""Copies of JSON values, for callers that receive a part of a shared object."""

from __future__ import annotations

from typing import Any

import orjson


def copy_of(value: Any) -> Any:
    """Return a deep copy of a JSON value: objects and lists are copied, texts and numbers are not."""
    return orjson.loads(orjson.dumps(value)) if isinstance(value, dict | list) else value
