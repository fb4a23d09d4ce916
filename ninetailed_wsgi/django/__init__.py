"""Ninetailed in a Django site: ``Middleware`` for its pages, ``urls`` for the API, template tags.

In ``settings.py``::

    INSTALLED_APPS = [..., "ninetailed_wsgi.django"]  # for {% load ninetailed %}
    MIDDLEWARE = [..., "ninetailed_wsgi.django.Middleware"]
    NINETAILED = {"content": BASE_DIR / "content.json", "data_dir": BASE_DIR / "ninetailed-data"}
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ninetailed_wsgi.django.middleware import Middleware

__all__ = ["Middleware"]


def __getattr__(name: str) -> Any:
    """Load the middleware when it is asked for: an app may be imported before the settings are ready."""
    if name != "Middleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.middleware").Middleware
