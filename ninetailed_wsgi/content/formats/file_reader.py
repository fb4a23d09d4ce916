"""What every reader of a content file does: it gathers content, and notes what is wrong with the file."""

from __future__ import annotations

from ninetailed_wsgi.content.entries import Content, Faulty, Problem, Severity


class FileReader:
    """Reads one file.

    Args:
        file: its path, for messages.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._content = Content()

    def _report(self, entry: str, message: str, severity: Severity = "left out") -> None:
        """Note something about an entry, or about the file where ``entry`` is empty."""
        self._content.problems.append(Problem(severity, self._file, entry, message))

    def _leave_out(self, entry: str, fault: Faulty) -> None:
        """Note that an entry has errors, so that it is not served and others may say why it is not there."""
        self._content.absent[entry] = "has errors"
        self._report(entry, str(fault))
