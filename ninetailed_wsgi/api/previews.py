"""Previews over HTTP: which overrides a request has, and the entries that preview panels list (spec section 13)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from falcon import Request

from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.errors import InvalidData
from ninetailed_wsgi.service.access import Caller

KEY = "ninetailed.preview"
"""Where a mount puts the overrides of a visitor's preview into the environ; no client can write it."""


def without_foreign(body: Any, caller: Caller) -> Any:
    """Return a body, without its member ``preview`` if the caller may not preview."""
    if not isinstance(body, dict) or "preview" not in body or caller.may("admin"):
        return body
    return {name: value for name, value in body.items() if name != "preview"}


def overrides_of(environ: Mapping[str, Any], body: Mapping[str, Any] | None = None) -> Overrides | None:
    """Return the overrides of a request: those of its body, otherwise those of its visitor's preview; None without any.

    Raises:
        InvalidData: the time of a preview is not a time.
    """
    value = body.get("preview") if body else None
    if value is not None:
        return Overrides.of(value)
    visitors: Overrides | None = environ.get(KEY)
    return visitors


def content_of(req: Request) -> Overrides:
    """Return overrides that choose the content which the query asks for; InvalidData for an unknown one."""
    content = req.get_param("content", default="published")
    if content not in ("published", "draft"):
        raise InvalidData(f'query.content: found "{shorten(content)}", expected "published" or "draft"')
    return Overrides(content="draft" if content == "draft" else "published")


__all__ = ["KEY", "content_of", "overrides_of", "without_foreign"]
