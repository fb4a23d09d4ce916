"""Commands and scripts for Redis; each of them may be sent twice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple


class RedisCommand(NamedTuple):
    """One command.

    Attributes:
        key: decides the server of a Cluster.
        words: the command as it is sent.
        script: the script that the words call, if any.
    """

    key: str
    words: tuple[Any, ...]
    script: Script | None = None

    def again(self) -> RedisCommand:
        """Return the command to send again if its answer was lost and nobody knows whether it was executed."""
        if self.script is None:
            return self
        first = 3 + int(self.words[2])
        return self._replace(words=(*self.words[:first], b"again", *self.words[first + 1 :]))

    def whole(self) -> RedisCommand:
        """Return the command with the text of its script, for a server that does not know it yet."""
        assert self.script is not None
        return self._replace(words=("EVAL", self.script.text, *self.words[2:]))


class Script:
    """A Lua script. Its first argument is ``again`` if it may have run before and only its answer was lost.

    Args:
        writes: whether it changes something.
    """

    def __init__(self, text: str, *, writes: bool = True) -> None:
        self.text, self.writes = text, writes
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], *arguments: Any) -> RedisCommand:
        return RedisCommand(keys[0], ("EVALSHA", self._sha, len(keys), *keys, b"", *arguments), self)
