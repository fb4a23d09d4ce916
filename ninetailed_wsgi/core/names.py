"""The names of environments and of the profiles in them."""

from __future__ import annotations

from typing import NamedTuple


class Environment(NamedTuple):
    """The environment that a request belongs to: the two names in its path."""

    organization: str
    environment: str

    @classmethod
    def parse(cls, text: str) -> Environment:
        """Read ``organization/environment``; raise ValueError if the text has another form."""
        organization, _, environment = text.partition("/")
        if not organization or not environment or "/" in environment:
            raise ValueError(f"found {text!r}, expected organization/environment")
        return cls(organization, environment)

    def __str__(self) -> str:
        return f"{self.organization}/{self.environment}"

    def key(self, name: str) -> Key:
        """Return the store's key of an id or alias in this environment."""
        return Key(self.organization, self.environment, name)


class Key(NamedTuple):
    """An id or alias within an environment. Each of the three parts may be any text; different keys never collide."""

    organization: str
    environment: str
    name: str

    @property
    def where(self) -> Environment:
        """The environment of the id or alias."""
        return Environment(self.organization, self.environment)
