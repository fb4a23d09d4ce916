"""The command ``delete``: deletes the profiles that a file names."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from itertools import islice
from typing import BinaryIO

from ninetailed_wsgi.commands.command import Command, CommandError
from ninetailed_wsgi.commands.console import Console
from ninetailed_wsgi.commands.work import add_environment, open_work
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.service.service import ExperienceService

_USES = ("store", "environments")
_DELETED_AT_ONCE = 100  # because each look at the waiting imports takes time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ORG/ENV and FILE."""
    add_environment(parser)
    parser.add_argument("file", metavar="FILE", help="ids or aliases, one per line; - reads the standard input")


def run(arguments: argparse.Namespace) -> None:
    """Delete the profiles that the file names."""
    work = open_work(arguments, _USES)
    where = work.environment(arguments.where)
    if arguments.file == "-":
        delete(work.service, where, sys.stdin.buffer, 0, work.console)
        return
    try:
        names = open(arguments.file, "rb")  # noqa: SIM115 - closed below; only opening it fails in this way
    except OSError as error:
        raise CommandError(f"{arguments.file} cannot be read: {error.strerror}") from error
    with names:
        delete(work.service, where, names, os.fstat(names.fileno()).st_size, work.console)


def delete(service: ExperienceService, where: Environment, names: BinaryIO, size: int, console: Console) -> None:
    """Delete the profiles with these ids or aliases, one a line of UTF-8 text; ``size`` in bytes, 0 if unknown."""
    deleted = names_in_file = read = 0
    lines = enumerate(names, start=1)
    with console.progress("lines") as progress:
        while group := list(islice(lines, _DELETED_AT_ONCE)):
            batch: list[str] = []
            unreadable = 0
            for number, line in group:
                read += len(line)
                try:
                    batch.append(line.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n \t"))
                except UnicodeDecodeError:
                    unreadable = number
                    break
            deleted += _delete(service, where, dict.fromkeys(filter(None, batch)), console)
            names_in_file += sum(map(bool, batch))
            if unreadable:
                raise CommandError(f"line {unreadable:,} is not UTF-8; the {deleted:,} before are deleted")
            progress.at(group[-1][0], read / size if size else None)
    console.out.write(f"{deleted:,} deleted, {names_in_file - deleted:,} not found\n")


def _delete(service: ExperienceService, where: Environment, names: Iterable[str], console: Console) -> int:
    deleted: set[str] = set()
    if names:
        console.patiently(lambda: deleted.update(service.delete_many(where, names)))
    return len(deleted)


COMMAND = Command(run, _USES, add_arguments)
