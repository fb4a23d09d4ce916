"""What every command has in common: its declaration, how it ends, and the options it reads."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from ninetailed_wsgi.errors import NinetailedError, ProfileOverload, SettingsError, StoreUnavailable
from ninetailed_wsgi.operations.terminal import in_line
from ninetailed_wsgi.settings import OPTIONS, Settings

FAILURE = 1
WRONG_USAGE = 2  # as argparse ends for a flag that it does not know
INTERRUPTED = 130  # as shells report a command that Ctrl-C ended

REST = "run the same command again to do the rest"


class CommandError(NinetailedError):
    """A command cannot start or continue; its text says what to do about it."""


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has options only."""


class Command(NamedTuple):
    """One command, as its module declares it.

    Attributes:
        run: does the work. Returns None or True when all is done, False when not, or an exit status.
        uses: the keys of `settings.USES` whose options the command has; none: it starts no service.
        add_arguments: adds the arguments that are not options.
        resume: what to do after the command was interrupted or the store was busy for too long.
        refusal: introduces the problems of wrong options.
    """

    run: Callable[[argparse.Namespace], int | bool | None]
    uses: Collection[str] = ()
    add_arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
    resume: str = REST
    refusal: str = "wrong usage"

    def ended(self, name: str, arguments: argparse.Namespace) -> int:
        """Run the command and return its exit status; every expected error is one message on the standard error.

        Args:
            name: the command's name, for messages.
            arguments: as its parser read them.
        """
        try:
            status = self.run(arguments)
            sys.stdout.flush()
        except SettingsError as error:
            return self.refused(name, error.problems)
        except BrokenPipeError:  # `main` knows what to do
            raise
        except (ProfileOverload, StoreUnavailable) as error:
            print(in_line(f"ninetailed-wsgi {name}: {error}; later, {self.resume}"), file=sys.stderr)
            return FAILURE
        except (NinetailedError, OSError) as error:
            print(in_line(f"ninetailed-wsgi {name}: {error}"), file=sys.stderr)
            return FAILURE
        except KeyboardInterrupt:
            print(f"ninetailed-wsgi {name}: interrupted; {self.resume}", file=sys.stderr)
            return INTERRUPTED
        if status is False:
            return FAILURE
        return 0 if status is None or status is True else status

    def refused(self, name: str, problems: Sequence[str]) -> int:
        """Print why the command does nothing, one line for each problem, and return the exit status."""
        lines = [f"ninetailed-wsgi {name}: {self.refusal}:", *(f"  {problem}" for problem in problems)]
        print("\n".join(map(in_line, lines)), file=sys.stderr)
        return WRONG_USAGE


def add_options(parser: argparse.ArgumentParser, uses: Collection[str]) -> None:
    """Add the options of some `settings.USES` to a command's parser."""
    for option in OPTIONS:
        if option.use not in uses or option.secret:
            continue
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


def read_settings(arguments: argparse.Namespace, uses: Collection[str]) -> Settings:
    """Read the options of some `settings.USES`: flags first, then variables, then defaults; SettingsError if bad."""
    names = {option.name for option in OPTIONS}
    typed = {name: value for name, value in vars(arguments).items() if name in names}
    settings = Settings.for_uses(uses, typed, os.environ)
    here = os.getcwd()
    # `python -m` adds the working folder, an installed script does not; content may be a module there.
    if any(isinstance(origin, str) and "://" not in origin for origin in settings.content) and here not in sys.path:
        sys.path.insert(0, here)
    return settings
