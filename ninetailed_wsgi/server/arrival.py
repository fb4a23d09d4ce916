"""A request as its bytes arrive: whether all of it is there, so that no thread has to wait for the rest."""

from __future__ import annotations

import re

# Ids may be 10 kB each, and percent-encoding makes three bytes of one: organization, environment and profile id
# together reach 90 kB, over gunicorn's ceiling of 8190 bytes. Its "unlimited" (0) does not help: its parser written
# in Python then collects a request line without end. So its ceiling is raised to one that still bounds the memory.
LONGEST_REQUEST_LINE = 128 * 1024
"""Bytes of a request line without its end; a longer one is not collected further, as gunicorn refuses it."""

LONGEST_FIELD = 8190
"""Bytes of a header field, as in gunicorn's own limit; also of what a chunk has besides its content."""

MOST_FIELDS = 100
"""Header fields, as gunicorn's own limit."""

DRAINED_BYTES = 4 << 20
"""Bytes that are read of a refused body, so that its sender reads the answer instead of getting a broken pipe."""

_END = b"\r\n\r\n"
_FRAMES = 1 << 20  # bytes of chunks in addition to eight times the longest body

_HEADER = re.compile(
    rb"^(content-length|transfer-encoding|expect)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE
)
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class Arrival:
    """The bytes of one request so far, and perhaps the first ones of the next.

    Args:
        longest_body: bytes; of a longer body no more is collected, as it will be refused.
        data: the bytes of it that were read together with the previous request.

    Attributes:
        data: all bytes so far.
        is_too_long: whether the body is longer than allowed, so that its end is not waited for.
        expects_leave: whether the sender waits for ``100 Continue`` before it sends the body.
    """

    def __init__(self, longest_body: int, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.is_too_long = False
        self.expects_leave = False
        self._longest_body = longest_body
        self._search_start = 0  # where to look for the end of the head
        self._line = 0  # where the last line of the head so far begins
        self._lines = 0  # how many lines it has before that
        self._body = -1  # where the body begins; below 0: not known yet
        self._end = 0  # where a body of stated length ends
        self._chunk = -1  # where the next chunk begins; below 0: no chunks
        self._decoded = 0  # bytes of the chunks so far
        self._in_trailers = False

    def is_whole(self) -> bool:
        """Return whether the request needs no more bytes: all of it is there, or enough to refuse it."""
        if self._body < 0 and not self._read_head():
            return self._end_long_head()
        if self._chunk >= 0:
            return self._read_chunks()
        return self.is_too_long or len(self.data) >= self._end

    def _read_head(self) -> bool:
        end = self.data.find(_END, max(self._search_start - 3, 0))
        if end < 0:
            return False
        self._body = self._end = end + 4
        for name, value in _HEADER.findall(bytes(self.data[:end])):
            match name.lower():
                case b"content-length":
                    # gunicorn refuses a value that is not a number.
                    length = int(value[:19]) if value.isdigit() else 0
                    self._end = self._body + length
                    self.is_too_long = length > self._longest_body
                case b"transfer-encoding":
                    self._chunk = self._body
                case _:
                    self.expects_leave = value.strip().lower() == b"100-continue"
        return True

    def _end_long_head(self) -> bool:
        """End a head if a line of it, or the number of lines, exceeds gunicorn's limits; return whether it does.

        Then gunicorn reads no more of it and words the refusal.
        """
        size = len(self.data)
        while (end := self.data.find(b"\n", self._search_start)) >= 0:
            if end > 1 or not self.data.startswith(b"\r\n"):  # an empty line before it does not count (RFC 9112, 2.2)
                if self._is_line_too_long(end - 1):
                    break
                self._lines += 1
            self._line = self._search_start = end + 1
        else:
            self._search_start = size
            if not self._is_line_too_long(size - 2):
                return False
        self.data += _END
        return True

    def _is_line_too_long(self, end: int) -> bool:
        """Return whether the line from ``_line``, up to ``end`` at least, is too long or one too many."""
        length, longest = end - self._line, LONGEST_FIELD if self._lines else LONGEST_REQUEST_LINE
        return length > longest or (length > 0 and self._lines > MOST_FIELDS)  # an empty line ends the head

    def _read_chunks(self) -> bool:
        """Walk over the chunks; return whether no more are needed, as after an invalid one, whose reading fails."""
        if len(self.data) - self._body > _FRAMES + 8 * self._longest_body:  # far more frames than bytes
            self.is_too_long = True
            return True
        while not self._in_trailers:
            line = self.data.find(b"\r\n", self._chunk)
            if line < 0:
                return self._refuse_long_line()
            digits = _SIZE.match(self.data, self._chunk)
            if digits is None:
                return True
            size = int(digits[0], 16)
            begin, total = line + 2, self._decoded + size
            if total > self._longest_body:
                self.is_too_long = True
                return len(self.data) - begin > self._longest_body - self._decoded
            if size == 0:
                self._in_trailers = True
                self._chunk = line  # the line's own end counts, as trailers may be missing
            elif len(self.data) < begin + size + 2:
                return False
            else:
                self._decoded, self._chunk = total, begin + size + 2
        return self.data.find(_END, self._chunk) >= 0 or self._refuse_long_line()

    def _refuse_long_line(self) -> bool:
        """Note and return whether a chunk's first line, or the trailers, take more than a header field may."""
        self.is_too_long = len(self.data) - self._chunk > LONGEST_FIELD
        return self.is_too_long
