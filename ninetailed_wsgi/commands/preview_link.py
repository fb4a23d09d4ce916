"""The command ``preview-link``: prints an address at which a page shows what somebody else would see."""

from __future__ import annotations

import argparse
import json
from typing import Any
from urllib.parse import urlsplit

from ninetailed_wsgi.commands.command import Command, CommandError, read_settings
from ninetailed_wsgi.content import content_source, draft_source
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.errors import InvalidData, SettingsError
from ninetailed_wsgi.operations.terminal import in_line
from ninetailed_wsgi.service.identity_tokens import IdentityTokens
from ninetailed_wsgi.settings import Settings
from ninetailed_wsgi.settings.declaration import PREFIX
from ninetailed_wsgi.site.previews import Previews

_USES = ("store", "environments", "decisions")
_HOUR = 60 * 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add URL and the overrides."""
    parser.add_argument("url", metavar="URL", help="address of the page, such as https://shop.example/pricing")
    parser.add_argument(
        "--experience",
        metavar="ID=INDEX",
        type=_experience,
        action="append",
        default=[],
        help="show this variant of an experience, 0 for the control; can be repeated",
    )
    parser.add_argument(
        "--audience",
        metavar="ID=on|off",
        type=_audience,
        action="append",
        default=[],
        help="put the visitor into an audience, or take them out; can be repeated",
    )
    parser.add_argument(
        "--trait",
        metavar="NAME=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="give the visitor a trait; a value that is JSON, such as 5 or true, counts as JSON; may be repeated",
    )
    parser.add_argument("--at", metavar="TIME", help="evaluate as of this time, such as 2026-12-24T18:00Z")
    parser.add_argument("--draft", action="store_true", help="show the content that --draft-content names")
    parser.add_argument(
        "--hours", metavar="N", type=_hours, default=24, help="how long the link may be opened, at most 24 [24]"
    )
    parser.add_argument(
        "--for", metavar="ORG/ENV", dest="place", help="organization and environment [default/main, or the only one]"
    )
    parser.add_argument(
        "--identity-secret-file",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"the secret that the site signs with [{PREFIX}IDENTITY_SECRET_FILE]",
    )


def run(arguments: argparse.Namespace) -> None:
    """Print the link."""
    settings = read_settings(arguments, (*_USES, "requests"))
    if settings.identity_secret_file is None:
        raise SettingsError(
            [
                "identity_secret_file: name the secret that the site signs with: --identity-secret-file FILE or "
                f"{PREFIX}IDENTITY_SECRET_FILE"
            ]
        )
    if urlsplit(arguments.url).scheme not in ("http", "https"):
        raise SettingsError([f"URL: found {arguments.url!r}, expected an address that begins with http:// or https://"])
    where = _environment(arguments.place, settings)
    overrides = _overrides(arguments)
    try:
        overrides.check(*_published(settings, where, draft=arguments.draft))
        tokens = IdentityTokens.of_file(settings.identity_secret_file)
        print(in_line(Previews(tokens, *where).link(arguments.url, overrides, arguments.hours * _HOUR)))
    except (InvalidData, ValueError) as error:
        raise CommandError(str(error)) from None


def _overrides(arguments: argparse.Namespace) -> Overrides:
    document: dict[str, Any] = {
        "experiences": dict(arguments.experience),
        "audiences": dict(arguments.audience),
        "traits": dict(arguments.trait),
        "at": arguments.at,
        "content": "draft" if arguments.draft else "published",
    }
    return Overrides.of(document)


def _published(settings: Settings, where: Environment, *, draft: bool) -> tuple[list[str], Any]:
    """Return the ids of the audiences, and the experiences, that a preview may name."""
    source = draft_source(settings) if draft else content_source(settings, read_only=True)
    if source is None:
        raise SettingsError(["draft_content: name the draft with --draft-content ORIGIN"])
    source.load()
    catalog = source.catalog(*where)
    return [audience.id for audience in catalog.audience_list], catalog.experiences


def _environment(place: str | None, settings: Settings) -> Environment:
    if place is None:
        place = settings.environments[0] if len(settings.environments) == 1 else "default/main"
    try:
        return Environment.parse(place)
    except ValueError:
        raise SettingsError([f"--for: found {place!r}, expected ORGANIZATION/ENVIRONMENT, such as acme/main"]) from None


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _experience(text: str) -> tuple[str, int]:
    id, _, index = text.rpartition("=")
    if not id or not index.isascii() or not index.isdecimal():
        raise argparse.ArgumentTypeError(f"found {text!r}, expected ID=INDEX, such as hero=1")
    return id, int(index[:9])


def _audience(text: str) -> tuple[str, bool]:
    id, _, state = text.rpartition("=")
    if not id or state not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected ID=on or ID=off")
    return id, state == "on"


def _hours(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:3]) <= 24:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number of hours from 1 to 24")
    return int(text)


COMMAND = Command(run, _USES, add_arguments, resume="run the same command again")
