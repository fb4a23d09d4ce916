"""Work on many profiles at once, beside a running server: import, export, delete, expire, stats, compact."""

from __future__ import annotations

import contextlib
import gzip
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import orjson

from ninetailed_wsgi.api.validation.json_body import read_json
from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.commands.console import Progress
from ninetailed_wsgi.core.names import Environment, Key
from ninetailed_wsgi.errors import InvalidData, NinetailedError, ProfileNotFound, ProfileOverload, StoreUnavailable
from ninetailed_wsgi.service.limits import MAX_BATCH_PROFILES
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.protocol import DAY, Document, KeptStore

BATCH_EVENTS, BATCH_IDENTIFIES = 200, 50
"""Events, and identify events among them, of one batch (spec section 1)."""

_TRIES = 5
_DELETED_AT_ONCE = 100  # as each look at the waiting imports takes its time
_GZIP = b"\x1f\x8b"


class BulkError(NinetailedError):
    """A command cannot begin or go on; its text says what to do about it."""


@dataclass(frozen=True, slots=True)
class Console:
    """Where a command says what it does.

    Attributes:
        out: gets the result.
        err: gets progress, and the summary where ``out`` gets data.
        sleep: waits some seconds before a busy store is asked again.
    """

    out: TextIO
    err: TextIO
    sleep: Callable[[float], None] = time.sleep

    @contextlib.contextmanager
    def progress(self, unit: str) -> Iterator[Progress]:
        """A progress line, which is gone when the block ends, however it does."""
        line = Progress(self.err, unit)
        try:
            yield line
        finally:
            line.end()

    def patiently(self, step: Callable[[], object]) -> None:
        """Do a step that may be repeated, again and again for some seconds while the store is busy."""
        for attempt in range(1, _TRIES + 1):
            try:
                step()
                return
            except (ProfileOverload, StoreUnavailable):
                if attempt == _TRIES:
                    raise
                self.sleep(attempt)


# Import


@dataclass(slots=True)
class _State:
    """How far an import is; what FILE.progress holds. ``rejects_bytes`` is the length of the rejects file then."""

    environment: str
    size: int
    lines: int = 0
    events: int = 0
    rejected: int = 0
    rejects_bytes: int = 0


@dataclass(slots=True)
class _Batch:
    """Events that go to the service together."""

    events: list[dict[str, Any]] = field(default_factory=list)
    lines: list[tuple[int, bytes]] = field(default_factory=list)  # number and text of each event's
    ids: set[str] = field(default_factory=set)
    identifies: int = 0

    def takes(self, event: dict[str, Any]) -> bool:
        return (
            len(self.events) < BATCH_EVENTS
            and (event["type"] != "identify" or self.identifies < BATCH_IDENTIFIES)
            and (event["anonymousId"] in self.ids or len(self.ids) < MAX_BATCH_PROFILES)
        )

    def add(self, event: dict[str, Any], number: int, text: bytes) -> None:
        self.events.append(event)
        self.lines.append((number, text))
        self.ids.add(event["anonymousId"])
        self.identifies += event["type"] == "identify"


def beside(file: str, ending: str) -> Path:
    """The file next to an imported one, such as ``visits.progress`` for ``visits.ndjson.gz``; ``-`` is ``stdin``."""
    path = Path("stdin" if file == "-" else file)
    name = path.name.removesuffix(".gz")
    return path.with_name(name.removesuffix(".ndjson") + ending)


def import_events(
    service: ExperienceService, where: Environment, file: str, console: Console, stdin: BinaryIO, longest: int
) -> bool:
    """Apply the events of a file, one JSON object a line; whether none was rejected.

    Args:
        service, where: apply them, by the rules of ``POST /events``.
        file: path of an NDJSON file, which may be compressed by gzip; ``-`` for ``stdin``.
        stdin, longest: what ``-`` reads; bytes that a line may have.

    Raises:
        BulkError: the file cannot be read, or was begun for another environment or with another content.
    """
    try:
        size = 0 if file == "-" else os.stat(file).st_size
        raw = stdin if file == "-" else open(file, "rb")  # noqa: SIM115 - stdin is not ours to close
    except OSError as error:
        raise BulkError(f"{file} cannot be read: {error.strerror}") from error
    with contextlib.nullcontext() if file == "-" else raw, console.progress("lines") as progress:
        work = _Import(service, where, file, size, console, progress)
        if work.state.lines:
            console.err.write(f"going on after line {work.state.lines:,}, where this import was stopped\n")
        work.run(raw, longest)
    return work.finish()


class _Import:
    def __init__(
        self, service: ExperienceService, where: Environment, file: str, size: int, console: Console, progress: Progress
    ) -> None:
        self._service = service
        self._where = where
        self._file = file
        self._console = console
        self._progress = progress
        self._kept = None if file == "-" else beside(file, ".progress")
        self._rejects_file = beside(file, ".rejects.ndjson")
        self.state = self._begin(_State(f"{where.organization}/{where.environment}", size))
        self._batch = _Batch()

    def run(self, raw: BinaryIO, longest: int) -> None:
        done, number = self.state.lines, 0
        with self._rejecting() as self._rejects:
            try:
                for number, text, too_long in _lines(_plain(raw, self._file), longest):
                    if number > done:
                        self._take(number, text, f"the line is over {longest} bytes" if too_long else "")
                    self._progress.at(number, raw.tell() / self.state.size if self.state.size else None)
            except (OSError, EOFError, zlib.error) as error:
                self._apply(number)
                raise BulkError(f"{self._file} cannot be read after line {number:,}: {error}") from error
            self._apply(number)
            if number < done:
                raise BulkError(f"{self._file} has {number:,} lines, of which {done:,} were imported: another file?")

    def finish(self) -> bool:
        state = self.state
        if self._kept:
            self._kept.unlink(missing_ok=True)
        self._console.out.write(f"{state.lines:,} lines: {state.events:,} events imported, {state.rejected:,} rejected")
        self._console.out.write(f", see {self._rejects_file}\n" if state.rejected else "\n")
        return not state.rejected

    def _begin(self, new: _State) -> _State:
        if self._kept is None or not self._kept.exists():
            return new
        try:
            state = _State(**orjson.loads(self._kept.read_bytes()))
        except (ValueError, TypeError, OSError) as error:
            raise BulkError(f"{self._kept} is damaged; without it the import begins anew") from error
        for was, now in ((state.environment, new.environment), (f"{state.size} bytes", f"{new.size} bytes")):
            if was != now:
                raise BulkError(
                    f"{self._kept} belongs to an import of {was}, not {now}; without it the import begins anew"
                )
        return state

    @contextlib.contextmanager
    def _rejecting(self) -> Iterator[BinaryIO]:
        """The rejects file without what was written after the last batch; gone when nothing was rejected."""
        try:
            # Rejected lines are visitors' data: for nobody else to read.
            handle = os.open(self._rejects_file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise BulkError(f"{self._rejects_file} cannot be written: {error.strerror}") from error
        with open(handle, "wb", closefd=True) as rejects:
            rejects.truncate(self.state.rejects_bytes)
            rejects.seek(0, os.SEEK_END)
            try:
                yield rejects
            finally:
                if not rejects.tell():
                    self._rejects_file.unlink(missing_ok=True)

    def _take(self, number: int, text: bytes, problem: str) -> None:
        if not problem and text.isspace():
            return
        try:
            if problem:
                raise InvalidData(problem)
            event: Any = read_json(text)
            schemas().check("batch-request", {"events": [event]})
        except InvalidData as error:
            self._reject(number, text, error)
            return
        if not self._batch.takes(event):
            self._apply(number - 1)
        self._batch.add(event, number, text)

    def _reject(self, number: int, text: bytes, error: InvalidData) -> None:
        reason = str(error).replace("events[0].", "").replace("events[0]", "event")
        line = {"line": number, "reason": reason, "text": text.decode("utf-8", "replace").strip()}
        self._rejects.write(orjson.dumps(line) + b"\n")
        self.state.rejected += 1

    def _apply(self, lines: int) -> None:
        """Apply the batch and remember that this many lines are done."""
        batch, self._batch = self._batch, _Batch()
        if batch.events:
            try:
                self._send(batch.events)
                self.state.events += len(batch.events)
            except InvalidData:  # nothing of the batch was stored: find which events it was
                self._apply_singly(batch)
        self.state.lines = max(lines, self.state.lines)
        self._rejects.flush()
        self.state.rejects_bytes = self._rejects.tell()
        if self._kept:
            new = self._kept.with_name(self._kept.name + ".new")
            new.write_bytes(orjson.dumps(asdict(self.state)))
            new.replace(self._kept)

    def _apply_singly(self, batch: _Batch) -> None:
        for event, (number, text) in zip(batch.events, batch.lines, strict=True):
            try:
                self._send([event])
                self.state.events += 1
            except InvalidData as error:
                self._reject(number, text, error)

    def _send(self, events: list[dict[str, Any]]) -> None:
        def step() -> None:
            self._service.upsert_many(self._where, {"events": events})

        self._console.patiently(step)


def _plain(raw: BinaryIO, file: str) -> BinaryIO:
    if file != "-":
        compressed = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        if compressed:
            return gzip.open(raw)  # type: ignore[return-value]
    return raw


def _lines(stream: BinaryIO, longest: int) -> Iterator[tuple[int, bytes, bool]]:
    """The lines with their numbers from 1; of one that is too long only the beginning, and True."""
    number = 0
    while text := stream.readline(longest + 1):
        number += 1
        too_long = len(text) > longest
        rest = text
        while too_long and rest and not rest.endswith(b"\n"):
            rest = stream.readline(longest)
        yield number, text[:1000] if too_long else text, too_long


# Export


def export(
    service: ExperienceService, store: KeptStore, where: Environment, console: Console, *, events: bool, output: str
) -> None:
    """Write every profile of an environment as NDJSON, each as ``ExperienceService.record`` gives it.

    Two profiles that become one while the export runs may be written both; the later line then lists the id of the
    earlier among its aliases. ``output`` is a file that is there when it is complete; empty: ``console.out``. Into a
    file, an export that was interrupted goes on with the profiles that it had not written.
    """
    what = {"environment": f"{where.organization}/{where.environment}", "events": events}
    with console.progress("documents looked at") as progress:  # else a profile could be met before what it absorbs
        identity.settle(store, _watched(store, where, progress))
    with _going_on(output, what, console) as (write, done), console.progress("documents") as progress:
        written = len(done)
        for key in identity.profiles(store, _watched(store, where, progress)):
            if key.name in done:
                continue
            with contextlib.suppress(ProfileNotFound):  # deleted meanwhile
                record = service.record(where, key.name, events=events)
                if record["profile"]["id"] == key.name:  # else it has become part of another, which has its own line
                    write(record)
                    written += 1
    (console.out if output else console.err).write(f"{written:,} profiles exported\n")


def export_one(service: ExperienceService, where: Environment, name: str, console: Console, *, output: str) -> None:
    """Write all that is kept of one visitor, named by id or alias; ProfileNotFound when there is no profile.

    That is what ``ExperienceService.record`` gives; and ``imported``, where events wait in imports or were put aside.
    """
    record = service.record(where, name, events=True)
    if imported := service.imported(where, {record["profile"]["id"], *record["aliases"]}):
        record["imported"] = imported
    with _written(output, console) as write:
        write(record)


@contextlib.contextmanager
def _written(output: str, console: Console) -> Iterator[Callable[[object], None]]:
    if not output:
        yield lambda record: print(orjson.dumps(record).decode(), file=console.out)
        return
    part = Path(output + ".part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # visitors' data
        with open(handle, "wb") as file:
            yield lambda record: file.writelines((orjson.dumps(record), b"\n"))
        part.replace(output)
    except OSError as error:
        raise BulkError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def _going_on(
    output: str, what: dict[str, Any], console: Console
) -> Iterator[tuple[Callable[[object], None], set[str]]]:
    """As `_written`; with the ids that the same command, ``what``, has written before it was interrupted."""
    if not output:
        with _written(output, console) as write:
            yield write, set()
        return
    part, state = Path(output + ".part"), Path(output + ".progress")
    try:
        if not state.exists():
            part.unlink(missing_ok=True)
            state.write_bytes(orjson.dumps(what))
        elif orjson.loads(state.read_bytes()) != what:
            raise BulkError(f"{state} belongs to an export of something else; without it the export begins anew")
        with open(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:  # visitors' data
            done = _exported(file)
            if done:
                console.err.write(f"going on after {len(done):,} profiles, where this export was stopped\n")
            yield lambda record: file.writelines((orjson.dumps(record), b"\n")), done
        part.replace(output)
        state.unlink()
    except ValueError as error:
        raise BulkError(f"{state} or {part} is damaged; without them the export begins anew") from error
    except OSError as error:
        raise BulkError(f"{output} cannot be written: {error.strerror}") from error


def _exported(file: BinaryIO) -> set[str]:
    """The ids in an export; what was written of the line after the last whole one is cut off."""
    ids = set()
    whole = 0
    for line in file:
        if line.endswith(b"\n"):
            ids.add(orjson.loads(line)["profile"]["id"])
            whole += len(line)
    file.seek(whole)
    file.truncate()
    return ids


def _watched(store: KeptStore, where: Environment | None, progress: Progress) -> Iterator[tuple[Key, Document]]:
    """The stored documents, of an environment where one is named; the progress counts those of all."""
    total = max(store.count(), 1)
    for done, (key, document) in enumerate(store.documents(), start=1):
        progress.at(done, done / total)
        if where is None or key[:2] == (where.organization, where.environment):
            yield key, document


# Deleting


def delete(service: ExperienceService, where: Environment, names: BinaryIO, size: int, console: Console) -> None:
    """Delete the profiles with these ids or aliases, one a line of UTF-8 text; ``size`` in bytes, 0 if unknown."""
    deleted = given = read = 0
    lines = enumerate(names, start=1)
    with console.progress("lines") as progress:
        while group := list(islice(lines, _DELETED_AT_ONCE)):
            wanted: list[str] = []
            unreadable = 0
            for number, line in group:
                read += len(line)
                try:
                    wanted.append(line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n \t"))
                except UnicodeDecodeError:
                    unreadable = number
                    break
            deleted += _delete(service, where, dict.fromkeys(filter(None, wanted)), console)
            given += sum(map(bool, wanted))
            if unreadable:
                raise BulkError(f"line {unreadable:,} is not UTF-8; the {deleted:,} before are deleted")
            progress.at(group[-1][0], read / size if size else None)
    console.out.write(f"{deleted:,} deleted, {given - deleted:,} not found\n")


def _delete(service: ExperienceService, where: Environment, names: Iterable[str], console: Console) -> int:
    known: set[str] = set()
    if names:
        console.patiently(lambda: service.delete_many(where, names, known))
    return len(known)


def expire(store: KeptStore, where: Environment, days: int, now: int, console: Console, *, dry_run: bool) -> None:
    """Delete the profiles whose newest event is more than ``days`` days before ``now`` (ms); a dry run counts them."""

    def inactive(record: Document) -> bool:
        return bool(record["updated"] < now - days * DAY)

    found = kept = 0
    with console.progress("documents") as progress:
        for key in identity.profiles(store, _watched(store, where, progress)):
            record = store.read(key).document
            if record is None or "to" in record or "into" in record or not inactive(record):
                kept += 1
                continue
            deleted = True

            def step(key: Key = key) -> None:
                nonlocal deleted
                deleted = identity.delete(store, key, inactive)  # unless it has become active meanwhile

            if not dry_run:
                console.patiently(step)
            found += deleted
            kept += not deleted
    console.out.write(f"{found:,} {'would be ' if dry_run else ''}deleted, {kept:,} kept\n")


# Looking after the folder


@dataclass(slots=True)
class _Sums:
    profiles: int = 0
    aliases: int = 0
    events: int = 0
    bytes: int = 0
    oldest: int | None = None
    newest: int | None = None


def stats(store: KeptStore, where: Environment | None, console: Console) -> None:
    """Say what is stored in each environment, or in one; ``bytes`` are those of its documents and events."""
    found: dict[str, _Sums] = {f"{where.organization}/{where.environment}": _Sums()} if where else {}
    with console.progress("documents") as progress:
        total = max(store.count(), 1)
        for done, (key, document, events, size) in enumerate(store.sizes(), start=1):
            progress.at(done, done / total)
            if where is None or key[:2] == (where.organization, where.environment):
                _add(found.setdefault(f"{key.organization}/{key.environment}", _Sums()), document, events, size)
    for name, sums in sorted(found.items()):
        console.out.write(
            f"{name}: {sums.profiles:,} profiles, {sums.aliases:,} aliases, {sums.events:,} events, "
            f"{sums.bytes:,} bytes, last active from {_day(sums.oldest)} to {_day(sums.newest)}\n"
        )
    console.out.write(f"{store.footprint()}\n")


def _add(sums: _Sums, document: Document, events: int, size: int) -> None:
    sums.bytes += size
    if "to" in document or "into" in document:
        return
    sums.profiles += 1
    sums.aliases += len(document["aliases"])
    sums.events += events
    active = document["updated"]
    sums.oldest = active if sums.oldest is None else min(sums.oldest, active)
    sums.newest = active if sums.newest is None else max(sums.newest, active)


def _day(at: int | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def compact(store: KeptStore, console: Console) -> None:
    """Give free pages back and overwrite what was deleted, file by file; say the bytes on disk before and after.

    What a cut-off write left of a name goes first, in every store; Redis has no files of ours.
    """
    before = after = 0
    with console.progress("documents looked at") as progress:
        identity.sweep(store, _watched(store, None, progress))
    if not isinstance(store, DiskStore):
        console.out.write("names that lead nowhere were removed; Redis gives free space back by itself\n")
        return
    files = max(len(list(store.disk_usage())), 1)
    with console.progress("files") as progress:
        for done, (was, now) in enumerate(store.compact(), start=1):
            progress.at(done, done / files)
            before, after = before + was, after + now
    console.out.write(f"{before:,} bytes before, {after:,} bytes after\n")
