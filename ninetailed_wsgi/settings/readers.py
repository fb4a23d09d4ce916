"""Reads the value of an option: text from a flag or variable, or a typed value from a keyword.

Each reader takes what was set and returns the checked value. The text of a ValueError says what is valid; `Settings`
adds the option and what was found. The text of `MissingExtra` is complete.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.settings.redis_url import RedisUrl

UNIX_SOCKET = "unix"
"""Stands for a proxy on a Unix socket."""

DATABASE = "a MaxMind City database (.mmdb)"
COMPANIES = "a MaxMind ISP, ASN or Enterprise database (.mmdb)"
SECRET = "a file with a secret"

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


class MissingExtra(ValueError):
    """Says that an option needs an extra that is not installed, and how to install it."""

    def __init__(self, extra: str) -> None:
        super().__init__(f"requires an extra: pip install 'ninetailed-wsgi[{extra}]'")


def address(value: object) -> str:
    """Read where to listen: ``HOST:PORT``, an IPv6 address in brackets."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/]+)):([0-9]{1,5})", str(value))
    if match is None or int(match[3]) > 65535:
        raise ValueError("HOST:PORT such as 127.0.0.1:8000 or [::1]:8000")
    if match[1]:
        try:
            ipaddress.IPv6Address(match[1])
        except ValueError:
            raise ValueError("an IPv6 address between the brackets, such as [::1]:8000") from None
    return str(value)


def whole_number(low: int, high: int) -> Callable[[object], int]:
    """Return the reader of a whole number between two bounds, both included."""

    def read(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            number = value
        elif isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
            number = int(value)
        else:
            number = low - 1
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return read


def _number(value: object) -> float:
    try:
        return float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def seconds(value: object) -> float:
    """Read a number of seconds, above 0 and at most an hour."""
    number = _number(value)
    if not 0 < number <= 3600:  # also refuses NaN
        raise ValueError("a number of seconds above 0, at most 3600")
    return number


def results_every(value: object) -> float:
    """Read every how many seconds results are computed; 0: never. Needs the extra ``results``."""
    if str(value).strip() in ("", "0", "0.0"):
        return 0.0
    number = _number(value)
    if not 1 <= number <= 604_800:  # also refuses NaN
        raise ValueError("a number of seconds from 1 to 604800, or 0 for never")
    if find_spec("scipy") is None:
        raise MissingExtra("results")
    return number


def yes_or_no(value: object) -> bool:
    """Read a switch."""
    word = str(value).strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError("yes or no (also true, false, on, off, 1, 0)")
    return word in _TRUE


def yes_with_extra(package: str, extra: str) -> Callable[[object], bool]:
    """Return the reader of a switch that can be on only if the package of an extra is installed."""

    def read(value: object) -> bool:
        if not yes_or_no(value):
            return False
        if find_spec(package) is None:
            raise MissingExtra(extra)
        return True

    return read


def inspector(value: object) -> bool | Callable[..., bool]:
    """Read whether the inspector is on, or a function of the WSGI environ that says who may use it."""
    if not callable(value):
        return yes_with_extra("jinja2", "inspector")(value)
    yes_with_extra("jinja2", "inspector")(True)
    return value


def rate(value: object) -> str:
    """Read a rate limit in the notation of the package limits, which the extra ``limits`` installs; empty: none."""
    text = str(value or "").strip()
    if not text:
        return ""
    if find_spec("limits") is None:
        raise MissingExtra("limits")
    from limits import parse_many

    try:
        rates = parse_many(text)
    except ValueError:
        rates = []
    if not rates or any(rate.amount < 1 or rate.get_expiry() < 1 for rate in rates):
        raise ValueError("a number per second, minute, hour or day, such as 100/second or 50/second;1000/minute")
    return text


def _path(value: object, kind: str) -> tuple[Path, str]:
    """Return the path, and what is there: ``"file"``, ``"folder"``, or ``""`` for nothing."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError(f"the path of {kind}")
    try:
        path = Path(value).expanduser()
        return path, "folder" if path.is_dir() else "file" if path.exists() else ""
    except (OSError, RuntimeError) as error:  # no permission; an unknown ~user
        raise ValueError(f"the path of {kind}; {error}") from None


def folder(value: object) -> Path:
    """Read the path of a folder, which need not exist."""
    path, there = _path(value, "a folder")
    if there == "file":
        raise ValueError(f"the path of a folder; {path.absolute()} is a file")
    return path


def file(value: object) -> Path | None:
    """Read the path of a file, which need not exist; None: no file."""
    if value is None or value == "":
        return None
    path, there = _path(value, "a file")
    if there == "folder":
        raise ValueError(f"the path of a file; {path.absolute()} is a folder")
    return path


def existing_file(kind: str, *, folder_too: bool) -> Callable[[object], Path | None]:
    """Return the reader of the path of a file that exists; ``folder_too``: or of a folder. None: no file."""

    def read(value: object) -> Path | None:
        if value is None or value == "":
            return None
        path, there = _path(value, kind)
        if not there:
            raise ValueError(f"the path of {kind}; there is no {path.absolute()}")
        if there == "folder" and not folder_too:
            raise ValueError(f"the path of {kind}; {path.absolute()} is a folder")
        return path

    return read


def redis(value: object) -> RedisUrl | None:
    """Read the URL of a Redis store; None: profiles are on disk."""
    if value is None or value == "":
        return None
    return value if isinstance(value, RedisUrl) else RedisUrl.parse(str(value))


_SERVICE = "an address that begins with https://, as a key is sent there (http:// on localhost), without a query"


def service_url(value: object) -> str:
    """Read the base address of a service that gets a key: https, or http on this machine."""
    text = str(value or "").strip().rstrip("/")
    try:
        parts = urlsplit(text)
        sound = bool(parts.hostname) and parts.port != 0 and not (parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:
        raise ValueError(_SERVICE) from None
    near = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not sound or not re.fullmatch(r"[!-~]+", text) or not (near or parts.scheme == "https"):
        raise ValueError(_SERVICE)
    return text


def locale(value: object) -> str | None:
    """Read the locale of a Contentful export; None: the default locale of the export."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,35}", value):
        raise ValueError("a locale such as en-US")
    return value


def one_of(*words: str) -> Callable[[object], str]:
    """Return the reader of one of some words, in any case."""
    by_upper_case = {word.upper(): word for word in words}

    def read(value: object) -> str:
        word = by_upper_case.get(str(value).strip().upper())
        if word is None:
            raise ValueError(" or ".join(filter(None, words)))
        return word

    return read


def list_of(read_item: Callable[[str], str]) -> Callable[[object], tuple[str, ...]]:
    """Return the reader of a list, or of text with commas between the items; each item counts once."""

    def read(value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            items = [part.strip() for part in value.split(",") if part.strip()]
        elif isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)):
            items = list(value)
        else:
            raise ValueError("a list, or text with commas between its items")
        wrong = [item for item in items if not isinstance(item, str)]
        if wrong:
            raise ValueError(f"only text in the list, not {wrong[0]!r}")
        return tuple(dict.fromkeys(read_item(item) for item in items))

    return read


def network(item: str) -> str:
    """Check one address or network in CIDR notation, or the word for a proxy on a Unix socket."""
    if item == UNIX_SOCKET:
        return item
    try:
        ipaddress.ip_network(item)
    except ValueError:
        try:
            right = str(ipaddress.ip_network(item, strict=False))
        except ValueError:
            right = ""
        hint = (
            f"; did you mean {right}?"
            if right
            else f", such as 10.0.0.0/8, ::1, or {UNIX_SOCKET} for a proxy on a Unix socket"
        )
        raise ValueError(f"IP addresses or networks, which {item!r} is not{hint}") from None
    return item


def environment(item: str) -> str:
    """Read one ``organization/environment``."""
    try:
        return str(Environment.parse(item))
    except ValueError:
        raise ValueError(f"items of the form organization/environment, which {item!r} is not") from None


def space(item: str) -> str:
    """Read one ``space/environment=organization/environment``."""
    try:
        joined, organization = (str(Environment.parse(part.strip())) for part in item.split("="))
    except ValueError:
        raise ValueError(f"items of the form space/environment=organization/environment, not {item!r}") from None
    return f"{joined}={organization}"


def spaces(value: object) -> tuple[str, ...]:
    """Read which spaces have another name, each space once."""
    joined = list_of(space)(value)
    names = [item.partition("=")[0] for item in joined]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"each space once: {twice} is joined to several environments")
    return joined


def query_parameter(item: str) -> str:
    """Read one name of a query parameter."""
    if not re.fullmatch(r"[^\s=&#?;]+", item):
        raise ValueError(f"names of query parameters such as token, not {item!r}")
    return item


def origin(item: str) -> str:
    """Check one origin of pages, such as ``https://www.example.com``, or ``*``."""
    if item != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", item):
        raise ValueError(f"* or origins such as https://www.example.com (no path, no slash at the end), not {item!r}")
    return item
