"""The command line: ``ninetailed-wsgi serve`` and its companions."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ninetailed_wsgi import __version__
from ninetailed_wsgi.checks import check_all, check_start, failures
from ninetailed_wsgi.contract.flags import add_arguments
from ninetailed_wsgi.errors import NinetailedError, SettingsError
from ninetailed_wsgi.settings import OPTIONS, Settings

WRONG_USAGE = 2  # as argparse ends for a flag that it does not know


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand: its name, one line for the usage text, and what runs it and returns the exit status.

    ``arguments`` are those besides the options: name to how the usage text calls it and what it says of it.
    ``add_flags`` is for a command that starts no service: it adds flags of its own in place of the options.
    """

    name: str
    help: str
    run: Callable[[argparse.Namespace], int]
    arguments: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    add_flags: Callable[[argparse.ArgumentParser], None] | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; the entry point of the console script.

    Args:
        arguments: what was typed after the program's name; default: this process's own.
    """
    given = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    return run(given)


def _serve(given: argparse.Namespace) -> int:
    try:
        settings = _settings(given)
    except SettingsError as error:
        return _refuse(error.problems)
    findings = check_start(settings)
    if failed := failures(findings):
        problems = [(f"{finding.subject}: {finding.text}", *finding.details) for finding in failed]
        return _refuse([line for problem in problems for line in problem])
    from ninetailed_wsgi import server  # `check` does not need gunicorn

    try:
        server.serve(settings, findings)
    except OSError as error:
        print(f"ninetailed-wsgi: cannot listen on {settings.bind}: {_listen_problem(error)}", file=sys.stderr)
        return 1
    return 0


def _check(given: argparse.Namespace) -> int:
    try:
        settings = _settings(given)
    except SettingsError as error:
        for problem in error.problems:
            print(f"fail  {'settings':<12}  {problem}")
        return 1
    findings = check_all(settings)
    for finding in findings:
        print(finding)
    return 1 if failures(findings) else 0


def _explain(given: argparse.Namespace) -> int:
    organization, slash, environment = given.where.partition("/")
    try:
        settings = _settings(given)
        if not (organization and slash and environment):
            raise SettingsError([f"ORG/ENV: found {given.where!r}, expected an organization, a slash, an environment"])
        from ninetailed_wsgi import explanation  # only this command needs the service
        from ninetailed_wsgi.service import ExperienceService

        service = ExperienceService.from_settings(settings)
        explained = service.explain(service.environment(organization, environment), given.profile)
    except SettingsError as error:
        return _refuse(error.problems)
    except NinetailedError as error:
        print(f"ninetailed-wsgi: {error}", file=sys.stderr)
        return 1
    print(explanation.text(explained))
    return 0


def _contract(given: argparse.Namespace) -> int:
    from ninetailed_wsgi.contract import command  # only this command speaks HTTP

    return command.run(given, sys.stdout, sys.stderr)


COMMANDS = (
    Command("serve", "serve the API under gunicorn", _serve),
    Command("check", "look at everything that a start depends on and say what was found", _check),
    Command(
        "explain",
        "say why a visitor is in which audience and sees which variant",
        _explain,
        {"where": ("ORG/ENV", "organization and environment"), "profile": ("ID", "id or alias of the profile")},
    ),
    Command(
        "contract",
        "hold a running server, ours or any other, to the API's contract",
        _contract,
        add_flags=add_arguments,
    ),
)


_EPILOG = "Every flag is also an environment variable: --data-dir is NINETAILED_DATA_DIR. A flag wins."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ninetailed-wsgi", description="Ninetailed's Experience API, self-hosted.")
    parser.add_argument("--version", action="version", version=f"ninetailed-wsgi {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=None if command.add_flags else _EPILOG,
            allow_abbrev=False,  # a shortened flag would change its meaning when a new option comes
        )
        for name, (metavar, meaning) in command.arguments.items():
            subparser.add_argument(name, metavar=metavar, help=meaning)
        (command.add_flags or _add_options)(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    for option in OPTIONS:
        default = f" [{option.default_text}]" if option.default_text else ""
        switch = {"nargs": "?", "const": "yes"} if isinstance(option.default, bool) else {}
        parser.add_argument(
            option.flag,
            dest=option.name,
            metavar=option.metavar,
            default=argparse.SUPPRESS,  # what is not typed may come from the environment
            help=(option.help.replace("`", "") + default).replace("%", "%%"),
            **switch,  # type: ignore[arg-type]
        )


def _settings(given: argparse.Namespace) -> Settings:
    options = {option.name for option in OPTIONS}
    typed = {name: value for name, value in vars(given).items() if name in options}
    return Settings.from_env(**typed)


def _refuse(problems: Sequence[str]) -> int:
    lines = ["ninetailed-wsgi: cannot start:", *(f"  {problem}" for problem in problems)]
    print("\n".join(lines), file=sys.stderr)
    return WRONG_USAGE


def _listen_problem(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there already; stop it, or choose another port with --bind"
    return f"{error.strerror or error} (--bind)"
