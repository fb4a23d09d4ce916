"""What a store is: named documents with a history each, changed by a fold that runs atomically."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from ninetailed_wsgi.core.names import Key

DAY = 24 * 60 * 60 * 1000
"""Milliseconds of a day, the unit of the age limit of events."""

KEY_BYTES = 32
"""Length of the key that certifies the profile ids of a store."""

Document = dict[str, Any]
"""A profile record, or a pointer from an alias to its profile (see identity.py). Any JSON object."""

HistoryEvent = tuple[int, bytes]
"""An event as a history keeps it: its time (ms) and its JSON text."""

HistoryEntry = tuple[int, int, dict[str, Any]]
"""An event as a history returns it: its ordinal in the profile, its time (ms), the event."""


class StoreEntry(NamedTuple):
    """What is stored for one key.

    Attributes:
        document: shared with other readers, so it must not be changed; None if there is nothing.
        next_ordinal: the ordinal of the next event that is appended to the history; as long as there is a document, no
            ordinal is given twice, even if events were dropped from the history.
        history: reads the history, oldest first; this costs a read, so call it only when needed.
    """

    document: Document | None
    next_ordinal: int
    history: Callable[[], list[HistoryEntry]]


class Write(NamedTuple):
    """What a fold wants to store for one key.

    Attributes:
        document: the new document, of the types that parsed JSON has; None removes the key with its history.
        events: the events to append to the history.
        replace_history: whether the existing history is dropped first.
        first: events before this ordinal are dropped when events are appended; a few of them may stay longer.
    """

    document: Document | None
    events: Sequence[HistoryEvent] = ()
    replace_history: bool = False
    first: int = 0

    @property
    def write(self) -> Write:
        """Return itself: a write alone is a decision too."""
        return self


class FoldOutcome(Protocol):
    """What a fold decides: what to store, and whatever else the caller of ``update`` wants to know."""

    @property
    def write(self) -> Write | None:
        """What to store; None: leave what is there unchanged."""


OutcomeT = TypeVar("OutcomeT", bound=FoldOutcome | None)

Fold = Callable[[Key, StoreEntry], OutcomeT]
"""A pure function: it decides from an entry alone and changes nothing, not even the entry's document.

If it decides None, what is stored stays. It may run again for the same key, so everything that it reports is part of
its decision. What it wants to store is shared with readers from then on, too.
"""


class Store(Protocol):
    """A place for documents that keeps everything it acknowledged.

    Every method raises :class:`~ninetailed_wsgi.errors.StoreUnavailable` if the store cannot serve now; ``update`` also
    raises :class:`~ninetailed_wsgi.errors.ProfileOverload` if other writers of the same key are always faster.
    """

    def read(self, key: Key) -> StoreEntry:
        """Return what is stored for a key."""

    def update(self, keys: Sequence[Key], fold: Fold[OutcomeT]) -> dict[Key, OutcomeT]:
        """Read, fold and write each key atomically; several keys in as few transactions as possible.

        Returns the decision for each key: that of the fold whose write was stored, or that read the current state.
        """

    def documents(
        self, organization: str | None = None, environment: str | None = None
    ) -> Iterator[tuple[Key, Document]]:
        """Yield every stored document (of one organization, of one environment), in no order, while others write."""

    def check(self) -> None:
        """Raise StoreUnavailable with the reason if the store cannot serve."""

    def close(self) -> None:
        """Give back what this process holds open."""


class StoredRecord(NamedTuple):
    """Everything that is stored for one key, as it moves from one store to another.

    Attributes:
        key, document: as in `StoreEntry`.
        next_ordinal: the ordinal that the next event gets; the ordinals of ``history`` end before it.
        history: every event in the history, oldest first, without a gap.
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
        """Yield every document, with the number of events in its history and the bytes of both, in no order."""

    def footprint(self) -> str:
        """Return how much space the store takes, and where, in a few words."""

    def dump(self) -> Iterator[StoredRecord]:
        """Yield what is stored for each key, each as of one moment, in no order, while others write."""

    def fetch(self, digests: Sequence[bytes]) -> list[StoredRecord]:
        """Return what is stored for some keys, given by their digests (see keys.py), in no order, as `dump` does."""

    def load(self, records: Sequence[StoredRecord]) -> None:
        """Replace what is stored for some keys by what another store dumped; the limits of histories apply."""

    def states(self) -> Iterator[dict[bytes, bytes]]:
        """Yield the digest and the state of each key, in pages.

        A state changes with each write, and is the same in every store.
        """

    def states_of(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the states of those of these keys that exist, as `states` does."""


class Arrivals(Protocol):
    """The newest events, shared by all processes while somebody watches; nothing is kept for long.

    Every method raises StoreUnavailable if it fails; then only the person who watches misses something.
    """

    def watch(self, until: int) -> None:
        """Let every process add what comes in until this time (ms)."""

    def watched_until(self) -> int:
        """Return until when somebody watches (ms); 0: nobody has watched for a long time."""

    def add(self, arrival: bytes) -> None:
        """Add one arrival, a JSON text without a line break; the oldest arrivals are dropped."""

    def newest(self) -> list[bytes]:
        """Return the newest arrivals, oldest first; one may come twice or be cut off."""

    def clear(self) -> None:
        """Drop everything that came in."""


class KeptStore(Store, Protocol):
    """A store that keeps its data, with what else the commands need."""

    @property
    def contents(self) -> Contents:
        """All that the store holds."""

    @property
    def arrivals(self) -> Arrivals:
        """The newest events, while somebody watches."""

    def id_key(self) -> bytes:
        """Return the key that certifies profile ids; it was made with the store."""

    def take_id_key(self, key: bytes) -> None:
        """Certify ids with this key, that of the store from which this one is filled."""

    def filled_from(self) -> str | None:
        """Return the source of the unfinished migration into this store, or None."""

    def fill_from(self, source: str | None) -> None:
        """Mark this store as one that a migration is filling and that must not serve yet; None: it is complete."""


class Head(NamedTuple):
    """The next batch to apply.

    Attributes:
        number: its place in the order; no other batch ever has this number.
        batch: what was put.
        tries: how often it failed, or was begun by a process that died.
        last_try: when it began (ms).
    """

    number: int
    batch: bytes
    tries: int
    last_try: int


CONSUMER_WAITS = 1.0
"""Seconds for which a consumer waits for a deletion, before it looks at the queue again."""

DEATHS_APART = 1000
"""Milliseconds within which the deaths of processes count as one try: a restart may kill several in a row."""


class Queued(NamedTuple):
    """A batch as it moves from one queue to another.

    Attributes:
        number: its place in the order, which profiles remember.
        value: what was put; if it was set aside, what `QueueContents.aside` gives, as JSON with its members in order.
        aside: whether it was set aside.
    """

    number: int
    value: bytes
    aside: bool


class QueueState(NamedTuple):
    """How many batches wait.

    Attributes:
        waiting: the number of batches to be applied.
        oldest: seconds that the first of them has waited; 0 if none waits.
        aside: the number of batches that could not be applied.
    """

    waiting: int
    oldest: float
    aside: int


class QueueContents(Protocol):
    """All that a queue holds, for the commands that move it and for tests; each method raises StoreUnavailable."""

    def aside(self) -> dict[int, dict[str, Any]]:
        """Return what was set aside, by number, in the form of `Queue.set_aside`."""

    def last(self) -> int:
        """Return the number that was given last; 0 before the first batch."""

    def dump(self) -> Iterator[Queued]:
        """Yield the batches that wait, in order, then those that were set aside, in order, while others write."""

    def load(self, queued: Sequence[Queued], last: int) -> None:
        """Add batches of another queue, in their order, behind those that wait; numbers given later are above ``last``.

        Nothing else may work on this queue. A batch that the queue already has under a number stays.
        """

    def clear(self, *, aside: bool) -> None:
        """Remove the batches that wait, or those that were set aside; nothing else may work on this queue."""


class Queue(Protocol):
    """Batches that were accepted and wait to be applied in order; only one thread of all processes applies at a time.

    Attributes:
        locked: descriptors that are open while `alone` is entered, if any; a forked child has to close its copies.

    Every method raises :class:`~ninetailed_wsgi.errors.StoreUnavailable` if the queue cannot serve.
    """

    locked: set[int]

    def put(self, batch: bytes, names: Collection[Key] = ()) -> None:
        """Store a batch, so that it survives the death of any process; raise StoreUnavailable if the queue is full.

        ``names`` are the ids and aliases that the batch is about, by which `batches` and `rewrite` find it.
        """

    def empty(self) -> bool:
        """Return whether nothing waits; every process asks twice a second."""

    def head(self) -> Head | None:
        """Return the first batch that waits, or None."""

    def begin(self, head: Head) -> None:
        """Count a try before it begins: a batch that kills the process that applies it must not be tried forever."""

    def failed(self, head: Head) -> None:
        """Count a try that ended with an error."""

    def again(self, head: Head) -> None:
        """Undo the count of the last try: it was not the batch that failed."""

    def finish(self, number: int) -> None:
        """Remove a batch that was applied."""

    def set_aside(self, head: Head, reason: str) -> None:
        """Set aside a batch that cannot be applied: as ``{"reason", "tries", "batch"}`` under its number."""

    def state(self) -> QueueState:
        """Return how many batches wait, and how long, without writing anything."""

    def index(self, names: Callable[[bytes], Collection[Key]]) -> None:
        """Index the batches that are not indexed yet by the visitors they are about; ``names`` reads these from each.

        These are batches of an older version or another store, those set aside, and those rewritten. Each of them is
        read once. Call this before you ask for batches by name.
        """

    def batches(self, names: Collection[Key] | None = None, *, aside: bool = False) -> Iterator[bytes]:
        """Yield the batches that wait; with ``aside``, then also those that were set aside.

        With ``names``, yield only batches about any of these ids and aliases, and maybe some that once were.
        """

    def rewrite(self, change: Callable[[bytes], bytes | None], names: Collection[Key] | None = None) -> None:
        """Replace each batch, waiting or set aside, by what ``change`` returns for it; None removes it.

        With ``names``, only batches about any of these ids and aliases are read. Call this inside `alone`, so that no
        batch is being applied. It may be repeated.
        """

    def alone(self, *, wait: bool = False) -> AbstractContextManager[bool]:
        """Return a ``with`` block that says whether it is the only one of all processes; a process that dies leaves it.

        A caller that waits is a deletion. It waits at most for the queue's timeout, and for one batch: consumers and
        deletions take turns. A consumer waits only for a deletion, and not for long.
        """

    @property
    def contents(self) -> QueueContents:
        """All that the queue holds."""

    def close(self) -> None:
        """Give back what this process holds open."""
