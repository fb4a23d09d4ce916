"""All that a disk store holds, for the commands that count it, move it or compact it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.disk import upkeep
from ninetailed_wsgi.store.disk.folder import check_file
from ninetailed_wsgi.store.disk.history import (
    DOCUMENT,
    HISTORY,
    Extent,
    History,
    PendingRows,
    RowUpdate,
    key_in,
    read_row,
    row_of,
    state_of,
)
from ninetailed_wsgi.store.disk.shards import Shards
from ninetailed_wsgi.store.keys import digest_of
from ninetailed_wsgi.store.protocol import Document, StoredRecord

_COUNT = "SELECT count(*) FROM Cache WHERE key > ? AND key < ? AND raw = 1"
_HISTORY_BYTES = "SELECT coalesce(sum(length(value)), 0) FROM Cache WHERE key >= ? AND key < ? AND raw = 1"


class DiskContents:
    """See :class:`~ninetailed_wsgi.store.protocol.Contents`.

    Args:
        shards: where the rows are.
        history: reads and writes histories in them, with their limits.
    """

    def __init__(self, shards: Shards, history: History) -> None:
        self._shards = shards
        self._history = history

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield the key and the value of every document's row, in no order, while others write."""
        for shard in range(self._shards.count):
            for page in self._pages(shard):
                yield from page

    def count(self) -> int:
        number = 0
        for shard in range(self._shards.count):
            with self._shards.serving(shard) as rows:
                number += rows.rows(_COUNT, (DOCUMENT, HISTORY))[0][0]
        return number

    def sizes(self) -> Iterator[tuple[Key, Document, int, int]]:
        for row_key, value in self.rows():
            first = HISTORY + row_key[len(DOCUMENT) :]
            with self._shards.serving(self._shards.of(row_key[len(DOCUMENT) :])) as rows:
                [(history_bytes,)] = rows.rows(_HISTORY_BYTES, (first, first + b"\xff" * 9))
            document, extent = read_row(value)
            events = min(extent.next - extent.first, self._history.most_events)
            yield key_in(value), document or {}, events, len(value) + history_bytes

    def footprint(self) -> str:
        return f"{sum(map(upkeep.bytes_on_disk, self._shards.files())):,} bytes on disk"

    def dump(self) -> Iterator[StoredRecord]:
        for shard in range(self._shards.count):
            for page in self._pages(shard):
                yield from self.fetch([row_key[len(DOCUMENT) :] for row_key, _ in page])

    def fetch(self, digests: Sequence[bytes]) -> list[StoredRecord]:
        records = []
        for shard, group in self._shards.group(digests).items():
            with self._shards.serving(shard) as rows, rows.turn:
                rows.run("BEGIN")  # all reads until the end see one moment
                try:
                    for digest in group:
                        if (row := rows.fetch(DOCUMENT + digest)) is not None:
                            document, extent = read_row(row)
                            history = self._history.events(rows, digest, extent)
                            records.append(StoredRecord(key_in(row), document or {}, extent.next, history))
                finally:
                    rows.run("ROLLBACK")
        return records

    def load(self, records: Sequence[StoredRecord]) -> None:
        by_digest = {digest_of(each.key): each for each in records}
        for shard, group in self._shards.group(by_digest).items():
            with self._shards.serving(shard) as rows, rows.transaction():
                for digest in group:
                    key, document, next_ordinal, history = by_digest[digest]
                    version, row = rows.read(DOCUMENT + digest)
                    writes, first = PendingRows(rows), next_ordinal - len(history)
                    self._history.drop(writes, digest, read_row(row)[1])
                    extent = self._history.append(writes, digest, Extent(first, first, 0, 0), history)
                    value = row_of(key, row, orjson.dumps(document), extent)
                    RowUpdate(DOCUMENT + digest, version, value, writes.pending).write(rows)

    def states(self) -> Iterator[dict[bytes, bytes]]:
        for shard in range(self._shards.count):
            for page in self._pages(shard):
                yield {row_key[len(DOCUMENT) :]: state_of(value) for row_key, value in page}

    def states_of(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        states = {}
        for shard, group in self._shards.group(digests).items():
            with self._shards.serving(shard) as rows:
                for digest in group:
                    if (row := rows.fetch(DOCUMENT + digest)) is not None:
                        states[digest] = state_of(row)
        return states

    def compact(self) -> Iterator[tuple[int, int]]:
        """Rewrite every SQLite file of the folder without deleted data; yield the size of each before and after.

        Raises:
            StoreUnavailable: a file is missing, or other processes kept it busy.
        """
        for file in self._shards.files():
            check_file(file)
            yield upkeep.compact(file, self._shards.timeout)

    def number_of_files(self) -> int:
        """Return how many files `compact` rewrites."""
        return len(self._shards.files())

    def _pages(self, shard: int) -> Iterator[list[tuple[bytes, bytes]]]:
        after = DOCUMENT
        while page := self._page(shard, after):
            yield page
            after = page[-1][0]

    def _page(self, shard: int, after: bytes) -> list[tuple[bytes, bytes]]:
        with self._shards.serving(shard) as rows:
            return rows.between(after, HISTORY)
