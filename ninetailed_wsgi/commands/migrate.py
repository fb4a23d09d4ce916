"""Moves all that is stored from one store to another, of any kind, while servers serve from the first one.

Only the two stores hold state, so the same command resumes a migration that was interrupted anywhere: each pass
compares the documents of both and copies those that differ. A document changes with every event of its profile, so its
history is read only when it is copied. What the target has and the source lacks is removed. The target is marked, and
nothing else can open it, until the last pass has ended and a comparison has shown that both stores are equal.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import orjson

from ninetailed_wsgi.commands.command import Command, CommandError, read_settings
from ninetailed_wsgi.commands.console import Console
from ninetailed_wsgi.commands.work import require_stored
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.terminal import in_line
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.keys import digest_of, name_of
from ninetailed_wsgi.store.opening import open_store
from ninetailed_wsgi.store.protocol import KeptStore, Queue, StoredRecord, Write

_AT_ONCE = 100
"""Documents with their histories in memory at a time: some hundred kilobytes as a rule, 50 MB when all are full."""

_BATCHES_AT_ONCE = 10
_NEARLY_NOTHING = 100
_MOST_LINES = 10


_USES = ("store",)

_Item = TypeVar("_Item")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's own flags."""
    stores = "a data folder, or the URL of Redis as for --store"
    parser.add_argument("--from", metavar="WHERE", help=f"{stores} (default: the store of the options below)")
    parser.add_argument("--to", metavar="WHERE", help="the same; empty, or partly filled by this command")
    parser.add_argument(
        "--final",
        action="store_true",
        help="the source's servers are stopped: copy the rest, compare everything, release the target",
    )


def run(arguments: argparse.Namespace) -> bool:
    """Migrate between the two stores that were typed."""
    places = vars(arguments)["from"], arguments.to
    if places == (None, None):
        raise SettingsError(["--from, --to: expected at least one of them: a folder, or the URL of Redis"])
    settings = read_settings(arguments, _USES)
    source, target = (_settings_of(settings, where) for where in places)
    require_stored(source)
    console = Console(sys.stdout, sys.stderr)
    return migrate(open_place(source), open_place(target, filling=True), console, final=arguments.final)


def _settings_of(settings: Settings, where: str | None) -> Settings:
    """Return the settings of a store that was typed; those of the service itself when none was."""
    if where is None:
        return settings
    place: dict[str, Any] = {"store": where} if "://" in where else {"store": None, "data_dir": where}
    return replace(settings, **place)  # these read text


class Side(NamedTuple):
    """A store with its import queue, and what a person calls it."""

    name: str
    store: KeptStore
    queue: Queue


def open_place(settings: Settings, *, filling: bool = False) -> Side:
    """Open the store that these settings name, without dropping any history; ``filling``: as the target."""
    name = str(settings.store or settings.data_dir.resolve())
    # The servers' own bounds hold from the next event of a profile on.
    whole = replace(settings, history_events=1_000_000, history_days=36_500)
    return Side(name, *open_store(whole, filling=filling))


def migrate(source: Side, target: Side, console: Console, *, final: bool) -> bool:
    """Copy what differs, pass after pass, until almost nothing does; with ``final``, once, then compare both stores.

    Return False if the stores still differ at the end, because others write to them.

    Raises:
        CommandError: the source holds nothing, or the target holds something that this migration did not put there.
    """
    _begin(source, target)
    changes = _pass(source, target, console)
    if final:
        return _finish(source, target, console)
    before = changes + changes
    while _NEARLY_NOTHING < changes < before * 0.8:  # passes get shorter, until they copy only new changes
        before, changes = changes, _pass(source, target, console)
    console.out.write(f"next: stop the servers of {source.name}, then run the same command with --final\n")
    return True


def _begin(source: Side, target: Side) -> None:
    if source.name == target.name:
        raise CommandError(f"--from and --to name the same store, {source.name}")
    if _empty(source):
        raise CommandError(f"no profiles are stored in {source.name} (--from)")
    filled_from = target.store.filled_from()
    if filled_from is None and not _empty(target):
        raise CommandError(f"{target.name} (--to) contains profiles that no migration copied: name an empty store")
    if filled_from not in (None, source.name):
        raise CommandError(
            f"{target.name} (--to) is being filled from {filled_from}: resume that migration, or empty the store"
        )
    target.store.fill_from(source.name)
    if target.store.id_key() != (key := source.store.id_key()):
        target.store.take_id_key(key)  # otherwise no id of the source would be valid at the target


def _empty(place: Side) -> bool:
    state = place.queue.state()
    return not (state.waiting or state.aside or place.store.contents.count())


# Copying


def _pass(source: Side, target: Side, console: Console) -> int:
    """Copy what differs and remove what the source does not have; return the number of changes."""
    comparisons, copies, present = _copy_documents(source.store, target.store, console)
    # If the target has more documents than those that were compared, some are gone from the source.
    removed = _remove_gone(source.store, target.store, console) if target.store.contents.count() > present else 0
    batches = _copy_queue(source.queue, target.queue, console)
    console.out.write(
        f"{comparisons:,} documents compared: {copies:,} copied, {removed:,} removed; "
        f"{batches:,} batches of imports copied\n"
    )
    console.out.flush()
    return copies + removed


def _copy_documents(source: KeptStore, target: KeptStore, console: Console) -> tuple[int, int, int]:
    """Return how many documents were compared, how many copied, and how many of all the target has then."""
    comparisons = copies = present = 0
    total = max(source.contents.count(), 1)
    with console.progress("documents compared") as progress:
        for page in source.contents.states():
            there = target.contents.states_of(list(page))
            differing = [digest for digest, state in page.items() if there.get(digest) != state]
            present += len(page) - len(differing)
            for some in _batched(differing, _AT_ONCE):
                records = source.contents.fetch(some)  # without those that were deleted since
                console.patiently(partial(target.contents.load, records))
                copies += len(records)
                present += len(records)
            comparisons += len(page)
            progress.at(comparisons, comparisons / total)
    return comparisons, copies, present


def _remove_gone(source: KeptStore, target: KeptStore, console: Console) -> int:
    removed = comparisons = 0
    total = max(target.contents.count(), 1)
    with console.progress("documents looked for") as progress:
        for page in target.contents.states():
            orphans = page.keys() - source.contents.states_of(list(page)).keys()
            for some in _batched(orphans, _AT_ONCE):
                keys = [record.key for record in target.contents.fetch(some)]
                if keys:
                    console.patiently(partial(target.update, keys, lambda *_: Write(None)))
                removed += len(keys)
            comparisons += len(page)
            progress.at(comparisons, comparisons / total)
    return removed


def _copy_queue(source: Queue, target: Queue, console: Console) -> int:
    """Make the same batches wait at the target, under the same numbers, which profiles remember."""
    copies = 0
    for aside in (False, True):
        here, there = (list(_batch_digests(queue, aside)) for queue in (source, target))
        if here == there:
            continue
        if here[: len(there)] != there:
            console.patiently(partial(target.contents.clear, aside=aside))
            there = []
        numbers = {number for number, _ in there}
        new = (queued for queued in source.contents.dump() if queued.aside == aside and queued.number not in numbers)
        for some in _batched(new, _BATCHES_AT_ONCE):
            console.patiently(partial(target.contents.load, some, 0))
            copies += len(some)
    console.patiently(partial(target.contents.load, [], source.contents.last()))
    return copies


def _batch_digests(queue: Queue, aside: bool) -> Iterator[tuple[int, bytes]]:
    for number, value, is_aside in queue.contents.dump():
        if is_aside == aside:
            yield number, hashlib.blake2b(value, digest_size=16).digest()


def _batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


# Verifying


@dataclass(slots=True)
class _Totals:
    """What a store and its queue hold; the checksum does not depend on its order."""

    documents: int = 0
    profiles: int = 0
    aliases: int = 0
    events: int = 0
    waiting: int = 0
    aside: int = 0
    last: int = 0
    checksum: int = 0

    def add(self, parts: Iterable[bytes]) -> None:
        summed = hashlib.blake2b(digest_size=16)
        for part in parts:
            summed.update(b"%d:" % len(part))
            summed.update(part)
        self.checksum = (self.checksum + int.from_bytes(summed.digest(), "big")) % 2**128

    def __str__(self) -> str:
        return (
            f"{self.documents:,} documents, {self.profiles:,} profiles, {self.aliases:,} aliases, "
            f"{self.events:,} events, {self.waiting:,} batches waiting, {self.aside:,} set aside, "
            f"checksum {self.checksum:032x}"
        )


def _finish(source: Side, target: Side, console: Console) -> bool:
    here, there = (_totals(place, console) for place in (source, target))
    console.out.write(f"{source.name}: {here}\n{target.name}: {there}\n")
    if here == there:
        target.store.fill_from(None)
        console.out.write(f"verified, both stores are equal: serve from {target.name}\n")
        return True
    for difference in _repair(source.store, target.store, console):
        console.out.write(f"  {in_line(difference)}\n")
    console.out.write(
        f"the stores differ: stop every server of {source.name} and {target.name}, and run the same command again\n"
    )
    return False


def _totals(place: Side, console: Console) -> _Totals:
    sums = _Totals(last=place.queue.contents.last())
    total = max(place.store.contents.count(), 1)
    with console.progress(f"documents read again of {place.name}") as progress:
        for record in place.store.contents.dump():
            sums.documents += 1
            sums.events += len(record.history)
            if identity.is_profile(record.document):
                sums.profiles += 1
                sums.aliases += len(record.document["aliases"])
            sums.add(_parts(record))
            progress.at(sums.documents, sums.documents / total)
    for number, value, aside in place.queue.contents.dump():
        sums.waiting += not aside
        sums.aside += aside
        sums.add((b"%d %d" % (number, aside), value))
    return sums


def _parts(record: StoredRecord) -> Iterator[bytes]:
    yield name_of(record.key)
    yield b"%d" % record.next_ordinal
    yield orjson.dumps(record.document)
    for event in record.history:
        yield b"%d %b" % event


def _repair(source: KeptStore, target: KeptStore, console: Console) -> Iterator[str]:
    """Compare everything, histories too, and copy what differs; yield how some documents differ, and how many more."""
    count = 0
    with console.progress("documents compared as a whole") as progress:
        comparisons, total = 0, max(source.contents.count(), 1)
        for page in source.contents.states():
            for some in _batched(page, _AT_ONCE):
                differences = _differences(source.contents.fetch(some), target.contents.fetch(some))
                console.patiently(partial(target.contents.load, [record for record, _ in differences]))
                for record, how in differences:
                    count += 1
                    if count <= _MOST_LINES:
                        yield f"{record.key.where} {record.key.name!r}: {how}"
            comparisons += len(page)
            progress.at(comparisons, comparisons / total)
    if count > _MOST_LINES:
        yield f"and {count - _MOST_LINES:,} documents more"
    if removed := _remove_gone(source, target, console):
        yield f"{removed:,} documents that the source does not have"


def _differences(here: Sequence[StoredRecord], there: Sequence[StoredRecord]) -> list[tuple[StoredRecord, str]]:
    by_digest = {digest_of(record.key): record for record in there}
    pairs = []
    for record in here:
        other = by_digest.get(digest_of(record.key))
        if other is None:
            pairs.append((record, "was missing"))
        elif (record.document, record.next_ordinal) != (other.document, other.next_ordinal):
            pairs.append((record, "the document differed"))
        elif list(_parts(record)) != list(_parts(other)):
            pairs.append((record, "the events differed"))
    return pairs


COMMAND = Command(run, _USES, add_arguments, resume="run the same command again to resume")
