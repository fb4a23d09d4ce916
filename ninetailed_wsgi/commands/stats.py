"""The command ``stats``: counts what is stored."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime

from ninetailed_wsgi.commands.command import Command
from ninetailed_wsgi.commands.console import Console
from ninetailed_wsgi.commands.work import add_environment, open_work
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.operations.terminal import in_line
from ninetailed_wsgi.store import identity
from ninetailed_wsgi.store.protocol import Document, KeptStore

_USES = ("store", "environments")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ORG/ENV, which may be left out."""
    add_environment(parser, nargs="?", help="only this environment")


def run(arguments: argparse.Namespace) -> None:
    """Print what is stored."""
    work = open_work(arguments, _USES)
    stats(work.store, work.environment(arguments.where) if arguments.where else None, work.console)


@dataclass(slots=True)
class _StoreCounts:
    profiles: int = 0
    aliases: int = 0
    events: int = 0
    bytes: int = 0
    oldest: int | None = None
    newest: int | None = None


def stats(store: KeptStore, where: Environment | None, console: Console) -> None:
    """Say what is stored in each environment, or in one; ``bytes`` are those of its documents and events."""
    by_environment: dict[str, _StoreCounts] = {str(where): _StoreCounts()} if where else {}
    with console.progress("documents") as progress:
        total = max(store.contents.count(), 1)
        for count, (key, document, events, size) in enumerate(store.contents.sizes(), start=1):
            progress.at(count, count / total)
            if where is None or key.where == where:
                _add(
                    by_environment.setdefault(str(key.where), _StoreCounts()),
                    document,
                    events,
                    size,
                )
    for name, sums in sorted(by_environment.items()):
        console.out.write(
            f"{in_line(name)}: {sums.profiles:,} profiles, {sums.aliases:,} aliases, {sums.events:,} events, "
            f"{sums.bytes:,} bytes, last active from {_day(sums.oldest)} to {_day(sums.newest)}\n"
        )
    console.out.write(f"{store.contents.footprint()}\n")


def _add(sums: _StoreCounts, document: Document, events: int, size: int) -> None:
    sums.bytes += size
    if not identity.is_profile(document):
        return
    sums.profiles += 1
    sums.aliases += len(document["aliases"])
    sums.events += events
    active = document["updated"]
    sums.oldest = active if sums.oldest is None else min(sums.oldest, active)
    sums.newest = active if sums.newest is None else max(sums.newest, active)


def _day(at: int | None) -> str:
    return "never" if at is None else datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


COMMAND = Command(run, _USES, add_arguments, resume="run the same command again")
