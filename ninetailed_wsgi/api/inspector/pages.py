"""Renders the inspector's pages; no other module of the inspector imports the template engine.

Text from strangers is escaped, and characters that a browser would obey or hide become visible.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
import orjson
from falcon import Response
from markupsafe import Markup

from ninetailed_wsgi.api.inspector import pictures
from ninetailed_wsgi.service.explanation import sentence

# C0 without tab and line end, DEL, C1; what changes or hides the order of letters; zero-width characters; half pairs.
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
SCRIPTED = ("live", "what_if")
"""Pages that refresh themselves by a script; without it, a person reloads them."""

_LONGEST = 160  # characters of one value in a page
_PICTURE = re.compile(r"<svg.*?</svg>", re.DOTALL)


class Excerpt(NamedTuple):
    """The first rows of a list, as HTML.

    Attributes:
        text: the rows.
        rest: the number of rows that are left out.
    """

    text: Markup
    rest: int


def excerpt(rows: Iterable[Any], draw: Callable[..., str], most: int, whole: bool, *more: Any) -> Excerpt:
    """Draw the first rows of a list, so that a page has under 30 kB however long its lists are.

    Args:
        rows: what is listed.
        draw: the macro that draws a row; it also gets ``more``.
        most: bytes that the rows may take without their pictures; the first row is always drawn.
        whole: draws all rows, for a person who asked for them.
    """
    entries, size = list(rows), 0
    parts: list[str] = []
    for row in entries:
        text = draw(row, *more)
        size += len(_PICTURE.sub("", text).encode(errors="replace"))
        if size > most and parts and not whole:
            break
        parts.append(text)
    return Excerpt(Markup("").join(map(Markup, parts)), len(entries) - len(parts))


def visible(value: object) -> object:
    """Return text in which each invisible character is written as its code, such as ``[U+202E]``."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return "" if value is None else value
    return _INVISIBLE.sub(lambda match: f"[U+{ord(match[0]):04X}]", value)


def short(value: object, most: int = _LONGEST) -> str:
    """Return any JSON value as text that fits into a page: at most so many characters, and how many it has."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def moment(at: object) -> str:
    """Return a time (ms) for people, in UTC."""
    if not isinstance(at, int | float):
        return ""
    try:
        return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return short(at)


def age(at: object, now: int) -> str:
    """Return how long ago a time (ms) was, in words."""
    if not isinstance(at, int | float):
        return ""
    seconds = max(0, int((now - at) / 1000))
    for length, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            number = seconds // length
            return f"{number} {name}{'' if number == 1 else 's'} ago"
    return "just now" if seconds < 2 else f"{seconds} seconds ago"


def percent(share: object) -> str:
    """Return a share as a percentage."""
    return f"{share:.1%}" if isinstance(share, int | float) else ""


class Pages:
    """The templates of the inspector."""

    def __init__(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("ninetailed_wsgi.api.inspector"),
            autoescape=True,
            finalize=visible,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "short": short,
            "moment": moment,
            "age": age,
            "worded": sentence,
            "percent": percent,
            "part": lambda text: quote(str(text), safe=""),
            "json": lambda value: orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode(),
        }
        functions = {
            name: getattr(pictures, name) for name in ("allocation", "bars", "intervals", "ranges", "timeline")
        }
        self._templates.globals |= {name: _markup(draw) for name, draw in functions.items()}
        self._templates.globals["excerpt"] = excerpt

    def render(self, resp: Response, name: str, values: Mapping[str, Any]) -> None:
        """Answer with a page that allows no frame, sends no referrer, and runs no scripts but those of `SCRIPTED`."""
        nonce = secrets.token_urlsafe(16)
        text = self._templates.get_template(f"{name}.html").render(**values, nonce=nonce)
        resp.content_type = "text/html; charset=utf-8"
        resp.text = text
        for header, value in headers(nonce, scripted=name in SCRIPTED).items():
            resp.set_header(header, value)
        resp.delete_header("Access-Control-Allow-Origin")


def headers(nonce: str, *, scripted: bool = False) -> dict[str, str]:
    """Return the headers of a page whose styles, and script if it has one, have this nonce."""
    policy = f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; form-action 'self'; "
    if scripted:
        policy += f"script-src 'nonce-{nonce}'; connect-src 'self'; "
    policy += "frame-ancestors 'none'; base-uri 'none'"
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _markup(draw: Any) -> Any:
    return lambda *values: Markup(draw(*values))  # pictures escape what they show
