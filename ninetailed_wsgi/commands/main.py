"""The command line ``ninetailed-wsgi``: finds the command that was typed and runs it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from ninetailed_wsgi import __version__
from ninetailed_wsgi.commands.command import FAILURE, Command, add_options
from ninetailed_wsgi.commands.console import safe_streams

COMMANDS = {
    "init": "write a first content file and show how to mount it in the framework of this folder",
    "serve": "serve the API under gunicorn or Granian",
    "check": "check everything that a startup depends on and print the result",
    "content": "say in words what is published, convert it, print its JSON Schema for editors",
    "explain": "say why a visitor is in which audience and sees which variant",
    "preview-link": "make a link that shows a page as somebody else would see it; see docs/preview.md",
    "contract": "test whether a running server, ours or another, follows the API's contract",
    "import": "apply the events of a file; lines that are rejected go to a file beside it",
    "export": "write profiles as JSON, one per line",
    "delete": "delete the profiles that a file lists",
    "expire": "delete the profiles of inactive visitors",
    "stats": "count what is stored",
    "migrate": "copy everything to another store while the servers run; see docs/migrate.md",
    "results": "say whether the variants of experiences helped; needs the extra `results`",
    "what-if": "show what publishing a draft would change for the stored visitors; see docs/what-if.md",
    "backup": "copy the data folder while servers use it, and check the copy",
    "key": "make, list and revoke the keys of trusted callers; see docs/security.md",
    "upgrade": "convert a store of an older version to the current format",
    "compact": "free disk space and overwrite deleted data",
}
"""Each command's name and a line for the usage text; its module in this package has the same name."""

_EPILOG = "Every option is also an environment variable: --data-dir is NINETAILED_DATA_DIR. A flag wins."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; the entry point of the console script.

    Args:
        arguments: what was typed after the program's name; default: this process's own.
    """
    with safe_streams():
        return _run(list(sys.argv[1:] if arguments is None else arguments))


def _run(typed: Sequence[str]) -> int:
    name = typed[0] if typed and typed[0] in COMMANDS else None
    command = _command(name) if name else None
    parsed = _parser(name, command).parse_args(typed)
    assert name is not None, "the parser ends where no command is named"
    assert command is not None
    try:
        return command.ended(name, parsed)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE


def _command(name: str) -> Command:
    """Load the declaration of a command; the others, and the libraries they need, are not loaded."""
    module = import_module(f"ninetailed_wsgi.commands.{name.replace('-', '_')}{'_' if name == 'import' else ''}")
    command: Command = module.COMMAND
    return command


def _parser(name: str | None, command: Command | None) -> argparse.ArgumentParser:
    """Make the parser: all commands by name, the one that was typed with its arguments and options."""
    parser = argparse.ArgumentParser(prog="ninetailed-wsgi", description="Ninetailed's Experience API, self-hosted.")
    parser.add_argument("--version", action="version", version=f"ninetailed-wsgi {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for each, help in COMMANDS.items():
        subparser = subparsers.add_parser(
            each,
            help=help,
            description=f"{help[0].upper()}{help[1:]}.",
            epilog=_EPILOG if command and command.uses else None,
            allow_abbrev=False,  # a shortened flag would change its meaning when a new option comes
        )
        if each == name and command is not None:
            command.add_arguments(subparser)
            add_options(subparser, command.uses)
    return parser
