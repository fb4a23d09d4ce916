"""Empties credentials in the addresses of pages before they are stored (spec section 9)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, unquote_plus

MASKED = (
    *("token", "access_token", "id_token", "refresh_token", "password", "secret", "api_key", "apikey"),
    *("signature", "sig", "auth", "session", "sessionid", "jwt"),
)
"""The query parameters that are masked by default."""

_PAIR = re.compile(r"(^|[?&#;])([^?&#;=]+)=([^&#;]+)")
_NESTING = 3  # an address may be a parameter of another one, percent-encoded


class UrlMask:
    """Empties the values of some query parameters, whatever the case of their letters.

    Args:
        names: the parameters.
    """

    def __init__(self, names: Iterable[str] = MASKED) -> None:
        self._names = frozenset(name.lower() for name in names)

    def event(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event whose page has no credentials; the same one where nothing changes."""
        context, properties = event.get("context"), event.get("properties")
        changes: dict[str, Any] = {}
        page = context.get("page") if isinstance(context, dict) else None
        if context and isinstance(page, dict) and (masked := self._page(page)) is not page:
            changes["context"] = {**context, "page": masked}
        if isinstance(properties, dict) and (masked := self._page(properties)) is not properties:
            changes["properties"] = masked
        return {**event, **changes} if changes else event

    def text(self, address: str) -> str:
        """Return an address, or a query, with the values of these parameters emptied."""
        return self._masked(address, _NESTING) if "=" in address or "%3" in address else address

    def _page(self, page: dict[str, Any]) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        for name in ("url", "referrer", "search"):
            value = page.get(name)
            if isinstance(value, str) and "=" in value and (masked := self.text(value)) != value:
                changes[name] = masked
        query = page.get("query")
        if query and isinstance(query, dict) and (values := self._query(query)) != query:
            changes["query"] = values
        return {**page, **changes} if changes else page

    def _query(self, query: dict[str, Any]) -> dict[str, Any]:
        return {
            name: "" if name.lower() in self._names else self.text(value) if isinstance(value, str) else value
            for name, value in query.items()
        }

    def _masked(self, address: str, nesting: int) -> str:
        def emptied(pair: re.Match[str]) -> str:
            start, name, value = pair.groups()
            if unquote_plus(name).lower() in self._names:
                return f"{start}{name}="
            if nesting and "%3" in value:
                inner = unquote_plus(value)
                if (masked := self._masked(inner, nesting - 1)) != inner:
                    return f"{start}{name}={quote(masked, safe='')}"
            return pair[0]

        return _PAIR.sub(emptied, address)
