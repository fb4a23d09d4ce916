"""The command ``backup``: copies the data folder while servers use it, and checks the copy."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ninetailed_wsgi.commands.command import Command, CommandError, read_settings
from ninetailed_wsgi.commands.console import Console
from ninetailed_wsgi.commands.work import require_stored
from ninetailed_wsgi.operations.files import allow_open_files
from ninetailed_wsgi.store.disk.backup import back_up

_USES = ("store",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add DIR."""
    parser.add_argument("target", metavar="DIR", help="a new or an empty folder; the copy is a complete data folder")


def run(arguments: argparse.Namespace) -> None:
    """Back the data folder up."""
    settings = read_settings(arguments, _USES)
    if settings.store is not None:
        raise CommandError(f"profiles are stored in {settings.store}: use Redis's own backup, see docs/redis.md")
    require_stored(settings)
    allow_open_files()  # three for each database
    console = Console(sys.stdout, sys.stderr)
    target = Path(arguments.target)
    with console.progress("databases copied") as progress:
        files, size = back_up(
            settings.data_dir, target, settings.store_timeout, lambda count, all: progress.at(count, count / all)
        )
    console.out.write(f"{files:,} files, {size:,} bytes copied to {target.absolute()} and checked\n")


COMMAND = Command(run, _USES, add_arguments, resume="run the same command again")
