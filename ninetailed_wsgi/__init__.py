"""Ninetailed's Experience API inside your own WSGI process: the public names, nothing else.

Each name is loaded when it is first used, so importing the package costs nothing and pulls in no framework.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ninetailed_wsgi.api.app import create_app
    from ninetailed_wsgi.settings import Settings
    from ninetailed_wsgi.site.middleware import Ninetailed
    from ninetailed_wsgi.site.reaching import visitor_of

__version__ = "0.1.0"

__all__ = ["Ninetailed", "Settings", "__version__", "create_app", "visitor_of"]

_HOMES = {
    "Ninetailed": "ninetailed_wsgi.site.middleware",
    "Settings": "ninetailed_wsgi.settings",
    "create_app": "ninetailed_wsgi.api.app",
    "visitor_of": "ninetailed_wsgi.site.reaching",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _refuse_sub_interpreter()
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next look-up finds it without this function
    return value


def _refuse_sub_interpreter() -> None:
    """Raise SettingsError in a sub-interpreter, where extensions such as RE2 hang instead of loading."""
    try:
        interpreters = import_module("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
        current, main = interpreters.get_current(), interpreters.get_main()
    except (ImportError, AttributeError):  # a Python without sub-interpreters
        return
    if current != main:
        from ninetailed_wsgi.errors import SettingsError

        raise SettingsError(
            [
                "this is a sub-interpreter of Python, where C extensions that ninetailed-wsgi needs cannot run: "
                "set WSGIApplicationGroup %{GLOBAL} in the configuration of mod_wsgi"
            ]
        )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
