"""How the newest clients name an environment: by a Contentful space and its environment (spec section 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.settings.contentful import joined


class SpaceNames(NamedTuple):
    """Which environment a space is.

    Attributes:
        joined: those with other names: from space and its environment to organization and environment.
    """

    joined: Mapping[Environment, Environment]

    @classmethod
    def of(cls, settings: Settings) -> SpaceNames:
        """Return what the options say: ``spaces``, and the spaces that content is read from."""
        return cls.parse([*joined(settings.content), *settings.spaces])  # the last one counts

    @classmethod
    def parse(cls, pairs: Iterable[str]) -> SpaceNames:
        """Read texts of the form ``space/environment=organization/environment``."""
        sides = (pair.split("=") for pair in pairs)
        return cls({Environment.parse(space): Environment.parse(environment) for space, environment in sides})

    def environment(self, space: str, environment: str) -> Environment:
        """Return the environment of a space; without a join, the space is an organization of that name."""
        space_environment = Environment(space, environment)
        return self.joined.get(space_environment, space_environment)
