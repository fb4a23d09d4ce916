"""How a profile and its history are stored on Redis, and the script that writes them.

A key's document is under ``nt:{DIGEST}``, its history under ``nt:{DIGEST}:h``: the part in braces decides the slot of a
Cluster, so the whole profile is on one server. A document has two lines: first its version, the next ordinal and its
key, then its JSON text. A history is a list with one entry per event: ordinal, time, JSON text.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import NamedTuple

import orjson

from ninetailed_wsgi.core.names import Key
from ninetailed_wsgi.errors import StoreUnavailable
from ninetailed_wsgi.store.keys import digest_of, key_of, name_of
from ninetailed_wsgi.store.protocol import DAY, Document, Write
from ninetailed_wsgi.store.redis.commands import RedisCommand, Script

VERSION = 16
"""Characters of a version."""

ANY = b"*"
"""The expected version of a write that accepts whatever is there."""

# again, version found, document (empty: delete), replace history, events kept, oldest time and ordinal kept, events
WRITE = Script("""
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
WHOLE = Script("return {redis.call('GET', KEYS[1]), redis.call('LRANGE', KEYS[2], 0, -1)}", writes=False)


class Bounds(NamedTuple):
    """How much of a profile's history is kept.

    Attributes:
        events: how many of the newest events are kept.
        days: how old these may be.
        clock: returns the time, in milliseconds since the epoch.
    """

    events: int
    days: int
    clock: Callable[[], int]

    def since(self) -> int:
        """Return the time (ms) of the oldest event that may be kept."""
        return self.clock() - self.days * DAY


def write_command(bounds: Bounds, name: str, key: Key, version: bytes, ordinal: int, write: Write) -> RedisCommand:
    """Return the command that writes what a fold decided, if the document still has this version.

    Args:
        ordinal: the ordinal of the first event that is appended.
    """
    events = [b"%d %d %b" % (number, at, raw) for number, (at, raw) in enumerate(write.events, ordinal)]
    value = b""
    if write.document is not None:
        head = b"%b %d %b" % (secrets.token_hex(VERSION // 2).encode(), ordinal + len(events), name_of(key))
        value = head + b"\n" + orjson.dumps(write.document)
    replace = b"1" if write.replace_history else b""
    recent = events[-bounds.events :]
    return WRITE.call(keys_of(name), version, value, replace, bounds.events, bounds.since(), write.first, *recent)


def name_for(key: Key) -> str:
    """Return the name of a key's document."""
    return name_of_digest(digest_of(key))


def name_of_digest(digest: bytes) -> str:
    """Return the name of the document of the key with this digest."""
    return f"nt:{{{digest.hex()}}}"


def digest_in(name: str) -> bytes:
    """Return the digest of the key whose document has this name."""
    return bytes.fromhex(name[4:-1])


def keys_of(name: str) -> tuple[str, str]:
    """Return the names of a document and its history."""
    return name, name + ":h"


def event_of(raw: bytes) -> tuple[int, int, bytes]:
    """Return an event of a history: its ordinal, its time (ms), its JSON text."""
    ordinal, at, event = raw.split(b" ", 2)
    return int(ordinal), int(at), event


def state_of(raw: bytes) -> bytes:
    """Return the next ordinal and the document, as the stored text has them."""
    try:
        head, document = raw.split(b"\n", 1)
        return b"%b %b" % (head.split(b" ", 2)[1], document)
    except (ValueError, IndexError) as error:
        raise StoreUnavailable(f"the store holds a damaged document: {error}") from error


def read_document(raw: bytes) -> tuple[Key, Document, int]:
    """Return a document with its key and the ordinal of its next event; raise StoreUnavailable if it is damaged."""
    try:
        head, text = raw.split(b"\n", 1)
        _, ordinal, where = head.split(b" ", 2)
        return key_of(where), orjson.loads(text), int(ordinal)
    except ValueError as error:
        raise StoreUnavailable(f"the store holds a damaged document: {error}") from error
