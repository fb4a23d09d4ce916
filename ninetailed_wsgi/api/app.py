"""The API as a Falcon app: routes, CORS, trace context, and the envelope around every answer."""

from __future__ import annotations

import logging
import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any, TypeAlias

import falcon
import orjson

from ninetailed_wsgi.api.access_log import ERROR, OTHER, Observed
from ninetailed_wsgi.api.callers import Callers
from ninetailed_wsgi.api.ofrep import AllFlags, OneFlag
from ninetailed_wsgi.api.origins import Origins
from ninetailed_wsgi.api.resources import (
    ApiDescription,
    BatchResource,
    Edge,
    ImportResource,
    InsightsResource,
    Liveness,
    PreviewEntries,
    ProfileResource,
    ProfilesResource,
    Readiness,
    Refresh,
    ResultsResource,
    Scrape,
)
from ninetailed_wsgi.api.spaces import SpaceNames
from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.core.problems import shorten
from ninetailed_wsgi.enrichment.client_ip import ClientAddress
from ninetailed_wsgi.errors import InvalidData, MethodNotAllowed, NinetailedError, RouteNotFound, StoreUnavailable
from ninetailed_wsgi.operations.logs import stack
from ninetailed_wsgi.operations.metrics import Metrics, process_metrics
from ninetailed_wsgi.service.access import Access, Permission, decide
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings

_REASONS_KEPT = 300  # a reason may name one of 256 files

PREFIX = "/v2/organizations/{organization}/environments/{environment}"
INSIGHTS = "/v1/organizations/{organization}/environments/{environment}/events"
"""Where the classic SDKs send what visitors saw."""

OFREP = "/ofrep/v1/evaluate/flags"
SPACE_PREFIX = "/v3/spaces/{organization}/environments/{environment}"
SPACE_INSIGHTS = "/v2/spaces/{organization}/environments/{environment}/events"

App: TypeAlias = falcon.App[falcon.Request, falcon.Response]

_log = logging.getLogger("ninetailed_wsgi")

# W3C Trace Context, section 3.2: version, trace id, parent id, flags; all-zero ids are invalid, and only versions
# after 00 may have more.
_TRACEPARENT = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?"
)


def create_app(settings: Settings | None = None, **options: Any) -> App:
    """Return the Experience API as a WSGI app.

    Args:
        settings: all options; without it, the ``NINETAILED_*`` environment variables.
        options: fields of :class:`~ninetailed_wsgi.settings.Settings` by name, which win over ``settings`` and
            variables. Those that only ``serve`` has, such as ``workers``, are refused.

    Raises:
        SettingsError: lists every bad option, or names an unusable data folder, content file or location database.
    """
    settings = Settings.for_app(settings, options)
    if settings.geoip_database is None:
        _log.warning("no location database is configured: profiles get no location from the visitor's address")
    return api(ExperienceService.from_settings(settings), settings)


def api(service: ExperienceService, settings: Settings, access: Access | None = None) -> App:
    """Return the Falcon app around a service; ``settings`` gives the body limit and the proxies.

    ``access`` says who may do what; None: what ``settings`` say for an API that is mounted in a site.

    Raises:
        SettingsError: the file of keys or of the identity secret cannot be used.
    """
    access = access or Access.of(settings, "site")
    metrics = process_metrics() if settings.metrics else None
    address, limit = ClientAddress(settings.trusted_proxies), settings.max_body_bytes
    app = falcon.App(middleware=_middleware(settings, service, Origins(access, address), address, metrics))
    app.req_options.keep_blank_qs_values = True
    app.set_error_serializer(lambda req, resp, error: None)
    app.add_error_handler(NinetailedError, _answer_error)
    callers = Callers(access, address)
    app.add_error_handler(StoreUnavailable, _Outage(access, callers))
    app.add_error_handler(falcon.HTTPError, _answer_http_error)
    app.add_error_handler(Exception, _answer_bug)

    edge = Edge(service, schemas(), address, limit, settings.explain, access, callers, settings.data_dir)
    space_edge = replace(edge, spaces=SpaceNames.of(settings))
    for prefix, insights, side in ((PREFIX, INSIGHTS, edge), (SPACE_PREFIX, SPACE_INSIGHTS, space_edge)):
        _add_environment_routes(app, prefix, insights, side)
    app.add_route("/health/live", Liveness())
    app.add_route("/health/ready", Readiness(service))
    app.add_route("/content/refresh", Refresh(edge, settings.contentful_webhook_secret_file))
    if settings.inspector:
        from ninetailed_wsgi.api.inspector.resources import add_inspector  # needs an extra

        add_inspector(app, edge, settings)
    if metrics:
        app.add_route("/metrics", Scrape(edge, metrics))
    app.add_route(
        "/openapi.json", ApiDescription(edge, partial(_description, settings.explain, bool(settings.inspector)))
    )
    return app


def _middleware(
    settings: Settings, service: ExperienceService, origins: Origins, address: ClientAddress, metrics: Metrics | None
) -> list[Any]:
    middleware: list[Any] = [_CommonHeaders(origins)]
    if metrics or settings.access_log:
        middleware.insert(0, Observed(metrics, settings.access_log))
    if settings.rate_limit:
        from ninetailed_wsgi.api.rate_limit import RateLimit  # needs an extra

        middleware.append(RateLimit(settings.rate_limit, address))
    if settings.inspector and service.live is not None:
        from ninetailed_wsgi.api.inspector.refusal_notes import RefusalNotes

        middleware.append(RefusalNotes(service.live, SpaceNames.of(settings)))
    return middleware


@cache
def _description(explain: bool, inspector: bool) -> bytes:
    """Return the OpenAPI document as JSON, made at the first request for it, because that takes 15 ms."""
    from ninetailed_wsgi.api import openapi

    document = openapi.document(schemas(), explain=explain, inspector=inspector)
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _add_environment_routes(app: App, prefix: str, insights: str, edge: Edge) -> None:
    app.add_route(insights, InsightsResource(edge))
    app.add_route(prefix + "/profiles", ProfilesResource(edge))
    app.add_route(prefix + "/profiles/{name:path}", ProfileResource(edge))
    app.add_route(prefix + "/events", BatchResource(edge))
    app.add_route(prefix + "/import/events", ImportResource(edge))
    app.add_route(prefix + "/experiences/{experience}/results", ResultsResource(edge))
    app.add_route(prefix + "/preview/entries", PreviewEntries(edge))
    app.add_route(prefix + OFREP, AllFlags(edge))
    app.add_route(prefix + OFREP + "/{key:path}", OneFlag(edge))


def _random_hex(size: int) -> str:
    """Return random bytes as hex characters; the module secrets takes ten times as long, needlessly here."""
    return f"{random.getrandbits(8 * size):0{2 * size}x}"


_COMMON = (
    ("Access-Control-Expose-Headers", "traceparent, ETag, Retry-After"),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
)


class _CommonHeaders:
    """Adds CORS and trace headers to every answer."""

    def __init__(self, origins: Origins, new_id: Callable[[int], str] = _random_hex) -> None:
        self._origins = origins
        self._new_id = new_id

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.set_header("traceparent", self._traceparent(req.env.get("HTTP_TRACEPARENT")))
        resp.set_headers(_COMMON)
        if self._origins.vary:
            resp.append_header("Vary", "Origin")
        if origin := self._origins.allow(req.env):
            resp.set_header("Access-Control-Allow-Origin", origin)
        if req.method == "OPTIONS":
            resp.set_header("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS")
            resp.set_header("Access-Control-Allow-Headers", "Content-Type, Authorization, X-Force-IP, If-None-Match")
            resp.set_header("Access-Control-Max-Age", "86400")
            resp.status = falcon.HTTP_204
            resp.complete = True
            return
        path = req.env.get("PATH_INFO", "")
        if not path.isascii():
            try:
                # WSGI passes the path as Latin-1 (PEP 3333); Falcon would replace what is not UTF-8,
                # and two different ids could become one.
                path.encode("latin-1").decode("utf-8")
            except UnicodeError:
                raise InvalidData("path: found bytes that are not UTF-8, expected percent-encoded UTF-8") from None

    def _traceparent(self, header: str | None) -> str:
        match = _TRACEPARENT.fullmatch(header) if header else None
        if match:
            return f"00-{match[1]}-{self._new_id(8)}-{match[2]}"
        span = self._new_id(24)
        return f"00-{span[:32]}-{span[32:]}-01"


def _answer_error(req: falcon.Request, resp: falcon.Response, error: NinetailedError, params: dict[str, Any]) -> None:
    resp.status = falcon.code_to_http_status(error.status)
    req.env[ERROR] = type(error).__name__
    if error.retry_after is not None:
        resp.set_header("Retry-After", str(error.retry_after))
    if error.status == 401:
        resp.set_header("WWW-Authenticate", "Bearer")
    if error.status == 415:
        resp.set_header("Accept-Encoding", "identity")  # RFC 9110, 12.5.3
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps({"message": str(error), "data": {}, "error": {"code": error.code}})


class _Outage:
    """Answers 503 if the store is unavailable, and logs each reason once a minute."""

    def __init__(self, access: Access, callers: Callers, clock: Callable[[], float] = time.monotonic) -> None:
        self._access, self._callers = access, callers
        self._clock = clock
        self._silent_until: dict[str, float] = {}

    def __call__(
        self, req: falcon.Request, resp: falcon.Response, error: NinetailedError, params: dict[str, Any]
    ) -> None:
        now, reason = self._clock(), str(error)
        if now >= self._silent_until.get(reason, -math.inf):
            if len(self._silent_until) >= _REASONS_KEPT:
                self._silent_until.clear()
            self._silent_until[reason] = now + 60
            details = {"reason": reason, "traceparent": resp.get_header("traceparent")}
            _log.error("requests are answered 503: %(reason)s; traceparent %(traceparent)s", details)
        caller = self._callers.of(req.env)
        if decide("reasons", caller, guarded=self._access.guarded) is not Permission.ALLOWED:
            # Leave out the reason: it names files and hosts.
            error = StoreUnavailable("the service cannot answer now; try again later")
        _answer_error(req, resp, error, params)


def _answer_http_error(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, Any]
) -> None:
    """Answer Falcon's own refusals in our envelope."""
    refusal: NinetailedError
    if isinstance(error, falcon.HTTPMethodNotAllowed):
        methods = dict(error.headers or {}).get("Allow", "")
        refusal = MethodNotAllowed(f"{shorten(req.path)} does not take {req.method}, only {methods}")
        resp.set_header("Allow", methods)
    elif isinstance(error, falcon.HTTPNotFound):
        slash = "; leave out the slash at its end" if req.path.endswith("/") and req.path != "/" else ""
        refusal = RouteNotFound(f"no route has the path {shorten(req.path)}{slash}")
    else:
        refusal = InvalidData(error.description or error.title or "the request cannot be read")
        refusal.status = error.status_code
    _answer_error(req, resp, refusal, params)


def _answer_bug(req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]) -> None:
    # Log neither the path, which contains an id or alias, nor the exception's text, which may contain anything.
    traceparent, route = resp.get_header("traceparent"), req.uri_template or OTHER
    details = {"route": route, "traceparent": traceparent, "raised": stack(error)}
    _log.error("a request of %(route)s failed; traceparent %(traceparent)s\n%(raised)s", details)
    _log.debug("the failure in full", exc_info=error)
    _answer_error(
        req, resp, NinetailedError("internal error; the log has the details under this answer's traceparent"), params
    )
