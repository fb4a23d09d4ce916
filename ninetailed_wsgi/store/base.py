"""What a store is: named documents with a history each, changed by a fold that runs atomically."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

Document = dict[str, Any]
"""A profile record, or a pointer from an alias to its profile (see identity.py). Any JSON object."""

HistoryEvent = tuple[int, bytes]
"""An event as a history keeps it: its time (ms) and its JSON text."""

HistoryEntry = tuple[int, int, dict[str, Any]]
"""An event as a history gives it back: its ordinal in the profile, its time (ms), the event."""


class Key(NamedTuple):
    """A name within an environment. The three parts are any text; different keys never meet."""

    organization: str
    environment: str
    name: str


class Entry(NamedTuple):
    """What is stored for one key.

    Attributes:
        document: the receiver's own copy; None when there is nothing.
        next_ordinal: the ordinal that the next event appended to the history gets; while there is a document, no
            ordinal is given twice, whatever was dropped of the history.
        history: reads the kept history, oldest first; costs a read, so it is called only when needed.
    """

    document: Document | None
    next_ordinal: int
    history: Callable[[], list[HistoryEntry]]


class Write(NamedTuple):
    """What a fold wants stored for one key.

    Attributes:
        document: the new document; None removes the key with its history.
        events: appended to the history.
        replace_history: the history kept so far is dropped first.
    """

    document: Document | None
    events: Sequence[HistoryEvent] = ()
    replace_history: bool = False


Fold = Callable[[Key, Entry], Write | None]
"""Pure: decides from an entry what is to be stored, or None for nothing. It may run again for the same key."""


class Store(Protocol):
    """A place for documents that keeps everything it acknowledged.

    Every method raises :class:`~ninetailed_wsgi.errors.StoreUnavailable` when it cannot serve now; ``update`` also
    :class:`~ninetailed_wsgi.errors.ProfileOverload` when other writers of the same key keep it from getting through.
    """

    def read(self, key: Key) -> Entry:
        """What is stored for a key."""

    def update(self, keys: Sequence[Key], fold: Fold) -> None:
        """Read, fold and write each key atomically; several keys in as few transactions as the store can."""

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        """Every stored document (of one organization, of one environment), in no order, while others write."""

    def check(self) -> None:
        """Raise StoreUnavailable with the reason when the store cannot serve."""

    def close(self) -> None:
        """Give back what this process holds open."""
