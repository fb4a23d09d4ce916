"""The Redis store: each profile's document and history on Redis or Valkey, shared by any number of servers.

`documents.py` describes how they are stored.

An update compares and sets: the document is read, folded here, and written by a script that first compares the version.
Each write has a version of its own, 64 random bits. So a script that is sent again because its answer was lost knows
from the version whether it has run. If others have written since, this is unknown: an error is reported, as for any
write that was cut off, and the message ids make it harmless to repeat the request.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import ProfileOverload
from ninetailed_wsgi.store.protocol import Document, Fold, HistoryEntry, OutcomeT, StoreEntry, Write
from ninetailed_wsgi.store.redis.arrivals import RedisArrivals
from ninetailed_wsgi.store.redis.commands import RedisCommand
from ninetailed_wsgi.store.redis.contents import RedisContents
from ninetailed_wsgi.store.redis.documents import (
    ANY,
    VERSION,
    Bounds,
    event_of,
    name_for,
    read_document,
    write_command,
)
from ninetailed_wsgi.store.redis.server import RedisServer

_MAX_TRIES = 100
_MOST_DOCUMENTS = 64  # documents that each thread remembers


class RedisStore:
    """Profiles on Redis or Valkey, for any number of servers, processes and threads.

    Args:
        server: where they are.
        timeout: seconds after which an update gives up if other writers are always faster.
        history_events, history_days: how much of a profile's history is kept.
        clock: returns the time in milliseconds since the epoch.

    Attributes:
        server: as above.
        contents: all that the store holds, for the commands.
        arrivals: the newest events, while somebody watches.
    """

    def __init__(
        self,
        server: RedisServer,
        *,
        timeout: float = 5.0,
        history_events: int = 500,
        history_days: int = 365,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.server = server
        self._timeout = timeout
        self._bounds = Bounds(history_events, history_days, clock)
        self._local = threading.local()
        self._id_key: bytes | None = None
        self.contents = RedisContents(server, self._bounds)
        self.arrivals = RedisArrivals(server)

    def id_key(self) -> bytes:
        """Return the key that certifies profile ids; it was made with the store."""
        if self._id_key is None:
            self._id_key = self.server.marker.id_key()
        return self._id_key

    def take_id_key(self, key: bytes) -> None:
        """Certify ids with this key, that of the store from which this one is filled."""
        self.server.marker.take_id_key(key)
        self._id_key = key

    # protocol.py documents these methods.

    def read(self, key: Key) -> StoreEntry:
        name = name_for(key)
        raw = self.server.ask(RedisCommand(name, ("GET", name)))
        self._remember(name, raw)
        return self.entry(name, raw)

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        names = {name_for(key): key for key in keys}
        # What this thread has read before may be outdated; if it is not, this saves a read.
        earlier = {name: raw for name in names if (raw := self._documents().pop(name, ANY)) is not ANY}
        update = _Update(self, names, earlier, fold)
        end, tries = time.monotonic() + self._timeout, 0
        while update.keys:
            if update.attempt():
                continue
            tries += 1
            if tries == _MAX_TRIES or time.monotonic() > end:
                raise ProfileOverload("too many requests write this profile at the same time")
            if tries > 1:
                # If others keep writing, what was read is outdated after a pause, and each try would fail.
                time.sleep(random.random() * min(tries, 10) / 1000)
                update.forget()
        return update.decisions

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        for key, document in self.contents.documents():
            if organization in (None, key.organization) and environment in (None, key.environment):
                yield key, document

    def check(self) -> None:
        self.server.admit()

    def close(self) -> None:
        self.server.close()

    def filled_from(self) -> str | None:
        return self.server.marker.filled_from()

    def fill_from(self, source: str | None) -> None:
        self.server.marker.fill_from(source)

    # One key

    def entry(self, name: str, raw: bytes | None) -> StoreEntry:
        """Return the entry of the text that is stored under a name."""
        if raw is None:
            return StoreEntry(None, 0, lambda: self._history(name))
        _, document, next_ordinal = read_document(raw)
        return StoreEntry(document, next_ordinal, lambda: self._history(name))

    def command(self, name: str, key: Key, version: bytes, ordinal: int, write: Write) -> RedisCommand:
        """Return the command that writes what a fold decided, if the document still has this version."""
        return write_command(self._bounds, name, key, version, ordinal, write)

    def _history(self, name: str) -> list[HistoryEntry]:
        since = self._bounds.since()
        events = self.server.ask(RedisCommand(name, ("LRANGE", name + ":h", -self._bounds.events, -1)))
        return [(ordinal, at, orjson.loads(event)) for ordinal, at, event in map(event_of, events) if at >= since]

    def _documents(self) -> dict[str, bytes | None]:
        documents: dict[str, bytes | None] = self._local.__dict__.setdefault("read", {})
        return documents

    def _remember(self, name: str, raw: bytes | None) -> None:
        documents = self._documents()
        if len(documents) >= _MOST_DOCUMENTS:
            documents.clear()
        documents[name] = raw


class _Update(Generic[OutcomeT]):
    """One call of `RedisStore.update`, over all its attempts.

    Attributes:
        keys: the keys that still have to be written, by name.
        decisions: what the last fold of each key decided.
    """

    def __init__(
        self, store: RedisStore, keys: dict[str, Key], earlier: dict[str, bytes | None], fold: Fold[OutcomeT]
    ) -> None:
        self.keys = keys
        self.decisions: dict[Key, OutcomeT] = {}
        self._store = store
        self._fold = fold
        self._texts = earlier  # what is stored under each name
        self._current: set[str] = set()  # names whose text this call has read

    def forget(self) -> None:
        """Read everything again before the next attempt."""
        self._texts.clear()
        self._current.clear()

    def attempt(self) -> bool:
        """Fold and write what is left once; return whether no other writer was faster."""
        server = self._store.server
        missing = [name for name in self.keys if name not in self._texts]
        self._texts.update(
            zip(missing, server.run([RedisCommand(name, ("GET", name)) for name in missing]), strict=True)
        )
        self._current.update(missing)
        writes = self._writes()
        server.check_end()
        answers = server.run(list(writes.values()))
        self.keys = {name: key for name, key in self.keys.items() if name in writes or name not in self._texts}
        for name, answer in zip(writes, answers, strict=True):
            if answer == 1:
                del self.keys[name]
            else:  # others were faster: this is what they wrote
                self._texts[name] = answer
                self._current.add(name)
        return not (self.keys and writes)

    def _writes(self) -> dict[str, RedisCommand]:
        """Return what to write, by name; a decision not to write counts only if it is based on the current text."""
        writes = {}
        for name, key in self.keys.items():
            raw = self._texts[name]
            entry = self._store.entry(name, raw)
            try:
                decision = self.decisions[key] = self._fold(key, entry)
            except Exception:
                if name in self._current:
                    raise
                del self._texts[name]
                continue
            write = None if decision is None else decision.write
            if write is not None:
                writes[name] = self._store.command(name, key, (raw or b"")[:VERSION], entry.next_ordinal, write)
            elif name not in self._current:
                del self._texts[name]
            elif raw is not None and self._store.server.wait_replicas:
                # What an earlier try of this request wrote may not have reached a replica, so it is written again.
                same = self._store.entry(name, raw)
                writes[name] = self._store.command(name, key, raw[:VERSION], same.next_ordinal, Write(same.document))
        return writes
