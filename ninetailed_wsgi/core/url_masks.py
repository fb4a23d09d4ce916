"""Removes credentials from page URLs before they are stored (spec section 9)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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

_NESTING = 3  # a URL may be a percent-encoded parameter of another URL

MOST_ENCODED = 262_144
"""The most bytes of the pages of one request, as JSON, that are searched for encoded credentials.

Decoding every level takes half a microsecond per character. If there are more, the largest pages that may have encoded
credentials lose their addresses: real ones have some hundred bytes.
"""

_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")
"""A name that clients have no reason to encode."""

# Clients may encode these anyway: letters, digits, other characters of `_PLAIN`, an encoded percent sign, and the
# kelvin sign, whose lowercase form is k.
_NEEDLESSLY_ENCODED = "%(?:25|2[de]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e|e2%84%aa)"

_CACHE_SIZE, _LONGEST_CACHED = 1024, 2048
"""How many pages without credentials are cached, and the maximum bytes of each: visitors see the same pages."""


def _hint(names: frozenset[str]) -> re2.Set | None:
    """Compile a quick test of whether a page's JSON text may contain such a parameter; None: any page may.

    Walking through a page costs much more. A set of one pattern is faster than a plain pattern.
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
    """Return a pattern of characters that are plain or percent-encoded up to ``levels`` times."""
    return f"(?:[{plain}]|%(?:25){{0,{levels - 1}}}(?:{codes}))" if levels else f"[{plain}]"


def _user(levels: int) -> re.Pattern[str]:
    """Compile a pattern for a user and a password before the host of a URL that is encoded ``levels`` times.

    A character with one more level of encoding is part of them, such as a slash in a password. Browsers read a
    backslash as a slash, and after http one slash as two. A URL in a query ends at the next parameter of that query. No
    two matches can begin in the same piece between slashes, so the time is linear.
    """
    colon, slash = _signs(":", "3a", levels), _signs(r"/\\", "2f|5c", levels)
    begin = f"(?:^|{_signs(':=', '3a|3d', levels)}){slash}{{2,}}|https?{colon}{slash}"
    end = f"{_signs(r'/?#' + chr(92) * 2, '2f|5c|3f|23', levels)}|{_signs('&', '26', max(levels - 1, 0))}"
    return re.compile(rf"({begin})(?:(?!{end}|\s).)*{_signs('@', '40', levels)}", re.IGNORECASE)


_USERS = tuple(map(_user, range(_NESTING + 1)))
# A URL at the beginning is the whole text: an ampersand is a plain character, and browsers need no slash after http.
_FIRST_USER = re.compile(r"^(\s*(?:[a-z][a-z0-9+.-]*:)?[/\\]{2,}|\s*https?:[/\\]?)[^/\\?#]*@", re.IGNORECASE)
_USER_IN_JSON = re2.compile(
    r"""(?i)(?:(?:[/\\]|%(?:25)*(?:2f|5c)){2}|https?(?::|%(?:25)*3a)[/\\]?)"""
    r"""[^/?#]*(?:@|%(?:25)*40)"""
)
"""Matches the JSON text of every page that may contain a user before a host."""


def _may_have_user(pages: bytes) -> bool:
    return (b"@" in pages or b"40" in pages) and _USER_IN_JSON.search(pages) is not None


def _without_users(address: str) -> str:
    """Return a URL without users and passwords before its host and before the hosts of URLs inside it."""
    if "@" in address:
        address = _FIRST_USER.sub(r"\1", address)
    elif "40" not in address:
        return address
    for pattern in _USERS[: 1 + _levels(address)]:
        address = pattern.sub(r"\1", address)
    return address


def _levels(address: str) -> int:
    """Return how many times a part of a text may be percent-encoded, at most `_NESTING`."""
    level = "%"
    for levels in range(_NESTING):
        if level not in address:
            return levels
        level += "25"
    return _NESTING


def _pages(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of an event that have addresses: the page of its context, and its properties."""
    context, properties = event.get("context"), event.get("properties")
    page = context.get("page") if isinstance(context, dict) else None
    return [each for each in (page, properties) if isinstance(each, dict) and not _MEMBERS.isdisjoint(each)]


def _changed(event: dict[str, Any], change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Return an event whose pages are changed."""
    context, properties = event.get("context"), event.get("properties")
    changes: dict[str, Any] = {}
    if isinstance(context, dict) and isinstance(page := context.get("page"), dict):
        changes["context"] = {**context, "page": change(page)}
    if isinstance(properties, dict):
        changes["properties"] = change(properties)
    return {**event, **changes}


def _without_addresses(page: dict[str, Any]) -> dict[str, Any]:
    return {**page, **{name: {} if name == "query" else "" for name in _MEMBERS & page.keys()}}


class UrlMask:
    """Empties the values of some query parameters, and removes users and passwords from URLs.

    Args:
        names: the parameters; case does not matter.
    """

    def __init__(self, names: Iterable[str] = MASKED) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._hint = _hint(self._names)
        self._harmless: set[bytes] = set()

    def events(self, events: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Return the events with credentials removed from their pages; unchanged events are the same objects.

        If the pages that may have encoded credentials have more than `MOST_ENCODED` bytes, the largest lose their
        addresses.
        """
        masked, suspects = list(events), []
        for place, event in enumerate(events):
            pages = _pages(event)
            if pages and not self._are_harmless(text := orjson.dumps(pages)):
                suspects.append((len(text) if b"%" in text else 0, place))
        encoded = 0
        # The smallest first: in a batch, a large page of one visitor must not cost the addresses of others.
        for size, place in sorted(suspects):
            encoded += size
            is_searched = not size or encoded <= MOST_ENCODED
            masked[place] = _changed(events[place], self._page if is_searched else _without_addresses)
        return masked

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return one event as `events` does."""
        return self.events([event])[0]

    def text(self, address: str) -> str:
        """Return a URL or a query with the values of these parameters emptied and no user before the host."""
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
        """Return whether the JSON text of an event's pages certainly contains no credentials."""
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
        """Mask the value of a parameter, which may be a URL, or a list if the parameter is repeated."""
        if isinstance(value, list):
            return [self._inner(each) for each in value]
        return self._value(self.text(value), _NESTING) if isinstance(value, str) else value

    def _masked(self, address: str, nesting: int) -> str:
        def emptied(pair: re.Match[str]) -> str:
            start, name, value = pair.groups()
            if (unquote_plus(name) if "%" in name or "+" in name else name).lower() in self._names:
                return f"{start}{name}="
            masked = self._value(value, nesting)
            return pair[0] if masked == value else f"{start}{name}={masked}"

        return _PAIR.sub(emptied, address)

    def _value(self, value: str, nesting: int) -> str:
        """Return a value with credentials removed from the URLs in it, plain or percent-encoded."""
        value = _FIRST_USER.sub(r"\1", value) if "@" in value else value
        value = self._cut(value) if "?" in value else value
        if not nesting or ("%3" not in value and "%25" not in value):
            return value
        inner = unquote_plus(value)
        # Only one of the two, so that the cost of a level is linear in the length of the text.
        masked = (self._masked if "=" in inner else self._value)(inner, nesting - 1)
        return value if masked == inner else quote(masked, safe="")

    def _cut(self, value: str) -> str:
        """Cut a value after the name of a credential that follows an unencoded question mark: ``/a?token=x``."""
        parts = value.split("?")
        for place, part in enumerate(parts[1:], 1):
            name, sign, _ = part.partition("=")
            if sign and (unquote_plus(name) if "%" in name else name).lower() in self._names:
                return "?".join([*parts[:place], f"{name}="])
        return value
