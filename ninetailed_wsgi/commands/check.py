"""The command ``check``: looks at everything that startup depends on and prints what it found."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator

from ninetailed_wsgi.commands.command import FAILURE, Command, read_settings
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.terminal import in_line
from ninetailed_wsgi.server.checks import check_all, failures
from ninetailed_wsgi.settings import USES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that are not options."""
    parser.add_argument(
        "--strict",
        action="store_true",
        help="fail also on content that is left out, or that no authoring tool stores so, for a pipeline",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a line for each thing; the exit status is 1 if one stops startup or ``--strict`` refuses it."""
    try:
        settings = read_settings(arguments, USES)
    except SettingsError as error:
        for problem in error.problems:
            print(in_line(f"fail  {'settings':<12}  {problem}"))
        return FAILURE
    with _silence():
        findings = check_all(settings, strict=arguments.strict)
    for finding in findings:
        print(finding)
    return FAILURE if failures(findings) else 0


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep content from logging what the report lists."""
    log = logging.getLogger("ninetailed_wsgi.content")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


COMMAND = Command(run, USES, add_arguments, resume="run the same command again")
