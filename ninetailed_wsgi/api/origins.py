"""Which pages may call the API from a browser, and which hosts it answers to (spec section 16)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.enrichment.client_ip import ClientAddress, forwarded_elements
from ninetailed_wsgi.errors import Forbidden
from ninetailed_wsgi.service.access import Access

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/\s@]+)", re.IGNORECASE)
_PROVEN = "/inspector/"
"""Its pages send no referrer, so over plain HTTP their forms have the origin ``null``; each form has a proof."""

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

    def allow(self, environ: Mapping[str, Any]) -> str | None:
        """Return the value of ``Access-Control-Allow-Origin``, None for no such header.

        Raises:
            Forbidden: a page of another site asks, or this server answers loopback hosts only.
        """
        if self._local:
            _check_hosts(environ)
        if self._any:
            return "*"
        origin, site = environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE")
        if origin and (origin in self._names or (self._local and _is_loopback_origin(origin))):
            return str(origin)
        if not self._strict:
            return None
        if self._local:
            foreign = bool(origin) or site == "cross-site"
        elif site:  # pages cannot set this header
            foreign = site == "cross-site"
        else:
            foreign = (
                origin is not None
                and not is_of_host(origin, self._address.origin(environ)[1])
                and not (origin == "null" and environ.get("PATH_INFO", "").startswith(_PROVEN))
            )
        if foreign:
            text = f"found {shorten(origin)!r}" if origin else "found a request from another site"
            raise Forbidden(f"origin: {text}; name the origins whose pages may call with --cors-origins")
        return None


def _check_hosts(environ: Mapping[str, Any]) -> None:
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
            raise Forbidden(
                f"host: found {shorten(host)!r}; this server is open to everybody, so it answers loopback hosts only. "
                "Behind a proxy, start it with --access guarded"
            )


# PERF: requests name few hosts; parsing an address took 7 % of a stored page event (cProfile).
@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Return whether a host, perhaps with a port, is this machine to the browser that asks for it."""
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
