"""The visitor's address; forwarding headers are believed only if they come from trusted proxies.

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

# No real chain of proxies is longer, and anyone can forge the left part of these headers.
MOST_HOPS = 100
MOST_CHARACTERS = 8192
# The longest address has 45 characters, plus a zone or a port.
LONGEST_ADDRESS = 64
LONGEST_HOST = 300

_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")

_Address = IPv4Address | IPv6Address

_BRACKETS_AND_PORT = re.compile(r"\[([^\[\]]*)\](?::[\w.-]*)?")
_ADDRESS_AND_PORT = re.compile(r"([0-9.]+):[\w.-]*")


class ClientAddress:
    """Finds the visitor's address in a WSGI environ (spec section 4).

    Args:
        trusted_proxies: addresses and networks (``10.0.0.0/8``) whose ``X-Forwarded-For`` or ``Forwarded`` header is
            believed, and the word ``unix`` for a proxy that connects through a unix socket. Each of these proxies must
            set or remove ``X-Forwarded-For``: if it is present, ``Forwarded`` is not read.

    Raises:
        ValueError: a text is none of these; the message names it.
    """

    def __init__(self, trusted_proxies: Sequence[str] = ()) -> None:
        self._trust_unix_socket = UNIX_SOCKET in trusted_proxies
        self._networks = tuple(network(text) for text in trusted_proxies if text != UNIX_SOCKET)
        self._trusts_nobody = not self._networks and not self._trust_unix_socket

    def of(self, environ: Mapping[str, Any]) -> str | None:
        """Return the visitor's address as text in its shortest form, or None if it is unknown.

        ``X-Force-IP`` takes precedence if it is one valid address. Otherwise the result is ``REMOTE_ADDR``, or behind
        trusted proxies the right-most address in the forwarding header that is not trusted; if all are trusted, the
        left-most. Invalid elements are skipped. An IPv4 address inside an IPv6 one is returned as IPv4.
        Never raises.
        """
        return self.forced(environ) or self.sender(environ)

    def forced(self, environ: Mapping[str, Any]) -> str | None:
        """Return the address in ``X-Force-IP``, if it is one valid address; None otherwise."""
        forced = environ.get("HTTP_X_FORCE_IP")
        address = _parsed(forced) if forced else None
        return None if address is None else _text(address)

    def sender(self, environ: Mapping[str, Any]) -> str | None:
        """Return the same as `of`, but ignore ``X-Force-IP``, with which a client could pose as many addresses."""
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

    def origin(self, environ: Mapping[str, Any]) -> tuple[str, str]:
        """Return the scheme and host that the visitor's browser uses (with a port unless it is the scheme's default).

        Behind trusted proxies they come from ``X-Forwarded-Proto`` and ``X-Forwarded-Host``, or from the element of
        ``Forwarded`` that names the visitor (spec section 9); otherwise, and where these are malformed, from the
        request itself. Never raises.
        """
        scheme = str(environ.get("wsgi.url_scheme") or "http")
        proto, host = "", ""
        if not self._trusts_nobody:
            remote = environ.get("REMOTE_ADDR")
            if self._is_trusted_peer(remote, _parsed(remote)):
                proto, host = self._forwarded_origin(environ)
        scheme = proto.lower() if proto.lower() in ("http", "https") else scheme
        return scheme, host if len(host) <= LONGEST_HOST and _HOST.fullmatch(host) else _own_host(environ, scheme)

    def _forwarded_origin(self, environ: Mapping[str, Any]) -> tuple[str, str]:
        proto, host = environ.get("HTTP_X_FORWARDED_PROTO"), environ.get("HTTP_X_FORWARDED_HOST")
        if proto or host or environ.get("HTTP_X_FORWARDED_FOR"):
            hop = self._visitors_place(islice(_hops_from_the_right(environ), MOST_HOPS))
            return _at(hop, proto), _at(hop, host)
        elements = [*islice(forwarded_elements(environ), MOST_HOPS)]
        hop = self._visitors_place(element.get("for", "") for element in elements)
        element = elements[hop] if hop < len(elements) else {}
        return element.get("proto", ""), element.get("host", "")

    def _visitors_place(self, hops: Iterable[str]) -> int:
        """Return the index from the right of the visitor's hop: the first that is not trusted, else the last."""
        places = 0
        for place, hop in enumerate(hops):
            address = _parsed(_without_port(hop))
            if address is not None and not self._is_trusted(address):
                return place
            places += 1
        return max(0, places - 1)

    def _is_trusted_peer(self, remote: object, address: _Address | None) -> bool:
        if address is None:
            return self._trust_unix_socket and not remote
        return self._is_trusted(address)

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def network(text: str) -> IPv4Network | IPv6Network:
    """Read an address or a network; raise ValueError, which names the text, if it is neither."""
    try:
        value = ip_network(text.strip())
    except ValueError as problem:
        raise ValueError(
            f'"{text}" is not a trusted proxy: expected an address (192.0.2.1), '
            f'a network (10.0.0.0/8, fd00::/8) or "{UNIX_SOCKET}" ({problem})'
        ) from None
    if isinstance(value, IPv6Network) and value.network_address.ipv4_mapped and value.prefixlen >= 96:
        # IPv4 addresses inside IPv6 are compared as IPv4, so such networks must be converted as well.
        return IPv4Network((value.network_address.ipv4_mapped, value.prefixlen - 96))
    return value


def _parsed(text: object) -> _Address | None:
    """Read one address; None for anything else."""
    if not isinstance(text, str) or len(text) > LONGEST_ADDRESS:
        return None
    return _parse(text)


@lru_cache(maxsize=4096)
def _parse(text: str) -> _Address | None:
    # A zone (fe80::1%eth0) has a meaning only on the machine that wrote it.
    plain, _, _ = text.strip().partition("%")
    try:
        address = ip_address(plain)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(maxsize=4096)
def subscriber(address: str) -> str:
    """Return the address itself, or for IPv6 its /64 network, because a subscriber has at least a /64, as text."""
    parsed = _parse(address)
    return str(IPv6Network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else str(parsed or address)


_text = lru_cache(maxsize=4096)(str)  # PERF: ipaddress takes 2 microseconds to format an address


def _without_port(hop: str) -> str:
    """Remove what forwarding headers add to an address: ``[2001:db8::1]:443``, ``192.0.2.1:80``."""
    hop = hop.strip()
    match = _BRACKETS_AND_PORT.fullmatch(hop) or _ADDRESS_AND_PORT.fullmatch(hop)
    return match[1] if match else hop


def _hops_from_the_right(environ: Mapping[str, Any]) -> Iterator[str]:
    header = environ.get("HTTP_X_FORWARDED_FOR")
    if isinstance(header, str) and header.strip():
        parts = _last_characters(header).split(",")
        yield from reversed(parts)
        return
    for parameters in forwarded_elements(environ):
        yield parameters.get("for", "")


def forwarded_elements(environ: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield the parameters of each element of ``Forwarded``, the last one first."""
    forwarded = environ.get("HTTP_FORWARDED")
    if isinstance(forwarded, str):
        for element in _split_from_the_right(_last_characters(forwarded), ","):
            yield _parameters(_split_from_the_right(element, ";"))


def _at(place: int, header: object) -> str:
    """Return the item at this index from the right in a header's list, or the left-most if the list is shorter."""
    items = _last_characters(header).split(",") if isinstance(header, str) else [""]
    return items[-1 - min(place, len(items) - 1)].strip()


def _own_host(environ: Mapping[str, Any], scheme: str) -> str:
    """Return host and port of the request itself (PEP 3333, "URL Reconstruction")."""
    if host := environ.get("HTTP_HOST"):
        return str(host)
    name, port = str(environ.get("SERVER_NAME", "")), str(environ.get("SERVER_PORT", ""))
    return name if port in ("", "443" if scheme == "https" else "80") else f"{name}:{port}"


def _last_characters(header: str) -> str:
    if len(header) <= MOST_CHARACTERS:
        return header
    # The cut may split an address and leave a different valid one, so the first part is dropped.
    return header[-MOST_CHARACTERS:].partition(",")[2]


def _split_from_the_right(text: str, separator: str) -> Iterator[str]:
    """Yield the parts between separators outside quotes, the last one first.

    It splits from the right because trusted proxies wrote the right end: an open quotation mark that a visitor put
    further left cannot hide it.
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


def _parameters(pairs: Iterable[str]) -> dict[str, str]:
    """Return the parameters of one element of ``Forwarded`` by name, unquoted; of duplicates, the right-most."""
    parameters: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        parameters.setdefault(name.strip().lower(), value)
    return parameters
