"""The format of log lines under ``serve``, which never contain addresses, traits, ids or aliases of visitors."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from ninetailed_wsgi.errors import SettingsError, StoreUnavailable

TEXT = "%(asctime)s [%(process)d] [%(levelname)s] %(name)s: %(message)s"


def failure(error: BaseException) -> str:
    """Describe an exception without its text, which may quote what a visitor sent.

    The text of errors about this installation (disk, settings) is kept. Any other error is described by its class, the
    place where it was raised, and the same for its causes. Callers log the text itself at DEBUG.
    """
    if isinstance(error, (SettingsError, StoreUnavailable)):
        return str(error)
    return stack(error)


def stack(error: BaseException) -> str:
    """Return the class of an exception and where it was raised, its cause first, without any text."""
    lines: list[str] = []
    ids: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in ids:
        ids.add(id(each))
        frames = "".join(traceback.format_list(traceback.extract_tb(each.__traceback__)))
        lines.insert(0, f"{type(each).__module__}.{type(each).__qualname__}\n{frames}".rstrip())
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "\n".join(lines)


class TextFormat(logging.Formatter):
    """Formats lines of text; exceptions as class and place, without their text."""

    def __init__(self) -> None:
        super().__init__(TEXT)

    def formatException(self, ei: Any) -> str:
        return stack(ei[1]) if ei[1] is not None else ""


class JsonFormat(TextFormat):
    """Formats one JSON object per line: ``time``, ``level``, ``logger``, ``message`` and the record's extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if isinstance(record.args, Mapping):
            line.update(record.args)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # invalid Unicode, numbers of any length
            return json.dumps(line, default=str)


FORMATS: Mapping[str, type[TextFormat]] = {"text": TextFormat, "json": JsonFormat}


_WITHOUT_REQUEST = {
    "Invalid request from": "a request that is not valid HTTP was refused",
    "Error handling request": "a request failed",
}


def hide_requests(record: logging.LogRecord) -> bool:
    """Take the address and the request line out of a line of gunicorn's log; a filter that lets every line pass."""
    for start, text in _WITHOUT_REQUEST.items():
        if str(record.msg).startswith(start):
            error = record.exc_info[1] if record.exc_info else None
            record.msg, record.args = f"{text}: {type(error).__name__}" if error else text, ()
    return True
