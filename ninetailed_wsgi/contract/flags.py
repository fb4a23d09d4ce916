"""The flags of ``ninetailed-wsgi contract``, in a module of their own, so that others load no more."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from ninetailed_wsgi.contract.cases import CLAIMS
from ninetailed_wsgi.contract.target import ROUTES

REPORTS = (".xml", ".json")
"""The endings of report files: JUnit XML, and JSON."""

ORIGIN = "http://localhost:3000"
"""The origin in the cases: of a site that is being developed, which every open server allows by default."""

_LONGEST_KEY = 1_000


def add_arguments(parser: ArgumentParser) -> None:
    """Add the flags of the command."""
    parser.add_argument(
        "--base-url", required=True, metavar="URL", help="address of the server, with the path that it is mounted under"
    )
    parser.add_argument("--organization", required=True, metavar="ORG", help="the organization to use")
    parser.add_argument(
        "--routes",
        choices=ROUTES,
        default="organizations",
        help="which routes to use: those of an organization, or of a space of that name [organizations]",
    )
    parser.add_argument("--environment", default="main", metavar="ENV", help="the environment to use [main]")
    parser.add_argument(
        "--origin",
        default=ORIGIN,
        type=_origin,
        metavar="ORIGIN",
        help=f"whose pages the server lets call it from a browser, for the cases about CORS [{ORIGIN}]",
    )
    parser.add_argument(
        "--report",
        action="append",
        default=[],
        type=_report_file,
        metavar="FILE",
        help="write what was found as JUnit XML (FILE.xml) or as JSON (FILE.json); may be given more than once",
    )
    parser.add_argument(
        "--claims",
        type=_claims,
        metavar="NAMES",
        help=f"also test these: {', '.join(CLAIMS)}; all, or none [what its /openapi.json claims]",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="how long a request may take [10]"
    )
    _add_key(parser)


def _add_key(parser: ArgumentParser) -> None:
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument(
        "--key",
        type=_key,
        metavar="KEY",
        help="a key with all scopes: run the access cases, for a server whose access is guarded, instead of the others;"
        " other users of this machine see it in the list of processes",
    )
    keys.add_argument(
        "--key-file", dest="key", type=_key_in, metavar="FILE", help="a file that holds that key; - reads it from stdin"
    )


def _report_file(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() not in REPORTS:
        raise ArgumentTypeError(f"found {text!r}, expected a file that ends in {' or '.join(REPORTS)}")
    if not path.parent.is_dir():
        raise ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9._:\[\]-]+", text):
        raise ArgumentTypeError(f"found {text!r}, expected an origin such as https://shop.example")
    return text


def _claims(text: str) -> tuple[str, ...]:
    if text in ("all", "none"):
        return CLAIMS if text == "all" else ()
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in CLAIMS]:
        raise ArgumentTypeError(
            f"found {', '.join(map(repr, unknown))}, expected all, none, or some of {', '.join(CLAIMS)}"
        )
    return tuple(claim for claim in CLAIMS if claim in names)


def _key(text: str) -> str:
    # The text itself is a secret, so the message does not repeat it.
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ArgumentTypeError("expected a key as `ninetailed-wsgi key new` prints it")
    return text


def _key_in(file: str) -> str:
    try:
        with sys.stdin if file == "-" else open(file, encoding="ascii") as opened:
            return _key(opened.read(_LONGEST_KEY).strip())
    except OSError as error:
        raise ArgumentTypeError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ArgumentTypeError(f"{file} contains no key as `ninetailed-wsgi key new` prints it") from None


def _seconds(text: str) -> float:
    seconds = float(text) if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", text) else 0.0
    if not 0 < seconds <= 600:
        raise ArgumentTypeError(f"found {text!r}, expected a number of seconds up to 600")
    return seconds
