"""What a store is: named documents with a history each, changed by a fold that runs atomically."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from ninetailed_wsgi.core.names import Key

DAY = 24 * 60 * 60 * 1000
"""Milliseconds of a day, in which the age of events is bounded."""

KEY_BYTES = 32
"""Length of the key that the profile ids of a store are certified with."""

Document = dict[str, Any]
"""A profile record, or a pointer from an alias to its profile (see identity.py). Any JSON object."""

HistoryEvent = tuple[int, bytes]
"""An event as a history keeps it: its time (ms) and its JSON text."""

HistoryEntry = tuple[int, int, dict[str, Any]]
"""An event as a history gives it back: its ordinal in the profile, its time (ms), the event."""


class StoreEntry(NamedTuple):
    """What is stored for one key.

    Attributes:
        document: shared with other readers, so that nobody changes it; None when there is nothing.
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
        document: the new document, of the types that parsed JSON has; None removes the key with its history.
        events: appended to the history.
        replace_history: the history kept so far is dropped first.
        first: events before this ordinal are dropped when events are appended; a few of them may be kept longer.
    """

    document: Document | None
    events: Sequence[HistoryEvent] = ()
    replace_history: bool = False
    first: int = 0

    @property
    def write(self) -> Write:
        """A write alone is a decision too."""
        return self


class FoldOutcome(Protocol):
    """What a fold decides: what is to be stored, and whatever else the caller of ``update`` wants to know."""

    @property
    def write(self) -> Write | None:
        """What is to be stored; None: what is there stays."""


OutcomeT = TypeVar("OutcomeT", bound=FoldOutcome | None)

Fold = Callable[[Key, StoreEntry], OutcomeT]
"""Pure: decides from an entry alone, and changes nothing, not its document either; None: what is there stays.

It may run again for the same key, so what it wants to be known is part of its decision. What it wants stored is shared
from then on as well.
"""


class Store(Protocol):
    """A place for documents that keeps everything it acknowledged.

    Every method raises :class:`~ninetailed_wsgi.errors.StoreUnavailable` when it cannot serve now; ``update`` also
    :class:`~ninetailed_wsgi.errors.ProfileOverload` when other writers of the same key keep it from getting through.
    """

    def read(self, key: Key) -> StoreEntry:
        """Return what is stored for a key."""

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        """Read, fold and write each key atomically; several keys in as few transactions as the store can.

        Returns what was decided for each key: by the fold that read what is there now, or whose write was stored.
        """

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        """Yield every stored document (of one organization, of one environment), in no order, while others write."""

    def check(self) -> None:
        """Raise StoreUnavailable with the reason when the store cannot serve."""

    def close(self) -> None:
        """Give back what this process holds open."""


class StoredRecord(NamedTuple):
    """Everything that is stored for one key, as it moves from one store to another.

    Attributes:
        key, document: as elsewhere.
        next_ordinal: the ordinal that the next event gets; those of ``history`` end before it.
        history: every event that is kept, oldest first, without a gap.
    """

    key: Key
    document: Document
    next_ordinal: int
    history: list[HistoryEvent]


class Contents(Protocol):
    """All that a store holds, for the commands that count it and move it; each method raises StoreUnavailable."""

    def count(self) -> int:
        """Return how many documents there are, pointers included."""

    def sizes(self) -> Iterator[tuple[Key, Document, int, int]]:
        """Yield every document, with the number of events kept of it and the bytes of both, in no order."""

    def footprint(self) -> str:
        """Return how much room the store takes, and where, in a few words."""

    def dump(self) -> Iterator[StoredRecord]:
        """Yield what is stored for each key, as it is at one moment, in no order, while others write."""

    def fetch(self, digests: Sequence[bytes]) -> list[StoredRecord]:
        """Return what is stored for some keys, named by their digests (see keys.py), in no order; as `dump`."""

    def load(self, records: Sequence[StoredRecord]) -> None:
        """Replace what is stored for some keys by what another store dumped; the bounds of histories hold."""

    def states(self) -> Iterator[dict[bytes, bytes]]:
        """Yield the digest and the state of each key, in pages.

        A state is another one after each write, and the same in every store.
        """

    def states_of(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the states of those of some keys that are there; as `states`."""


class Arrivals(Protocol):
    """What came in last, shared by all processes while somebody watches; nothing of it is kept for long.

    Every method raises StoreUnavailable when it cannot be done; nobody but the person who watches misses anything then.
    """

    def watch(self, until: int) -> None:
        """Let every process add what comes in until this time (ms)."""

    def watched_until(self) -> int:
        """Return until when somebody watches (ms); 0: nobody did for long."""

    def add(self, arrival: bytes) -> None:
        """Add one arrival, a JSON text without a line break; the oldest go."""

    def newest(self) -> list[bytes]:
        """Return the newest arrivals, the oldest first; one may come twice, or be cut off."""

    def clear(self) -> None:
        """Drop everything that came in."""


class KeptStore(Store, Protocol):
    """A store that keeps what it is given, with what the commands need besides."""

    @property
    def contents(self) -> Contents:
        """All that it holds."""

    @property
    def arrivals(self) -> Arrivals:
        """What came in last, while somebody watches."""

    def id_key(self) -> bytes:
        """Return the key that profile ids are certified with; it was made with the store."""

    def take_id_key(self, key: bytes) -> None:
        """Certify ids with the key of the store that this one is filled from."""

    def filled_from(self) -> str | None:
        """Return the source of the unfinished migration into this store, or None."""

    def fill_from(self, source: str | None) -> None:
        """Mark this store as one that a migration fills, and that nobody is to serve from; None: it is complete."""


class Head(NamedTuple):
    """The batch that is to be applied next.

    Attributes:
        number: its place in the order; no other batch ever has it.
        batch: what was put.
        tries: how often it failed, or was begun by a process that died.
        tried: when the last of these was begun (ms).
    """

    number: int
    batch: bytes
    tries: int
    last_try: int


DEATHS_APART = 1000
"""Milliseconds within which the deaths of processes count as one try: a restart may kill several in a row."""


class Queued(NamedTuple):
    """A batch as it moves from one queue to another.

    Attributes:
        number: its place in the order, which profiles remember.
        value: what was put; of one set aside what `QueueContents.aside` gives, as JSON with its members in order.
        aside: whether it was set aside.
    """

    number: int
    value: bytes
    aside: bool


class QueueState(NamedTuple):
    """What waits.

    Attributes:
        waiting: batches to be applied.
        oldest: seconds that the first of them has waited; 0 without any.
        aside: batches that could not be applied.
    """

    waiting: int
    oldest: float
    aside: int


class QueueContents(Protocol):
    """All that a queue holds, for the commands that move it and for tests; each method raises StoreUnavailable."""

    def aside(self) -> dict[int, dict[str, Any]]:
        """Return what was set aside, by number: as `Queue.set_aside` says."""

    def last(self) -> int:
        """Return the number that was given last; 0 before the first."""

    def dump(self) -> Iterator[Queued]:
        """Yield the batches that wait, in their order, then those set aside, in theirs, while others write."""

    def load(self, queued: Sequence[Queued], last: int) -> None:
        """Add batches of another queue, in their order, behind those that wait; numbers given later are above ``last``.

        Nobody else may be at work on this queue. What is there already under a number stays.
        """

    def clear(self, *, aside: bool) -> None:
        """Remove the batches that wait, or those set aside; nobody else may be at work on this queue."""


class Queue(Protocol):
    """Batches that were accepted and wait to be applied, in the order they came, by one thread of all at a time.

    Attributes:
        locked: descriptors that are open while `alone` is entered, if any; a forked child has to close its copies.

    Every method raises :class:`~ninetailed_wsgi.errors.StoreUnavailable` when the queue cannot serve.
    """

    locked: set[int]

    def put(self, batch: bytes, names: Collection[Key] = ()) -> None:
        """Keep a batch; when this returns, the death of any process loses it no more. StoreUnavailable when full.

        ``names`` are the ids and aliases that it is about, for `batches` and `rewrite` to find it by.
        """

    def empty(self) -> bool:
        """Return whether nothing waits; every process asks twice a second."""

    def head(self) -> Head | None:
        """Return the first batch that waits, or None."""

    def begin(self, head: Head) -> None:
        """Count a try, before it: a batch that kills the process that applies it must not be tried for ever."""

    def failed(self, head: Head) -> None:
        """Count a try that ended with an error."""

    def again(self, head: Head) -> None:
        """Take the last try back: it was not the batch that failed."""

    def finish(self, number: int) -> None:
        """Remove a batch that was applied."""

    def set_aside(self, head: Head, reason: str) -> None:
        """Keep a batch apart that cannot be applied: ``{"reason", "tries", "batch"}`` under its number."""

    def state(self) -> QueueState:
        """Return how much waits, and how long, without writing anything."""

    def index(self, names: Callable[[bytes], Collection[Key]]) -> None:
        """Note whom the batches are about of which nobody has noted it yet, as ``names`` reads it from each.

        These are batches of an older version or another store, those set aside, and those rewritten. Costs a read of
        each of them, once; to be called before batches are asked for by name.
        """

    def batches(self, names: Collection[Key] | None = None, *, aside: bool = False) -> Iterator[bytes]:
        """Yield the batches that wait; with ``aside`` then those set aside too.

        With ``names`` only those about any of these ids and aliases, and maybe some that were so before.
        """

    def rewrite(self, change: Callable[[bytes], bytes | None], names: Collection[Key] | None = None) -> None:
        """Replace each batch, waiting or aside, by what ``change`` makes of it; None: by nothing.

        With ``names`` only those about any of these ids and aliases are read. To be called inside `alone`, so that none
        is being applied. Repeatable.
        """

    def alone(self, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Return a ``with`` block that says whether nobody else of any process is in one; who dies leaves it.

        A caller that waits is a deletion. It waits for the queue's timeout at most, and for one batch: consumers and
        deletions take turns. A consumer waits for a deletion alone, and not for long.
        """

    @property
    def contents(self) -> QueueContents:
        """All that it holds."""

    def close(self) -> None:
        """Give back what this process holds open."""
