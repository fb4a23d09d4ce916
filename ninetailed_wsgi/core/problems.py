"""The error of published content: everything that is wrong with one audience or experience, each with its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence


class ContentError(ValueError):
    """A piece of published content is invalid.

    Attributes:
        problems: all of them, as pairs of path and message; a path such as ``any[0].all[1].operator`` is relative to
            the audience's rules or the experience's config, a message says what was found and what was expected.
        path: the path of the first problem.
        message: the message of the first problem.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        self.path, self.message = self.problems[0]
        super().__init__("; ".join(f"{path}: {message}" for path, message in self.problems))


class Problems(list[tuple[str, str]]):
    """Collects the problems of one piece of content, so that an author sees all of them in one run."""

    def add(self, path: str, found: object, expected: str) -> None:
        """Note that ``found`` stands at ``path`` where ``expected`` (words) should be."""
        self.append((path, f"found {shown(found)}, expected {expected}"))

    def add_choice(self, path: str, found: object, choices: Iterable[str]) -> None:
        """Note that ``found`` stands at ``path`` where one of the named choices should be."""
        self.add(path, found, f"one of {', '.join(choices)}")

    def raise_any(self) -> None:
        """Raise everything that was collected; nothing collected, nothing raised.

        Raises:
            ContentError: with all problems.
        """
        if self:
            raise ContentError(self)


def shown(value: object) -> str:
    """Name a JSON value for a reader in a few words: ``"equls"``, ``5``, ``true``, ``a list``, ``nothing``."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return shorten(json.dumps(value, ensure_ascii=False), 80)


def shorten(text: str, most: int = 100) -> str:
    """Return a text of at most ``most`` characters: the same one, or its beginning and ``...``."""
    return text if len(text) <= most else text[: most - 3] + "..."
