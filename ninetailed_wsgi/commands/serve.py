"""The command ``serve``: serves the API under gunicorn."""

from __future__ import annotations

import argparse
import errno
import sys
from importlib.metadata import PackageNotFoundError, version

from ninetailed_wsgi.commands.command import FAILURE, Command, read_settings
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.server.checks import check_start, failures
from ninetailed_wsgi.settings import USES

_GUNICORN = "27"
"""The major version that setup.cfg names."""


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal says stop."""
    if problem := _unusable_gunicorn():
        raise SettingsError([problem])
    settings = read_settings(arguments, USES)
    findings = check_start(settings)
    if failed := failures(findings):
        problems = [(f"{finding.subject}: {finding.text}", *finding.details) for finding in failed]
        raise SettingsError([line for problem in problems for line in problem])
    from ninetailed_wsgi.server.serve import serve  # gunicorn, which a refused start does not need

    try:
        serve(settings, findings)
    except OSError as error:
        print(f"ninetailed-wsgi serve: cannot listen on {settings.bind}: {_reason(error)}", file=sys.stderr)
        return FAILURE
    return 0


def _unusable_gunicorn() -> str | None:
    """Say what is wrong with the installed gunicorn, of which `server` uses private parts; None: nothing."""
    try:
        installed = version("gunicorn")
    except PackageNotFoundError:
        return "serve requires an extra: pip install 'ninetailed-wsgi[serve]'"
    if installed.partition(".")[0] == _GUNICORN:
        return None
    return (
        f"serve requires gunicorn {_GUNICORN}, found {installed}: pip install 'ninetailed-wsgi[serve]', or run "
        "your gunicorn with 'ninetailed_wsgi:create_app()'"
    )


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there already; stop it, or choose another port with --bind"
    return f"{error.strerror or error} (--bind)"


COMMAND = Command(run, USES, resume="start it again", refusal="cannot start")
