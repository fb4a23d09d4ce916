"""What a page hands to the browser SDK, so that it begins with what the server decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

# What could end a script element or a line inside one (HTML, "Restrictions for contents of script elements").
_SCRIPT_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def is_for_every_client(change: Mapping[str, Any]) -> bool:
    """Tell whether clients of the organization routes take a change; one that they do not costs the whole answer."""
    return change["type"] == "Variable" and change["value"] is not None


def handoff_text(data: dict[str, Any], version: int, page_stored: bool) -> str:
    """Return a decision as JSON that is safe inside a script element; the arguments as of `Visitor.handoff`.

    ``page_stored``: whether the page event is stored, so that the browser need not send it again.
    """
    if version == 3:
        state = {name: data[name] for name in ("profile", "changes")}
        return _script_json(
            {
                "state": {**state, "selectedOptimizations": data["experiences"]},
                "cache": {"scope": "private-request"},
                "hydration": "preserve-server",
                "initialPageEvent": "skip" if page_stored else "emit",
            }
        )
    return _script_json({**data, "changes": [change for change in data["changes"] if is_for_every_client(change)]})


def _script_json(document: object) -> str:
    return orjson.dumps(document).decode().translate(_SCRIPT_ESCAPES)
