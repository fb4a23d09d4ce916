"""The command ``contract``: tests a running server, ours or any other, against the API's contract."""

from __future__ import annotations

import argparse
import sys

from ninetailed_wsgi.commands.command import Command
from ninetailed_wsgi.contract import command
from ninetailed_wsgi.contract.flags import add_arguments


def run(arguments: argparse.Namespace) -> int:
    """Run every case that applies to the server."""
    return command.run(arguments, sys.stdout, sys.stderr)


COMMAND = Command(run, add_arguments=add_arguments, resume="run the same command again")
