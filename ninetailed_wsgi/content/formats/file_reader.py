"""The base of all readers of content files: it collects the content and the problems of a file."""

from __future__ import annotations

from collections.abc import Mapping

from ninetailed_wsgi.content.entries import Content, Faulty, Problem, Severity, text_of
from ninetailed_wsgi.core.problems import excerpt


class FileReader:
    """Reads one file.

    Args:
        file: its path, for messages.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._content = Content()

    def _report(self, entry: str, message: str, severity: Severity = "left out") -> None:
        """Note a problem of an entry, or of the whole file if ``entry`` is empty."""
        self._content.problems.append(Problem(severity, self._file, entry, message))

    def _text(self, entry: str, fields: Mapping[str, object], name: str) -> str | None:
        """Return a field's text as `text_of` does; a number counts as its text."""
        value = fields.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._report(entry, f"{name}: is a number, which is read as a text", "odd")
            return excerpt(value)
        return text_of(fields, name)

    def _leave_out(self, entry: str, fault: Faulty) -> None:
        """Leave out an entry with errors, and note the reason, so that entries that refer to it can name it."""
        self._content.absent[entry] = "has errors"
        self._report(entry, str(fault))
