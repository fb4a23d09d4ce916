"""Who calls: by a key, or by the address that the request comes from (spec section 16)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from ninetailed_wsgi.enrichment.client_ip import ClientAddress, network
from ninetailed_wsgi.service.access import EVERYBODY, SENDER_SCOPES, STRANGER, Access, Caller

_LONGEST = 8192  # characters; a longer header is ignored


class Callers:
    """Finds the caller of a WSGI environ.

    Args:
        access: the rules in force.
        address: finds the address behind trusted proxies.

    Raises:
        ValueError: one of the trusted senders is not a network.
    """

    def __init__(self, access: Access, address: ClientAddress) -> None:
        self._access = access
        self._address = address
        self._senders = tuple(map(network, access.senders))

    def of(self, environ: Mapping[str, Any]) -> Caller:
        """Return the caller: in open mode everybody is trusted, otherwise only a valid key or a trusted address is."""
        if not self._access.guarded:
            return EVERYBODY
        scopes: frozenset[str] = frozenset()
        if self._access.keys and (key := key_of(environ.get("HTTP_AUTHORIZATION"))):
            scopes = self._access.keys.scopes(key)
        if self._senders and (sender := self._address.sender(environ)) is not None:
            address = ip_address(sender)
            if any(address in networks for networks in self._senders):
                scopes |= SENDER_SCOPES
        return Caller(scopes) if scopes else STRANGER


def key_of(header: str | None) -> str | None:
    """Return the key in an ``Authorization`` header: ``Bearer KEY``, or ``Basic`` with the key as user name."""
    if not header or len(header) > _LONGEST:
        return None
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value or None
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    return text.partition(":")[0] or None
