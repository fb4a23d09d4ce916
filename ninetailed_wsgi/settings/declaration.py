"""One option as the command line, the environment and the documentation need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

PREFIX = "NINETAILED_"


class Option(NamedTuple):
    """One option of `Settings`, as the command line, the environment and the README need it.

    Attributes:
        name: the keyword argument, such as ``data_dir``.
        use: its use, a key of `USES`.
        default: the value if nothing is given.
        metavar: stands for the value in usage texts.
        help: one sentence for the person who sets it.
        read: turns what was given into the checked value; its ValueError says what is valid.
        secret: whether only a variable or keyword can set it, and it is never shown.
    """

    name: str
    use: str
    default: Any
    metavar: str
    help: str
    read: Callable[[object], Any]
    secret: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def spellings(self) -> str:
        return f"{self.name} ({self.variable})" if self.secret else f"{self.name} ({self.flag}, {self.variable})"

    @property
    def default_text(self) -> str:
        """The default as a user would type it; empty if the option is off by default."""
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        return "" if self.default is None else str(self.default)
