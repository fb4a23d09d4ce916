"""Feature flags for other languages: the two endpoints of the OpenFeature Remote Evaluation Protocol (OFREP).

Source: spec section 17. Answers and errors have OFREP's own shape, which its providers read, not the API's envelope.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import falcon
import orjson
from falcon import Request, Response

from ninetailed_wsgi.api.body import read_body
from ninetailed_wsgi.api.previews import overrides_of
from ninetailed_wsgi.api.resources import Edge
from ninetailed_wsgi.api.validation.json_body import read_json
from ninetailed_wsgi.core.flags import Flag, FlagNotFound
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import InvalidData, NinetailedError, StoreUnavailable
from ninetailed_wsgi.service.access import Permission, check_name

MAX_FLAGS = 100
"""Flags in one answer, the first by key; its metadata says how many were left out."""

MAX_CONTEXT = 65_536
"""Bytes of a context as JSON."""


class _ContextError(InvalidData):
    """A context that cannot be used; ``flag_code`` is OFREP's name for the reason."""

    def __init__(self, flag_code: str, problem: str) -> None:
        super().__init__(problem)
        self.flag_code = flag_code


class _FlagRequest(NamedTuple):
    """Whose flags are asked for.

    Attributes:
        target: the targeting key.
        traits: what replaces the profile's traits.
        may_know: whether the caller may know of a profile with that name.
        address: the visitor's, as `Edge.visitor_address` gives it.
    """

    environment: Environment
    target: str
    traits: dict[str, Any]
    may_know: bool
    address: str | None


class _FlagResource:
    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def _flags(self, req: Request, organization: str, environment: str, key: str | None = None) -> list[Flag]:
        question = self._question(req, self._edge.environment(organization, environment))
        guarded = self._edge.access.guarded
        return self._edge.service.flags(
            question.environment,
            question.target,
            question.traits,
            key,
            may_know=question.may_know,
            guarded=guarded,
            address=question.address,
            overrides=overrides_of(req.env),
        )

    def _question(self, req: Request, where: Environment) -> _FlagRequest:
        context = _context(read_json(read_body(req.env, req.content_length, self._edge.max_body_bytes)))
        target, access = context["targetingKey"], self._edge.access
        caller = self._edge.callers.of(req.env)
        own = access.guarded and self._edge.service.certifies(where, target)
        # User ids are not secret: a stranger who names one is answered as a new visitor, whether or not it exists.
        may_know = access.check("flags", caller, own=own) is Permission.ALLOWED
        hidden = {"targetingKey"} if caller.may("events") else {"targetingKey", *access.protected}
        traits = {name: value for name, value in context.items() if name not in hidden}
        return _FlagRequest(where, target, traits, may_know, self._edge.visitor_address(req, caller))


class OneFlag(_FlagResource):
    """``/ofrep/v1/evaluate/flags/{key}``: decide one flag for one visitor."""

    def on_post(self, req: Request, resp: Response, organization: str, environment: str, key: str) -> None:
        try:
            (flag,) = self._flags(req, organization, environment, key)
        except StoreUnavailable:
            raise
        except NinetailedError as error:
            _refuse(resp, error, {"key": key})
        else:
            _answer(resp, _body(flag))


class AllFlags(_FlagResource):
    """``/ofrep/v1/evaluate/flags``: decide every published flag for one visitor; 304 where nothing changed."""

    def on_post(self, req: Request, resp: Response, organization: str, environment: str) -> None:
        try:
            flags = self._flags(req, organization, environment)
        except StoreUnavailable:
            raise
        except NinetailedError as error:
            _refuse(resp, error, {})
            return
        answer: dict[str, Any] = {"flags": [_body(flag) for flag in flags[:MAX_FLAGS]]}
        if len(flags) > MAX_FLAGS:
            answer["metadata"] = {"omittedFlags": len(flags) - MAX_FLAGS}
        _answer(resp, answer)
        tag = hashlib.sha256(resp.data or b"").hexdigest()[:32]
        resp.etag = tag
        if any(other in ("*", tag) for other in req.if_none_match or ()):
            resp.status = falcon.HTTP_304
            resp.data = None


def _context(body: object) -> Mapping[str, Any]:
    """Return the context of a body, with a targeting key that is text."""
    if not isinstance(body, dict):
        raise _ContextError("PARSE_ERROR", "body: expected a JSON object with the member context")
    context = body.get("context")
    if context is None:
        context = {}
    if not isinstance(context, dict):
        raise _ContextError("INVALID_CONTEXT", "body.context: expected an object")
    target = context.get("targetingKey")
    if target is not None and not isinstance(target, str):
        raise _ContextError("INVALID_CONTEXT", "body.context.targetingKey: expected text, the id of a profile")
    if not target:
        raise _ContextError("TARGETING_KEY_MISSING", "body.context.targetingKey: missing; expected the id of a profile")
    if (size := len(orjson.dumps(context))) > MAX_CONTEXT:
        raise _ContextError("INVALID_CONTEXT", f"body.context: found {size} bytes, expected at most {MAX_CONTEXT}")
    check_name("body.context.targetingKey", target)
    return context


def _body(flag: Flag) -> dict[str, Any]:
    body: dict[str, Any] = {"key": flag.key, "reason": flag.reason, "variant": flag.variant}
    if flag.reason != "UNKNOWN":  # without a value the caller uses its default
        body["value"] = flag.value
        body["metadata"] = flag.metadata
    return body


def _answer(resp: Response, body: dict[str, Any]) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps(body)


def _refuse(resp: Response, error: NinetailedError, members: Mapping[str, str]) -> None:
    resp.status = falcon.code_to_http_status(error.status)
    if error.retry_after is not None:
        resp.set_header("Retry-After", str(error.retry_after))
    _answer(resp, {**members, "errorCode": _code(error), "errorDetails": str(error)})


def _code(error: NinetailedError) -> str:
    if isinstance(error, FlagNotFound):
        return "FLAG_NOT_FOUND"
    if isinstance(error, _ContextError):
        return error.flag_code
    return "PARSE_ERROR" if isinstance(error, InvalidData) else "GENERAL"
