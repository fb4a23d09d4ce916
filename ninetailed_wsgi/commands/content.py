"""The command ``content``: says in words what is published, converts it, and prints its JSON Schema."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import orjson

from ninetailed_wsgi.commands.command import Command, CommandError, add_options, read_settings
from ninetailed_wsgi.commands.console import print_in_utf8
from ninetailed_wsgi.content import Catalog, LiveContent, content_source
from ninetailed_wsgi.content.formats.schema import content_schema
from ninetailed_wsgi.content.formats.writing import as_contentful, as_generic
from ninetailed_wsgi.content.words import catalog_lines
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import SettingsError
from ninetailed_wsgi.operations.files import replacement
from ninetailed_wsgi.operations.terminal import in_line

_USES = ("decisions",)
_FORMS = {"generic": as_generic, "contentful": as_contentful}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their flags."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    show = actions.add_parser("show", help="say in words what is published", allow_abbrev=False)
    convert = actions.add_parser("convert", help="write the content in another form", allow_abbrev=False)
    convert.add_argument(
        "--to", required=True, choices=_FORMS, help="generic: of the SDK's mappers; contentful: for `space import`"
    )
    convert.add_argument("--output", metavar="FILE", type=Path, help="where to write it [the standard output]")
    actions.add_parser("schema", help="print the JSON Schema of content files, for editors", allow_abbrev=False)
    for action in (show, convert):
        action.add_argument("--environment", metavar="ORG/ENV", help="the environment, if the content has several")
        add_options(action, _USES)


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    if arguments.action == "schema":
        print(orjson.dumps(content_schema(), option=orjson.OPT_INDENT_2).decode())
        return 0
    source = content_source(read_settings(arguments, _USES))
    if not source.name:
        raise SettingsError(["content: name the content with --content"])
    source.load()
    return {"show": _show, "convert": _convert}[arguments.action](source, arguments)


def _show(source: LiveContent, arguments: argparse.Namespace) -> int:
    catalogs = source.catalogs()
    if arguments.environment:
        catalogs = {arguments.environment: _catalog(source, arguments.environment)}
    for name, catalog in catalogs.items():
        lines = catalog_lines(catalog)
        if not lines and len(catalogs) > 1:
            continue
        if len(catalogs) > 1:
            print(in_line(f"{'every other environment' if name == '*/*' else name}:") + "\n")
        print("\n".join(map(in_line, lines or ["nothing is published"])))
    for problem in source.problems():
        print(in_line(f"{problem.severity}: {problem}"), file=sys.stderr)
    return 0


def _convert(source: LiveContent, arguments: argparse.Namespace) -> int:
    catalog = _catalog(source, arguments.environment)
    if left_out := [problem for problem in source.problems() if problem.severity in ("error", "left out")]:
        for problem in left_out:
            print(in_line(f"{problem.severity}: {problem}"), file=sys.stderr)
        raise CommandError("nothing is written, as a part of the content would be missing: correct it, or take it out")
    text = orjson.dumps(_FORMS[arguments.to](catalog.content), option=orjson.OPT_INDENT_2) + b"\n"
    if arguments.output is None:
        print_in_utf8()
        print(text.decode(), end="")
    else:
        with replacement(arguments.output, durable=False) as output:
            output.write(text)
    for line in _left_out(catalog) if arguments.to == "contentful" else ():
        print(in_line(line), file=sys.stderr)
    return 0


def _left_out(catalog: Catalog) -> list[str]:
    return [
        f"note: entry {id}: link its experiences in its field nt_experiences, in this order: {', '.join(experiences)}"
        for id, experiences in catalog.entry_experiences.items()
    ]


def _catalog(source: LiveContent, environment: str | None) -> Catalog:
    catalogs = source.catalogs()
    own = [name for name, catalog in catalogs.items() if name != "*/*" or catalog_lines(catalog)]
    if environment is None:
        if len(own) > 1:
            raise SettingsError([f"--environment: name one of {', '.join(own)}"])
        return catalogs[own[0]] if own else catalogs["*/*"]
    try:
        return source.catalog(*Environment.parse(environment))
    except ValueError as error:
        raise SettingsError([f"--environment: {error}"]) from None


COMMAND = Command(run, (), add_arguments, resume="run the same command again")
