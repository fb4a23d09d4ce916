"""The command ``serve``: serves the API under gunicorn or Granian."""

from __future__ import annotations

import argparse
import errno
import sys
from importlib.metadata import PackageNotFoundError, version

from ninetailed_wsgi.commands.command import FAILURE, Command, read_settings
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.server.checks import check_start, failures
from ninetailed_wsgi.settings import USES

_VERSIONS = {"gunicorn": ("27", "serve"), "granian": ("2", "granian")}
"""The major version of each server that setup.cfg names, and the extra that installs it."""


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal says stop."""
    settings = read_settings(arguments, USES)
    if problem := _unusable(settings.server):
        raise SettingsError([problem])
    findings = check_start(settings)
    if failed := failures(findings):
        problems = [(f"{finding.subject}: {finding.text}", *finding.details) for finding in failed]
        raise SettingsError([line for problem in problems for line in problem])
    from ninetailed_wsgi.server.serve import serve  # imported here: a failed startup does not need it

    try:
        serve(settings, findings)
    except OSError as error:
        print(f"ninetailed-wsgi serve: cannot listen on {settings.bind}: {_reason(error)}", file=sys.stderr)
        return FAILURE
    return 0


def _unusable(server: str) -> str | None:
    """Return what is wrong with the installed server, whose private parts `server` uses; None if nothing is."""
    major, extra = _VERSIONS[server]
    install = f"pip install 'ninetailed-wsgi[{extra}]'"
    try:
        installed = version(server)
    except PackageNotFoundError:
        return f"serve requires an extra: {install}"
    if installed.partition(".")[0] == major:
        return None
    return (
        f"serve requires {server} {major}, found {installed}: {install}, or run your {server} with "
        "'ninetailed_wsgi:create_app()'"
    )


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there already; stop it, or choose another port with --bind"
    return f"{error.strerror or error} (--bind)"


COMMAND = Command(run, USES, resume="start it again", refusal="cannot start")
