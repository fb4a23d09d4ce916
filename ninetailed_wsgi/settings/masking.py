"""Shows the value of an option without anything that may be a password."""

from __future__ import annotations

import os
import re

from ninetailed_wsgi.core.problems import shorten


def masked(address: str) -> str:
    """Return an address for logs, without its login and its query, which may be secret; a Redis key is shown."""
    scheme, _, rest = address.partition("://")
    login, at, _ = rest.rpartition("@")
    # After a colon, the last @ may end a password, even one with misplaced characters: a slash, a #, a third slash.
    rest = re.sub(r"^.*@" if at and ":" in login else r"^[^/?#]*@", "***@", rest, flags=re.DOTALL)
    rest, query, inner = rest.partition("?")
    key = re.search(r"(?:^|&)(key=[^&#]*)", inner) if scheme.startswith("redis") else None
    return f"{scheme}://{rest}{query}{key[1] if key else '...' if query else ''}"


def quoted(value: object) -> str:
    """Return the value of an option as a message repeats it: shortened, and without the passwords of addresses."""
    if isinstance(value, list | tuple):
        return shorten(f"[{', '.join(quoted(one) for one in value)}]", 200)
    if isinstance(value, str) and "://" in value:
        value = masked(value)
    elif isinstance(value, str) and re.search(r":.*@", value):  # an address without its slashes, perhaps
        value = "***@" + value.rpartition("@")[2]
    text = repr(str(value)) if isinstance(value, os.PathLike) else repr(value)
    return shorten(text, 200)


def without_credentials(value: object) -> str:
    """Return an address that cannot be parsed, without anything that may be a password."""
    scheme, separator, _ = str(value).partition("://")
    return repr(scheme[:40] + "://...") if separator and "@" not in scheme else "no address"
