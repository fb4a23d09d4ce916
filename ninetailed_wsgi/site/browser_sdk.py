"""The browser SDK in a site's pages: where it sends its events, and whether any of them arrive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from ninetailed_wsgi.site.mount_options import COOKIES, MountOptions

PAGES_WITHOUT_EVENTS = 5
"""After so many pages that are only evaluated, the site is told that no SDK event has arrived."""

_DAY = 24 * 60 * 60
_NO_EVENTS = (
    f"{PAGES_WITHOUT_EVENTS} pages left their page event to the SDK in the browser (preflight), but no event of these "
    "visitors ever arrived, so every visitor stays new: let the SDK read the block of nt_browser (docs/browser.md), "
    "or turn preflight off if the pages have no SDK"
)
_OTHER_COOKIE = "the SDK of version {version} keeps the visitor in the cookie {cookie}: set cookie_name={cookie!r}"
_HIDDEN_COOKIE = "the SDK in the browser cannot read the visitor's cookie: set cookie_httponly=False"


class BrowserSdk:
    """Knows where the SDK in a site's pages sends its events.

    Args:
        options: of the mount.
        spaces: the option ``spaces``: which space of version 3 is which environment.
        hint: says once what keeps the SDK from sharing the cookie with the pages.
    """

    def __init__(
        self, options: MountOptions, spaces: Iterable[str], hint: Callable[[str, str], None] = lambda kind, text: None
    ) -> None:
        self._options = options
        self._spaces = tuple(spaces)
        self._hint = hint

    def path(self, root: str) -> str:
        """Return the path of the API, percent-encoded; ``root`` as for `place`."""
        return quote((root + self._options.path_prefix).encode("latin-1", "replace"), safe="/~!$&'()*+,;=:@")

    def place(self, root: str, version: int) -> dict[str, Any]:
        """Return where the SDK sends its events, as the page's block has it.

        Args:
            root: the path at which the middleware is mounted, as WSGI has it.
            version: 2 or 3, as of `Visitor.handoff`.
        """
        options = self._options
        self._check_cookie(version)
        cookie: dict[str, Any] = {"expires": options.cookie_max_age / _DAY}
        if options.cookie_domain:
            cookie["domain"] = options.cookie_domain
        organization, environment = options.organization, options.environment
        if version == 3:
            target = f"={organization}/{environment}"
            space = next((each for each in self._spaces if each.endswith(target)), f"{organization}/{environment}")
            organization, _, environment = space.removesuffix(target).partition("/")
        place = {"url": self.path(root), "environment": environment, "cookie": cookie}
        return {"spaceId" if version == 3 else "clientId": organization, **place}

    def _check_cookie(self, version: int) -> None:
        cookie = COOKIES[1] if version == 3 else COOKIES[0]
        if self._options.cookie_name != cookie:
            self._hint("cookie name", _OTHER_COOKIE.format(version=version, cookie=cookie))
        if self._options.cookie_httponly:
            self._hint("cookie httponly", _HIDDEN_COOKIE)


class AwaitedEvents:
    """Notices pages that leave their page event to an SDK from which nothing ever arrives.

    If the SDK works, a visitor whose cookie comes back is stored by then. One stored visitor is enough to stop
    looking, so a working site pays nothing.

    Args:
        hint: reports it once.
    """

    def __init__(self, hint: Callable[[str, str], None]) -> None:
        self.is_open = True
        self._hint = hint
        self._lock = threading.Lock()
        self._pages = 0

    def note(self, is_stored: bool) -> None:
        """Count a page of a visitor whose cookie came back, and whether anything is stored of them."""
        with self._lock:
            self._pages += 1
            if is_stored:
                self.is_open = False
            elif self.is_open and self._pages >= PAGES_WITHOUT_EVENTS:
                self.is_open = False
                self._hint("sdk", _NO_EVENTS)
