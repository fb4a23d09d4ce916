"""The visitor's address: what the request names, read through the proxies that are trusted and no others.

Sources: spec section 4; RFC 7239 for the header ``Forwarded``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import islice
from typing import Any

UNIX_SOCKET = "unix"

# A longer chain of proxies does not exist, and the left part of these headers is whatever the sender wrote.
MOST_HOPS = 100
MOST_CHARACTERS = 8192
# The longest address is 45 characters, a zone or a port comes on top.
LONGEST_ADDRESS = 64

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

_BRACKETS_AND_PORT = re.compile(r"\[([^\[\]]*)\](?::[\w.-]*)?")
_ADDRESS_AND_PORT = re.compile(r"([0-9.]+):[\w.-]*")


class ClientAddress:
    """Finds the visitor's address in a WSGI environ (spec section 4).

    Args:
        trusted_proxies: addresses and networks (``10.0.0.0/8``) whose ``X-Forwarded-For`` or ``Forwarded`` header is
            believed, and the word ``unix`` for a proxy that connects through a unix socket. Each of these proxies has
            to write or remove ``X-Forwarded-For``: where it is present, ``Forwarded`` is not read.

    Raises:
        ValueError: a text is none of these; the message names it.
    """

    def __init__(self, trusted_proxies: Sequence[str] = ()) -> None:
        self._trust_unix_socket = UNIX_SOCKET in trusted_proxies
        self._networks = tuple(_network(text) for text in trusted_proxies if text != UNIX_SOCKET)
        self._trusts_nobody = not self._networks and not self._trust_unix_socket

    def of(self, environ: Mapping[str, Any]) -> str | None:
        """Return the visitor's address as text in its shortest form, or None when the request does not tell.

        ``X-Force-IP`` wins where it is one valid address. Otherwise it is ``REMOTE_ADDR``, or behind trusted proxies
        the right-most address of the forwarding header that is not trusted itself; where all are trusted, the
        left-most. Parts that are no address are passed over. An IPv4 address inside an IPv6 one comes out as IPv4.
        Never raises.
        """
        forced = environ.get("HTTP_X_FORCE_IP")
        if forced and (address := _parsed(forced)) is not None:
            return _text(address)
        return self.sender(environ)

    def sender(self, environ: Mapping[str, Any]) -> str | None:
        """The same without ``X-Force-IP``, which a client may write to hide behind many addresses."""
        remote = environ.get("REMOTE_ADDR")
        address = _parsed(remote)
        if self._trusts_nobody or not self._is_trusted_peer(remote, address):
            return None if address is None else _text(address)
        for hop in islice(_hops_from_the_right(environ), MOST_HOPS):
            candidate = _parsed(_without_port(hop))
            if candidate is not None:
                address = candidate
                if not self._is_trusted(address):
                    break
        return None if address is None else _text(address)

    def _is_trusted_peer(self, remote: object, address: _Address | None) -> bool:
        if address is None:
            return self._trust_unix_socket and not remote
        return self._is_trusted(address)

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _network(text: str) -> _Network:
    try:
        network = ip_network(text.strip())
    except ValueError as problem:
        raise ValueError(
            f'"{text}" is not a trusted proxy: expected an address (192.0.2.1), '
            f'a network (10.0.0.0/8, fd00::/8) or "{UNIX_SOCKET}" ({problem})'
        ) from None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped and network.prefixlen >= 96:
        # Addresses are compared as IPv4 where they are IPv4 inside IPv6, so networks must be as well.
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


def _parsed(text: object) -> _Address | None:
    """Read one address; None for anything else."""
    if not isinstance(text, str) or len(text) > LONGEST_ADDRESS:
        return None
    return _parse(text)


@lru_cache(maxsize=4096)
def _parse(text: str) -> _Address | None:
    # A zone (fe80::1%eth0) only means something on the machine that wrote it.
    plain, _, _ = text.strip().partition("%")
    try:
        address = ip_address(plain)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


_text = lru_cache(maxsize=4096)(str)  # PERF: ipaddress takes 2 microseconds to write one


def _without_port(hop: str) -> str:
    """Take off what forwarding headers add to an address: ``[2001:db8::1]:443``, ``192.0.2.1:80``."""
    hop = hop.strip()
    found = _BRACKETS_AND_PORT.fullmatch(hop) or _ADDRESS_AND_PORT.fullmatch(hop)
    return found[1] if found else hop


def _hops_from_the_right(environ: Mapping[str, Any]) -> Iterator[str]:
    listed = environ.get("HTTP_X_FORWARDED_FOR")
    if isinstance(listed, str) and listed.strip():
        parts = _last_characters(listed).split(",")
        yield from reversed(parts)
        return
    forwarded = environ.get("HTTP_FORWARDED")
    if isinstance(forwarded, str):
        for element in _split_from_the_right(_last_characters(forwarded), ","):
            yield _for_parameter(_split_from_the_right(element, ";"))


def _last_characters(header: str) -> str:
    if len(header) <= MOST_CHARACTERS:
        return header
    # The cut may go through an address and make another one of it, so the first part is dropped.
    return header[-MOST_CHARACTERS:].partition(",")[2]


def _split_from_the_right(text: str, separator: str) -> Iterator[str]:
    """Yield the parts between separators outside quotes, the last one first.

    From the right because the right end is what trusted proxies wrote: a quotation mark that a visitor left open
    further left cannot swallow it.
    """
    end = len(text)
    quoted = False
    for position in range(len(text) - 1, -1, -1):
        character = text[position]
        if character == '"' and not _is_escaped(text, position):
            quoted = not quoted
        elif character == separator and not quoted:
            yield text[position + 1 : end]
            end = position
    yield text[:end]


def _is_escaped(text: str, position: int) -> bool:
    before = text[max(0, position - LONGEST_ADDRESS) : position]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _for_parameter(parameters: Iterable[str]) -> str:
    """Return the value of ``for=`` in one element of ``Forwarded``, without its quotes; empty when there is none."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "for":
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            return value
    return ""
