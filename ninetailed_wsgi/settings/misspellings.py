"""Finds which option was most likely meant by an unknown name."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

_log = logging.getLogger("ninetailed_wsgi")


def variable_problems(environ: Iterable[str], prefix: str, variables: Collection[str]) -> list[str]:
    """Return a line for each environment variable that looks like a misspelled option; warn of other unknown ones.

    Args:
        environ: the names of all environment variables.
        prefix: the prefix of the names of options.
        variables: the names of all options.
    """
    problems = []
    for name in sorted(environ):
        if name.startswith(prefix) and prefix + name[len(prefix) :].upper() not in variables:
            if nearest := _nearest(name, variables, cutoff=0.85):
                problems.append(f"{name}: no such environment variable{nearest}")
            else:  # a variable of the host site, for example for the browser SDK
                _log.warning("%s is not an option of ninetailed-wsgi and is ignored", name)
    return problems


def keyword_problems(names: Iterable[str], options: Collection[str]) -> list[str]:
    """Return a line for each keyword that the caller cannot use; ``options`` are the names of all options."""
    return [
        f"{name}: only `ninetailed-wsgi serve` has this option; set it in the server that runs your app"
        if name in options
        else f"{name}: no such option{_nearest(name, options)}"
        for name in sorted(names)
    ]


def _nearest(name: str, names: Collection[str], cutoff: float = 0.5) -> str:
    import difflib  # imported here, because misspellings are rare

    close = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""
