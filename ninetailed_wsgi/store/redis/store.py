"""The Redis store: each profile's document and history on Redis or Valkey, shared by any number of servers.

A key's document lies under ``nt:{DIGEST}``, its history under ``nt:{DIGEST}:h``: what is in braces decides the slot of
a Cluster, so a profile lies on one server as a whole. A document is two lines: its version, the next ordinal and its
key, then its JSON text. A history is a list, an event each: ordinal, time, JSON text.

An update compares and sets: the document is read, folded here, and written by a script that first compares the version.
Each write has a version of its own, 64 random bits, so one that is found again is the same write; and a script that is
sent again, as its answer was lost, knows whether it was done. Where others have written since, it was done or not: that
is reported, as of any write that was cut off, and the message ids make it harmless to repeat the request.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Generic

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import ProfileOverload, StoreUnavailable
from ninetailed_wsgi.store.keys import digest_of, key_of, name_of
from ninetailed_wsgi.store.protocol import DAY, Decided, Document, Entry, Fold, HistoryEntry, Stored, Write
from ninetailed_wsgi.store.redis.commands import RedisCommand, Script
from ninetailed_wsgi.store.redis.server import RedisServer

_VERSION = 16  # characters
_ANY = b"*"  # instead of the version that a write expects: whatever is there
_MAX_TRIES = 100
_AT_ONCE = 100  # whole histories that are read together
_REMEMBERED = 64  # documents that each thread remembers having read

# again, version found, document (empty: delete), replace history, events kept, oldest time and ordinal kept, events
_WRITE = Script("""
local found = redis.call('GETRANGE', KEYS[1], 0, 15)
if ARGV[1] == 'again' and found == string.sub(ARGV[3], 1, 16) then
  return 1
end
if found ~= ARGV[2] and ARGV[2] ~= '*' then
  if ARGV[1] == 'again' then
    return redis.error_reply('LOST the answer to a write, and others have written since')
  end
  return redis.call('GET', KEYS[1])
end
if ARGV[3] == '' then
  redis.call('UNLINK', KEYS[1], KEYS[2])
  return 1
end
if ARGV[4] == '1' then
  redis.call('UNLINK', KEYS[2])
end
redis.call('SET', KEYS[1], ARGV[3])
if #ARGV > 7 then
  for first = 8, #ARGV, 1000 do
    redis.call('RPUSH', KEYS[2], unpack(ARGV, first, math.min(first + 999, #ARGV)))
  end
  redis.call('LTRIM', KEYS[2], '-' .. ARGV[5], -1)
  local since, oldest = tonumber(ARGV[6]), tonumber(ARGV[7])
  while true do
    local event = redis.call('LINDEX', KEYS[2], 0)
    local ordinal, at = string.match(event or '', '^(%d+) (-?%d+)')
    if not ordinal or (tonumber(at) >= since and tonumber(ordinal) >= oldest) then
      break
    end
    redis.call('LPOP', KEYS[2])
  end
end
return 1
""")
_WHOLE = Script("return {redis.call('GET', KEYS[1]), redis.call('LRANGE', KEYS[2], 0, -1)}", writes=False)


class RedisStore:
    """Profiles on Redis or Valkey, for any number of servers, processes and threads.

    Args:
        server: where they are.
        timeout: seconds after which an update gives up that others keep from getting through.
        history_events, history_days: how much of a profile's history is kept.
        clock: now, in milliseconds since the epoch.
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
        self._history_events = history_events
        self._history_days = history_days
        self._clock = clock
        self._local = threading.local()
        self._id_key: bytes | None = None

    def id_key(self) -> bytes:
        """Return the key that profile ids are certified with; it was made with the store."""
        if self._id_key is None:
            self._id_key = self.server.id_key()
        return self._id_key

    def take_id_key(self, key: bytes) -> None:
        """Certify ids with the key of the store that this one is filled from."""
        self.server.take_id_key(key)
        self._id_key = key

    # What the protocol of base.py asks for; its docstrings say what each does.

    def read(self, key: Key) -> Entry:
        name = _name(key)
        raw = self.server.ask(RedisCommand(name, ("GET", name)))
        self._remember(name, raw)
        return self.entry(name, raw)

    def update(self, keys: Sequence[Key], fold: Fold[Decided]) -> dict[Key, Decided]:
        names = {_name(key): key for key in keys}
        # What this thread has read before may be outdated: it saves reading it again when it is not.
        earlier = {name: raw for name in names if (raw := self._remembered().pop(name, _ANY)) is not _ANY}
        update = _Update(self, names, earlier, fold)
        end, tries = time.monotonic() + self._timeout, 0
        while update.keys:
            if update.attempt():
                continue
            tries += 1
            if tries == _MAX_TRIES or time.monotonic() > end:
                raise ProfileOverload("too many requests write this profile at the same time")
            if tries > 1:
                # After a pause what was read is outdated if others keep writing: each try would be lost.
                time.sleep(random.random() * min(tries, 10) / 1000)
                update.forget()
        return update.decisions

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        for names in self._pages():
            for raw in self.server.run([RedisCommand(name, ("GET", name)) for name in names]):
                if raw is not None:
                    key, document, _ = _loaded(raw)
                    if organization in (None, key.organization) and environment in (None, key.environment):
                        yield key, document

    def check(self) -> None:
        self.server.admit()

    def close(self) -> None:
        self.server.close()

    # What the commands need of all of it.

    def count(self) -> int:
        return sum(map(len, self._pages()))

    def sizes(self) -> Iterator[tuple[Key, Document, int, int]]:
        for names in self._pages():
            asked: list[RedisCommand] = []
            for name in names:
                usage = [RedisCommand(name, ("MEMORY", "USAGE", part)) for part in (name, name + ":h")]
                asked += [RedisCommand(name, ("GET", name)), RedisCommand(name, ("LLEN", name + ":h")), *usage]
            answers = iter(self.server.run(asked))
            for raw, events, *sizes in zip(answers, answers, answers, answers, strict=True):
                if raw is not None:
                    key, document, _ = _loaded(raw)
                    yield key, document, min(events, self._history_events), sum(size or 0 for size in sizes)

    def footprint(self) -> str:
        return f"{self.server.memory():,} bytes in the memory of Redis"

    def dump(self) -> Iterator[Stored]:
        for names in self._pages():
            for first in range(0, len(names), _AT_ONCE):
                yield from self._fetch(names[first : first + _AT_ONCE])

    def fetch(self, digests: Sequence[bytes]) -> list[Stored]:
        return self._fetch(list(map(_named, digests)))

    def _fetch(self, names: Sequence[str]) -> list[Stored]:
        found = []
        for raw, events in self.server.run([_WHOLE.call(_keys(name)) for name in names]):
            if raw is not None:
                key, document, next_ordinal = _loaded(raw)
                found.append(Stored(key, document, next_ordinal, [(at, event) for _, at, event in map(_event, events)]))
        return found

    def load(self, stored: Sequence[Stored]) -> None:
        commands = []
        for key, document, next_ordinal, history in stored:
            write = Write(document, history, replace_history=True)
            commands.append(self.command(_name(key), key, _ANY, next_ordinal - len(history), write))
        self.server.run(commands)

    def states(self) -> Iterator[dict[bytes, bytes]]:
        for names in self._pages():
            yield self._states(names)

    def states_of(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        return self._states(list(map(_named, digests)))

    def _states(self, names: Sequence[str]) -> dict[bytes, bytes]:
        documents = self.server.run([RedisCommand(name, ("GET", name)) for name in names])
        return {_digest(name): _state(raw) for name, raw in zip(names, documents, strict=True) if raw is not None}

    def filled_from(self) -> str | None:
        return self.server.filled_from()

    def fill_from(self, source: str | None) -> None:
        self.server.fill_from(source)

    def _pages(self) -> Iterator[list[str]]:
        seen: set[bytes] = set()
        for names in self.server.pages("nt:{*}"):
            new = {_digest(name): name for name in names}
            yield [name for digest, name in new.items() if digest not in seen]
            seen.update(new)

    # One key

    def entry(self, name: str, raw: bytes | None) -> Entry:
        """Return what the text that lies under a name stands for."""
        if raw is None:
            return Entry(None, 0, lambda: self._history(name))
        _, document, next_ordinal = _loaded(raw)
        return Entry(document, next_ordinal, lambda: self._history(name))

    def command(self, name: str, key: Key, version: bytes, ordinal: int, write: Write) -> RedisCommand:
        """Return the command that writes what a fold decided, if the document has this version still."""
        events = [b"%d %d %b" % (number, at, raw) for number, (at, raw) in enumerate(write.events, ordinal)]
        value = b""
        if write.document is not None:
            head = b"%b %d %b" % (secrets.token_hex(_VERSION // 2).encode(), ordinal + len(events), name_of(key))
            value = head + b"\n" + orjson.dumps(write.document)
        since = self._clock() - self._history_days * DAY
        replace = b"1" if write.replace_history else b""
        kept = events[-self._history_events :]
        return _WRITE.call(_keys(name), version, value, replace, self._history_events, since, write.first, *kept)

    def _history(self, name: str) -> list[HistoryEntry]:
        since = self._clock() - self._history_days * DAY
        events = self.server.ask(RedisCommand(name, ("LRANGE", name + ":h", -self._history_events, -1)))
        return [(ordinal, at, orjson.loads(event)) for ordinal, at, event in map(_event, events) if at >= since]

    def _remembered(self) -> dict[str, bytes | None]:
        remembered: dict[str, bytes | None] = self._local.__dict__.setdefault("read", {})
        return remembered

    def _remember(self, name: str, raw: bytes | None) -> None:
        remembered = self._remembered()
        if len(remembered) >= _REMEMBERED:
            remembered.clear()
        remembered[name] = raw


class _Update(Generic[Decided]):
    """One call of `RedisStore.update`, over all its attempts.

    Attributes:
        keys: those that are still to be written, by name.
        decisions: what the last fold of each key decided.
    """

    def __init__(
        self, store: RedisStore, keys: dict[str, Key], earlier: dict[str, bytes | None], fold: Fold[Decided]
    ) -> None:
        self.keys = keys
        self.decisions: dict[Key, Decided] = {}
        self._store = store
        self._fold = fold
        self._texts = earlier  # what lies under each name
        self._current: set[str] = set()  # names whose text was read by this call

    def forget(self) -> None:
        """Read everything again before the next attempt."""
        self._texts.clear()
        self._current.clear()

    def attempt(self) -> bool:
        """Fold and write what is left once; whether nobody else was faster."""
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
            else:  # others were first: this is what they wrote
                self._texts[name] = answer
                self._current.add(name)
        return not (self.keys and writes)

    def _writes(self) -> dict[str, RedisCommand]:
        """What is to be written; a decision against writing counts only when it was about what is there now."""
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
                writes[name] = self._store.command(name, key, (raw or b"")[:_VERSION], entry.next_ordinal, write)
            elif name not in self._current:
                del self._texts[name]
            elif raw is not None and self._store.server.wait_replicas:
                # What an earlier try of this request wrote may have reached no replica: it is written once more.
                same = self._store.entry(name, raw)
                writes[name] = self._store.command(name, key, raw[:_VERSION], same.next_ordinal, Write(same.document))
        return writes


def _name(key: Key) -> str:
    return _named(digest_of(key))


def _named(digest: bytes) -> str:
    return f"nt:{{{digest.hex()}}}"


def _digest(name: str) -> bytes:
    return bytes.fromhex(name[4:-1])


def _keys(name: str) -> tuple[str, str]:
    return name, name + ":h"


def _event(raw: bytes) -> tuple[int, int, bytes]:
    """An event of a history: its ordinal, its time, its JSON text."""
    ordinal, at, event = raw.split(b" ", 2)
    return int(ordinal), int(at), event


def _state(raw: bytes) -> bytes:
    """The next ordinal and the document, as they stand in what is stored."""
    try:
        head, document = raw.split(b"\n", 1)
        return b"%b %b" % (head.split(b" ", 2)[1], document)
    except (ValueError, IndexError) as error:
        raise StoreUnavailable(f"the store holds a damaged document: {error}") from error


def _loaded(raw: bytes) -> tuple[Key, Document, int]:
    """A document with its key and the ordinal that its next event gets."""
    try:
        head, text = raw.split(b"\n", 1)
        _, ordinal, where = head.split(b" ", 2)
        return key_of(where), orjson.loads(text), int(ordinal)
    except ValueError as error:
        raise StoreUnavailable(f"the store holds a damaged document: {error}") from error
