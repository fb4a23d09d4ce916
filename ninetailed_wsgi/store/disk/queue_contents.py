"""All that an import queue on disk holds, for the commands that move it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from ninetailed_wsgi.store.disk import queue_names
from ninetailed_wsgi.store.disk.queue_files import BATCHES, LAST, NAMES, PUSH, QueueFiles
from ninetailed_wsgi.store.protocol import Queued


class DiskQueueContents:
    """See :class:`~ninetailed_wsgi.store.protocol.QueueContents`."""

    def __init__(self, files: QueueFiles) -> None:
        self._files = files

    def aside(self) -> dict[int, dict[str, Any]]:
        if not self._files.used("aside"):
            return {}
        with self._files.serving("aside") as rows:
            lines = rows.rows(f"SELECT key, mode, value {BATCHES} ORDER BY key")
            return {number: orjson.loads(rows.value(mode, value)) for number, mode, value in lines}

    def last(self) -> int:
        if not self._files.used("queue"):
            return 0
        with self._files.serving("queue") as rows:
            return int(rows.fetch(LAST) or 0)

    def dump(self) -> Iterator[Queued]:
        for name in NAMES:
            for number in self._files.numbers(name):
                with self._files.serving(name) as rows:
                    value = rows.fetch(number)
                if value is not None and name == "aside":
                    value = orjson.dumps(orjson.loads(value), option=orjson.OPT_SORT_KEYS)
                if value is not None:
                    yield Queued(number, value, name == "aside")

    def load(self, queued: Sequence[Queued], last: int) -> None:
        if last > self.last():
            with self._files.transaction("queue") as rows:
                rows.put(LAST, b"%d" % last)
        for number, value, aside in queued:
            put = number / 1_000_000  # numbers are microseconds, unless very many were put at once
            with self._files.transaction("aside" if aside else "queue") as rows:
                rows.run(PUSH, (number, put, put, value))

    def clear(self, *, aside: bool) -> None:
        name = "aside" if aside else "queue"
        if self._files.used(name):
            with self._files.transaction(name) as rows:
                rows.run(f"DELETE {BATCHES}")
                queue_names.drop_all(rows)
