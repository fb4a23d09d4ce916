"""The command line: ``ninetailed-wsgi serve`` and its companions."""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from ninetailed_wsgi import __version__
from ninetailed_wsgi.contract.flags import add_arguments
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import NinetailedError, ProfileOverload, SettingsError, StoreUnavailable
from ninetailed_wsgi.server.checks import check_all, check_start, failures
from ninetailed_wsgi.settings import OPTIONS, Settings

if TYPE_CHECKING:
    from ninetailed_wsgi.commands.bulk import Console
    from ninetailed_wsgi.service.service import ExperienceService
    from ninetailed_wsgi.store.protocol import KeptStore

WRONG_USAGE = 2  # as argparse ends for a flag that it does not know
INTERRUPTED = 130  # as shells say of a command that Ctrl-C ended


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand: its name, one line for the usage text, and what runs it and returns the exit status.

    ``arguments`` are those besides the options: name to how the usage text calls it and what it says of it. A name
    that begins with ``--`` is a flag, one without a value where it is called nothing; ``[ID]`` may be left out.
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # content has letters that not every terminal can show
    given = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        status = run(given)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _serve(given: argparse.Namespace) -> int:
    try:
        settings = _settings(given)
    except SettingsError as error:
        return _refuse(error.problems)
    findings = check_start(settings)
    if failed := failures(findings):
        problems = [(f"{finding.subject}: {finding.text}", *finding.details) for finding in failed]
        return _refuse([line for problem in problems for line in problem])
    from ninetailed_wsgi.server import serve  # `check` does not need gunicorn

    try:
        serve.serve(settings, findings)
    except SettingsError as error:
        return _refuse(error.problems)
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
    try:
        settings = _settings(given)
        where = _where(given)
        from ninetailed_wsgi.service import explanation  # only this command needs the service
        from ninetailed_wsgi.service.service import ExperienceService

        _refuse_nothing_stored(settings)
        service = ExperienceService.from_settings(settings)
        explained = service.explain(service.environment(*where), given.profile)
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


def _import(given: argparse.Namespace, work: _Bulk) -> bool:
    from ninetailed_wsgi.commands import bulk

    where, limit = work.where(given), work.settings.max_body_bytes
    return bulk.import_events(work.service, where, given.file, work.console, sys.stdin.buffer, limit)


def _export(given: argparse.Namespace, work: _Bulk) -> None:
    from ninetailed_wsgi.commands import bulk

    where, output = work.where(given), given.output or ""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # what is written is JSON, whatever the terminal can show
    if given.profile is None:
        bulk.export(work.service, work.store, where, work.console, events=given.events, output=output)
    else:
        bulk.export_one(work.service, where, given.profile, work.console, output=output)


def _delete(given: argparse.Namespace, work: _Bulk) -> None:
    from ninetailed_wsgi.commands import bulk

    where = work.where(given)
    if given.file == "-":
        bulk.delete(work.service, where, sys.stdin.buffer, 0, work.console)
        return
    try:
        names = open(given.file, "rb")  # noqa: SIM115 - closed below; only opening it fails in this way
    except OSError as error:
        raise bulk.BulkError(f"{given.file} cannot be read: {error.strerror}") from error
    with names:
        bulk.delete(work.service, where, names, os.fstat(names.fileno()).st_size, work.console)


def _expire(given: argparse.Namespace, work: _Bulk) -> None:
    from ninetailed_wsgi.commands import bulk

    days = given.inactive_days or ""
    if not re.fullmatch("[0-9]{1,5}", days) or not int(days):
        raise SettingsError([f"--inactive-days: found {days!r}, expected a whole number from 1 to 99999"])
    now = time.time_ns() // 1_000_000
    bulk.expire(work.store, work.where(given), int(days), now, work.console, dry_run=given.dry_run)


def _stats(given: argparse.Namespace, work: _Bulk) -> None:
    from ninetailed_wsgi.commands import bulk

    bulk.stats(work.store, work.where(given) if given.where else None, work.console)


def _results(given: argparse.Namespace, work: _Bulk) -> None:
    from ninetailed_wsgi.settings.readers import yes_with_extra

    where = work.where(given)
    try:
        yes_with_extra("scipy", "results")("yes")
    except ValueError as error:
        raise SettingsError([str(error).removeprefix("no, as ")]) from None
    from ninetailed_wsgi.commands import results  # which loads what computes statistics

    now = time.time_ns() // 1_000_000
    results.show(
        work.store,
        where,
        work.service.content(*where),
        work.console,
        experience=given.experience,
        metric=given.metric,
        period=results.period_of(vars(given)["from"], given.to, given.window_days, now),
        as_json=given.json,
    )


def _compact(given: argparse.Namespace, work: _Bulk) -> None:
    from ninetailed_wsgi.commands import bulk

    bulk.compact(work.store, work.console)


@dataclass(frozen=True, slots=True)
class _Bulk:
    """What a command on many profiles works with."""

    settings: Settings
    service: ExperienceService
    store: KeptStore
    console: Console

    def where(self, given: argparse.Namespace) -> Environment:
        """The environment that was typed."""
        return self.service.environment(*_where(given))


def _where(given: argparse.Namespace) -> Environment:
    try:
        return Environment.parse(given.where)
    except ValueError:
        expected = "expected an organization, a slash, an environment"
        raise SettingsError([f"ORG/ENV: found {given.where!r}, {expected}"]) from None


def _bulk(
    run: Callable[[argparse.Namespace, _Bulk], bool | None],
    go_on: str = "run the same command again to do the rest",
    *,
    new_folder: bool = False,
    decides: bool = False,
) -> Callable[[argparse.Namespace], int]:
    """A command on many profiles: 0 when all was done, 1 when not, 2 for wrong usage, 130 when it was interrupted.

    ``go_on`` is what to do after an interruption, ``new_folder`` whether the command may begin a data folder,
    ``decides`` whether it looks at audiences, for which content is read.
    """

    def work(given: argparse.Namespace) -> bool | None:
        from ninetailed_wsgi.commands.bulk import Console
        from ninetailed_wsgi.service.service import ExperienceService

        settings = replace(_settings(given), geoip_database=None)
        settings = settings if decides else replace(settings, content=None)
        if not new_folder:
            _refuse_nothing_stored(settings)
        service = ExperienceService.from_settings(settings)
        store = cast("KeptStore", service.store)  # `from_settings` makes no other
        return run(given, _Bulk(settings, service, store, Console(sys.stdout, sys.stderr)))

    return _going_on(work, go_on)


def _going_on(work: Callable[[argparse.Namespace], bool | None], go_on: str) -> Callable[[argparse.Namespace], int]:
    """A long command, with the exit statuses of `_bulk`; ``work`` answers False when not all was done."""

    def command(given: argparse.Namespace) -> int:
        try:
            done = work(given)
            sys.stdout.flush()
        except SettingsError as error:
            return _refuse(error.problems)
        except BrokenPipeError:  # `main` knows what to do
            raise
        except (ProfileOverload, StoreUnavailable) as error:
            print(f"ninetailed-wsgi: {error}; later, {go_on}", file=sys.stderr)
            return 1
        except (NinetailedError, OSError) as error:
            print(f"ninetailed-wsgi: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"ninetailed-wsgi: stopped before the end; {go_on}", file=sys.stderr)
            return INTERRUPTED
        return 1 if done is False else 0

    return command


def _migrate(given: argparse.Namespace) -> bool:
    from ninetailed_wsgi.commands import migrate
    from ninetailed_wsgi.commands.bulk import Console

    places = vars(given)["from"], given.to
    if places == (None, None):
        raise SettingsError(["--from, --to: expected at least one: a folder, or the URL of a Redis"])
    settings = _settings(given)
    source, target = (_place(settings, where) for where in places)
    _refuse_nothing_stored(source)
    return migrate.migrate(
        migrate.open_place(source),
        migrate.open_place(target, filling=True),
        Console(sys.stdout, sys.stderr),
        final=given.final,
    )


def _place(settings: Settings, where: str | None) -> Settings:
    """The settings of a store that was typed; those of the service itself when none was."""
    if where is None:
        return settings
    stated: dict[str, Any] = {"store": where} if "://" in where else {"store": None, "data_dir": where}
    return replace(settings, **stated)  # these read text


def _refuse_nothing_stored(settings: Settings) -> None:
    """A command that reads is not to make the data folder that it was wrongly told."""
    from ninetailed_wsgi.store.disk.folder import examine

    folder = settings.data_dir
    if settings.store is None and (not folder.exists() or examine(folder) is None):
        raise SettingsError([f"data_dir: no profiles are stored in {folder.absolute()} (--data-dir)"])


_WHERE = {"where": ("ORG/ENV", "organization and environment")}
_STORES = "a data folder, or the URL of a Redis as for --store"
_NAMES = "ids or aliases, one a line; - reads the standard input"

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
    Command(
        "import",
        "apply the events of a file; lines that are refused go to a file beside it",
        _bulk(
            _import,
            "run the same command again to go on from there (standard input: send it all again)",
            new_folder=True,
            decides=True,
        ),
        {"file": ("FILE", "one event a line as JSON, may be gzip; - reads the standard input"), **_WHERE},
    ),
    Command(
        "export",
        "write profiles as JSON, one a line",
        _bulk(_export, "run the same command again to go on (without --output: to begin anew)", decides=True),
        {
            **_WHERE,
            "profile": ("[ID]", "all that is kept of the one visitor with this id or alias"),
            "--events": ("", "with the events that are kept"),
            "--output": ("FILE", "write to a file, which is there when it is complete"),
        },
    ),
    Command("delete", "delete the profiles that a file names", _bulk(_delete), {**_WHERE, "file": ("FILE", _NAMES)}),
    Command(
        "expire",
        "delete the profiles of visitors who have not been seen for long",
        _bulk(_expire),
        {
            **_WHERE,
            "--inactive-days": ("N", "whose newest event is more than N days old"),
            "--dry-run": ("", "only count them"),
        },
    ),
    Command(
        "stats",
        "count what is stored",
        _bulk(_stats, "run the same command again"),
        {"where": ("[ORG/ENV]", "only this environment")},
    ),
    Command(
        "migrate",
        "copy all that is stored to another store, while servers serve from the first one; see docs/migrate.md",
        _going_on(_migrate, "run the same command again to go on"),
        {
            "--from": ("WHERE", f"{_STORES} (default: where the options below say that profiles are)"),
            "--to": ("WHERE", "the same; an empty one, or one that this command has begun to fill"),
            "--final": ("", "the source's servers are stopped: copy the rest, compare everything, release the target"),
        },
    ),
    Command(
        "results",
        "say whether the variants of experiences helped; needs the extra `results`",
        _bulk(_results, "run the same command again", decides=True),
        {
            **_WHERE,
            "experience": ("[EXPERIENCE]", "only the experience with this id or name"),
            "--metric": ("NAME", "id or name of a metric (default: the experience's primary metric, else every one)"),
            "--from": ("T", "count visitors who saw it first at this time or later, such as 2026-01-31"),
            "--to": ("T", "and before this time; what they did later does not count"),
            "--window-days": ("N", "count what a visitor does up to N days after the first view (default: no end)"),
            "--json": ("", "write JSON"),
        },
    ),
    Command("compact", "give free space back and overwrite what was deleted", _bulk(_compact)),
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
            if name.startswith("--") and not metavar:
                subparser.add_argument(name, action="store_true", help=meaning)
            else:
                optional = {"nargs": "?"} if metavar.startswith("[") else {}
                subparser.add_argument(name, metavar=metavar.strip("[]"), help=meaning, **optional)  # type: ignore[arg-type]
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
