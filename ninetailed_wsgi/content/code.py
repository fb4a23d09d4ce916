"""Content written in Python: a list of items made by the builders, or the name of such a list.

It is read once, because the code of a process does not change. Every message names the file and line of its item.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ninetailed_wsgi.authoring import Item
from ninetailed_wsgi.content.entries import Content, Faulty, refusal
from ninetailed_wsgi.content.files import EVERY
from ninetailed_wsgi.content.formats.generic import read_list
from ninetailed_wsgi.content.formats.recognise import read_document
from ninetailed_wsgi.content.live import LiveContent
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.errors import SettingsError

INLINE = "content=[...]"
"""Names a list that was passed in code, for messages."""

_EXPECTED = "a list of audiences and experiences, as ninetailed_wsgi.authoring makes them"
_PACKAGE = str(Path(__file__).parent.parent) + os.sep
_NOT_THERE = object()
_DEEPEST = 250
_LARGEST = 2**63


class CodeContent(LiveContent):
    """The catalog of content written in Python, for every environment (spec section 7).

    Args:
        items: audiences, experiences and whatever else the builders make, or whole documents; or the name of such a
            list, ``package.module:name``, which `load` imports.

    The other arguments and the attributes are those of `LiveContent`.
    """

    def __init__(
        self,
        items: str | Sequence[Any],
        *,
        locale: str | None = None,
        history_events: int = 500,
        history_days: int = 365,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(
            items if isinstance(items, str) else INLINE,
            locale=locale,
            history_events=history_events,
            history_days=history_days,
            wall_clock=wall_clock,
        )
        self._items = items

    def load(self) -> None:
        """Read everything, once.

        Raises:
            SettingsError: the module cannot be imported, has no such list, or an item has an error; one line for each.
        """
        with self._lock():
            if isinstance(self._items, str):
                content = read_name(self._items, self._locale)
            else:
                content = read_items(self._items, self.name, self._locale)
            self._latest = {EVERY: self._compiled(content)}
            # The author runs this code and can fix it, so an invalid item is an error instead of being left out.
            if errors := [*self._latest[EVERY].errors, *self._latest[EVERY].left_out]:
                raise SettingsError([f"content: {error._replace(extent='')}" for error in errors])
            self.seen_at = self._wall_clock()
            self._serve(self._latest)

    def _look(self) -> None:
        """Do nothing: code changes with a restart."""

    def follow(self) -> None:
        """Do nothing: code changes with a restart."""


def read_name(name: str, locale: str | None) -> Content:
    """Import ``package.module:name`` and read its value; errors are in the content's problems."""
    module_name, _, attribute = name.partition(":")
    try:
        module = import_module(module_name)
        value = getattr(module, attribute, _NOT_THERE)
    except (Exception, SystemExit) as error:  # the module may raise anything
        return refusal(*_import_problem(name, module_name, error))
    file = getattr(module, "__file__", None) or module_name
    if value is _NOT_THERE:
        return refusal(file, _missing(name, module, attribute))
    if not isinstance(value, list | tuple | Mapping):
        return refusal(file, f"{attribute} is {_kind(value)}, expected {_EXPECTED}{_remedy(attribute, value)}")
    if isinstance(value, Mapping) and (slip := _slip(value)):
        return refusal(file, f"{attribute} is {slip}, expected {_EXPECTED}")
    return read_items([value] if isinstance(value, Mapping) else value, name, locale)


def read_items(items: Sequence[object], name: str, locale: str | None) -> Content:
    """Read items made by the builders, and whole documents of any format; never raise.

    Args:
        items: dicts.
        name: of the list, for messages about items without a file and line.
        locale: as for `read_document`.
    """
    content = Content()
    entries: list[object] = []  # Contentful's entries: all have the same locale
    for position, item in enumerate(items, 1):
        file = item.place if isinstance(item, Item) else f"{name}, item {position}"
        slip = _slip(item) if isinstance(item, Mapping) else _kind(item)
        if slip:
            content.add(refusal(file, f"is {slip}, expected what a builder of ninetailed_wsgi.authoring makes"))
            continue
        assert isinstance(item, Mapping)
        audience = item.get("audience")
        if isinstance(audience, Item):  # has its own file and line
            content.add(read_items([audience], name, locale))
            item = {**item, "audience": {"id": audience.get("id")}}
        try:
            document: Any = _plain(item, "")
        except Faulty as fault:
            content.add(refusal(file, str(fault)))
            continue
        except Exception as error:  # a custom mapping class may raise anything
            content.add(refusal(file, f"cannot be read: {type(error).__name__}: {shorten(str(error), 300)}"))
            continue
        if "sys" in document:
            entries.append(document)
        else:
            content.add(read_list([document], file) if "id" in document else read_document(document, file, locale))
    if entries:
        content.add(read_document(entries, name, locale))
    return content


def _plain(value: object, path: str, depth: int = 0) -> object:
    """Copy JSON into plain dicts and lists; raise `Faulty` for anything else, because it cannot be served."""
    if depth > _DEEPEST:
        raise Faulty(f"{shorten(path, 40)}: is nested deeper than {_DEEPEST} levels")
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise Faulty(f"{path or 'its members'}: found the name {wrong[0]!r}, expected a text")
        return {key: _plain(inner, f"{path}.{key}" if path else key, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, f"{path}[{index}]", depth + 1) for index, inner in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -_LARGEST <= value < 2 * _LARGEST:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value):
        return str(value)
    raise Faulty(f"{path}: found {_kind(value)}, expected JSON: text, a number, true, false, null, a list or a dict")


def _kind(value: object) -> str:
    if value is None or (isinstance(value, int | float | str) and not isinstance(value, bool)):
        return shorten(repr(value), 60)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _slip(value: Mapping[Any, Any]) -> str:
    """Return what a dict is, in words, if it belongs into an item or holds items; empty for anything else."""
    with contextlib.suppress(Exception):  # a custom mapping class may raise anything
        if "id" in value:
            return ""  # an item, perhaps a copy with another member
        if any(isinstance(each, Item) for each in value.values()):
            return "a dict of what builders made"
        if "conditions" in value or value.keys() in ({"any"}, {"all"}):
            return "a rule without an audience(...) around it"
    return ""


def _remedy(attribute: str, value: object) -> str:
    """Say in a clause how to turn a value that is no list into one; empty if there is no simple way."""
    if inspect.iscoroutine(value) or inspect.iscoroutinefunction(value):
        return ": an async function cannot make it, as the module is imported without an event loop"
    if inspect.isroutine(value):
        return f": name a list that holds what {attribute}() returns"
    if value is None:
        return ": the function that made it may lack a return"
    return ": list(...) makes one" if isinstance(value, Iterable) and not isinstance(value, str) else ""


def _missing(name: str, module: ModuleType, attribute: str) -> str:
    if getattr(module.__spec__, "_initializing", False):
        return f"has no {attribute} yet, it is still being imported: move the content of {name} to a separate module"
    lists = [each for each, value in vars(module).items() if isinstance(value, list | tuple) and each[0] != "_"]
    close = difflib.get_close_matches(attribute, lists, n=1) or lists[:1]
    return f"has no {attribute}, expected {_EXPECTED}" + (f"; did you mean {close[0]}?" if close else "")


def _import_problem(name: str, module_name: str, error: BaseException) -> tuple[str, str]:
    """Return where a module fails (file and line) and why."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}", f"{type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not one.filename.startswith((_PACKAGE, "<frozen importlib", _IMPORTLIB))]
    reason = f"{type(error).__name__}: {shorten(str(error), 300)}"
    if own:
        return f"{own[-1].filename}:{own[-1].lineno}", reason
    places = f"looked for in {os.getcwd()} and where packages are installed"
    if module_name.endswith(".py"):
        places = f"write the module without .py: {name.replace('.py:', ':')}"
    return name, f"{reason}; {places}" if isinstance(error, ModuleNotFoundError) else reason


_IMPORTLIB = str(Path(sys.modules["importlib"].__file__ or "").parent) + os.sep
