"""How a profile and its history are stored in rows: what stays in the document's row, what moves to history rows.

A key has one row of JSON lines: ``[organization, environment, name]``, ``[first, next, in_first, newest]``, the
document, and its newest events, each as ``[time, event]``. When these take too much space, they move to a history row
of their own, a list, under the ordinal of its first event. ``first`` is the ordinal of the first event in the history,
``next`` the ordinal of the next event; ``in_first`` and ``newest`` are the number of events in the first history row
and the newest time among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.store.disk.rows import Rows
from ninetailed_wsgi.store.keys import key_of, name_of
from ninetailed_wsgi.store.protocol import DAY, Document, HistoryEntry, HistoryEvent

DOCUMENT, HISTORY = b"d", b"h"
"""The prefixes of the keys of rows."""

_EVENTS_IN_ROW = 2800
"""Bytes of events that stay in the row of a document: with a record of a kilobyte, the row then fits a SQLite page."""

_ROW = 32_768
"""Bytes of events in a history row, unless one event is longer: a row is removed as a whole."""


class Extent(NamedTuple):
    """Where a history is stored: the numbers of the module's docstring, and the events in the row itself.

    These events stay unsplit lines, because splitting them took a twentieth of the time of each update.
    """

    first: int
    next: int
    in_first: int
    newest: int
    recent: bytes = b""

    @property
    def recent_lines(self) -> list[bytes]:
        """Return the events in the row itself, each as ``[time, event]``."""
        return _lines(self.recent) if self.recent else []

    @property
    def first_recent(self) -> int:
        """Return the ordinal of the first event in the row itself."""
        return self.next - len(self.recent_lines)


_NO_EXTENT = Extent(0, 0, 0, 0)


class PendingRows:
    """The history rows that an update will write, readable as if they were written already."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.pending: dict[bytes, bytes | None] = {}

    def fetch(self, key: bytes) -> bytes | None:
        """Return the value of a row."""
        return self.pending[key] if key in self.pending else self._rows.fetch(key)


class Changed(Exception):
    """Another writer changed what an update has read."""


class RowUpdate(NamedTuple):
    """What an update writes for one key.

    Attributes:
        key: the key of the document's row.
        version: the version of that row when it was read; None: there was no row.
        value: the new value of the row; None: the row is removed.
        history: the new values of history rows; None: the row is removed.
    """

    key: bytes
    version: int | None
    value: bytes | None
    history: dict[bytes, bytes | None]

    def write(self, rows: Rows) -> None:
        """Write all rows inside a transaction; raise `Changed` if the document's row has another version now."""
        if not rows.swap(self.key, self.version, self.value):
            raise Changed
        for key, value in self.history.items():
            if value is None:
                rows.drop(key)
            else:
                rows.put(key, value)


class History:
    """Reads and writes histories, within their limits.

    Args:
        most_events, days: how much of a history is kept.
        clock: returns the time in milliseconds since the epoch.
    """

    def __init__(self, most_events: int, days: int, clock: Callable[[], int]) -> None:
        self.most_events = most_events
        self._days = days
        self._clock = clock

    def entries(self, rows: Rows, digest: bytes, extent: Extent) -> list[HistoryEntry] | None:
        """Return the history as rules read it; None if a row of it is gone because another writer trims it."""
        first, since = extent.next - self.most_events, self._since()
        ordinal, first_recent = extent.first, extent.first_recent
        events: list[Any] = []
        while ordinal < first_recent:
            row = _load(rows.fetch(row_key(digest, ordinal)))
            if row is None:
                return None
            events += row
            ordinal += len(row)
        events += map(_load, extent.recent_lines)
        return [(o, at, event) for o, (at, event) in enumerate(events, extent.first) if o >= first and at >= since]

    def append(
        self, writes: PendingRows, digest: bytes, extent: Extent, events: Sequence[HistoryEvent], oldest: int = 0
    ) -> Extent:
        """Add events, remove rows out of bounds or before ``oldest``; return the new extent."""
        if (surplus := len(events) - self.most_events) > 0:
            emptied = self.drop(writes, digest, extent)
            extent = Extent(emptied.first + surplus, emptied.next + surplus, 0, 0)
            events = events[surplus:]
        first, end, in_first, newest, recent = extent
        for at, event in events:
            recent = b"".join((recent, b"\n[" if recent else b"[", str(at).encode(), b",", event, b"]"))
        end += len(events)
        since = self._since()
        if len(recent) <= _EVENTS_IN_ROW and not (
            self._is_over(end - first - in_first, newest, first + in_first, since, oldest)
            or (recent and _time_of(recent) < since)
        ):
            return Extent(first, end, in_first, newest, recent)
        begin = extent.first_recent
        if len(recent) > _EVENTS_IN_ROW:
            for lines in _rows(recent):
                writes.pending[row_key(digest, begin)] = b"[" + b",".join(lines) + b"]"
                if first == begin:
                    in_first, newest = len(lines), max(map(_time_of, lines))
                begin += len(lines)
            recent = b""
        while first < begin and self._is_over(end - first - in_first, newest, first + in_first, since, oldest):
            writes.pending[row_key(digest, first)] = None
            first += in_first
            row = _load(writes.fetch(row_key(digest, first))) or []
            # Skip a missing row, which only damage can explain.
            in_first, newest = len(row) or 1, max((at for at, _ in row), default=0)
        while first == begin < end and _time_of(recent) < since:
            first = begin = begin + 1
            recent = recent.partition(b"\n")[2]
        return Extent(first, end, in_first, newest, recent)

    def _is_over(self, others: int, newest: int, end: int, since: int, oldest: int) -> bool:
        """Return whether the first history row is out of bounds.

        Args:
            others: the number of events after it.
            newest: the newest time in it.
            end: the ordinal after its last event.
            since: events before this time are too old.
            oldest: events before this ordinal are too old, too.
        """
        return others >= self.most_events or newest < since or end <= oldest

    def _since(self) -> int:
        return self._clock() - self._days * DAY

    def drop(self, writes: PendingRows, digest: bytes, extent: Extent) -> Extent:
        """Remove the whole history; return where the next one begins."""
        ordinal, first_recent = extent.first, extent.first_recent
        while ordinal < first_recent:
            key = row_key(digest, ordinal)
            ordinal += len(_load(writes.fetch(key)) or [0])
            writes.pending[key] = None
        return Extent(extent.next, extent.next, 0, 0)

    def events(self, rows: Rows, digest: bytes, extent: Extent) -> list[HistoryEvent]:
        """Return the whole history for another store; raise StoreUnavailable if it is damaged."""
        events: list[Any] = []
        while len(events) < extent.first_recent - extent.first:
            row = _load(rows.fetch(row_key(digest, extent.first + len(events))))
            if not row:
                raise StoreUnavailable("the store holds a profile whose history is damaged")
            events += row
        recent = [(_time_of(line), line[line.index(b",") + 1 : -1]) for line in extent.recent_lines]
        return [(at, orjson.dumps(event)) for at, event in events] + recent


def key_in(row: bytes) -> Key:
    """Return the key in a document's row; raise StoreUnavailable if the row is damaged."""
    try:
        return key_of(row[: row.find(b"\n")])
    except ValueError as error:
        raise StoreUnavailable(f"the store holds a damaged row: {error}") from error


def row_key(digest: bytes, ordinal: int) -> bytes:
    """Return the key of the history row that begins with the event of this ordinal."""
    return HISTORY + digest + ordinal.to_bytes(8, "big")


def row_of(key: Key, before: bytes | None, document: bytes, extent: Extent) -> bytes:
    """Return the row of a document, a JSON text; ``before`` is the row that it replaces."""
    name = name_of(key) if before is None else before[: before.find(b"\n")]
    parts = (name, orjson.dumps(extent[:4]), document)
    return b"\n".join((*parts, extent.recent) if extent.recent else parts)


def read_row(row: bytes | None, parse: Callable[[bytes], Document] = orjson.loads) -> tuple[Document | None, Extent]:
    """Return the document in a row, and where its history is stored; raise StoreUnavailable if the row is damaged."""
    if row is None:
        return None, _NO_EXTENT
    try:
        # PERF: `split` reads each byte, a search for the next line break does not.
        numbers = row.index(b"\n") + 1
        document = row.index(b"\n", numbers) + 1
        recent = row.find(b"\n", document) + 1 or len(row) + 1
        first, end, in_first, newest = orjson.loads(row[numbers:document])
        return parse(row[document : recent - 1]), Extent(first, end, in_first, newest, row[recent:])
    except ValueError as error:
        raise StoreUnavailable(f"the store holds a damaged row: {error}") from error


def state_of(row: bytes) -> bytes:
    """Return the next ordinal and the document, as the row has them."""
    try:
        _, numbers, document, *_ = row.split(b"\n", 3)
        return b"%b %b" % (numbers.split(b",", 2)[1], document)
    except (ValueError, IndexError) as error:
        raise StoreUnavailable(f"the store holds a damaged row: {error}") from error


def _load(value: bytes | None) -> Any:
    try:
        return None if value is None else orjson.loads(value)
    except ValueError as error:
        raise StoreUnavailable(f"the store holds a damaged row: {error}") from error


def _lines(text: bytes) -> list[bytes]:
    """Return the lines of a text without `split`, which reads each byte: the lines are few and long."""
    lines, start = [], 0
    while (end := text.find(b"\n", start)) >= 0:
        lines.append(text[start:end])
        start = end + 1
    return [*lines, text[start:]]


def _rows(events: bytes) -> list[list[bytes]]:
    """Return lines of events by history row; rows are short, so that one event does not keep many others."""
    lines = _lines(events)
    if len(events) <= _ROW:
        return [lines]
    rows: list[list[bytes]] = []
    room = 0
    for line in lines:
        if len(line) > room:
            rows.append([])
            room = _ROW
        rows[-1].append(line)
        room -= len(line)
    return rows


def _time_of(line: bytes) -> int:
    return int(line[1 : line.index(b",")])
