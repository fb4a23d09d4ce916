"""The form of a batch while it waits to be applied; no other module knows it.

It is JSON, ``{"at": ms, "where": [organization, environment], "events": [...]}``, where a deleted visitor's events are
null; ``"guarded": true`` stands before them where that was the mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from ninetailed_wsgi.core.names import Environment, Key


class Batch(NamedTuple):
    """A batch that was accepted and waits to be applied.

    Attributes:
        environment: of all its events.
        at: when it was accepted, milliseconds since the epoch.
        events: as they were sent; None in the place of one that was deleted since, as profiles remember places.
        guarded: whether it was accepted in the mode ``guarded``.
    """

    environment: Environment
    at: int
    events: list[dict[str, Any] | None]
    guarded: bool = False

    def encode(self) -> bytes:
        """Return the batch as a queue keeps it."""
        mode = {"guarded": True} if self.guarded else {}
        return orjson.dumps({"at": self.at, "where": list(self.environment), **mode, "events": self.events})

    @classmethod
    def decode(cls, text: bytes) -> Batch:
        """Return the batch that `encode` made this text of."""
        members = orjson.loads(text)
        return cls(Environment(*members["where"]), members["at"], members["events"], "guarded" in members)

    @property
    def names(self) -> set[Key]:
        """Return the ids and aliases that its events are about."""
        names = (name for event in self.events if event for name in names_of(event))
        return set(map(self.environment.key, names))


def names_of(event: Mapping[str, Any]) -> tuple[str, ...]:
    """Return whom an event is about: the user id that an identify event names is its visitor as well."""
    user_id = event.get("userId") if event["type"] == "identify" else None
    return (event["anonymousId"], user_id) if user_id else (event["anonymousId"],)


def events_of(text: bytes, environment: Environment) -> list[dict[str, Any] | None]:
    """Return the events of an encoded batch; none where it is of another environment, which costs no decoding of them.

    What stands before the events has no such member in it, as a quotation mark inside a text is escaped.
    """
    head = orjson.loads(text.partition(b',"events":')[0] + b"}")
    return Batch.decode(text).events if head["where"] == list(environment) else []
