"""The cookie that carries the profile's id (spec section 9)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

from ninetailed_wsgi.site.mount_options import MountOptions

RENEW_AFTER = 24 * 60 * 60.0
"""Seconds after which an unchanged cookie is set again, so that it does not expire."""

_MOST_REMEMBERED = 10_000  # visitors; a hash and a time of each


class ProfileCookie:
    """Writes the cookie, and remembers for which visitors this process has set it lately.

    Args:
        options: its name and attributes.
        clock: returns now, in seconds; the browser does not say how old a cookie is.
    """

    def __init__(self, options: MountOptions, clock: Callable[[], float] = time.time) -> None:
        self.name = options.cookie_name
        self.clock = clock
        self._max_age = options.cookie_max_age
        self._secure = True if options.cookie_samesite == "None" else options.cookie_secure
        self._end = f"; SameSite={options.cookie_samesite}"
        self._end += f"; Domain={options.cookie_domain}" if options.cookie_domain else ""
        self._end += "; HttpOnly" if options.cookie_httponly else ""
        self._path = options.cookie_path
        self._set_at: OrderedDict[int, float] = OrderedDict()

    def mark_due(self, id: str, cookie: str | None) -> bool:
        """Return whether to set the cookie (it changes, or this process did not set it within a day), and note that."""
        key, now = hash(id), self.clock()
        if id == cookie and 0 <= now - self._set_at.get(key, -RENEW_AFTER) < RENEW_AFTER:
            return False
        self._set_at[key] = now
        if len(self._set_at) > _MOST_REMEMBERED:
            with suppress(KeyError):  # another thread was faster
                self._set_at.popitem(last=False)
        return True

    def value(self, id: str, scheme: str) -> str:
        """Return the ``Set-Cookie`` header that makes a browser keep this id; ``scheme`` is the page's."""
        return self._header(self.name, quote(id, safe="", errors="replace"), self._max_age, scheme)

    def expired(self, name: str, scheme: str) -> str:
        """Return the ``Set-Cookie`` header that makes a browser forget the cookie of this name."""
        return self._header(name, "", 0, scheme)

    def _header(self, name: str, value: str, max_age: int, scheme: str) -> str:
        secure = scheme == "https" if self._secure is None else self._secure
        return f"{name}={value}; Path={self._path}; Max-Age={max_age}{self._end}{'; Secure' if secure else ''}"
