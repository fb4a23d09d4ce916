"""What schemathesis has to know besides the OpenAPI document; it imports this before it reads one."""

from __future__ import annotations

import json
from typing import Any

import schemathesis

from ninetailed_wsgi.core.events import EARLIEST_NUMBER
from ninetailed_wsgi.core.preview import MEMBERS


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Make text/plain from the schema that the document has for its text."""
    for path in raw_schema["paths"].values():
        for operation in path.values():
            content = operation.get("requestBody", {}).get("content", {}) if isinstance(operation, dict) else {}
            if "text/plain" in content:
                content["text/plain"] = content["application/json"]


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Which texts are times, no schema can say, nor that only the first of three counts: what is none is left empty."""
    events = body.get("events") if isinstance(body, dict) else None
    for event in events if isinstance(events, list) else ():
        for member in ("timestamp", "originalTimestamp", "sentAt") if isinstance(event, dict) else ():
            value = event.get(member)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if isinstance(value, str) or number and value < EARLIEST_NUMBER:
                event[member] = ""
    preview = body.get("preview") if isinstance(body, dict) else None
    if isinstance(preview, dict):  # nor which ids are published, nor whether there is a draft
        for member in ("audiences", "experiences"):
            if isinstance(preview.get(member), dict):
                preview[member] = {}
        for member in [member for member in preview if member not in MEMBERS]:
            del preview[member]
        if isinstance(preview.get("at"), str | int) and not isinstance(preview["at"], bool):
            preview["at"] = ""
        if preview.get("content") == "draft":
            preview["content"] = "published"
    return body


@schemathesis.serializer("text/plain")
def text(context: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()
