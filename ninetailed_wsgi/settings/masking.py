"""Shows what was set for an option, without anything that may be a password."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit


def masked(address: str) -> str:
    """An address for logs: without its login and its query, which may be secret; a Redis key is shown."""
    scheme, _, rest = address.partition("://")
    try:
        sound = urlsplit(address).port != 0
    except ValueError:  # perhaps a password with a slash that is not percent-encoded
        sound = False
    rest, query, inner = re.sub(r"^[^/?#]*@" if sound else r"^.*@", "***@", rest).partition("?")
    key = re.search(r"(?:^|&)(key=[^&#]*)", inner) if scheme.startswith("redis") else None
    return f"{scheme}://{rest}{query}{key[1] if key else '...' if query else ''}"


def quoted(given: object) -> str:
    if isinstance(given, str) and "://" in given:
        given = masked(given)
    text = repr(str(given)) if isinstance(given, os.PathLike) else repr(given)
    return text if len(text) <= 200 else text[:200] + "..."


def without_credentials(given: object) -> str:
    """Of an address that cannot be read, nothing that may be a password."""
    scheme, separator, _ = str(given).partition("://")
    return repr(scheme[:40] + "://...") if separator and "@" not in scheme else "no address"
