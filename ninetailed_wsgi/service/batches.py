"""The form of a batch while it waits to be applied; no other module knows it.

It is JSON, ``{"at": ms, "where": [organization, environment], "events": [...]}``. The events of a deleted visitor are
null. If the mode was ``guarded``, ``"guarded": true`` stands before the events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from ninetailed_wsgi.core.names import Environment, Key


class Batch(NamedTuple):
    """A batch that was accepted and waits to be applied.

    Attributes:
        environment: the environment of all its events.
        at: when it was accepted, milliseconds since the epoch.
        events: as they were sent; None replaces an event that was deleted since, because profiles remember places.
        guarded: whether it was accepted in the mode ``guarded``.
    """

    environment: Environment
    at: int
    events: list[dict[str, Any] | None]
    guarded: bool = False

    def encode(self) -> bytes:
        """Return the batch in the form that a queue stores."""
        mode = {"guarded": True} if self.guarded else {}
        return orjson.dumps({"at": self.at, "where": list(self.environment), **mode, "events": self.events})

    @classmethod
    def decode(cls, text: bytes) -> Batch:
        """Return the batch from which `encode` made this text."""
        members = orjson.loads(text)
        return cls(Environment(*members["where"]), members["at"], members["events"], "guarded" in members)

    @property
    def names(self) -> set[Key]:
        """Return the ids and aliases that its events are about."""
        names = (name for event in self.events if event for name in names_of(event))
        return set(map(self.environment.key, names))


def names_of(event: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of an event's visitor: the user id of an identify event names the visitor as well."""
    user_id = event.get("userId") if event["type"] == "identify" else None
    return (event["anonymousId"], user_id) if user_id else (event["anonymousId"],)


def events_of(text: bytes, environment: Environment) -> list[dict[str, Any] | None]:
    """Return the events of an encoded batch; if it is of another environment, return none and do not decode them.

    The text before the events cannot contain such a member, because a quotation mark inside a text is escaped.
    """
    head = orjson.loads(text.partition(b',"events":')[0] + b"}")
    return Batch.decode(text).events if head["where"] == list(environment) else []
