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


def _signs(plain: str, codes: str, levels: int) -> str:
    """Return a pattern of signs that are plain or percent-encoded up to so many times."""
    return f"(?:[{plain}]|%(?:25){{0,{levels - 1}}}(?:{codes}))" if levels else f"[{plain}]"


def _user(levels: int) -> re.Pattern[str]:
    """Compile what finds a user and a password before a host, in an address that is encoded so many times.

    What is encoded once more is a sign of theirs, such as a slash in a password. Browsers take a backslash for a slash,
    and one for two after http. An address in a query ends at its next parameter. No two matches can begin in one piece
    between slashes, so the time is linear.
    """
    colon, slash = _signs(":", "3a", levels), _signs(r"/\\", "2f|5c", levels)
    begin = f"(?:^|{_signs(':=', '3a|3d', levels)}){slash}{{2,}}|https?{colon}{slash}"
    end = f"{_signs(r'/?#' + chr(92) * 2, '2f|5c|3f|23', levels)}|{_signs('&', '26', max(levels - 1, 0))}"
    return re.compile(rf"({begin})(?:(?!{end}|\s).)*{_signs('@', '40', levels)}", re.IGNORECASE)


_USERS = tuple(map(_user, range(_NESTING + 1)))
# At the beginning all of it is an address, so that an ampersand is a sign, and a browser needs no slash after http.
_FIRST_USER = re.compile(r"^(\s*(?:[a-z][a-z0-9+.-]*:)?[/\\]{2,}|\s*https?:[/\\]?)[^/\\?#]*@", re.IGNORECASE)
_USER_IN_JSON = re2.compile(
    r"""(?i)(?:(?:[:="\s]|%(?:25)*3[ad])(?:[/\\]|%(?:25)*(?:2f|5c)){2}|https?(?::|%(?:25)*3a)[/\\]?)"""
    r"""[^/?#]*(?:@|%(?:25)*40)"""
)
"""What the JSON text of a page has wherever it may have a user before a host."""


def _may_have_user(pages: bytes) -> bool:
    return (b"@" in pages or b"40" in pages) and _USER_IN_JSON.search(pages) is not None


def _without_users(address: str) -> str:
    """Return an address without users and passwords before its host and those of the addresses in it."""
    if "@" in address:
        address = _FIRST_USER.sub(r"\1", address)
    elif "40" not in address:
        return address
    for pattern in _USERS if "%" in address else _USERS[:1]:
        address = pattern.sub(r"\1", address)
    return address


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
        address = _without_users(address)
        return self._masked(address, _NESTING) if "=" in address else address

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
        if self._hint is None or self._hint.Match(pages) or _may_have_user(pages):
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

        return _PAIR.sub(emptied, address)

    def _value(self, value: str, nesting: int) -> str:
        """Return a value in which an address, as it is or percent-encoded, has no credentials."""
        value = _FIRST_USER.sub(r"\1", value) if "@" in value else value
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
