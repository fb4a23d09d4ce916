"""All that a Redis store holds, for the commands that count it and move it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.store.protocol import Document, StoredRecord, Write
from ninetailed_wsgi.store.redis.commands import RedisCommand
from ninetailed_wsgi.store.redis.documents import (
    ANY,
    WHOLE,
    Bounds,
    digest_in,
    event_of,
    keys_of,
    name_for,
    name_of_digest,
    read_document,
    state_of,
    write_command,
)
from ninetailed_wsgi.store.redis.server import RedisServer

_AT_ONCE = 100  # whole histories that are read together

# SCAN repeats a key only if a table shrinks, and then soon after the first time: buckets that will become one bucket
# follow each other in its order. In a Cluster, a key may also move to a server that is scanned later.
_MOST_NAMES = 50_000


class RedisContents:
    """See :class:`~ninetailed_wsgi.store.protocol.Contents`.

    Args:
        server: where the documents are.
        bounds: how much of a history is kept.
    """

    def __init__(self, server: RedisServer, bounds: Bounds) -> None:
        self._server = server
        self._bounds = bounds

    def documents(self) -> Iterator[tuple[Key, Document]]:
        """Yield every document, in no order, while others write."""
        for names in self._pages():
            for raw in self._server.run([RedisCommand(name, ("GET", name)) for name in names]):
                if raw is not None:
                    key, document, _ = read_document(raw)
                    yield key, document

    def count(self) -> int:
        return sum(map(len, self._pages()))

    def sizes(self) -> Iterator[tuple[Key, Document, int, int]]:
        for names in self._pages():
            commands: list[RedisCommand] = []
            for name in names:
                usage = [RedisCommand(name, ("MEMORY", "USAGE", part)) for part in (name, name + ":h")]
                commands += [RedisCommand(name, ("GET", name)), RedisCommand(name, ("LLEN", name + ":h")), *usage]
            answers = iter(self._server.run(commands))
            for raw, events, *sizes in zip(answers, answers, answers, answers, strict=True):
                if raw is not None:
                    key, document, _ = read_document(raw)
                    yield key, document, min(events, self._bounds.events), sum(size or 0 for size in sizes)

    def footprint(self) -> str:
        return f"{self._server.memory():,} bytes in the memory of Redis"

    def dump(self) -> Iterator[StoredRecord]:
        for names in self._pages():
            for first in range(0, len(names), _AT_ONCE):
                yield from self._fetch(names[first : first + _AT_ONCE])

    def fetch(self, digests: Sequence[bytes]) -> list[StoredRecord]:
        return self._fetch(list(map(name_of_digest, digests)))

    def _fetch(self, names: Sequence[str]) -> list[StoredRecord]:
        records = []
        for raw, events in self._server.run([WHOLE.call(keys_of(name)) for name in names]):
            if raw is not None:
                key, document, next_ordinal = read_document(raw)
                history = [(at, event) for _, at, event in map(event_of, events)]
                records.append(StoredRecord(key, document, next_ordinal, history))
        return records

    def load(self, records: Sequence[StoredRecord]) -> None:
        commands = []
        for key, document, next_ordinal, history in records:
            write = Write(document, history, replace_history=True)
            commands.append(write_command(self._bounds, name_for(key), key, ANY, next_ordinal - len(history), write))
        self._server.run(commands)

    def states(self) -> Iterator[dict[bytes, bytes]]:
        for names in self._pages():
            yield self._states(names)

    def states_of(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        return self._states(list(map(name_of_digest, digests)))

    def _states(self, names: Sequence[str]) -> dict[bytes, bytes]:
        documents = self._server.run([RedisCommand(name, ("GET", name)) for name in names])
        return {digest_in(name): state_of(raw) for name, raw in zip(names, documents, strict=True) if raw is not None}

    def _pages(self) -> Iterator[list[str]]:
        before: set[bytes] = set()
        earlier: set[bytes] = set()
        for names in self._server.pages("nt:{*}"):
            new = {digest_in(name): name for name in names}
            yield [name for digest, name in new.items() if digest not in earlier and digest not in before]
            earlier.update(new)
            if len(earlier) >= _MOST_NAMES and not self._server.is_cluster:
                before, earlier = earlier, set()
