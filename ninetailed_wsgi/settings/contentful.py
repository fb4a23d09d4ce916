"""Reads where published content is in Contentful, and the tokens that read it (spec section 18)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from ninetailed_wsgi.core.names import Environment

SCHEMES = ("contentful", "contentful-preview")
_NAME = r"[A-Za-z0-9_.-]{1,64}"
_SPACE = re.compile(rf"(contentful|contentful-preview)://({_NAME})/({_NAME})")
_DELIVERY, _PREVIEW = "https://cdn.contentful.com", "https://preview.contentful.com"
_TOKEN = re.compile(r"[A-Za-z0-9_.~+/-]{1,500}")


@dataclass(frozen=True, slots=True)
class SpaceAddress:
    """One environment of a space.

    Attributes:
        space, environment: the names in Contentful.
        drafts: whether to read the newest versions, published or not.
        served_as: the ``organization/environment`` that serves the content; ``*/*``: every one.
    """

    space: str
    environment: str
    drafts: bool
    served_as: str

    @classmethod
    def parse(cls, address: str) -> SpaceAddress:
        """Read ``contentful://SPACE/ENVIRONMENT[=ORG/ENV]``; raise ValueError that says what is valid."""
        name, equals, served_as = address.strip().partition("=")
        match = _SPACE.fullmatch(name.strip())
        if match is None:
            raise ValueError("contentful://SPACE/ENVIRONMENT such as contentful://abc123/master")
        scheme, space, environment = match.groups()
        try:
            environment_key = str(Environment.parse(served_as.strip() if equals else f"{space}/{environment}"))
        except ValueError:
            raise ValueError(f"contentful://SPACE/ENVIRONMENT=ORG/ENV, which {served_as!r} is not") from None
        return cls(space, environment, scheme == SCHEMES[1], environment_key)

    @property
    def own(self) -> str:
        """Return ``space/environment``, which serves the content by default."""
        return f"{self.space}/{self.environment}"

    @property
    def name(self) -> str:
        """Return the address without `served_as`."""
        return f"{SCHEMES[self.drafts]}://{self.own}"

    def __str__(self) -> str:
        """Return the address as it is typed."""
        return self.name if self.served_as == self.own else f"{self.name}={self.served_as}"


@dataclass(frozen=True, slots=True, repr=False)
class Tokens:
    """The tokens of the spaces: by ``SPACE``, ``SPACE/ENVIRONMENT`` or a whole address; ``""`` is for all others."""

    by_name: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> Tokens:
        """Read ``TOKEN``, or several ``NAME=TOKEN`` separated by ``;`` or line ends; raise ValueError otherwise."""
        by_name = {}
        for number, item in enumerate((part.strip() for part in re.split(r"[;\n]", text)), 1):
            if not item or item.startswith("#"):
                continue
            name, _, token = item.rpartition("=")
            if not _TOKEN.fullmatch(token.strip()):
                raise ValueError(f"item {number} is no token: expected TOKEN, or SPACE=TOKEN for each space")
            by_name[name.strip()] = token.strip()
        return cls(by_name)

    def of(self, address: SpaceAddress) -> str | None:
        """Return the token of a space, found by the most exact name; None if there is none."""
        names = (address.name, address.own, address.space, "")
        return next((self.by_name[name] for name in names if name in self.by_name), None)


def within(origins: tuple[Any, ...], environment: str) -> tuple[Any, ...]:
    """Return the origins of content for a site with one environment, which a single space without a name serves."""
    spaces = [origin for origin in origins if isinstance(origin, SpaceAddress)]
    if len(spaces) != 1 or spaces[0].served_as != spaces[0].own:
        return origins
    return tuple(replace(origin, served_as=environment) if origin is spaces[0] else origin for origin in origins)


def joined(origins: Iterable[object]) -> tuple[str, ...]:
    """Return the value of the option ``spaces`` for the spaces that are served under another name."""
    spaces = [origin for origin in origins if isinstance(origin, SpaceAddress)]
    return tuple(f"{space.own}={space.served_as}" for space in spaces if space.served_as not in (space.own, "*/*"))


def token(value: object) -> str:
    """Read the value of ``NINETAILED_CONTENTFUL_TOKEN``; raise ValueError that says what is valid."""
    text = str(value or "").strip()
    Tokens.parse(text)
    return text


def url(value: object) -> str:
    """Read the address of a Contentful host, without a path; empty: Contentful's own."""
    text = str(value or "").strip().rstrip("/")
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        sound = sound and not (parts.path or parts.query or parts.fragment or parts.username or parts.password)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("the address of a host such as https://cdn.eu.contentful.com, without a path")
    return text


def host(address: SpaceAddress, url: str) -> str:
    """Return the host from which to read a space; Contentful has another host for drafts."""
    if not url:
        return _PREVIEW if address.drafts else _DELIVERY
    if address.drafts and re.fullmatch(r"https://cdn(\.[a-z]+)?\.contentful\.com", url):
        return url.replace("//cdn.", "//preview.")
    return url
