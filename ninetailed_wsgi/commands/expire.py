"""The command ``expire``: deletes the profiles of visitors who have not been seen for long."""

from __future__ import annotations

import argparse
import re
import time
from functools import partial

from ninetailed_wsgi.commands.command import Command
from ninetailed_wsgi.commands.console import Console
from ninetailed_wsgi.commands.work import add_environment, documents, open_work
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.service.addresses import Addresses
from ninetailed_wsgi.service.expiry import delete_inactive, profiles_by_activity
from ninetailed_wsgi.store.protocol import DAY, KeptStore

_USES = ("store", "environments")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ORG/ENV and the command's own flags."""
    add_environment(parser)
    parser.add_argument("--inactive-days", metavar="N", help="whose newest event is more than N days old")
    parser.add_argument("--dry-run", action="store_true", help="only count them")


def run(arguments: argparse.Namespace) -> None:
    """Delete the profiles of visitors who have been inactive for the days that were typed."""
    work = open_work(arguments, _USES)
    days = arguments.inactive_days or ""
    if not re.fullmatch("[0-9]{1,5}", days) or not int(days):
        raise SettingsError([f"--inactive-days: found {days!r}, expected a whole number from 1 to 99999"])
    now, where = time.time_ns() // 1_000_000, work.environment(arguments.where)
    addresses = work.service.addresses
    expire(work.store, where, int(days), now, work.console, dry_run=arguments.dry_run, addresses=addresses)


def expire(
    store: KeptStore,
    where: Environment,
    days: int,
    now: int,
    console: Console,
    *,
    dry_run: bool,
    addresses: Addresses | None = None,
) -> None:
    """Delete the profiles whose newest event is more than ``days`` days before ``now`` (ms); a dry run counts them.

    What ``addresses`` keep of the visitors' companies is deleted with them.
    """
    before, deleted, survivors = now - days * DAY, 0, 0
    with console.progress("documents") as progress:
        for key, inactive in profiles_by_activity(store, documents(store, where, progress), before):
            went = inactive and (dry_run or console.patiently(partial(delete_inactive, store, key, before, addresses)))
            deleted += went
            survivors += not went
    console.out.write(f"{deleted:,} {'would be ' if dry_run else ''}deleted, {survivors:,} kept\n")


COMMAND = Command(run, _USES, add_arguments)
