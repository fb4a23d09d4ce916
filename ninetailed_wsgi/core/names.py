"""How the visitors of an environment, and each of them, are named."""

from __future__ import annotations

from typing import NamedTuple


class Environment(NamedTuple):
    """Whose visitors a request is about: the two names of its path."""

    organization: str
    environment: str

    @classmethod
    def parse(cls, text: str) -> Environment:
        """Read ``organization/environment``; ValueError when the text has another form."""
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
    """An id or alias within an environment. The three parts are any text; different keys never meet."""

    organization: str
    environment: str
    name: str
