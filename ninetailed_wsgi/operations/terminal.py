"""Text from outside as a terminal may show it: what would move the cursor or turn the order of letters is escaped."""

from __future__ import annotations

import re

# C0 without tab and line end, DEL, C1; marks, embeddings, overrides and isolates of bidirectional text (UAX #9);
# line and paragraph separators.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    r"""Return a text in which each unsafe character is written as ``\u001b``, which is valid inside JSON too."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
