"""The command ``explain``: says why a visitor is in which audience and sees which variant."""

from __future__ import annotations

import argparse

from ninetailed_wsgi.commands.command import Command
from ninetailed_wsgi.commands.work import add_environment, open_work
from ninetailed_wsgi.service import explanation

_USES = ("store", "environments", "decisions")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ORG/ENV and ID."""
    add_environment(parser)
    parser.add_argument("profile", metavar="ID", help="id or alias of the profile")


def run(arguments: argparse.Namespace) -> None:
    """Print the explanation."""
    work = open_work(arguments, _USES)
    document = work.service.explain(work.environment(arguments.where), arguments.profile)
    print(explanation.text(document))


COMMAND = Command(run, _USES, add_arguments, resume="run the same command again")
