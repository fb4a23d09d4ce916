"""The command ``compact``: gives free space back and overwrites what was deleted."""

from __future__ import annotations

import argparse

from ninetailed_wsgi.commands.command import Command
from ninetailed_wsgi.commands.console import Console
from ninetailed_wsgi.commands.work import documents, open_work
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.disk.store import DiskStore
from ninetailed_wsgi.store.protocol import KeptStore

_USES = ("store",)


def run(arguments: argparse.Namespace) -> None:
    """Compact the store."""
    work = open_work(arguments, _USES)
    compact(work.store, work.console)


def compact(store: KeptStore, console: Console) -> None:
    """Give free pages back and overwrite what was deleted, file by file; say the bytes on disk before and after.

    First remove what an interrupted write left of a name, in every store; Redis has no files of ours.
    """
    before = after = 0
    with console.progress("documents looked at") as progress:
        identity.sweep(store, documents(store, None, progress))
    if not isinstance(store, DiskStore):
        console.out.write("unused names were removed; Redis frees its space by itself\n")
        return
    files = max(store.contents.number_of_files(), 1)
    with console.progress("files") as progress:
        for count, (was, now) in enumerate(store.contents.compact(), start=1):
            progress.at(count, count / files)
            before, after = before + was, after + now
    console.out.write(f"{before:,} bytes before, {after:,} bytes after\n")


COMMAND = Command(run, _USES)
