"""Reads the forms of the inspector: fields, files, and what the fields of the playground mean."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode

import falcon
from falcon import Request
from falcon.media.multipart import MultipartFormHandler

from ninetailed_wsgi import __version__
from ninetailed_wsgi.api.body import read_body
from ninetailed_wsgi.api.validation.json_body import read_json
from ninetailed_wsgi.core.location import TEXT_MEMBERS
from ninetailed_wsgi.core.preview import Overrides
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.errors import InvalidData

_MOST_FIELDS = 20_000  # the playground has one for each audience and experience, and browsers send empty ones too
_NOT_SHOWN_AGAIN = {"proof", "key", "delete", "discard"}
_LONGEST_PORTABLE = 40_000  # bytes of fields that a sign-in brings along
_NO_FORM = "body: expected the fields of a form"
KINDS = ("page", "track", "identify", "component", "screen")
"""Events that the playground has fields for; any other one is written as JSON."""

DEVICES = ("desktop", "mobile", "tablet", "unknown")


class Form(NamedTuple):
    """What was sent.

    Attributes:
        fields: by name, each once.
        file: name and content of a file; None without one.
    """

    fields: Mapping[str, str]
    file: tuple[str, bytes] | None = None

    def text(self, name: str) -> str:
        """Return a field without surrounding spaces; empty if it is missing."""
        return self.fields.get(name, "").strip()

    def portable(self) -> dict[str, str] | None:
        """Return the fields that a page may show again, a file as a pasted draft; None if they are too long for it."""
        fields = {name: value for name, value in self.fields.items() if value and name not in _NOT_SHOWN_AGAIN}
        if self.file is not None and self.file[1]:
            fields["draft"] = self.file[1].decode(errors="replace")
        return fields if len(urlencode(fields)) <= _LONGEST_PORTABLE else None

    def with_prefix(self, prefix: str) -> dict[str, str]:
        """Return the nonempty fields whose names begin with a prefix such as ``audience:``, by the rest of the name."""
        return {name[len(prefix) :]: value for name, value in self.fields.items() if name.startswith(prefix) and value}


def read_form(req: Request, limit: int) -> Form:
    """Return the form that a request sent.

    Args:
        req: the request.
        limit: bytes that the form may have.

    Raises:
        PayloadTooLarge: the form is longer.
        InvalidData: the body is not a form.
    """
    raw = read_body(req.env, req.content_length, limit)
    if (req.content_type or "").partition(";")[0].strip().lower() == "multipart/form-data":
        return _multipart(raw, req.content_type or "", limit)
    try:
        fields = parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise InvalidData(_NO_FORM) from None
    return Form({name: values[0] for name, values in fields.items()})


def _multipart(raw: bytes, content_type: str, limit: int) -> Form:
    handler = MultipartFormHandler()
    handler.parse_options.max_body_part_buffer_size = limit
    fields, file = {}, None
    try:
        for part in handler.deserialize(io.BytesIO(raw), content_type, len(raw)):
            if part.filename:
                file = (part.filename, part.get_data())
            elif not part.content_type.startswith("text/plain"):  # no file was chosen
                continue
            elif part.name:
                fields[part.name] = part.get_data().decode()
    except (falcon.HTTPError, ValueError):
        raise InvalidData(_NO_FORM) from None
    return Form(fields, file)


def overrides_of(form: Form) -> Overrides:
    """Return the overrides of a playground; InvalidData says which field is wrong."""
    indexes = form.with_prefix("experience:")
    if wrong := [value for value in indexes.values() if not value.isascii() or not value.isdecimal()]:
        raise InvalidData(f"experience: found {shorten(wrong[0], 20)!r}, expected the index of a variant")
    return Overrides.of(
        {
            "audiences": {id: value == "on" for id, value in form.with_prefix("audience:").items()},
            "experiences": {id: int(index[:9]) for id, index in indexes.items()},
            "traits": _mapping(form, "traits", '{"plan": "pro"}'),
            "location": {name: value for name in TEXT_MEMBERS if (value := form.text(name))},
            "at": form.text("at"),
        }
    )


def choices(form: Form, content: Mapping[str, Any]) -> dict[str, list[tuple[int, Any, str]]]:
    """Return the audiences and experiences to choose from: number, entry and what was chosen; chosen ones first."""
    rows: dict[str, list[tuple[int, Any, str]]] = {}
    for kind, prefix in (("audiences", "audience:"), ("experiences", "experience:")):
        entries = [(number, each, form.text(f"{prefix}{each['id']}")) for number, each in enumerate(content[kind])]
        rows[kind] = sorted(entries, key=lambda row: not row[2])
    return rows


def device_of(form: Form) -> str | None:
    """Return the device of a playground; None: that of the visitor."""
    device = form.text("device")
    if device not in ("", *DEVICES):
        raise InvalidData(f"device: found {shorten(device, 20)!r}, expected one of {', '.join(DEVICES)}")
    return device or None


def events_of(form: Form) -> list[dict[str, Any]]:
    """Return the events of a playground, with what every event has; InvalidData says which field is wrong."""
    events: list[dict[str, Any]] = []
    if (kind := form.text("event")) in KINDS:
        events.append(_event(kind, form.text("about"), _mapping(form, "properties", '{"price": 9}')))
    elif kind:
        raise InvalidData(f"event: found {shorten(kind, 20)!r}, expected one of {', '.join(KINDS)}")
    if text := form.text("events"):
        value = _json(text, "events")
        bodies = value if isinstance(value, list) else [value]
        if not all(isinstance(each, dict) for each in bodies):
            raise InvalidData('events: expected an event such as {"type": "track", "event": "order"}, or a list')
        events += bodies
    return [_whole(event, place) for place, event in enumerate(events)]


def _event(kind: str, about: str, properties: dict[str, Any]) -> dict[str, Any]:
    if kind == "page":
        return {"type": kind, "properties": {"path": about or "/", **properties}}
    if kind == "identify":
        return {"type": kind, "userId": about, "traits": properties}
    if kind == "component":
        return {"type": kind, "componentType": "Entry", "componentId": about, **properties}
    return {"type": kind, {"track": "event", "screen": "name"}[kind]: about, "properties": properties}


def _whole(event: dict[str, Any], place: int) -> dict[str, Any]:
    """Return an event with the members that every event must have, added where they are missing."""
    context = event.get("context")
    whole = {"channel": "web", "messageId": f"inspector-{place}", **event}
    if isinstance(context, dict | None):
        whole["context"] = {"library": {"name": "ninetailed-wsgi inspector", "version": __version__}, **(context or {})}
    if event.get("type") == "page" and isinstance(properties := event.get("properties", {}), dict):
        path = properties.get("path", "/")
        page = {"path": path, "query": {}, "referrer": "", "search": "", "url": path, **properties}
        whole["properties"] = page
        if isinstance(whole["context"], dict):
            whole["context"].setdefault("page", page)
    return whole


def _mapping(form: Form, name: str, example: str) -> dict[str, Any]:
    value = _json(text, name) if (text := form.text(name)) else {}
    if not isinstance(value, dict):
        raise InvalidData(f"{name}: expected a JSON object such as {example}")
    return value


def _json(text: str, name: str) -> Any:
    try:
        return read_json(text.encode())
    except InvalidData as error:
        raise InvalidData([f"{name}{problem.removeprefix('body')}" for problem in error.problems]) from None


__all__ = ["DEVICES", "KINDS", "Form", "choices", "device_of", "events_of", "overrides_of", "read_form"]
