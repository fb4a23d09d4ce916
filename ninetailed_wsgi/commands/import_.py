"""The command ``import``: applies the events of a file, one JSON object a line."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from ninetailed_wsgi.api.validation.json_body import read_json
from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.commands.command import Command, CommandError
from ninetailed_wsgi.commands.console import Console, Progress
from ninetailed_wsgi.commands.work import add_environment, open_work
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.operations.files import replacement
from ninetailed_wsgi.operations.private_files import open_private, read_private
from ninetailed_wsgi.service.limits import MAX_BATCH_PROFILES
from ninetailed_wsgi.service.service import ExperienceService

BATCH_EVENTS, BATCH_IDENTIFIES = 200, 50
"""Events, and identify events among them, of one batch (spec section 1)."""

_USES = ("store", "environments", "decisions", "events")
_GZIP = b"\x1f\x8b"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add FILE and ORG/ENV."""
    parser.add_argument(
        "file", metavar="FILE", help="one event per line as JSON, optionally gzip; - reads the standard input"
    )
    add_environment(parser)


def run(arguments: argparse.Namespace) -> bool:
    """Import the file; return whether every line was accepted."""
    work = open_work(arguments, _USES, new_folder=True)
    where, longest = work.environment(arguments.where), work.settings.max_body_bytes
    return import_events(work.service, where, arguments.file, work.console, sys.stdin.buffer, longest)


@dataclass(slots=True)
class _ImportState:
    """How far an import is; what FILE.progress holds. ``rejects_bytes`` is the length of the rejects file then."""

    environment: str
    size: int
    lines: int = 0
    events: int = 0
    rejected: int = 0
    rejects_bytes: int = 0


@dataclass(slots=True)
class _Chunk:
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
    """Return the file beside an imported one: ``visits.progress`` for ``visits.ndjson.gz``; ``-`` is ``stdin``."""
    path = Path("stdin" if file == "-" else file)
    name = path.name.removesuffix(".gz")
    return path.with_name(name.removesuffix(".ndjson") + ending)


def import_events(
    service: ExperienceService, where: Environment, file: str, console: Console, stdin: BinaryIO, longest: int
) -> bool:
    """Apply the events of a file, one JSON object a line; return whether none was rejected.

    Args:
        service, where: apply them, by the rules of ``POST /events``.
        file: path of an NDJSON file, which may be compressed by gzip; ``-`` for ``stdin``.
        stdin, longest: what ``-`` reads; bytes that a line may have.

    Raises:
        CommandError: the file cannot be read, or its import began for another environment or with other content.
    """
    try:
        size = 0 if file == "-" else os.stat(file).st_size
        raw = stdin if file == "-" else open(file, "rb")  # noqa: SIM115 - stdin is not ours to close
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from error
    with contextlib.nullcontext() if file == "-" else raw, console.progress("lines") as progress:
        work = _FileImport(service, where, file, size, console, progress)
        if work.state.lines:
            console.err.write(f"resuming after line {work.state.lines:,}\n")
        work.run(raw, longest)
    return work.finish()


class _FileImport:
    def __init__(
        self, service: ExperienceService, where: Environment, file: str, size: int, console: Console, progress: Progress
    ) -> None:
        self._service = service
        self._where = where
        self._file = file
        self._console = console
        self._progress = progress
        self._progress_file = None if file == "-" else beside(file, ".progress")
        self._rejects_file = beside(file, ".rejects.ndjson")
        self.state = self._begin(_ImportState(str(where), size))
        self._batch = _Chunk()

    def run(self, raw: BinaryIO, longest: int) -> None:
        lines, number = self.state.lines, 0
        with self._rejecting() as self._rejects:
            try:
                for number, text, too_long in _lines(_plain(raw, self._file), longest):
                    if number > lines:
                        self._take(number, text, f"the line is over {longest} bytes" if too_long else "")
                    self._progress.at(number, raw.tell() / self.state.size if self.state.size else None)
            except (OSError, EOFError, zlib.error) as error:
                self._apply(number)
                raise CommandError(f"{self._file} cannot be read after line {number:,}: {error}") from error
            self._apply(number)
            if number < lines:
                raise CommandError(
                    f"{self._file} has {number:,} lines, but {lines:,} were imported: is it another file?"
                )

    def finish(self) -> bool:
        state = self.state
        if self._progress_file:
            self._progress_file.unlink(missing_ok=True)
        self._console.out.write(f"{state.lines:,} lines: {state.events:,} events imported, {state.rejected:,} rejected")
        self._console.out.write(f", see {self._rejects_file}\n" if state.rejected else "\n")
        return not state.rejected

    def _begin(self, new: _ImportState) -> _ImportState:
        if self._progress_file is None or not self._progress_file.exists():
            return new
        try:
            state = _ImportState(**orjson.loads(read_private(self._progress_file)))
            if any(type(value) is not type(getattr(new, name)) for name, value in asdict(state).items()):
                raise TypeError
        except OSError as error:
            raise CommandError(f"{self._progress_file} cannot be read: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise CommandError(f"{self._progress_file} is damaged; remove it and the import starts over") from error
        for was, now in ((state.environment, new.environment), (f"{state.size} bytes", f"{new.size} bytes")):
            if was != now:
                raise CommandError(
                    f"{self._progress_file} belongs to an import of {was}, not {now}; "
                    "remove it and the import starts over"
                )
        return state

    @contextlib.contextmanager
    def _rejecting(self) -> Iterator[BinaryIO]:
        """Yield the rejects file, cut off after the last batch; remove it if nothing was rejected."""
        try:
            # Rejected lines are visitors' data: only the owner may read them.
            handle = open_private(self._rejects_file, os.O_RDWR)
        except OSError as error:
            raise CommandError(f"{self._rejects_file} cannot be written: {error.strerror}") from error
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
        batch, self._batch = self._batch, _Chunk()
        if batch.events:
            try:
                self._send(batch.events)
                self.state.events += len(batch.events)
            except InvalidData:  # nothing of the batch was stored: find the invalid events
                self._apply_singly(batch)
        self.state.lines = max(lines, self.state.lines)
        self._rejects.flush()
        self.state.rejects_bytes = self._rejects.tell()
        if self._progress_file:
            with replacement(self._progress_file) as file:
                file.write(orjson.dumps(asdict(self.state)))

    def _apply_singly(self, batch: _Chunk) -> None:
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
    """Yield the lines with their numbers from 1; of one that is too long only the beginning, and True."""
    number = 0
    while text := stream.readline(longest + 1):
        number += 1
        too_long = len(text) > longest
        rest = text
        while too_long and rest and not rest.endswith(b"\n"):
            rest = stream.readline(longest)
        yield number, text[:1000] if too_long else text, too_long


COMMAND = Command(
    run,
    _USES,
    add_arguments,
    resume="run the same command again to resume (standard input: send it all again)",
)
