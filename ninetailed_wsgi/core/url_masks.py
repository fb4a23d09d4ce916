"""Empties credentials in the addresses of pages before they are stored (spec section 9)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote, unquote_plus

import orjson
import re2

MASKED = (
    *("token", "access_token", "id_token", "refresh_token", "password", "secret", "api_key", "apikey"),
    *("signature", "sig", "auth", "session", "sessionid", "jwt"),
)
"""The query parameters that are masked by default."""

_ADDRESSES = ("url", "referrer", "search")
_MEMBERS = {*_ADDRESSES, "query"}
_PAIR = re.compile(r"(^|[?&#;])([^?&#;=]+)=([^&#;]+)")
_USER = re.compile(r"(?<=://)[^/?#&;\s]+@")
"""Who logs in, and the password, before a host."""

_USER_IN_JSON = re.compile(rb'://[^/?#"]+@')

_NESTING = 3  # an address may be a parameter of another one, percent-encoded

_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")
"""A name that clients have no reason to encode."""

# Yet they can: letters, digits, the signs of `_PLAIN`, an encoded percent sign, and the kelvin sign, a k in lower case.
_NEEDLESSLY_ENCODED = "%(?:25|2[de]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e|e2%84%aa)"

_CACHE_SIZE, _LONGEST_CACHED = 1024, 2048
"""Pages without credentials that are remembered, and bytes of each: visitors see the same ones."""


def _hint(names: frozenset[str]) -> re2.Set | None:
    """Compile what the JSON text of a page has wherever it may have such a parameter; None: any page may have one.

    To walk through a page costs much more. A set of one answers in less time than a pattern.
    """
    if not all(map(_PLAIN.fullmatch, names)):
        return None
    pattern = "|".join(map(re.escape, sorted(names)))
    options = re2.Options()
    options.case_sensitive = False
    options.never_capture = True
    hint = re2.Set.SearchSet(options)
    hint.Add(f"""(?:["?&#;]|%[0-9a-f][0-9a-f])(?:{pattern})(?:=|%|":)|{_NEEDLESSLY_ENCODED}""")
    hint.Compile()
    return hint


class UrlMask:
    """Empties the values of some query parameters, whatever the case of their letters; removes users and passwords.

    Args:
        names: the parameters.
    """

    def __init__(self, names: Iterable[str] = MASKED) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._hint = _hint(self._names)
        self._harmless: set[bytes] = set()

    def events(self, events: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Return events whose pages have no credentials; those in which nothing changes are the same ones."""
        return [self.event(event) for event in events]

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event whose page has no credentials; the same one where nothing changes."""
        context, properties = event.get("context"), event.get("properties")
        page = context.get("page") if isinstance(context, dict) else None
        pages = [each for each in (page, properties) if isinstance(each, dict) and not _MEMBERS.isdisjoint(each)]
        if not pages or self._are_harmless(orjson.dumps(pages)):
            return event
        changes: dict[str, Any] = {}
        if context and isinstance(page, dict):
            changes["context"] = {**context, "page": self._page(page)}
        if isinstance(properties, dict):
            changes["properties"] = self._page(properties)
        return {**event, **changes}

    def text(self, address: str) -> str:
        """Return an address, or a query, with the values of these parameters emptied, and no user before the host."""
        return self._masked(address, _NESTING) if "=" in address or "@" in address else address

    def _page(self, page: dict[str, Any]) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        for name in _ADDRESSES:
            value = page.get(name)
            if isinstance(value, str) and (masked := self.text(value)) != value:
                changes[name] = masked
        query = page.get("query")
        if query and isinstance(query, dict) and (values := self._query(query)) != query:
            changes["query"] = values
        return {**page, **changes} if changes else page

    def _are_harmless(self, pages: bytes) -> bool:
        """Return whether the JSON text of an event's pages has nothing that may be a credential."""
        if pages in self._harmless:
            return True
        if self._hint is None or self._hint.Match(pages) or (b"@" in pages and _USER_IN_JSON.search(pages)):
            return False
        if len(pages) <= _LONGEST_CACHED:
            if len(self._harmless) >= _CACHE_SIZE:
                self._harmless.clear()
            self._harmless.add(pages)
        return True

    def _query(self, query: dict[str, Any]) -> dict[str, Any]:
        return {name: "" if name.lower() in self._names else self._inner(value) for name, value in query.items()}

    def _inner(self, value: Any) -> Any:
        """Return the value of a parameter, which may be an address itself, or a list where it is repeated."""
        if isinstance(value, list):
            return [self._inner(each) for each in value]
        return self._value(self.text(value), _NESTING) if isinstance(value, str) else value

    def _masked(self, address: str, nesting: int) -> str:
        def emptied(pair: re.Match[str]) -> str:
            start, name, value = pair.groups()
            if unquote_plus(name).lower() in self._names:
                return f"{start}{name}="
            masked = self._value(value, nesting)
            return pair[0] if masked == value else f"{start}{name}={masked}"

        return _PAIR.sub(emptied, _USER.sub("", address))

    def _value(self, value: str, nesting: int) -> str:
        """Return a value in which an address, as it is or percent-encoded, has no credentials."""
        value = self._cut(value) if "?" in value else value
        if not nesting or ("%3" not in value and "%25" not in value):
            return value
        inner = unquote_plus(value)
        # One of the two, so that a level costs what the text is long, whatever it says.
        masked = (self._masked if "=" in inner else self._value)(inner, nesting - 1)
        return value if masked == inner else quote(masked, safe="")

    def _cut(self, value: str) -> str:
        """Return a value that ends where a question mark begins a credential: ``/a?token=x`` may stand as it is."""
        parts = value.split("?")
        for place, part in enumerate(parts[1:], 1):
            name, sign, _ = part.partition("=")
            if sign and (unquote_plus(name) if "%" in name else name).lower() in self._names:
                return "?".join([*parts[:place], f"{name}="])
        return value
