"""Makes text from outside safe for a terminal: escapes what would move the cursor or change the order of letters.

Also measures the columns of a text: East Asian letters take two (UAX #11), combining marks none.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, TextIO, cast

# C0 without tab and line end, DEL, C1; marks, embeddings, overrides and isolates of bidirectional text (UAX #9);
# line and paragraph separators.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_LINE_ENDS = re.compile(r"[\t\n]")


def escaped(text: str) -> str:
    r"""Return a text in which each unsafe character is written as ``\u001b``, which is valid inside JSON too."""
    return _UNSAFE.sub(_escape, text)


def in_line(text: str) -> str:
    """Return a text as `escaped` does, but in one line, so that a name cannot fake a line of its own."""
    return _LINE_ENDS.sub(_escape, escaped(text))


def columns(text: str) -> int:
    """Return how many columns a text of one line takes in a terminal."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def fitting(text: str, most: int) -> str:
    """Return a text of at most ``most`` columns: the text itself, or its beginning and ``...``."""
    if columns(text) <= most:
        return text
    room, end = most - len("..."), 0
    while (room := room - _columns_of(text[end])) >= 0:
        end += 1
    return text[:end] + "..."


def escaping(stream: TextIO) -> TextIO:
    """Return a stream that escapes all that is written to it and passes it on to this stream."""
    return cast("TextIO", _Escaping(stream))


def unescaped(stream: TextIO) -> TextIO:
    """Return the stream behind one of `escaping`, for our own colors and cursor movements; or the stream itself."""
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


def _columns_of(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
