"""Reads the options of the middleware from an ini file of PasteDeploy, which has them as text."""

from __future__ import annotations

from collections.abc import Mapping

from ninetailed_wsgi.site.middleware import Ninetailed, WSGIApp


def filter_app_factory(app: WSGIApp, global_conf: Mapping[str, str], **local_conf: str) -> Ninetailed:
    """Return the app with the middleware around it, for ``paste.filter_app_factory``.

    Args:
        app: the site.
        global_conf: not used.
        local_conf: the options of :class:`Ninetailed` as text; ``consent`` names the callable, as
            ``package.module:function``.

    Raises:
        SettingsError: naming every bad option.
    """
    return Ninetailed(app, **local_conf)  # type: ignore[arg-type]  # each option reads text
