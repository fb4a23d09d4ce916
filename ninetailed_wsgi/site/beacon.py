"""The script ``{prefix}/beacon.js``, which reports views and clicks of a page that has no SDK (spec section 11).

It reports elements with the attribute ``data-nt-track``, which `track_attributes` renders, and nothing without the
cookie that holds the profile's id.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

import orjson

from ninetailed_wsgi.core import variants
from ninetailed_wsgi.core.entry_forms import id_of

PATH = "/beacon.js"
"""Below the prefix."""

TRACK, PREVIEW_MARK = "data-nt-track", "data-nt-shown"
"""The attribute of an element whose views and clicks are reported, and the one of a preview, which reports none."""


@cache
def script(organization: str, environment: str, cookie: str) -> tuple[bytes, str]:
    """Return the script of a mount, and its ETag."""
    source = (resources.files("ninetailed_wsgi.site") / "beacon.js").read_text(encoding="utf-8")
    place = f"/v1/organizations/{quote(organization, safe='')}/environments/{quote(environment, safe='')}/events"
    for name, value in (("NT_EVENTS", place), ("NT_COOKIE", cookie)):
        source = source.replace(name, orjson.dumps(value).decode())
    data = source.encode()
    return data, f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'


def answer(environ: Mapping[str, Any], start_response: Callable[..., Any], data: bytes, etag: str) -> list[bytes]:
    """Answer a request for the script, which any cache may keep for an hour."""
    method = environ.get("REQUEST_METHOD")
    headers = [("Cache-Control", "public, max-age=3600"), ("ETag", etag), ("X-Content-Type-Options", "nosniff")]
    if method not in ("GET", "HEAD"):
        start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Length", "0")])
        return []
    if etag in environ.get("HTTP_IF_NONE_MATCH", ""):
        start_response("304 Not Modified", headers)
        return []
    headers += [("Content-Type", "text/javascript; charset=utf-8"), ("Content-Length", str(len(data)))]
    start_response("200 OK", headers)
    return [data] if method == "GET" else []


def track_attributes(
    entry: Any,
    experiences: Iterable[Mapping[str, Any]],
    published: Callable[[str], tuple[str, ...]],
    name: str = TRACK,
) -> str:
    """Return the attribute of the element that shows an entry in place of a baseline; empty where nothing is shown.

    Args:
        entry: the baseline, or just its id; the others as for `variants.decision`.
        name: the attribute's: `TRACK`, or `PREVIEW_MARK` in a preview, which counts nothing.
    """
    baseline = id_of(entry)
    if baseline is None:
        return ""
    experience, component = variants.decision(entry, experiences, published)
    if component == "":
        return ""
    # Without an experience it is a baseline, by which the service knows visitors outside of an experience's traffic.
    place = (
        [component, "", 0]
        if experience is None
        else [component, experience["experienceId"], experience["variantIndex"]]
    )
    return f'{name}="{html.escape(orjson.dumps(place).decode())}"'
