"""Puts markup before the last ``</body>`` of a page, and hands every other answer on as the site made it.

A page with a stated length is collected before it is sent with its new length. Any other page stays a stream: only
what follows a ``</body>`` waits, because another one may come.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from ninetailed_wsgi.site.answer_headers import Headers

MARK = b'id="ninetailed-panel"'
"""What markup has to contain: a page that has it gets no second one."""

_END = re.compile(rb"</body(?=[\s/>])", re.IGNORECASE)
_NAME = b"</body"
_LONGEST_END = 65_536  # bytes after a </body> that wait; with more, it is not the page's end
_LONGEST_PAGE = 16 * 1024 * 1024  # bytes of a page that is collected in memory
_DESTINATIONS = ("", "document", "empty")  # Sec-Fetch-Dest of a page, and of a script that loads one


class AnswerKind(Enum):
    """What becomes of an answer."""

    UNTOUCHED = "untouched"
    HEAD = "head"
    STREAM = "stream"
    WHOLE = "whole"


def kind_of(environ: Mapping[str, Any], status: str, headers: Sequence[tuple[str, str]]) -> AnswerKind:
    """Return what becomes of an answer: only a whole HTML page, neither encoded nor a download, is changed."""
    fields = {name.lower(): value.strip() for name, value in headers}
    is_page = (
        fields.get("content-type", "").partition(";")[0].strip().lower() == "text/html"
        and fields.get("content-encoding", "identity").lower() in ("", "identity")
        and not fields.keys() & {"content-range", "transfer-encoding"}
        and not fields.get("content-disposition", "").lower().startswith("attachment")
        and status[:3] not in ("204", "205", "206", "304")
        and status[:1] != "1"
        and environ.get("HTTP_SEC_FETCH_DEST", "") in _DESTINATIONS
    )
    if not is_page:
        return AnswerKind.UNTOUCHED
    if environ.get("REQUEST_METHOD") == "HEAD":
        return AnswerKind.HEAD
    length = fields.get("content-length", "")
    if not length:
        return AnswerKind.STREAM
    return (
        AnswerKind.WHOLE
        if length.isascii() and length.isdigit() and int(length) <= _LONGEST_PAGE
        else AnswerKind.UNTOUCHED
    )


def inserted(page: bytes, markup: Callable[[], bytes]) -> bytes:
    """Return a page with markup before its last ``</body>``; unchanged if it has none, or already has the markup."""
    end = _last(page, 0)
    return page if end is None or MARK in page else page[:end] + markup() + page[end:]


class Stream:
    """A page that comes piece by piece.

    Args:
        markup: what comes before the last ``</body>``, asked for when the page ends.
    """

    def __init__(self, markup: Callable[[], bytes]) -> None:
        self._markup = markup
        self._waiting = bytearray()  # begins with a </body>, or with what may become one
        self._has_end = False
        self._has_mark = False

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be sent now that these bytes came."""
        start = max(0, len(self._waiting) - len(_NAME))
        self._waiting += chunk
        self._has_mark = self._has_mark or MARK in chunk
        end = _last(self._waiting, start)
        before = b"" if end is None else self._take(end)
        self._has_end = (self._has_end or end is not None) and len(self._waiting) <= _LONGEST_END
        return before if self._has_end else before + self._take(_beginning(self._waiting))

    def end(self) -> bytes:
        """Return the rest of the page, with the markup."""
        rest = self._take(len(self._waiting))
        return self._markup() + rest if self._has_end and not self._has_mark else rest

    def _take(self, size: int) -> bytes:
        piece = bytes(self._waiting[:size])
        del self._waiting[:size]
        return piece


class Insertion:
    """One answer of a site on its way to the server.

    Args:
        environ: of the request.
        start_response: the server's.
        markup: gets the headers of the answer, when the page is there.
    """

    def __init__(
        self,
        environ: Mapping[str, Any],
        start_response: Callable[..., Any],
        markup: Callable[[Headers], bytes],
    ) -> None:
        self._environ = environ
        self._start_response = start_response
        self._markup = markup
        self._kind: AnswerKind | None = None
        self._stream = Stream(lambda: b"")
        self._whole: list[bytes] = []
        self._waiting: tuple[Any, ...] = ()  # status and headers of a page that is collected

    def takes(self, status: str, headers: Sequence[tuple[str, str]]) -> bool:
        """Return whether this answer is a page that gets markup."""
        return kind_of(self._environ, status, headers) is not AnswerKind.UNTOUCHED

    def start(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], object]:
        """Begin the answer as the server's ``start_response`` does."""
        kind, more = kind_of(self._environ, status, headers), (() if exc_info is None else (exc_info,))
        if kind is AnswerKind.WHOLE and self._kind not in (None, AnswerKind.WHOLE):
            kind = AnswerKind.STREAM  # the site starts another response, and the server has to know at once
        self._kind = kind
        if kind is AnswerKind.WHOLE:
            self._waiting, self._whole = (status, headers, *more), []
            return self._whole.append
        if kind is not AnswerKind.UNTOUCHED:
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        write = self._start_response(status, headers, *more)
        if kind is not AnswerKind.STREAM:
            return write  # type: ignore[no-any-return]  # of the server
        self._stream = Stream(lambda: self._markup(headers))
        return lambda data: write(self._stream.feed(data))

    def around(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """Return the body of the answer, with markup if it is a page; the site's own where it is not."""
        return body if self._kind in (AnswerKind.UNTOUCHED, AnswerKind.HEAD) else _Body(self, body)

    def pieces(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """Yield what the server sends, at least one piece for each of the site's, except for a collected page."""
        for chunk in body:
            if self._kind is AnswerKind.STREAM:
                yield self._stream.feed(chunk)
            elif self._kind is AnswerKind.WHOLE:
                self._whole.append(chunk)
            else:
                yield chunk
        if self._kind is AnswerKind.STREAM and (rest := self._stream.end()):
            yield rest
        elif self._kind is AnswerKind.WHOLE:
            yield self._put_together()

    def _put_together(self) -> bytes:
        status, headers, *more = self._waiting
        page = inserted(b"".join(self._whole), lambda: self._markup(headers))
        lengths = {"content-length": str(len(page))}
        self._start_response(status, [(name, lengths.get(name.lower(), value)) for name, value in headers], *more)
        return page


class _Body:
    """What the server iterates over and closes, once, as it would the site's own."""

    def __init__(self, insertion: Insertion, body: Iterable[bytes]) -> None:
        self._pieces = insertion.pieces(body)
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        self._pieces.close()  # type: ignore[attr-defined]  # a generator
        if close := getattr(self._body, "close", None):
            close()


def _last(page: bytes | bytearray, begin: int) -> int | None:
    last = None
    for match in _END.finditer(page, begin):
        last = match.start()
    return last


def _beginning(page: bytes | bytearray) -> int:
    """Return where the last bytes of a piece may begin a ``</body>``; its length where they do not."""
    begin = page.rfind(b"<", max(0, len(page) - len(_NAME)))
    return begin if begin >= 0 and _NAME.startswith(bytes(page[begin:]).lower()) else len(page)
