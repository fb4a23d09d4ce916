"""Only the core of diskcache: its package imports Django if that is installed, which breaks a server that forks."""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any


def _load() -> Any:
    """Load ``diskcache/core.py``, which needs only the standard library, under a name of our own.

    So nothing changes for a host that imports diskcache itself, with or without its cache for Django.
    """
    package = find_spec("diskcache")  # finds it without running it
    if package is None or not package.submodule_search_locations:
        raise ImportError("diskcache is not installed: pip install 'diskcache>=5.6.3,<5.7'", name="diskcache")
    file = Path(package.submodule_search_locations[0], "core.py")
    spec = spec_from_file_location(f"{__name__}.core", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be loaded: install diskcache again", name="diskcache")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


core: Any = _load()
