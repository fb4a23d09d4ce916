"""What a page hands to the browser SDK: what the server decided, and where the SDK sends its events."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import orjson

# What could end a script element or a line inside one (HTML, "Restrictions for contents of script elements").
SCRIPT_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def is_for_every_client(change: Mapping[str, Any]) -> bool:
    """Return whether clients of the organization routes accept a change; any other costs them the whole answer."""
    return change["type"] == "Variable" and change["value"] is not None


def sdk_version(version: object, hint: Callable[[str, str], None]) -> int:
    """Return the version of the browser SDK that a page names, as number or text; 2 for any other, reported once."""
    if version in (2, 3, "2", "3") and not isinstance(version, bool):
        return int(str(version)[0])
    name = str(version) if isinstance(version, int) else type(version).__name__
    hint(f"version {name}", f"visitor.handoff: version: found {name}, expected 2 or 3; 2 counts")
    return 2


def handoff_text(data: dict[str, Any], version: int, page_stored: bool) -> str:
    """Return a decision as JSON that is safe inside a script element; the arguments as of `Visitor.handoff`.

    ``page_stored``: whether the page event is stored, so that the browser need not send it again.
    """
    return _script_json(_handoff(data, version, page_stored))


def snippet(
    place: Mapping[str, Any], data: dict[str, Any], version: int, page_stored: bool, consent: bool, nonce: str
) -> str:
    """Return the script element with everything that the browser SDK needs; the arguments as of `handoff_text`.

    Args:
        place: where the SDK sends its events, as `BrowserSdk.place` has it.
        consent: whether the visitor may be remembered; if not, the profile is left out.
        nonce: of the page's Content-Security-Policy; empty: none.
    """
    handoff = _handoff(data, version, page_stored) if data["profile"]["id"] else None
    if handoff and not consent:
        (handoff["state"] if version == 3 else handoff).pop("profile")
    text = _script_json({**place, "consent": consent, "handoff": handoff})
    attribute = f' nonce="{html.escape(nonce)}"' if nonce else ""
    return f'<script type="application/json" id="ninetailed"{attribute}>{text}</script>'


def _handoff(data: dict[str, Any], version: int, page_stored: bool) -> dict[str, Any]:
    if version == 3:
        state = {name: data[name] for name in ("profile", "changes")}
        return {
            "state": {**state, "selectedOptimizations": data["experiences"]},
            "cache": {"scope": "private-request"},
            "hydration": "preserve-server",
            "initialPageEvent": "skip" if page_stored else "emit",
        }
    return {**data, "changes": [change for change in data["changes"] if is_for_every_client(change)]}


def _script_json(document: object) -> str:
    return orjson.dumps(document).decode().translate(SCRIPT_ESCAPES)
