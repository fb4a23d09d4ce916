"""The command ``key``: makes, lists and revokes the keys of trusted callers."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path

from ninetailed_wsgi.commands.command import Command
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.terminal import in_line
from ninetailed_wsgi.service.keys import SCOPES, ApiKey, changing, new_key, read_keys
from ninetailed_wsgi.settings.declaration import PREFIX

_DAY = 24 * 60 * 60
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their flags."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    new = actions.add_parser("new", help="make a key and print it once", allow_abbrev=False)
    new.add_argument("name", metavar="NAME", type=_name, help="who uses the key; several keys may have the same name")
    new.add_argument(
        "--scope", required=True, type=_scopes, metavar="SCOPE[,SCOPE]", help=f"what it allows: {', '.join(SCOPES)}"
    )
    new.add_argument("--expires", type=_days, metavar="DAYS", help="days until the key expires [never]")
    listing = actions.add_parser("list", help="list the names, ids and scopes of all keys", allow_abbrev=False)
    revoke = actions.add_parser("revoke", help="revoke a key at once", allow_abbrev=False)
    revoke.add_argument("name", metavar="NAME|ID", help="its name, or its id if several keys have the same name")
    for action in (new, listing, revoke):
        action.add_argument(
            "--keys-file", metavar="FILE", type=Path, help=f"the file of the keys [{PREFIX}KEYS_FILE]", default=None
        )


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    variable = os.environ.get(f"{PREFIX}KEYS_FILE")
    file = arguments.keys_file or (Path(variable) if variable else None)
    if file is None:
        raise SettingsError([f"keys_file: name the file of the keys with --keys-file FILE or {PREFIX}KEYS_FILE"])
    return {"new": _new, "list": _list, "revoke": _revoke}[arguments.action](file, arguments)


def _new(file: Path, arguments: argparse.Namespace) -> int:
    now = int(time.time())
    key, entry = new_key(arguments.name, arguments.scope, now, arguments.expires and now + arguments.expires * _DAY)
    with changing(file) as keys:
        keys.append(entry)
    print(key)  # alone on the standard output, so that `KEY=$(ninetailed-wsgi key new ...)` has it
    print(f"key {entry.id} of {entry.name} was added to {file}; the key itself is not shown again", file=sys.stderr)
    return 0


def _list(file: Path, arguments: argparse.Namespace) -> int:
    now = time.time()
    for key in read_keys(file):
        scopes = ",".join(scope for scope in SCOPES if scope in key.scopes)
        print(f"{key.id}  {in_line(key.name):<20}  {scopes:<26}  made {_date(key.created)}  {_end(key, now)}")
    return 0


def _revoke(file: Path, arguments: argparse.Namespace) -> int:
    with changing(file) as keys:
        matches = [key for key in keys if arguments.name in (key.id, key.name)]
        if len(matches) != 1:
            ids = ", ".join(key.id for key in matches)
            problem = (
                f"several keys have the name {arguments.name}; name one of the ids {ids}"
                if matches
                else f"no key has the name or id {arguments.name}"
            )
            raise SettingsError([f"{problem} in {file}"])
        keys.remove(matches[0])
    print(in_line(f"key {matches[0].id} of {matches[0].name} is revoked"), file=sys.stderr)
    return 0


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _end(key: ApiKey, now: float) -> str:
    if key.expires is None:
        return "never expires"
    return f"{'expired' if key.expires <= now else 'expires'} {_date(key.expires)}"


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected letters, digits and . _ @ - (at most 64)")
    return text


def _scopes(text: str) -> list[str]:
    scopes = [scope.strip() for scope in text.split(",")]
    if wrong := [scope for scope in scopes if scope not in SCOPES]:
        expected = f"one or more of {', '.join(SCOPES)}"
        raise argparse.ArgumentTypeError(f"found {', '.join(map(repr, wrong))}, expected {expected}")
    return scopes


def _days(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of days from 1 to 99999")
    return int(text)


COMMAND = Command(run, add_arguments=add_arguments, resume="run the same command again")
