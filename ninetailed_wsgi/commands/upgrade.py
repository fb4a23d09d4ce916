"""The command ``upgrade``: brings a store that an older version wrote to the format of this one."""

from __future__ import annotations

import argparse

from ninetailed_wsgi.commands.command import Command, read_settings
from ninetailed_wsgi.store.opening import upgrade_store

_USES = ("store",)


def run(arguments: argparse.Namespace) -> None:
    """Upgrade the store, where it has an older format."""
    settings = read_settings(arguments, _USES)
    place = settings.store or settings.data_dir.absolute()
    print(f"{place}: {'upgraded' if upgrade_store(settings) else 'is already in the format of this version'}")


COMMAND = Command(run, _USES, resume="run the same command again")
