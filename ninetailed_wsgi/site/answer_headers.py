"""Headers of a page that used its visitor: no shared cache may keep it (spec section 9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Headers = list[tuple[str, str]]

PRIVATE = "private, no-store"

# What content delivery networks read before Cache-Control, or instead of it.
_OF_SHARED_CACHES = frozenset(("surrogate-control", "x-accel-expires", "edge-control", "expires"))

_SETTING_CACHES = _OF_SHARED_CACHES | {"cache-control", "vary"}


def kept_private(headers: Sequence[tuple[str, str]]) -> tuple[Headers, bool]:
    """Return the headers of a page that shows what one visitor gets, and whether the site had marked it as public.

    A ``Cache-Control`` that forbids shared caches to keep the page stays as the site set it; any other is replaced,
    also a contradictory one. Headers that only content delivery networks read are removed, as they take precedence.
    ``Vary`` names ``Cookie``.
    """
    names = [name.lower() for name, _ in headers]
    if _SETTING_CACHES.isdisjoint(names) and not any(name.endswith("cdn-cache-control") for name in names):
        return [*headers, ("Cache-Control", PRIVATE), ("Vary", "Cookie")], False
    directives = _directives(value for name, value in headers if name.lower() == "cache-control")
    was_public = any(part == "public" or (part.startswith("s-maxage") and part != "s-maxage=0") for part in directives)
    is_private = not was_public and bool(directives & {"private", "no-store"})
    rest: Headers = []
    for name, value in headers:
        lower = name.lower()
        if is_private and lower in ("cache-control", "expires"):
            rest.append((name, value))
            continue
        if lower == "cache-control":
            continue
        if lower in _OF_SHARED_CACHES or lower.endswith("cdn-cache-control"):
            was_public = was_public or lower != "expires"
            continue
        rest.append((name, value))
    return _varied(rest if is_private else [*rest, ("Cache-Control", PRIVATE)]), was_public


def not_kept(headers: Sequence[tuple[str, str]]) -> Headers:
    """Return the headers of a page that no cache keeps, not even the browser's, without ETag and Last-Modified."""
    dropped = ("cache-control", "etag", "last-modified")
    return [*((name, value) for name, value in headers if name.lower() not in dropped), ("Cache-Control", PRIVATE)]


def sets_cookie(headers: Sequence[tuple[str, str]], name: str) -> bool:
    """Return whether a cookie of this name is among the headers."""
    start = f"{name}="
    return any(key.lower() == "set-cookie" and value.lstrip().startswith(start) for key, value in headers)


def _varied(headers: Headers) -> Headers:
    names = _directives(value for name, value in headers if name.lower() == "vary")
    return headers if names & {"*", "cookie"} else [*headers, ("Vary", "Cookie")]


def _directives(values: Iterable[str]) -> set[str]:
    return {part.strip().lower() for value in values for part in value.split(",")}
