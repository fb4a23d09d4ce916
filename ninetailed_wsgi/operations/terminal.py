"""Text from outside as a terminal may show it: what would move the cursor or turn the order of letters is escaped."""

from __future__ import annotations

import re
from typing import Any, TextIO, cast

# C0 without tab and line end, DEL, C1; marks, embeddings, overrides and isolates of bidirectional text (UAX #9);
# line and paragraph separators.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LINE_ENDS = re.compile(r"[\t\n]")


def escaped(text: str) -> str:
    r"""Return a text in which each unsafe character is written as ``\u001b``, which is valid inside JSON too."""
    return _UNSAFE.sub(_escape, text)


def in_line(text: str) -> str:
    """Return a text as `escaped` does, and in one line, so that no name of something makes up a line of its own."""
    return _LINE_ENDS.sub(_escape, escaped(text))


def escaping(stream: TextIO) -> TextIO:
    """Return a stream that escapes all that is written to it, and writes it to this one."""
    return cast("TextIO", _Escaping(stream))


def unescaped(stream: TextIO) -> TextIO:
    """Return the stream behind one of `escaping`, for colors and cursor movements of ours alone; else the same one."""
    return stream.plain if isinstance(stream, _Escaping) else stream


class _Escaping:
    def __init__(self, stream: TextIO) -> None:
        self.plain = unescaped(stream)

    def write(self, text: str) -> int:
        return self.plain.write(escaped(text))

    def writelines(self, lines: list[str]) -> None:
        self.plain.writelines(map(escaped, lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
