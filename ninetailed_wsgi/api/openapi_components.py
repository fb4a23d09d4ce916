"""The shared parts of the OpenAPI document: parameters, headers, and the answers of requests that fail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]


def schema(name: str) -> Json:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


PARAMETERS: Json = {
    "organizationId": {
        "name": "organizationId",
        "in": "path",
        "required": True,
        "description": "The organization's id, also called client id or API key. It is no secret.",
        "schema": {"type": "string", "minLength": 1},
        "example": "acme",
    },
    "spaceId": {
        "name": "spaceId",
        "in": "path",
        "required": True,
        "description": "The Contentful space's id, as the newest clients send it; it stands for an organization.",
        "schema": {"type": "string", "minLength": 1},
        "example": "acme",
    },
    "environmentSlug": {
        "name": "environmentSlug",
        "in": "path",
        "required": True,
        "description": "The environment's name, such as main.",
        "schema": {"type": "string", "minLength": 1},
        "example": "main",
    },
    "idOrAlias": {
        "name": "idOrAlias",
        "in": "path",
        "required": True,
        "description": "The profile's id, or an alias that an identify event gave it. The answer may have another id.",
        "schema": {"type": "string", "minLength": 1},
        "example": "anna",
    },
    "locale": {
        "name": "locale",
        "in": "query",
        "description": "The language of the names of a city, region and country that are looked up for this request.",
        "schema": {"type": "string", "default": "en"},
        "example": "de-AT",
    },
    "type": {
        "name": "type",
        "in": "query",
        "description": "`preflight`: evaluate and answer as usual, and store nothing.",
        "schema": {"type": "string", "enum": ["preflight"]},
        "example": "preflight",
    },
    "content": {
        "name": "content",
        "in": "query",
        "description": "Which content: what is published, or the draft that draft_content names.",
        "schema": {"type": "string", "enum": ["published"], "default": "published"},
        "example": "published",
    },
    "flagKey": {
        "name": "flagKey",
        "in": "path",
        "required": True,
        "description": "The flag's key: that of an inline variable.",
        "schema": {"type": "string", "minLength": 1},
        "example": "banner",
    },
    "experienceId": {
        "name": "experienceId",
        "in": "path",
        "required": True,
        "description": "The experience's id.",
        "schema": {"type": "string", "minLength": 1},
        "example": "hero-test",
    },
    "ifNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The ETag of an earlier answer; 304 where it would be the same.",
        "schema": {"type": "string"},
        "example": '"0123456789abcdef0123456789abcdef"',
    },
    "forceIp": {
        "name": "X-Force-IP",
        "in": "header",
        "description": "The visitor's address, in place of the client's; an invalid one is ignored.",
        "schema": {"type": "string"},
        "example": "192.0.2.7",
    },
    "traceparent": {
        "name": "traceparent",
        "in": "header",
        "description": "The caller's W3C trace context; the answer continues a valid one.",
        "schema": {"type": "string"},
        "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    },
}

INSPECTOR_PARAMETERS: Json = {
    "audienceId": {
        "name": "audienceId",
        "in": "path",
        "required": True,
        "description": "The audience's id.",
        "schema": {"type": "string", "minLength": 1},
        "example": "members",
    },
    "inspected": {
        "name": "in",
        "in": "query",
        "description": "Which environment; without it, the first one that is served.",
        "schema": {"type": "string"},
        "example": "acme/main",
    },
}

HEADERS: Json = {
    "traceparent": {
        "description": "The W3C trace context of this request, to quote when asking about it.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
        "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
}
TRACED: Json = {"traceparent": {"$ref": "#/components/headers/traceparent"}}

# component name, status, error code, when
_ERRORS = (
    (
        "InvalidData",
        400,
        "ERR_INVALID_DATA",
        "The body or the query is wrong; the message says where and what was expected.",
    ),
    ("Unauthorized", 401, "ERR_UNAUTHORIZED", "The operation needs a key, and the request has no valid one."),
    (
        "Forbidden",
        403,
        "ERR_FORBIDDEN",
        "The key lacks the scope, or pages of this origin or requests for this host are not answered.",
    ),
    ("UnknownEnvironment", 404, "ERR_CONFIG_NOT_FOUND", "The organization or the environment is unknown."),
    (
        "ProfileNotFound",
        404,
        "ERR_PROFILE_NOT_FOUND",
        "No such profile; or the organization or the environment is unknown (ERR_CONFIG_NOT_FOUND).",
    ),
    ("RouteNotFound", 404, "ERR_NOT_FOUND", "No route has this path."),
    (
        "NoResults",
        404,
        "ERR_NOT_FOUND",
        "No results of this experience were computed; or the organization or the environment is unknown "
        "(ERR_CONFIG_NOT_FOUND).",
    ),
    ("MethodNotAllowed", 405, "ERR_METHOD_NOT_ALLOWED", "The route does not know this method."),
    ("PayloadTooLarge", 413, "ERR_INVALID_DATA", "The body is over the size limit, 1 MiB unless configured."),
    ("UnsupportedEncoding", 415, "ERR_INVALID_DATA", "The body is compressed; send it uncompressed."),
    (
        "ProfileOverload",
        429,
        "ERR_PROFILE_OVERLOAD",
        "Too many concurrent writers for this one profile, or too many requests of one client.",
    ),
    ("InternalServerError", 500, "ERR_INTERNAL_SERVER_ERROR", "An internal error; the log has the details."),
    ("Unavailable", 503, "ERR_INTERNAL_SERVER_ERROR", "Storage is not available; the request may be repeated."),
)


def responses() -> Json:
    """Return the answers that operations share, by name: one for each kind of failure."""
    answers: Json = {
        name: {
            "description": when,
            "headers": TRACED,
            "content": {
                "application/json": {
                    "schema": schema("error-response"),
                    "example": {"message": when, "data": {}, "error": {"code": code}},
                }
            },
        }
        for name, _, code, when in _ERRORS
    }
    details = "body.context.targetingKey: missing; expected the id of a profile"
    answers["FlagRefused"] = _flag_failure(
        "The body or its context is wrong.", errorCode="TARGETING_KEY_MISSING", errorDetails=details
    )
    answers["FlagNotFound"] = _flag_failure(
        "No published experience sets this flag; or the environment is unknown (GENERAL).",
        key="banner",
        errorCode="FLAG_NOT_FOUND",
        errorDetails="no published experience sets the flag banner",
    )
    one_value = {"schema": {"type": "string"}}
    for repeatable in ("ProfileOverload", "Unavailable"):
        answers[repeatable]["headers"] = {
            **TRACED,
            "Retry-After": {"schema": {"type": "integer", "description": "Seconds."}},
        }
    names = ("Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers",
             "Access-Control-Max-Age")  # fmt: skip
    answers["CrossOrigin"] = {
        "description": "What a browser may send from another site: GET, POST, DELETE and OPTIONS.",
        "headers": {**TRACED, **dict.fromkeys(names, one_value)},
    }
    return answers


def failures(names: Iterable[str]) -> Json:
    """Return the answers of an operation that can fail in these ways, by status, as references to `responses`."""
    return {
        str(status): {"$ref": f"#/components/responses/{name}"} for name, status, _, _ in _ERRORS if name in set(names)
    }


def _flag_failure(description: str, **example: str) -> Json:
    content = {"application/json": {"schema": schema("ofrep-failure"), "example": example}}
    return {"description": description, "headers": TRACED, "content": content}
