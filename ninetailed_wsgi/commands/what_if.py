"""The command ``what-if``: says what publishing a draft would change for the visitors that are stored."""

from __future__ import annotations

import argparse
import math
import re
import sys
import time
from dataclasses import replace

import orjson

from ninetailed_wsgi.commands.command import Command
from ninetailed_wsgi.commands.what_if_table import lines
from ninetailed_wsgi.commands.work import Work, add_environment, open_work
from ninetailed_wsgi.content import Catalog, draft_source
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.preview import moment
from ninetailed_wsgi.errors import InvalidData, SettingsError
from ninetailed_wsgi.insights import drafts, population
from ninetailed_wsgi.insights.replay import what_if
from ninetailed_wsgi.operations.terminal import escaped

_USES = ("store", "environments", "decisions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ORG/ENV and the command's own flags."""
    add_environment(parser)
    parser.add_argument(
        "--draft",
        metavar="ORIGIN",
        help="the content that would be published, as --content [what the inspector was handed, else --draft-content]",
    )
    parser.add_argument(
        "--sample", metavar="N", type=_count, help="evaluate N visitors, chosen by a hash of their ids [all]"
    )
    parser.add_argument("--at", metavar="T", help="evaluate as of this time, such as 2026-12-24 [now]")
    parser.add_argument(
        "--fail-over", metavar="SHARE", type=_share, help="exit with status 1 if more visitors change, such as 5%%"
    )
    parser.add_argument("--keep", action="store_true", help="store the numbers for the pages of the inspector")
    parser.add_argument("--json", action="store_true", help="write JSON")


def run(arguments: argparse.Namespace) -> bool:
    """Print what would change; return whether no more visitors change than may."""
    work = open_work(arguments, _USES)
    where = work.environment(arguments.where)
    now = time.time_ns() // 1_000_000 if arguments.at is None else _time(arguments.at)
    handed = drafts.read(work.settings.data_dir, where) if arguments.draft is None else None
    draft = _handed_in(work, handed) if handed else _draft(work, where, arguments.draft)
    with work.console.progress("visitors") as progress:
        document, comparison = what_if(
            work.store,
            where,
            work.service.content(*where),
            draft,
            now,
            sample=arguments.sample,
            expected=work.store.contents.count(),
            progress=progress.at,
        )
    if arguments.keep:
        population.keep(work.settings.data_dir, where, document, now, handed and handed.at)
    if arguments.json:
        print(orjson.dumps(document).decode())
    else:
        print(escaped("\n".join(lines(document, comparison))))
    share = document["visitorsChanged"]["share"]
    if arguments.fail_over is None or share <= arguments.fail_over:
        return True
    changed = f"{share:.2%} of the visitors get something else"
    print(f"{changed}, more than {arguments.fail_over:.2%} (--fail-over)", file=sys.stderr)
    return False


def _handed_in(work: Work, draft: drafts.Draft) -> Catalog:
    settings = work.settings
    try:
        return draft.catalog(settings.content_locale, settings.history_events, settings.history_days)
    except InvalidData as error:
        problems = [f"the draft that was uploaded in the inspector: {problem}" for problem in error.problems]
        raise SettingsError([*problems, "upload another one, or name one with --draft"]) from None


def _draft(work: Work, where: Environment, content: str | None) -> Catalog:
    settings = work.settings if content is None else replace(work.settings, draft_content=content)  # type: ignore[arg-type]
    source = draft_source(settings)
    if source is None:
        raise SettingsError(["--draft: name the content that would be published, or set draft_content"])
    try:
        source.load()
    except SettingsError as error:
        raise SettingsError([f"--draft: {problem.removeprefix('content: ')}" for problem in error.problems]) from None
    return source.catalog(*where)


def _time(text: str) -> int:
    try:
        return moment(text)
    except InvalidData as error:
        raise SettingsError([f"--at: {str(error).removeprefix('preview.at: ')}"]) from None


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of visitors above 0")
    return int(text)


def _share(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(%?)", text)
    share = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a share such as 5% or 0.05")
    return share


COMMAND = Command(run, _USES, add_arguments, resume="run the same command again")
