"""What schemathesis has to know besides the OpenAPI document; it imports this before it reads one."""

from __future__ import annotations

import json
from typing import Any

import schemathesis


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
    """Which texts and numbers are times, no schema can say: those that are none are left empty."""
    events = body.get("events") if isinstance(body, dict) else None
    for event in events if isinstance(events, list) else ():
        for member in ("timestamp", "originalTimestamp", "sentAt") if isinstance(event, dict) else ():
            value = event.get(member)
            if isinstance(value, str) or isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
                event[member] = ""
    return body


HEADERS = (
    {"X-Forwarded-For": "203.0.113.9, " * 900, "Forwarded": 'for="[' * 500},
    {"X-Forwarded-For": "\xff\xfe", "Forwarded": 'for=;for="\\"', "Cookie": "ntaid=%00; =;;"},
    {"X-Force-IP": "::ffff:1.2.3.4%eth0", "traceparent": "00-" + "f" * 4000, "Origin": "null"},
    {"Content-Encoding": "gzip", "Accept": "*/*;q=x", "Range": "bytes=0-", "Authorization": "Basic ="},
    {
        "X-HTTP-Method-Override": "DELETE",
        "X-Original-URL": "/health/live",
        "Host": "[::1",
        "Accept-Language": "-;q=1e9",
    },
)


@schemathesis.hook
def map_headers(context: schemathesis.HookContext, headers: dict[str, str] | None) -> dict[str, str]:
    """Every request has some headers that the document does not name, which never change what is answered."""
    known = headers or {}
    return {**HEADERS[sum(map(len, known.values())) % len(HEADERS)], **known}


@schemathesis.serializer("text/plain")
def text(context: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()
