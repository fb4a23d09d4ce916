"""The command ``results``: says whether the variants of experiences helped (spec section 12)."""

from __future__ import annotations

import argparse
import time

from ninetailed_wsgi.commands.command import Command
from ninetailed_wsgi.commands.work import add_environment, open_work
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.settings.readers import yes_with_extra

_USES = ("store", "environments", "decisions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ORG/ENV, EXPERIENCE and the command's own flags."""
    add_environment(parser)
    parser.add_argument("experience", metavar="EXPERIENCE", nargs="?", help="only the experience with this id or name")
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="id or name of a metric (default: the experience's primary metric, else every one)",
    )
    parser.add_argument(
        "--from",
        metavar="T",
        help="count visitors who saw it first at this time or later, such as 2026-01-31",
    )
    parser.add_argument("--to", metavar="T", help="and before this time; what they did later does not count")
    parser.add_argument(
        "--window-days",
        metavar="N",
        help="count what a visitor does up to N days after the first view (default: no end)",
    )
    parser.add_argument("--json", action="store_true", help="write JSON")


def run(arguments: argparse.Namespace) -> None:
    """Print the results of one experience, or of every one."""
    work = open_work(arguments, _USES)
    where = work.environment(arguments.where)
    try:
        yes_with_extra("scipy", "results")("yes")
    except ValueError as error:
        raise SettingsError([str(error).removeprefix("no, as ")]) from None
    from ninetailed_wsgi.commands import results_table  # imported here: it loads the statistics code

    now = time.time_ns() // 1_000_000
    results_table.show(
        work.store,
        where,
        work.service.content(*where),
        work.console,
        experience=arguments.experience,
        metric=arguments.metric,
        period=results_table.period_of(vars(arguments)["from"], arguments.to, arguments.window_days, now),
        as_json=arguments.json,
    )


COMMAND = Command(run, _USES, add_arguments, resume="run the same command again")
