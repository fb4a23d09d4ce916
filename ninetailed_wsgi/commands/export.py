"""The command ``export``: writes profiles as JSON, one a line."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from ninetailed_wsgi.commands.command import Command, CommandError
from ninetailed_wsgi.commands.console import Console, print_in_utf8
from ninetailed_wsgi.commands.work import add_environment, documents, open_work
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import ProfileNotFound
from ninetailed_wsgi.operations.files import replacement
from ninetailed_wsgi.operations.private_files import check_own, open_private, read_private
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import KeptStore

_USES = ("store", "environments", "decisions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ORG/ENV, ID and the command's own flags."""
    add_environment(parser)
    parser.add_argument("profile", metavar="ID", nargs="?", help="only the visitor with this id or alias")
    parser.add_argument("--events", action="store_true", help="include the stored events")
    parser.add_argument("--output", metavar="FILE", help="write to this file, which appears when it is complete")


def run(arguments: argparse.Namespace) -> None:
    """Export one visitor or all of an environment."""
    work = open_work(arguments, _USES)
    where, output = work.environment(arguments.where), arguments.output or ""
    print_in_utf8()
    if arguments.profile is None:
        export(work.service, work.store, where, work.console, events=arguments.events, output=output)
    else:
        export_one(work.service, where, arguments.profile, work.console, output=output)


def export(
    service: ExperienceService, store: KeptStore, where: Environment, console: Console, *, events: bool, output: str
) -> None:
    """Write every profile of an environment as NDJSON, each as ``ExperienceService.record`` gives it.

    If two profiles merge while the export runs, both may be written; the later line then lists the id of the earlier
    among its aliases. ``output`` is a file that exists only when it is complete; empty: ``console.out``. An interrupted
    export into a file resumes with the profiles that it had not written.
    """
    what = {"environment": str(where), "events": events}
    with console.progress("documents looked at") as progress:  # otherwise a profile could come before one it absorbs
        identity.settle(store, documents(store, where, progress))
    with _resumed(output, what, console) as (write, names), console.progress("documents") as progress:
        written = len(names)
        for key in identity.profiles(store, documents(store, where, progress)):
            if key.name in names:
                continue
            with contextlib.suppress(ProfileNotFound):  # deleted since it was listed
                record = service.record(where, key.name, events=events)
                if record["profile"]["id"] == key.name:  # otherwise it was merged into another one
                    write(record)
                    written += 1
    (console.out if output else console.err).write(f"{written:,} profiles exported\n")


def export_one(service: ExperienceService, where: Environment, name: str, console: Console, *, output: str) -> None:
    """Write all that is stored about one visitor, named by id or alias; ProfileNotFound if there is no profile.

    That is what ``ExperienceService.record`` gives, and ``imported`` if events wait in imports or were set aside.
    """
    record = service.record(where, name, events=True)
    if imported := service.imported(where, {record["profile"]["id"], *record["aliases"]}):
        record["imported"] = imported
    with _written(output, console) as write:
        write(record)


@contextlib.contextmanager
def _written(output: str, console: Console) -> Iterator[Callable[[object], None]]:
    """Yield a function that writes a line, to a file that exists only when complete, or to ``console.out``."""
    if not output:
        yield lambda record: print(orjson.dumps(record).decode(), file=console.out)
        return
    try:
        with replacement(Path(output)) as file:
            yield lambda record: file.writelines((orjson.dumps(record), b"\n"))
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _resumed(
    output: str, what: dict[str, Any], console: Console
) -> Iterator[tuple[Callable[[object], None], set[str]]]:
    """Yield the same as `_written`, and the ids that the same command, ``what``, wrote before it was interrupted."""
    if not output:
        with _written(output, console) as write:
            yield write, set()
        return
    part, state = Path(output + ".part"), Path(output + ".progress")
    try:
        check_own(output)
        _begin(part, state, what)
        with open(open_private(part, os.O_RDWR), "r+b") as file:  # visitors' data
            ids = _exported(file, part)
            if ids:
                console.err.write(f"resuming after {len(ids):,} profiles\n")
            yield lambda record: file.writelines((orjson.dumps(record), b"\n")), ids
        part.replace(output)
        state.unlink()
    except OSError as error:
        raise CommandError(f"{output} cannot be written: {error.strerror}") from error


def _begin(part: Path, state: Path, what: dict[str, Any]) -> None:
    """Note what is exported, or check that the interrupted export was of the same."""
    if not state.exists():
        part.unlink(missing_ok=True)
        with replacement(state) as file:
            file.write(orjson.dumps(what))
        return
    try:
        earlier = orjson.loads(read_private(state))
    except orjson.JSONDecodeError as error:
        raise CommandError(f"{state} is damaged; remove it and the export starts over") from error
    if earlier != what:
        raise CommandError(f"{state} belongs to another export; remove it and the export starts over")


def _exported(file: BinaryIO, part: Path) -> set[str]:
    """Return the ids in an export, and cut off an incomplete last line."""
    ids = set()
    whole = 0
    for line in file:
        if line.endswith(b"\n"):
            try:
                ids.add(orjson.loads(line)["profile"]["id"])
            except (orjson.JSONDecodeError, TypeError, KeyError) as error:
                raise CommandError(f"{part} is damaged; remove it and the export starts over") from error
            whole += len(line)
    file.seek(whole)
    file.truncate()
    return ids


COMMAND = Command(
    run,
    _USES,
    add_arguments,
    resume="run the same command again to resume (without --output: to start over)",
)
