"""Which pages may call the API from a browser, and which hosts it answers to (spec section 16).

``Sec-Fetch-Site``, which no page can set, decides where it says that a page is of this origin or of another site.
Otherwise, for a page of a sibling domain, a person who typed an address or repeats a form, and in a browser that does
not send it, ``Origin`` decides: only pages of this host and of the named origins may call. Senders that are no browsers
have neither.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.enrichment.client_ip import LONGEST_HOST, ClientAddress, forwarded_elements
from ninetailed_wsgi.errors import Forbidden
from ninetailed_wsgi.service.access import Access

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/\s@]+)", re.IGNORECASE)
_PROVEN = "/inspector/"
"""Its pages send no referrer, so over plain HTTP their forms have the origin ``null``; each form has a proof."""

_log = logging.getLogger("ninetailed_wsgi")

_DEFAULT_PORT = {"http": ":80", "https": ":443"}


class Origins:
    """Judges the ``Host``, ``Origin`` and ``Sec-Fetch-Site`` of a request.

    Args:
        access: the rules in force.
        address: knows the trusted proxies, which say which host a browser asked; None: there are none.
    """

    def __init__(self, access: Access, address: ClientAddress | None = None) -> None:
        self._address = address or ClientAddress()
        self._any = "*" in access.origins
        self._names = frozenset(access.origins)
        self._local = access.local
        self._strict = access.guarded or access.local
        self.vary = not self._any
        """Whether answers differ by origin."""
        self._reasons: set[str] = set()

    def allow(self, environ: Mapping[str, Any]) -> str | None:
        """Return the value of ``Access-Control-Allow-Origin``, None for no such header.

        Raises:
            Forbidden: a page asks that is neither of this host nor of a named origin, or a host that is not answered.
        """
        if self._local:
            self._check_hosts(environ)
        if self._any:
            return "*"
        origin, site = environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE")
        if origin and (origin in self._names or (self._local and _is_loopback_origin(origin))):
            return str(origin)
        if not self._strict:
            return None
        if self._local:
            foreign = bool(origin) or site == "cross-site"
        elif site == "same-origin":
            foreign = False
        else:
            foreign = site == "cross-site" or not (origin is None or self._is_own(origin, environ))
        if foreign:
            self._say_once(
                "a request of a page of the origin %(value)s was refused; if its pages may call, name the origin in "
                "the option cors_origins (serve: --cors-origins)",
                origin,
            )
            raise Forbidden("origin: pages of this origin may not call this API")
        return None

    def _is_own(self, origin: str, environ: Mapping[str, Any]) -> bool:
        if origin == "null" and environ.get("PATH_INFO", "").startswith(_PROVEN):
            return True
        return is_of_host(origin, self._address.origin(environ)[1])

    def _check_hosts(self, environ: Mapping[str, Any]) -> None:
        """Raise Forbidden unless every host that a request to an open server names is loopback.

        A proxy may put its own name in ``Host`` and the visitor's in another header. Any sender of that header is
        believed, because it can only cause a refusal.
        """
        hosts = [environ.get("HTTP_HOST") or "localhost"]
        hosts += [each.strip() for each in environ.get("HTTP_X_FORWARDED_HOST", "").split(",") if each.strip()]
        if "HTTP_FORWARDED" in environ:
            hosts += [each["host"] for each in forwarded_elements(environ) if "host" in each]
        for host in hosts:
            if not is_loopback(host):
                self._say_once(
                    "a request for the host %(value)s was refused: this server is open to everybody, so it answers "
                    "loopback hosts only; behind a proxy, start it with --access guarded",
                    host,
                )
                raise Forbidden("host: requests for this host are not answered")

    def _say_once(self, text: str, value: str | None) -> None:
        """Log why requests are refused, once for each process and reason: the answers do not tell strangers."""
        if text not in self._reasons:
            self._reasons.add(text)
            _log.warning(text, {"value": repr(shorten(value or "?"))})


def is_loopback(host: str) -> bool:
    """Return whether a host, perhaps with a port, is this machine to the browser that asks for it."""
    return len(host) <= LONGEST_HOST and _is_loopback(host)


# PERF: requests name few hosts; parsing an address took 7 % of a stored page event (cProfile).
@lru_cache(maxsize=256)
def _is_loopback(host: str) -> bool:
    name = re.sub(r":[0-9]*$", "", host.lower()) if not host.endswith("]") else host
    if name in ("localhost", "localhost.") or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_loopback_origin(origin: str) -> bool:
    match = _ORIGIN.fullmatch(origin)
    return match is not None and is_loopback(match[2])


def is_of_host(origin: str, host: str) -> bool:
    """Return whether a page of this origin was served by a host."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return False
    port = _DEFAULT_PORT.get(match[1].lower(), "")
    return match[2].lower().removesuffix(port) == host.lower().removesuffix(port)
