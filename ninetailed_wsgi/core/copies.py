"""Copies of JSON values, for callers that receive a part of a shared object, and of values that callers pass."""

from __future__ import annotations

from typing import Any

import orjson


def copy_of(value: Any) -> Any:
    """Return a deep copy of a JSON value: objects and lists are copied, texts and numbers are not."""
    return orjson.loads(orjson.dumps(value)) if isinstance(value, dict | list) else value


def as_json(value: Any) -> Any:
    """Return a caller's value as JSON, with text for what JSON lacks; raise TypeError or ValueError if it fails."""
    return orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))
