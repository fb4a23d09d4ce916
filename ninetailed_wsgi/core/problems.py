"""The errors of published content: everything that is wrong with one audience or experience, and where."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple


class ContentError(ValueError):
    """A piece of published content is invalid.

    Attributes:
        problems: all problems, as pairs of path and message. A path such as ``any[0].all[1].operator`` is relative to
            the audience's rules or the experience's config. A message says what was found and what was expected.
        path: the path of the first problem.
        message: the message of the first problem.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        self.path, self.message = self.problems[0]
        super().__init__("; ".join(f"{path}: {message}" for path, message in self.problems))


RemarkKind = Literal["odd", "note"]


class Remark(NamedTuple):
    """Something in content that is valid but that a person should know about.

    Attributes:
        kind: ``odd``: the authoring tool would store it differently; ``note``: other services may ignore it.
        path, message: as in a `ContentError`.
    """

    kind: RemarkKind
    path: str
    message: str


class Problems(list[tuple[str, str]]):
    """Collects the problems of one piece of content, so that an author sees all of them in one run.

    Attributes:
        remarks: what is valid but unusual.
    """

    def __init__(self) -> None:
        super().__init__()
        self.remarks: list[Remark] = []

    def remark(self, kind: RemarkKind, path: str, message: str) -> None:
        """Note something that is valid but unusual."""
        self.remarks.append(Remark(kind, path, message))

    def remark_unknown(self, path: str, members: Iterable[str], names: Collection[str]) -> None:
        """Note unknown members; they have no effect."""
        for name in sorted(map(str, set(members) - set(names))):
            place = f"{path}.{name}" if path else name
            self.remark("odd", place, f"has no effect, expected one of {', '.join(sorted(names))}")

    def items(self, path: str, value: object) -> list[Any]:
        """Return a list; a bare object, as some tools store it, counts as a list of one."""
        if isinstance(value, dict):
            self.remark("odd", path, "is an object, which is read as a list of one")
            return [value] if value else []
        if value is not None and not isinstance(value, list):
            self.add(path, value, "a list")
        return value if isinstance(value, list) else []

    def truth(self, path: str, value: object) -> bool:
        """Return true or false; in quotes, as some tools store it, counts as well. Nothing is false."""
        if value in ("true", "false"):
            self.remark("odd", path, f"is a text, which is read as {value}")
            return value == "true"
        if value is not None and not isinstance(value, bool):
            self.add(path, value, "true or false")
        return value is True

    def take(self, others: Problems) -> None:
        """Add the problems and remarks that were collected for another part."""
        self.extend(others)
        self.remarks += others.remarks

    def add(self, path: str, value: object, expected: str) -> None:
        """Note that ``path`` has ``value`` instead of what was ``expected`` (in words)."""
        self.append((path, f"found {excerpt(value)}, expected {expected}"))

    def add_choice(self, path: str, value: object, choices: Iterable[str]) -> None:
        """Note that ``path`` has ``value`` instead of one of the ``choices``."""
        self.add(path, value, f"one of {', '.join(choices)}")

    def raise_any(self) -> None:
        """Raise everything that was collected, if anything was.

        Raises:
            ContentError: with all problems.
        """
        if self:
            raise ContentError(self)


def excerpt(value: object) -> str:
    """Describe a JSON value to a reader in a few words: ``"equls"``, ``5``, ``true``, ``a list``, ``nothing``."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return shorten(json.dumps(value, ensure_ascii=False), 80)


def shorten(text: str, most: int = 100) -> str:
    """Return the text itself or, if it is longer than ``most`` characters, its beginning and ``...``."""
    return text if len(text) <= most else text[: most - 3] + "..."
